# quick.py's generators between the client and a stream. That their outcome is the long way's: test_short_ways.py.
from micropython import heap_lock, heap_unlock

from time import ticks_add

import umqtt5.driver as driver_module
from flash import Flash
from net import Net
from umqtt5 import Disconnected, MQTTClient, Refused
from umqtt5.store import Store
from wire import raises

TOPIC = b"house/kitchen"


def up(**options):
    """A client that is connected, and its stream."""
    net = Net()
    c = MQTTClient("me", "host", timeout=0.2, **options)
    c.connect()
    stream = net.streams[0]
    stream.took.clear()
    return c, stream


def long_way(qos, msg):
    """What two publishes behind another put on the wire where each is built anew."""
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
        assert c._engine.session.in_flight() == 2 * qos, "it is sent again with the next connection"


def test_a_stream_that_fails():
    c, stream = up()
    c.publish(TOPIC, b"first")
    stream.error = KeyboardInterrupt()
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
            assert not any(s.state) and not any(s.waited) and not s.in_flight() and c._engine.quota == s.size
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
    assert c.sock is None and c._engine.session.in_flight() == 1 and not any(c._engine.session.waited)


def test_on_event_that_raises_while_an_answer_is_awaited():
    def on_event(name, value):
        raise ValueError(name)

    c, stream = up(on_event=on_event)
    c.publish(TOPIC, b"first", False, 1, None, False)
    stream.says = b"\x40\3\0\1\x87"
    assert raises(ValueError, c.publish, TOPIC, b"payload", False, 1).args == ("refused",)
    assert c.sock is None and not any(c._engine.session.waited) and c._engine.session.in_flight() == 1


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


def test_a_handler_publishes_while_the_last_words_are_read():
    # push() is still in its turn then: the handler gets the stream's error, which it may expect, not the generator's.
    for own in (False, True):
        c, stream = up()
        told = []

        def handler(topic, msg):
            for _ in range(2):
                told.append(type(raises(Exception, publish, b"its own")))  # noqa: B023

        def plain(msg):
            c.publish(TOPIC, msg)  # noqa: B023

        publish = c.publisher(TOPIC).publish if own else plain
        c.set_callback(handler)
        publish(b"first")
        stream.says = b"\x31\5\0\1t\0m"
        stream.error = OSError(104)
        raises(OSError, publish, b"payload")
        assert c.sock is None and told == [OSError] * 2, told


def test_ctrl_c_in_a_write_is_the_end():
    # No last words are read: a handler that publishes would put its packet behind half of another.
    for long in (True, False):
        c, stream = up()
        c.set_callback(lambda topic, msg: c.publish(TOPIC, b"its own"))  # noqa: B023
        c.publish(TOPIC, b"first")
        stream.took.clear()
        stream.says = b"\x31\5\0\1t\0m"
        stream.error = KeyboardInterrupt()
        raises(KeyboardInterrupt, c.publish, TOPIC, bytes(200) if long else b"payload")
        assert c.sock is None and stream.says and not stream.took


def message(pid):
    return b"\x32\7\0\1t" + bytes((pid >> 8, pid & 255)) + b"\0m"


def puback(pid):
    return b"\x40\2" + bytes((pid >> 8, pid & 255))


def taker(handler=lambda message: None, **options):
    """A client whose next message at QoS 1 is like the one before, and its stream."""
    c, stream = up(**options)
    c.on("t", handler)
    for pid in (1, 2):
        stream.says = message(pid)
        c.wait_msg()
    assert c._engine.message.like
    assert stream.took == [puback(1), puback(2)]
    stream.took.clear()
    return c, stream


def test_a_stream_that_takes_a_part_of_a_puback():
    for first in (1, 2, 3, None):
        c, stream = taker()
        stream.takes = [first, None, 1, None]
        stream.says = message(258) + message(515)
        c.wait_msg()
        c.wait_msg()
        assert b"".join(stream.took) == puback(258) + puback(515), (first, stream.took)
        assert not c._engine.left and not c._engine.midway and c._engine.out is c._engine.tx
        c.disconnect()
        assert stream.took[-1] == b"\xe0\0"


def test_a_stream_that_takes_no_more_of_a_puback():
    for first in (2, None):
        c, stream = taker()
        stream.takes = [first] + [None] * 100000
        stream.says = message(258)
        assert raises(OSError, c.wait_msg).errno == 110
        assert c.sock is None and len(stream.took) == (1 if first else 0), "no DISCONNECT behind half a packet"
        assert c._engine.midway, "TLS may hold what it did not take"


def test_no_puback_while_the_last_words_are_read():
    def fails(*_):
        stream.says = message(515) + message(516)
        raise OSError(104)

    c, stream = taker()
    stream.says = message(258)
    stream.takes = [2]
    stream.write = fails  # the driver's; pull() has the other one
    raises(OSError, c.wait_msg)
    assert not stream.says and stream.took == [puback(258)[:2]], "nothing behind half a packet"


def test_a_puback_that_fails():
    # What the broker said before it closed is the better error.
    for said, error in ((b"", OSError), (b"\xe0\2\x8e\0", Disconnected)):
        c, stream = taker()
        stream.error = OSError(104)
        stream.says = message(258) + said
        assert type(raises(OSError, c.wait_msg)) is error
        assert c.sock is None and not stream.took
    c, stream = taker()
    stream.error = KeyboardInterrupt()
    stream.says = message(258)
    stream.write = lambda *_: stream.took.append("DISCONNECT")  # the driver's; pull() has the other one
    raises(KeyboardInterrupt, c.wait_msg)
    assert c.sock is None and not stream.took, "who knows how much of it is out"


def test_ctrl_c_behind_half_a_puback():
    def wrote(n, now):
        raise KeyboardInterrupt

    c, stream = taker()
    c._engine.wrote = wrote
    stream.takes = [2]
    stream.says = message(258)
    raises(KeyboardInterrupt, c.wait_msg)
    assert c.sock is None and stream.took == [puback(258)[:2]], "no DISCONNECT behind it"


def test_a_puback_behind_what_its_handler_did():
    def handler(message):
        if act:
            act()

    act = None
    c, stream = taker(handler)
    act = lambda: c.publish(TOPIC, b"x")  # noqa: E731
    stream.says = message(258)
    c.wait_msg()
    assert len(stream.took) == 2 and stream.took[1] == puback(258)
    act = lambda: c.disconnect()  # noqa: E731
    stream.says = message(259)
    c.wait_msg()
    assert stream.took[2:] == [b"\xe0\0"], "nothing follows DISCONNECT"


def test_when_a_puback_was_written():
    c, stream = taker(keepalive=60)
    c._engine.last_tx = None
    stream.says = message(258)
    c.wait_msg()
    assert c._engine.last_tx is not None


def test_on_wait_that_reads():
    # It finds the answer, or a message behind it: a refusal is raised all the same, and the slot is free again.
    for said, message in ((b"\x87", b""), (b"", b"\x31\5\0\1t\0m")):
        c, stream = up(receive_maximum=1)
        c.publish(TOPIC, b"first", False, 1, None, False)
        stream.says = b"\x40\2\0\1"
        c.check_msg()
        c._sleep(1, 0)  # as after any other wait

        def on_wait():
            if stream.says:  # noqa: B023
                c.check_msg()  # noqa: B023
                stream.says = message  # noqa: B023

        c.on_wait = on_wait
        stream.says = bytes((0x40, 2 + len(said), 0, 2)) + said
        if said:
            assert raises(Refused, c.publish, TOPIC, b"payload", False, 1).reason == 0x87
        else:
            c.publish(TOPIC, b"payload", False, 1)
        s = c._engine.session
        assert not any(s.state) and not any(s.waited)


class Table:
    """In the place of Session.state: Ctrl-C comes when a slot is taken."""

    def __init__(self, n):
        self.n = n

    def __len__(self):
        return self.n

    def __getitem__(self, i):
        if i >= self.n:
            raise IndexError
        return 0

    def __setitem__(self, i, value):
        if value:
            raise KeyboardInterrupt


def test_ctrl_c_on_the_way_into_the_table():
    # Else one that nobody answers would count as in flight for ever: with Receive Maximum 1 none could follow.
    c, _ = up(receive_maximum=1)
    s = c._engine.session
    kept = s.state
    c.disconnect()
    s.state = Table(len(kept))
    c.connect()
    c._engine.prepared = TOPIC
    c._engine.prepared_flags = 2
    raises(KeyboardInterrupt, c.publish, TOPIC, b"payload", False, 1)
    s.state = kept
    c.connect()
    assert not s.in_flight()
    c.publish(TOPIC, b"payload", False, 1, None, False)


def test_ctrl_c_behind_the_first_look():
    # PUBREC has come, so the slot is in the table of those that are waited for.
    def ctrl_c(i):
        raise KeyboardInterrupt

    c, stream = up()
    c._finish = ctrl_c
    stream.says = b"\x50\2\0\1"
    raises(KeyboardInterrupt, c.publish, TOPIC, b"payload", False, 2)
    stream.says = b"\x70\2\0\1"
    c.check_msg()
    assert c.sock is not None and not any(c._engine.session.state) and not any(c._engine.session.waited)


def test_room_beside_what_a_resumed_session_has_left():
    # A PUBREL that is sent again takes a place in the table, and of what the broker's Receive Maximum allows.
    net = Net()
    c = MQTTClient("me", "host", timeout=0.2, receive_maximum=2)
    c.connect()
    net.streams[0].says = b"\x50\2\0\1"
    c.publish(TOPIC, b"first", False, 2, None, False)
    c.check_msg()
    c._close()
    net.connack = b"\x20\6\1\0\3\x21\0\x09"
    c.connect(False)
    stream = net.streams[1]
    c.publish(TOPIC, b"second", False, 1, None, False)
    stream.took.clear()
    c._engine.pinged = driver_module.ticks_ms()
    stream.says = b"\xd0\0\x70\2\0\1"  # room comes with the PUBCOMP only
    c.publish(TOPIC, b"third", False, 1, None, False)
    assert [p[-5:] for p in stream.took] == [b"third"] and c._engine.session.in_flight() == 2
    assert raises(OSError, c.publish, TOPIC, b"fourth", False, 1, None, False).errno == 110


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


def test_a_message_is_there_each_time_it_looks():
    # Every 5 s, and never nothing: so it never asks what it is time for. (And the ticks wrap.)
    ticks = driver_module.ticks_ms
    seconds = 0
    driver_module.ticks_ms = lambda: ticks_add(0, 1000 * seconds - 30_000)
    try:
        c, stream = up(keepalive=60)
        stream.says = b"\x30\5\0\1t\0m" * 40
        pings = [0]
        for seconds in range(5, 205, 5):
            assert c.check_msg() == 0x30
            if stream.took:
                assert stream.took == [b"\xc0\0"]
                stream.took.clear()
                pings.append(seconds)
        assert pings == [0, 60, 120, 180]
    finally:
        driver_module.ticks_ms = ticks
