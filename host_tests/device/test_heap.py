# A connected client publishes without taking heap, against the real broker; and loads only what it uses.
# Exact: the heap is locked during the calls, so that a single byte is a MemoryError; and what is in use after
# them is what was in use before.
from micropython import heap_lock, heap_unlock

import gc
import sys

from umqtt5 import MQTTClient

TOPIC = b"heap/out"
OTHER = b"heap/other"
MESSAGE = b"0123456789abcdef"
COUNT = 50


def connected(host, port, auth=None):
    client = MQTTClient("heap", host, port, auth=auth)
    client.connect()
    return client


def scram(passwords):
    from usasl.scram import ScramSHA256

    return ScramSHA256("device1", passwords["device1"])


def takes_nothing(client, qos, props=None):
    gc.collect()
    before = gc.mem_alloc()
    heap_lock()
    try:
        for _ in range(COUNT):
            client.publish(TOPIC, MESSAGE, False, qos, props)
            client.publish(OTHER, MESSAGE, False, qos, props)  # another one: what is kept of the last does not help
    finally:
        heap_unlock()
    assert gc.mem_alloc() == before


def loaded():
    return {name for name in sys.modules if name.startswith(("umqtt", "usasl"))}


def test_the_lock_is_noticed(broker_host, plain_port):
    # A str must be encoded, and that takes heap: so the other tests are no empty words.
    client = connected(broker_host, plain_port)
    heap_lock()
    try:
        client.publish("heap/out-with-a-topic-to-be-encoded", "a message to be encoded as well")
        noticed = False
    except MemoryError:
        noticed = True
    finally:
        heap_unlock()
    assert noticed


def test_qos0_takes_no_heap(broker_host, plain_port):
    client = connected(broker_host, plain_port)
    takes_nothing(client, 0)
    client.disconnect()


def test_qos1_takes_no_heap(broker_host, plain_port):
    client = connected(broker_host, plain_port)
    takes_nothing(client, 1)
    client.disconnect()


def test_qos0_and_1_take_no_heap_with_properties(broker_host, plain_port):
    from umqtt5.props import encode

    props = encode(message_expiry_interval=60, user_property=(("k", "v"),))
    client = connected(broker_host, plain_port)
    takes_nothing(client, 0, props)
    takes_nothing(client, 1, props)
    client.disconnect()


def test_qos0_and_1_take_no_heap_after_scram(broker_host, broker_port, passwords):
    client = connected(broker_host, broker_port, scram(passwords))
    takes_nothing(client, 0)
    takes_nothing(client, 1)
    client.disconnect()


def test_qos0_and_1_take_no_heap_after_a_password(broker_host, password_port):
    client = MQTTClient("heap", broker_host, password_port, "plain", "s3cret-of-plain")
    client.connect()
    takes_nothing(client, 0)
    takes_nothing(client, 1)
    client.disconnect()


def test_nothing_is_loaded_that_is_not_used(broker_host, plain_port):
    client = connected(broker_host, plain_port)
    client.publish(TOPIC, MESSAGE)
    client.publish(TOPIC, MESSAGE, qos=1)
    client.disconnect()
    unused = {"umqtt5.auth", "umqtt5.reasons", "umqtt5.secrets"}
    assert not [name for name in loaded() if name in unused or name.startswith("usasl")], loaded()


def test_scram_loads_no_texts(broker_host, broker_port, passwords):
    client = connected(broker_host, broker_port, scram(passwords))
    client.publish(TOPIC, MESSAGE, qos=1)
    client.disconnect()
    assert {"umqtt5.auth", "usasl.scram", "usasl.derive"} <= loaded()
    assert not loaded() & {"umqtt5.reasons", "umqtt5.secrets", "usasl.texts"}, loaded()
