# quick.py's generators between the client and a stream. That their outcome is the long way's: test_short_ways.py.
from micropython import heap_lock, heap_unlock

import umqtt5.driver as driver_module
from flash import Flash
from net import Net
from umqtt5 import MQTTClient, Refused
from umqtt5.store import Store
from wire import raises

TOPIC = b"house/kitchen"


def up(**options):
    """A client that has published to TOPIC at each QoS without waiting, and its stream."""
    net = Net()
    c = MQTTClient("me", "host", timeout=0.2, **options)
    c.connect()
    stream = net.streams[0]
    stream.took.clear()
    return c, stream


def long_way(qos, msg):
    """What a publish that is not like the one before puts on the wire, and the packet identifier behind it."""
    c, stream = up()
    c.publish(TOPIC, b"first", False, qos, None, False)
    c._engine.prepared = None
    c.publish(TOPIC, msg, False, qos, None, False)
    c._engine.prepared = None
    c.publish(TOPIC, msg, False, qos, None, False)
    return stream.took[1:]


def test_a_stream_that_takes_a_part():
    # Nothing is lost, nothing goes out twice, and what follows stands behind it.
    for qos in (0, 1, 2):
        expected = long_way(qos, b"payload")
        for n in range(1, len(expected[0]) + 1):
            for first in (n, None):
                c, stream = up(keepalive=60)
                c.publish(TOPIC, b"first", False, qos, None, False)
                stream.took.clear()
                stream.takes = [first, None, n, None]
                c.publish(TOPIC, b"payload", False, qos, None, False)
                c.publish(TOPIC, b"payload", False, qos, None, False)
                assert b"".join(stream.took) == b"".join(expected), (qos, n, first, stream.took)
                assert not c._engine.left and not c._engine.midway


def test_a_publisher_whose_stream_takes_a_part():
    for n in range(1, 24):
        c, stream = up()
        publish = c.publisher(TOPIC).publish
        publish(b"first")
        stream.took.clear()
        stream.takes = [n, None]
        publish(b"payload")
        publish(b"payload")
        assert b"".join(stream.took) == b"".join(long_way(0, b"payload")), (n, stream.took)


def test_a_stream_that_takes_no_more():
    for qos in (0, 1):
        c, stream = up()
        c.publish(TOPIC, b"first", False, qos, None, False)
        stream.took.clear()
        stream.takes = [3] + [None] * 100000
        assert raises(OSError, c.publish, TOPIC, b"payload", False, qos, None, False).errno == 110
        assert c.sock is None and len(stream.took) == 1, "no DISCONNECT behind half a packet"
        assert c._engine.session.sending == 2 * qos, "it is sent again with the next connection"


def test_a_stream_that_fails():
    c, stream = up()
    c.publish(TOPIC, b"first")
    stream.ctrl_c = True
    raises(KeyboardInterrupt, c.publish, TOPIC, b"payload")
    assert c.sock is None and stream.closed
    c.connect()
    c.publish(TOPIC, b"more")
    c.publish(TOPIC, b"payload")
    c.disconnect()


def test_when_it_was_written():
    # Keep alive counts from there (3.1.2.10).
    c, stream = up(keepalive=60)
    c.publish(TOPIC, b"first")
    c._engine.last_tx = None
    c.publish(TOPIC, b"payload")
    assert c._engine.last_tx is not None
    c._engine.last_tx = None
    stream.takes = [3]
    c.publish(TOPIC, b"payload")
    assert c._engine.last_tx is not None


def test_no_memory_to_encode_a_str():
    # The client is whole: nothing of it has gone out.
    c, stream = up()
    c.publish(TOPIC, "first")
    stream.took.clear()
    heap_lock()
    try:
        c.publish(TOPIC, "payload")
    except MemoryError:
        pass
    else:
        raise AssertionError("it did not encode")
    finally:
        heap_unlock()
    assert not stream.took
    c.publish(TOPIC, "payload")
    assert stream.took == long_way(0, b"payload")[:1]


def test_an_answer_that_has_come_at_the_first_look():
    for first in (True, False):  # by the long way, and by the short one
        for said, reason in ((b"", None), (b"\x10", None), (b"\0\0", None), (b"\x87", 0x87), (b"\x97\0", 0x97)):
            c, stream = up()
            if not first:
                c.publish(TOPIC, b"first", False, 1, None, False)
                stream.says = b"\x40\2\0\1"
                c.check_msg()
            stream.says = bytes((0x40, 2 + len(said), 0, 1 if first else 2)) + said
            if reason is None:
                c.publish(TOPIC, b"payload", False, 1)
            else:
                assert raises(Refused, c.publish, TOPIC, b"payload", False, 1).reason == reason
            s = c._engine.session
            assert not any(s.state) and not any(s.waited) and not s.sending and c._engine.quota == s.size
            assert not [m for m in s.msg + s.topic if m is not None]


def test_an_answer_that_comes_later():
    for on_wait in (None, lambda: None):
        for says in (b"\xd0\0\x40\2\0\1", b"\x40\2\0\7\x40\3\0\1\x10", b"\x31\5\0\1t\0m\x40\2\0\1"):
            c, stream = up(on_wait=on_wait)
            c._engine.pinged = driver_module.ticks_ms()
            stream.says = says
            c.publish(TOPIC, b"payload", False, 1)
            assert not any(c._engine.session.state) and not any(c._engine.session.waited)


def test_no_answer():
    c, _ = up()
    assert raises(OSError, c.publish, TOPIC, b"payload", False, 1).errno == 110
    assert c.sock is None and c._engine.session.sending == 1 and not any(c._engine.session.waited)


def test_on_event_that_raises_while_an_answer_is_awaited():
    def on_event(name, value):
        raise ValueError(name)

    c, stream = up(on_event=on_event)
    c.publish(TOPIC, b"first", False, 1, None, False)
    stream.says = b"\x40\3\0\1\x87"
    assert raises(ValueError, c.publish, TOPIC, b"payload", False, 1).args == ("refused",)
    assert c.sock is None and not any(c._engine.session.waited) and c._engine.session.sending == 1


def test_a_handler_that_raises_while_an_answer_is_awaited():
    # The connection is whole, and the slot is freed when the answer comes.
    def handler(topic, msg):
        raise ValueError("the handler's own")

    c, stream = up()
    c.set_callback(handler)
    for qos in (0, 1):
        stream.says = b"\x30\5\0\1t\0m" if not qos else b"\x32\7\0\1t\0\7\0m"
        raises(ValueError, c.publish, TOPIC, b"payload", False, 1)
        assert c.sock is not None and not any(c._engine.session.waited)
    stream.says = b"\x40\2\0\1\x40\2\0\2"
    c.check_msg()
    assert not any(c._engine.session.state) and c._engine.quota == c._engine.session.size


def test_a_store_hears_of_each_answer():
    # Else it would send everything again after each reboot.
    flash = Flash()
    c, stream = up(store=Store("s"))
    for pid in (1, 2, 3):
        stream.says = bytes((0x40, 2, 0, pid))
        c.publish(TOPIC, b"payload", False, 1)
    stream.says = b""
    c.publish(TOPIC, b"not answered", False, 1, None, False)
    c._engine.session.store.flush()
    flash.reboot()
    store = Store("s")
    assert [slot[2] for slot in store._slots.values()] == [b"not answered"]
