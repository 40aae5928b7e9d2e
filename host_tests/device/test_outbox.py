# The outbox: bounds, policies, order, and what feed() makes of it in an engine.
# runs under CPython too
import micropython  # noqa: F401  (first: under CPython it gives `time` its ticks)

from umqtt5.errors import ResourceError
from umqtt5.outbox import Outbox
from wire import Wire, publish, raises


def fill(outbox, *names, flags=2):
    return [outbox.put(b"t", n, flags) for n in names]


def waiting(outbox):
    out = []
    while outbox.first():
        out.append(outbox.withdraw(outbox.first()[0])[3])
    return out


def test_order_and_numbers():
    o = Outbox(3)
    assert fill(o, b"a", b"b", b"c") == [1, 2, 3]
    assert len(o) == 3 and o.used == 6
    assert o.first()[3] == b"a"
    assert o.withdraw(2)[3] == b"b"
    assert o.withdraw(2) is None
    assert fill(o, b"d") == [4]
    assert waiting(o) == [b"a", b"c", b"d"]
    assert o.used == 0 and o.first() is None and len(o) == 0
    for n in range(50):  # round and round in the ring
        o.put(b"t", b"%d" % n, 0)
        o.put(b"t", b"%d" % (n + 100), 0)
        assert waiting(o) == [b"%d" % n, b"%d" % (n + 100)]


def test_withdrawn_from_any_place():
    for count in range(1, 6):
        for head in range(5):
            for gone in range(count):
                o = Outbox(5)
                for _ in range(head):  # so that the ring wraps
                    o.withdraw(o.put(b"t", b"", 0))
                numbers = fill(o, *[b"%d" % i for i in range(count)])
                o.withdraw(numbers[gone])
                assert waiting(o) == [b"%d" % i for i in range(count) if i != gone]


def test_what_is_not_bytes_is_copied():
    o = Outbox()
    mine = bytearray(b"abc")
    o.put(b"t", mine, 0)
    o.put(b"t", memoryview(mine), 0)
    o.put(b"t", "\u00e4", 0)
    mine[0] = 0
    for wrong in (5, 21.5, None, [1, 2], {"a": 1}):  # a number is not so many zero bytes
        assert "str(21.5)" in str(raises(TypeError, o.put, b"t", wrong, 0))
    assert waiting(o) == [b"abc", b"abc", b"\xc3\xa4"]


def test_full_wait():
    o = Outbox(2, 10)
    assert fill(o, b"a", b"b", b"c") == [1, 2, -1]
    o.withdraw(1)
    assert fill(o, b"12345678", b"1234567", b"123") == [-1, 3, -1]  # by bytes
    assert waiting(o) == [b"b", b"1234567"] and o.dropped == 0


def test_full_raise():
    o = Outbox(2, 10, "raise")
    fill(o, b"a", b"b")
    assert "count=2" in str(raises(ResourceError, o.put, b"t", b"c", 2))
    assert waiting(o) == [b"a", b"b"]


def test_full_newest():
    o = Outbox(2, 10, "newest")
    gone = []
    o.on_drop = gone.append
    assert fill(o, b"a", b"b", b"c") == [1, 2, 0]
    assert [e[3] for e in gone] == [b"c"] and o.dropped == 1
    assert waiting(o) == [b"a", b"b"]


def test_full_oldest():
    o = Outbox(3, 10, "oldest")
    gone = []
    o.on_drop = gone.append
    assert fill(o, b"a", b"b", b"c", b"d") == [1, 2, 3, 4]
    assert [e[3] for e in gone] == [b"a"]
    fill(o, b"1234567")  # two must go for this one
    assert [e[3] for e in gone] == [b"a", b"b", b"c"] and o.dropped == 3
    assert waiting(o) == [b"d", b"1234567"]


def test_larger_than_the_outbox():
    for full in ("wait", "oldest", "newest", "raise"):
        o = Outbox(2, 10, full)
        fill(o, b"a")
        assert "size=10" in str(raises(ResourceError, o.put, b"topic", b"123456", 2))
        assert waiting(o) == [b"a"]


def test_arguments():
    for arguments in ((0,), (1, 0), (1, 1, "maybe")):
        raises(ValueError, Outbox, *arguments)


def test_feed_keeps_to_the_receive_maximum():
    w = Wire(receive_maximum=2).up()
    o = Outbox()
    for i in range(4):
        o.put(b"t", b"%d" % i, 2)
    o.put(b"t", b"4", 0)
    sent = []
    while o.feed(w.e):
        sent.append(o.slot)
        w.flush()
    assert len(sent) == 2 and len(o) == 3, "behind two in flight all others wait, QoS 0 as well: their order"
    assert w.e.session.waited[sent[0]] == 0
    w.feed(b"\x40\x02\x00\x01")
    assert o.feed(w.e)[3] == b"2" and o.feed(w.e) is None, "something is left to write"
    w.flush()
    w.feed(b"\x40\x02\x00\x02\x40\x02\x00\x03")
    assert o.feed(w.e)[3] == b"3"
    w.flush()
    assert o.feed(w.e)[3] == b"4" and o.slot == -1 and len(o) == 0
    w.flush()
    assert w.sent[-5:] == [publish(b"t", b"%d" % i, 1 if i < 4 else 0, i + 1) for i in range(5)]


def test_feed_and_a_caller_that_waits():
    w = Wire().up()
    o = Outbox()
    o.put(b"t", b"x", 4, b"", "me")
    entry = o.feed(w.e)
    assert entry[5] == "me" and w.e.session.waited[o.slot] == 1
    w.flush()
    w.feed(b"\x50\x02\x00\x01")
    w.feed(b"\x70\x02\x00\x01")
    assert w.answer(o.slot) == 0


def test_feed_and_what_the_broker_does_not_take():
    told = []
    gone = []
    w = Wire(tx_size=32, on_event=lambda *event: told.append(event))
    w.up(maximum_packet_size=64)
    o = Outbox()
    o.on_drop = gone.append
    o.put(b"t" * 40, b"long", 2)
    o.put(b"t", b"x" * 64, 4, b"", "me")
    o.put(b"t", b"good", 2)
    assert o.feed(w.e)[3] == b"good"
    assert told == [("refused", (b"t" * 40, 0x95)), ("refused", (b"t", 0x83))]
    assert [e[5] for e in gone] == ["me"] and len(o) == 0


def test_restored():
    o = Outbox(2, 10)
    o.restore([(n, 2, b"topic", b"%d" % n, b"", None) for n in range(5, 9)])
    assert len(o) == 4
    assert fill(o, b"new") == [-1]
    for n in range(5, 9):
        assert o.withdraw(n)[3] == b"%d" % n
    assert fill(o, b"new") == [9]
