# A connected client takes no heap, whatever it does, in every kind of session, against the real broker. And it loads
# only what it uses. Exact: see heap_steps.py.
import sys

import heap_steps
from heap_steps import MESSAGE, TOPIC, answered, check_until, everything, locked, look, made, publish_qos1, until


def scram(passwords):
    from usasl.scram import ScramSHA256

    return ScramSHA256("device1", passwords["device1"])


def scram_keys(broker_host, broker_port, passwords):
    """A mechanism with keys, as provisioning makes them."""
    from usasl.scram import ScramSHA256

    by_password = scram(passwords)
    made(broker_host, broker_port, auth=by_password).disconnect()
    return ScramSHA256("device1", keys=by_password._keys)


def test_the_lock_is_noticed(broker_host, plain_port):
    # A str must be encoded, and that takes heap: so the other tests are no empty words.
    def publish_str(c):
        c.publish("heap/out-with-a-topic-to-be-encoded", "a message to be encoded as well")

    def keep(c):
        kept.append(None)

    kept = []
    for step, word in ((publish_str, "heap"), (keep, "heap")):
        try:
            locked(step, made(broker_host, plain_port))
            said = ""
        except AssertionError as e:
            said = e.args[0]
        assert word in said, said


def test_a_wrong_message_is_noticed(broker_host, plain_port):
    c = made(broker_host, plain_port)
    c.subscribe("heap/in", 0, look)
    c.publish("heap/in", b"0123456789abcdeF")
    until(c, heap_steps.seen + 1)
    assert heap_steps.wrong == "the payload"


def test_everything_without_a_login(broker_host, plain_port):
    c = made(broker_host, plain_port)
    assert c._engine.alias_limit == 8
    everything(c)
    c.disconnect()


def test_everything_without_aliases(broker_host, plain_port):
    c = made(broker_host, plain_port, topic_aliases=0)
    everything(c)
    c.disconnect()


def test_everything_after_scram_with_a_password(broker_host, broker_port, passwords):
    c = made(broker_host, broker_port, auth=scram(passwords))
    everything(c)
    c.disconnect()


def test_everything_after_scram_with_keys(broker_host, broker_port, passwords):
    c = made(broker_host, broker_port, auth=scram_keys(broker_host, broker_port, passwords))
    everything(c)
    c.disconnect()


def test_everything_after_scram_at_another_library(broker_host, gsasl_port, passwords):
    c = made(broker_host, gsasl_port, auth=scram(passwords))
    everything(c, 5)
    c.disconnect()


def test_everything_after_a_password(broker_host, password_port):
    c = made(broker_host, password_port, "plain", "s3cret-of-plain")
    everything(c)
    c.disconnect()


def test_everything_with_a_watchdog_and_a_keep_alive(broker_host, plain_port):
    fed = [0]

    def feed():
        fed[0] += 1

    c = made(broker_host, plain_port, None, None, 60, on_wait=feed)
    everything(c, 5)
    c.disconnect()
    assert fed[0]


def test_everything_in_the_smallest_buffers_for_it(broker_host, plain_port):
    # Every packet with properties takes two writes, and a message of 512 B fills rx.
    c = made(broker_host, plain_port, tx_size=32, rx_size=540)
    everything(c, 5)
    c.disconnect()


def test_a_new_connection_of_the_same_client(broker_host, plain_port):
    c = made(broker_host, plain_port)
    locked(publish_qos1, c)
    c.disconnect()
    c.connect()
    everything(c, 5)
    c.disconnect()


def test_a_ping_by_itself(broker_host, plain_port):
    # Keep alive is 1 s: check_msg() sends PINGREQ when it is time, and takes the answer.
    def idle(c):
        check_until(c, pinging)
        check_until(c, answered)

    def pinging(c):
        return c._engine.pinged is not None

    c = made(broker_host, plain_port, None, None, 1)
    locked(idle, c, 2)
    c.disconnect()


# --- what is loaded


def loaded():
    return {name for name in sys.modules if name.startswith(("umqtt", "usasl"))}


def test_nothing_is_loaded_that_is_not_used(broker_host, plain_port):
    client = made(broker_host, plain_port)
    client.publish(TOPIC, MESSAGE)
    client.publish(TOPIC, MESSAGE, qos=1)
    client.disconnect()
    unused = {"umqtt5.auth", "umqtt5.reasons", "umqtt5.secrets", "umqtt5.publisher", "umqtt5.request"}
    assert not [name for name in loaded() if name in unused or name.startswith("usasl")], loaded()


def test_scram_loads_no_texts(broker_host, broker_port, passwords):
    client = made(broker_host, broker_port, auth=scram(passwords))
    client.publish(TOPIC, MESSAGE, qos=1)
    client.disconnect()
    assert {"umqtt5.auth", "usasl.scram", "usasl.derive"} <= loaded()
    assert not loaded() & {"umqtt5.reauth", "umqtt5.reasons", "umqtt5.secrets", "usasl.texts"}, loaded()


def test_nothing_leaks_over_a_hundred_re_authentications(broker_host, broker_port, passwords):
    import gc

    c = made(broker_host, broker_port, auth=scram_keys(broker_host, broker_port, passwords))
    used = []
    for _ in range(3):
        for _ in range(50):
            c.reauthenticate()
        gc.collect()
        used.append(gc.mem_alloc())
    assert used[1] == used[2], used
    locked(publish_qos1, c)  # and nothing is left that takes heap
    c.disconnect()


def test_everything_while_the_timer_counts(broker_host, broker_port, passwords):
    # Not a byte before a re-authentication is due, nor after one.
    auth = scram_keys(broker_host, broker_port, passwords)
    c = made(broker_host, broker_port, None, None, 60, auth=auth, reauth_every=1000)
    everything(c, 5)
    c.reauthenticate()
    everything(c, 5)
    c.disconnect()
