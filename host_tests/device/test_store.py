# The store: a device that is switched off at any byte of any write, and comes back on what is on its flash.
# Nothing lost, nothing doubled at QoS 2, the order kept.
# runs under CPython too
import micropython  # noqa: F401  (first: under CPython it gives `time` its ticks)

from deal import Book, Broker, Device, live
from flash import Flash, PowerCut
from umqtt5.outbox import Outbox
from umqtt5.receive import received
from umqtt5.store import Store, StoreError
from umqtt5.subscribe import Subscription
from wire import raises

# out: the device publishes; in: the broker does. The first digit is the QoS.
SCRIPT = [
    ("connect", b"0"),
    ("out", b"1a"),
    ("out", b"2a"),
    ("in", b"2A"),
    ("in", b"1A"),
    ("off", b"0"),
    ("out", b"2b"),  # into the outbox
    ("out", b"1b"),
    ("in", b"2B"),
    ("connect", b"0"),
    ("out", b"2c"),
    ("flush", b"0"),
    ("in", b"2C"),
]


def lives(flash, cuts, script=SCRIPT, limit=200):
    """Run the script; the power fails before each step of `cuts` (counted within a life). Returns the last life's
    device, after the end of all that it owed."""
    book, broker, steps = Book(), Broker(), list(script)
    started = [False]

    def make():
        device = Device(broker, limit, handled=book.handled)
        if started[0]:
            device.connect()
        started[0] = True
        return device

    for cut in cuts:
        flash.cut_at = flash.steps + cut
        try:
            live(book, broker, steps, make)
        except PowerCut:
            pass
        flash.reboot()
    device = live(book, broker, steps, make)
    device.connect()
    book.check(broker, device)
    return device


def total(**kinds):
    flash = Flash(**kinds)
    lives(flash, ())
    return flash.steps


def cut_everywhere(**kinds):
    n = total(**kinds)
    assert n > 200
    for cut in range(n + 1):
        try:
            lives(Flash(**kinds), (cut,))
        except Exception as e:
            raise AssertionError("cut before step %d: %r" % (cut, e))


def test_cut_at_every_byte_torn():
    cut_everywhere(torn=True)


def test_cut_at_every_byte_littlefs():
    cut_everywhere(torn=False)


def test_cut_at_every_byte_fat():
    cut_everywhere(torn=True, unlinks=True)


def test_cut_twice():
    """The second time while it comes back."""
    n = total(torn=True)
    for first in range(0, n, 7):
        for second in (0, 1, 5, 13, 29, 41, 60, 93, 120):
            lives(Flash(), (first, second))


def test_full_flash():
    """However much fits: what was accepted is not lost, what was refused says so, nothing is doubled; and all goes on
    when there is room again, in the same life or in the next."""
    lives(Flash(), ())  # how it is with room enough
    errors = 0
    for room in range(0, 420, 1):
        for again in (False, True):
            flash = Flash(room=room)
            book, broker, steps = Book(), Broker(), list(SCRIPT)
            device = live(book, broker, steps, lambda to=(broker, book.handled): Device(to[0], 200, handled=to[1]))
            errors += device.store.log.failed
            flash.room = 1 << 30
            if again:
                device = Device(broker, 200, handled=book.handled)
            device.connect()
            book.check(broker, device)
    assert errors > 100


def test_full_flash_is_told():
    flash = Flash()
    broker = Broker()
    device = Device(broker).connect()
    flash.room = flash.used() + 5
    error = raises(StoreError, device.publish, b"2a", 2)
    assert "store: s: " in str(error) and "full" in str(error)
    assert not broker.got and not device.e.left, "nothing is sent"
    raises(StoreError, device.publish, b"2b", 2)
    raises(StoreError, device.receive, b"2A", 2)
    device.e.closed()
    assert broker.out[1][2] is False, "no PUBREC for what is not on flash"
    assert device.e.session.receiving == 1
    raises(StoreError, device.connect)
    assert device.handled == [b"2A"]
    flash.room = 1 << 30
    device.connect()
    assert not broker.out and device.handled == [b"2A"], "acknowledged now, and not delivered again"
    device.publish(b"2c", 2)
    assert broker.got == [b"2c"]


def test_no_room_for_a_new_file():
    """The old file goes on where the new one, beside it, does not fit."""
    flash = Flash(room=1000)
    broker = Broker()
    device = Device(broker, limit=450).connect()
    big = b"2" + b"x" * 280
    device.e.closed()
    device.publish(big, 2)  # it waits: alive for ever
    device.publish(big + b"y", 2)
    for i in range(5):
        device.outbox.withdraw(device.outbox.put(b"t", b"2%d" % i, 4))
    device.store.flush()
    assert sorted(flash.files) == ["s"] and 600 < len(flash.files["s"]) < 1000
    assert [e[3][-1:] for e in Device(broker).outbox.entries()] == [b"x", b"y"]


def state(path="s"):
    s = Store(path)
    return repr(
        (
            sorted(s._slots.items()),
            sorted(s._received),
            sorted(s._waiting.items()),
            sorted(s._filters.items()),
            s.word,
            s.client_id,
        )
    )


def test_flipped_bytes():
    """Whichever byte is wrong: what stands before its record is found, nothing is invented, and the store goes on."""
    flash = Flash()
    broker = Broker()
    device = Device(broker, 1000).connect()
    broker.take = lambda data: []  # deaf from now on: all stays in flight
    device.publish(b"2a", 2)
    device.publish(b"1a", 1)
    device.e.session.reached(1)
    received(device.e.session, 7)
    device.store.keep(b"word")
    received(device.e.session, 9)
    device.store.subscribed(Subscription(3, b"a/+", None, 2, b""))
    device.e.closed()
    device.publish(b"2b", 2)
    data = flash.files["s"]
    # The states after each record: those of the file cut off there.
    ends = []
    for n in range(len(data) + 1):
        flash.files["s"] = data[:n]
        s = Store("s")
        if not s.cut:
            ends.append((n, state()))
    assert len(ends) > 10 and len({found for _, found in ends}) > 8
    for at in range(len(data)):
        before = [found for n, found in ends if n <= at][-1]
        for bit in (1, 0x80):
            flash.files = {"s": data[:at] + bytes((data[at] ^ bit,)) + data[at + 1 :]}
            assert state() == before, at
            s = Store("s")
            assert s.cut
            s.session(3)
            s.keep(b"on")
            s.flush()
            again = Store("s")
            assert again.word == b"on" and not again.cut
    for at in range(0, len(data), 3):  # a hole of erased flash, and of zeros
        before = [found for n, found in ends if n <= at][-1]
        for fill in (b"\xff", b"\0"):
            flash.files["s"] = data[:at] + fill * (len(data) - at)
            assert state() == before or data[at:] == fill * (len(data) - at)


def test_another_table_size():
    """receive_maximum is another one in the next life: every message finds its slot, and keeps its order."""
    for before, after in ((5, 1), (1, 5), (6, 2), (4, 3), (3, 4)):
        Flash()
        broker = Broker()
        device = Device(broker, receive_maximum=before)
        device.connect()
        take = broker.take
        sent = [b"2%d" % i for i in range(before)]
        for pid in (65533, 7):
            device.e.session.last = pid
            broker.take = lambda data: []
            for msg in sent:
                device.publish(msg, 2)
            broker.take = take
            broker.got.clear()
            device = Device(broker, receive_maximum=after)
            device.connect()
            assert broker.got == sent, (before, after, broker.got)
            device = Device(broker, receive_maximum=before).connect()


def test_subscriptions():
    Flash()
    broker = Broker()
    a, b = Subscription(1, b"a/+", None, 1, b""), Subscription(2, b"b", None, 2, b"")
    device = Device(broker).connect()
    assert not device.store.has(a)
    device.store.subscribed(a)
    device.store.subscribed(b)
    device.store.unsubscribed(b"b")
    device = Device(broker).connect()
    assert device.store.has(a) and not device.store.has(b)
    assert not device.store.has(Subscription(1, b"a/+", None, 2, b"")), "with other options it is another one"
    broker.present = False
    device.connect()
    assert not device.store.has(a), "gone with the session"
    assert not Device(broker).store.has(a)


def test_client_identifier():
    Flash()
    broker = Broker()
    device = Device(broker)
    assert device.store.client_id == b"me"
    device.connect()
    received(device.e.session, 5)
    device.publish(b"2a", 2)
    device.store.close()
    Engine = type(device.e)
    s = Store("s")
    assert Engine("", None, None, 0, store=s).terms.client_id == b"me"
    s = Store("s")
    e = Engine("you", None, None, 0, store=s)
    assert e.session.receiving == 0, "an identifier of another session's"
    s.close()
    s = Store("s")
    assert s.client_id == b"you" and s._received == []
    s.session(1)
    raises(ValueError, s.session, 1)


def test_word():
    """keep() outside of a handler: with flush(), or with the next message at QoS 2; in a handler that did not return:
    never alone."""
    Flash()
    broker = Broker()
    device = Device(broker).connect()
    for wrong in (5, None, [1, 2]):  # a number is not so many zero bytes
        raises(TypeError, lambda: device.store.keep(wrong))  # noqa: B023
    device.store.keep(b"one")
    assert Store("s").word == b""
    device.store.flush()
    assert Store("s").word == b"one"
    device.store.keep(b"")
    received(device.e.session, 9)
    assert Store("s").word == b""
    device.store.keep(b"two")
    for i in range(40):  # the file is written anew meanwhile
        device.publish(b"1%d" % i, 1)
    assert Store("s").word == b""
    received(device.e.session, 10)
    assert Store("s").word == b"two"


def test_a_clean_start_writes_nothing():
    flash = Flash()
    broker = Broker()
    device = Device(broker).connect()
    device.store.flush()
    steps = flash.steps
    for _ in range(3):
        device.e.closed()
        broker.present = False
        device.connect()
        device.e.closed()
        device.connect()
    device.publish(b"0a", 0)
    device.receive(b"0b", 0)
    device.receive(b"1b", 1)
    device.store.flush()
    assert flash.steps == steps


def test_files_are_closed():
    flash = Flash()
    for _ in range(3):
        flash.files.clear()
        device = lives(flash, ())
        device.store.close()
        assert flash.open_files == 0


def test_an_outbox_is_optional():
    """What waits stays on flash while no outbox is there to take it."""
    Flash()
    s = Store("s")
    o = Outbox()
    s.attach(o)
    s.session(2)
    o.put(b"t", b"x", 2, b"\x01\x01")
    s.close()
    s = Store("s", 1)
    received(s.session(2), 4)
    s.keep(b"w")
    s.close()
    s = Store("s")
    o = Outbox()
    s.attach(o)
    assert o.entries() == [(1, 2, b"t", b"x", b"\x01\x01", None)]
