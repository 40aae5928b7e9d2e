# What comes in between at a bad moment: Ctrl-C, no memory, a call from on_event. The client is whole afterwards, or
# it has closed, and connect() works.
# runs under CPython too
from net import Net
from reauth_steps import auth, begin, up
from umqtt5 import MQTTClient, reauth
from umqtt5 import driver as driver_module
from umqtt5.errors import ProtocolError
from umqtt5.message import Message
from umqtt5.reader import CLOSED
from wire import Wire, packet, publish, raises


def test_no_memory_for_the_poll_object():
    net = Net()
    c = MQTTClient("me", "host")
    net.full = True
    raises(MemoryError, c.connect)
    assert c.sock is None and all(stream.closed for stream in net.streams)
    net.full = False
    c.connect()
    c.disconnect()


def test_a_payload_that_cannot_be_encoded():
    # A lone surrogate, under CPython: nothing has gone out, and the connection is whole.
    net = Net()
    c = MQTTClient("me", "host")
    c.connect()
    for _ in range(2):
        c.publish(b"topic", b"first")
        try:
            c.publish(b"topic", "\ud800")
        except UnicodeError:
            pass
        assert c.sock is not None and len(net.streams) == 1
    c.disconnect()


def test_no_memory_for_what_receives():
    # begin() makes several things: any of them may be the one that finds no room.
    def none(*_):
        raise MemoryError

    for name in ("compare", "__init__"):
        w = Wire().up()
        kept = getattr(Message, name)
        setattr(Message, name, none)
        raises(MemoryError, w.e.receiving)
        raises(MemoryError, w.feed, publish(b"t", b"1"))
        setattr(Message, name, kept)
        w = Wire().up()
        setattr(Message, name, none)
        raises(MemoryError, w.e.receiving)
        setattr(Message, name, kept)
        w.e.receiving()
        for _ in range(3):
            w.feed(publish(b"t", b"1"))
        assert w.messages == [(b"t", b"1")] * 3


def test_ctrl_c_behind_a_write():
    # It came while the stream took the bytes, and is raised at the next jump: they must not go out again.
    def ctrl_c():
        raise KeyboardInterrupt

    kept = driver_module.ticks_ms
    net = Net()
    c = MQTTClient("me", "host")
    c.connect()
    driver_module.ticks_ms = ctrl_c
    try:
        raises(KeyboardInterrupt, c.publish, b"topic", b"once")
    finally:
        driver_module.ticks_ms = kept
    assert c.sock is None and net.streams[0].closed
    c.connect()
    c.publish(b"topic", b"more")
    sent = net.streams[0].took + net.streams[1].took
    assert len([p for p in sent if b"once" in p]) == 1, sent
    c.disconnect()


def test_ctrl_c_while_our_disconnect_goes_out():
    net = Net()
    c = MQTTClient("me", "host")
    c.connect()
    net.streams[0].says = b"\0\0"
    net.streams[0].error = KeyboardInterrupt()
    raises(KeyboardInterrupt, c.check_msg)
    assert c.sock is None and net.streams[0].closed
    raises(OSError, c.check_msg)
    c.connect()
    c.disconnect()


def test_a_broker_too_small_for_our_disconnect():
    net = Net(b"\x20\x08\0\0\5\x27\0\0\0\2")  # Maximum Packet Size 2
    c = MQTTClient("me", "host")
    c.connect()
    net.streams[0].says = b"\0\0"
    raises(ProtocolError, c.check_msg)
    assert c.sock is None and net.streams[0].closed
    raises(OSError, c.check_msg)


def test_a_message_on_its_way_while_its_handler_changes():
    # It carries the identifier of the subscription that is replaced.
    net = Net()
    c = MQTTClient("me", "host")
    c.connect()
    lost, got = [], []
    c.set_callback(lambda topic, msg: lost.append(msg))
    net.streams[0].says = packet(0x90, b"\0\1\0\0")
    c.subscribe(b"t", 0, lambda m: None)
    old = net.streams[0].took[-1][5:7]  # 0x0B and the identifier
    net.streams[0].says = publish(b"t", b"1", properties=old) + packet(0x90, b"\0\2\0\0")
    c.subscribe(b"t", 0, lambda m: got.append(m.payload))
    assert old[0] == 0x0B and got == [b"1"] and not lost
    c.disconnect()


def resumed(w, granted=b""):
    """The next connection, with the session: `sent` is what goes out behind CONNECT."""
    w.e.closed()
    w.e.open(w.now, False)
    w.flush()
    w.sent.clear()
    w.feed(packet(0x20, bytes((1, 0, len(granted))) + granted))


def test_a_publish_cut_short_on_its_way_into_the_table():
    for state in (1, 2):
        w = Wire().up(False)
        w.publish(b"t", b"1", False, 1)
        w.flush()
        i = w.e.session.take(state)  # and then Ctrl-C
        assert i >= 0 and w.e.session.in_flight() == 2
        resumed(w)
        assert [p[0] for p in w.sent] == [0x3A], w.sent
        assert w.e.session.in_flight() == 1 and not w.e.session.state[i]


def test_on_event_calls_while_messages_are_resent():
    told = []

    def event(name, value):
        told.append((name, value))
        w.publish(b"log", b"event")
        w.flush()

    w = Wire(on_event=event).up(False)
    for n in range(3):
        w.publish(b"t", b"%d" % n, False, 2 - n // 2)
    w.flush()
    resumed(w, b"\x24\1")  # Maximum QoS 1
    assert told == [("refused", (b"t", 0x9B))] * 2
    assert [p[0] for p in w.sent] == [0x30, 0x30, 0x3A], w.sent
    assert w.e.session.in_flight() == 1


def test_nothing_goes_out_behind_disconnect():
    # [MQTT-3.14.4-2]. The stream has no room for it until a PINGREQ is due.
    w = Wire(keepalive=60).up()
    w.now += 100000
    w.e.end(0, None)
    w.e.timer(w.now)
    assert w.flush() == [b"\xe0\0"], w.sent


def test_a_disconnect_that_is_too_large_changes_nothing():
    w = Wire().up(maximum_packet_size=20)
    w.e.ping(w.now)
    raises(ValueError, w.e.end, 4, {"reason_string": "x" * 30})
    assert w.flush() == [b"\xc0\0"], w.sent


def test_ctrl_c_at_the_end_of_a_reauthentication():
    # What stood in front of the engine is gone at the latest with the connection.
    def counted(thing, name):
        nonlocal left
        real(thing, name)
        left -= 1
        if not left:
            raise KeyboardInterrupt

    real = delattr
    ended = 0
    for n in range(1, 9):
        w = up()
        begin(w, b"one")
        left = n
        reauth.delattr = counted
        try:
            w.feed(auth(0))
            w.e.work(w.now)
            w.flush()
            ended += 1
        except KeyboardInterrupt:
            pass
        reauth.delattr = real
        w.e.closed()
        w.e.closed()
        assert w.e.state == CLOSED
        kept = [name for name in ("next", "_ack", "publish", "_request", "end", "timer") if stands(w.e, name)]
        assert not kept, (n, kept)
    assert 0 < ended < 8


def stands(e, name):
    return name in e.__dict__


def test_the_step_in_which_the_broker_closed():
    # Not one that has been over for hours.
    for wait in ("check_msg", "wait_msg"):
        net = Net()
        c = MQTTClient("me", "host")
        c.connect()
        net.streams[0].says = b"\x90\4\0\1\0\1\x40\2\0\2"
        c.subscribe(b"topic", 1)
        c.publish(b"topic", b"payload", False, 1)
        net.streams[0].ended = True
        error = raises(OSError, getattr(c, wait))
        assert "closed by the broker; waiting for a message" in str(error), error
