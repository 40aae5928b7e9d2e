# MicroPython keeps the attributes of an instance in a hash table that grows in leaps, when one more does not fit:
# then the old one and the new one are on the heap at once, each in one piece. The client's must have their size
# before it logs in, and the engine's must be small.
import sys
import time

from umqtt5 import MQTTClient
from usasl.scram import ScramSHA256
from wire import raises

SIZES = (1, 2, 4, 6, 8, 10, 12, 17, 23, 29, 37, 47, 59, 73, 97, 127)  # of MicroPython's py/map.c
MOST = 73  # entries of the engine's: 592 bytes on 32 bits; once it was 127: 1 KB, and as large a hole to grow into
FULL = 62  # of them in use: the fuller, the longer the search for a method, which goes through them first

seen = []


def table(thing):
    """How many entries the table of its attributes has, which were added one by one."""
    return min(size for size in SIZES if size >= len(thing.__dict__))


def tables(c):
    return [table(thing) for thing in (c, c._engine, c._engine.terms, c._engine.session)]


def take(*message):
    seen.append(message)


def work(c):
    """All that a client does, but for requests, which are loaded first."""
    seen.clear()
    c.connect()
    c.set_callback(take)
    c.subscribe("attributes/#", 2, take)
    for qos in (0, 1, 2):
        for size in (5, 5, 200, 500):  # in tx, with an alias, longer than tx, too large for rx
            c.publish(b"attributes/t", bytes(size), qos == 1, qos)
        c.publisher("attributes/p", qos).publish(b"p")
    c.ping()
    end = time.ticks_add(time.ticks_ms(), 10000)
    while len(seen) < 12 or c.oversized < 3 or c._engine.pinged is not None:
        c.check_msg()
        assert time.ticks_diff(end, time.ticks_ms()) > 0, (seen, c.oversized)
    c.reauthenticate()
    c.unsubscribe("attributes/#")
    c.publish("attributes/t", b"", True)
    c.disconnect()


def test_no_table_grows(broker_port, passwords):
    auth = ScramSHA256("device1", passwords["device1"])
    c = MQTTClient("attributes", "127.0.0.1", broker_port, auth=auth, keepalive=30, rx_size=400, on_event=take)
    c.set_last_will("attributes/will", b"gone")
    before = tables(c)
    assert before[1] <= MOST and len(c._engine.__dict__) <= FULL
    for _ in range(2):
        c._engine.session.oversized = 0
        work(c)
        assert tables(c) == before


def test_it_is_noticed():
    c = MQTTClient("attributes", "127.0.0.1")
    before = tables(c)
    for i in range(20):
        setattr(c._engine, "more%d" % i, 0)
    assert tables(c) != before


def test_what_made_them_is_unloaded():
    def gone():
        return not [name for name in ("umqtt5.make", "usasl.scram_make") if name in sys.modules] and not (
            "make" in sys.modules["umqtt5"].__dict__ or "scram_make" in sys.modules["usasl"].__dict__
        )

    c = MQTTClient("attributes", "127.0.0.1", auth=ScramSHA256("device1", "secret"))
    assert gone()
    c.set_last_will("attributes/will", b"gone")
    assert gone() and c._engine.terms.will
    raises(ValueError, MQTTClient, "attributes", "127.0.0.1", 1883, None, None, -1)
    raises(ValueError, ScramSHA256, "device1")
    raises(ValueError, c.set_last_will, "attributes/#", b"gone")
    assert gone()
