# What an application and its handlers send while a re-authentication runs: held back, and in order afterwards.
# runs under CPython too
from reauth_steps import auth, begin, finish, granted, nothing_stands_in_front, step, up
from rules import ack, last, names, pub, sent
from umqtt5.errors import AuthError, ProtocolError
from umqtt5.message import Reject
from umqtt5.reader import CLOSED, FAILED
from umqtt5.subscribe import Subscription, add
from wire import publish, raises


def test_what_waits_goes_out_before():
    w = up(receive_maximum=30)
    for pid in range(1, 4):
        w.e.into[:2] = b"\x32\x06"
        w.e.got(2, w.now)
        w.e.into[:6] = b"\x00\x01t" + bytes((0, pid)) + b"\x00"
        w.e.got(6, w.now)
    w.e.ping(w.now)
    w.e.reauthenticate(None, w.now)
    w.e.work(w.now)  # by a driver that works first, and writes then
    step(w)
    assert names(sent(w)) == ["PUBACK", "PUBACK", "PUBACK", "PINGREQ", "AUTH"]


def half(w):
    """A packet is half out."""
    w.publish(b"t", b"message")
    w.e.wrote(4, w.now)
    return w.e.left


def test_a_packet_half_out_is_not_touched():
    w = up()
    left = half(w)
    before = bytes(w.e.tx[w.e.off : w.e.off + left])
    w.e.reauthenticate(None, w.now)
    for _ in range(3):
        assert w.e.auth_busy()
        w.e.work(w.now)
    assert w.e.left == left and bytes(w.e.tx[w.e.off : w.e.off + left]) == before
    assert w.e.timer(w.now) > 0  # not "call work() at once": the driver has to write first
    w.e.wrote(left, w.now)
    assert last(step(w)).name == "AUTH"
    # And with hold=False one of the application's, when the challenge comes.
    w = up(reauth_hold=False)
    begin(w)
    left = half(w)
    w.sent.clear()
    data = auth(0x18, b"A")
    w.e.into[:2] = data[:2]
    w.e.got(2, w.now)
    w.e.into[: len(data) - 2] = data[2:]
    w.e.got(len(data) - 2, w.now)
    w.e.work(w.now)
    assert w.e.left == left and w.e.auth_busy()
    w.e.wrote(left, w.now)
    assert last(step(w)).props.endswith(b"two")


def test_held_everything_waits_and_goes_out_in_its_order():
    # More messages at QoS 1 than the engine's queue of acknowledgements has places.
    w = up(receive_maximum=30)
    told = []
    w.e.callback = lambda topic, msg: told.append(w.publish(b"out", b"from a handler", qos=len(told) % 3))
    slot = w.publish(b"in/flight", b"m", False, 2)
    w.flush()
    begin(w)
    sent(w)
    assert w.e.held
    w.feed(ack("PUBREC", w.e.session.pid[slot]))
    for pid in range(1, 13):
        w.feed(publish(b"t", b"m", 1 if pid % 2 else 2, pid))
    w.e.ping(w.now)
    assert sent(w) == [] and len(told) == 12 and not w.e.acks_full()
    w.feed(auth(0x18))
    assert names(sent(step(w))) == ["AUTH"]
    w.feed(auth(0x00))
    step(w)
    nothing_stands_in_front(w)
    found = sent(w)
    assert names(found[:1]) == ["PUBREL"] and names(found[-1:]) == ["PINGREQ"]
    out = [p for p in found[1:-1] if p.name == "PUBLISH"]
    assert [p.qos for p in out] == [0, 1, 2] * 4
    assert [p.pid for p in found[1:-1] if p.name != "PUBLISH"] == list(range(1, 13))
    assert w.e.session.find(out[1].pid, 1) >= 0  # it waits for PUBACK


def test_held_where_a_message_is_like_the_one_before():
    w = up()
    w.e.receiving()
    add(w.e.session, Subscription(0, b"t", lambda m: None, 2, b""))
    for pid in (1, 2):
        w.feed(publish(b"t", b"m", 1, pid))
    assert w.e.message.like
    begin(w, b"one")
    sent(w)
    for pid in (3, 4):
        w.feed(publish(b"t", b"m", 1, pid))
    assert sent(w) == []
    finish(w)
    assert [p.pid for p in sent(w) if p.name == "PUBACK"] == [3, 4]


def test_no_more_is_held_than_the_server_may_send():
    # 4.9: acknowledgements that it does not get do not let it fill our memory.
    w = up(receive_maximum=20)
    begin(w)
    for pid in range(1, 21):
        w.feed(publish(b"t", b"m", 1, pid))
    assert raises(ProtocolError, w.feed, publish(b"t", b"m", 1, 21)).reason == 0x93
    assert w.e.state == FAILED


def test_an_acknowledgement_with_properties_is_held_with_them():
    def handler(topic, msg):
        if msg == b"bad":
            raise Reject(0x99, {"reason_string": "no"})

    w = up()
    begin(w, b"one")
    w.e.callback = handler
    for pid, msg in ((1, b"good"), (2, b"bad"), (3, b"good")):
        w.feed(publish(b"t", msg, 1, pid))
    sent(w)
    finish(w)
    found = sent(w)
    assert [(p.pid, p.reason, p.props) for p in found] == [(1, 0, b""), (2, 0x99, b"\x1f\x00\x02no"), (3, 0, b"")]


def test_what_was_held_keeps_its_order_with_what_comes_after():
    # An alias is known from the packet that goes out first.
    w = up()
    w.e.alias_limit = 4
    w.publish(b"topic", b"0")
    w.flush()
    w.e.callback = lambda topic, msg: w.publish(b"topic", b"1")
    begin(w)
    w.feed(publish(b"t", b"m"))
    w.feed(auth(0x18))
    step(w)
    sent(w)
    data = auth(0x00)
    w.e.into[:2] = data[:2]
    w.e.got(2, w.now)
    w.e.into[: len(data) - 2] = data[2:]
    w.e.got(len(data) - 2, w.now)
    w.e.work(w.now)
    assert not w.e.held
    w.publish(b"topic", b"2")
    found = sent(w)
    assert [(p.topic, p.payload) for p in found] == [(b"topic", b"1"), (b"", b"2")]
    nothing_stands_in_front(w)


def test_a_payload_larger_than_tx_is_held_whole():
    w = up(tx_size=64)
    long = bytes(range(256))
    w.e.callback = lambda topic, msg: w.publish(b"out", long)
    begin(w)
    sent(w)
    w.feed(publish(b"t", b"m"))
    assert sent(w) == []
    w.feed(auth(0x00))
    raises(AuthError, step, w)
    w = up(tx_size=64)
    w.e.callback = lambda topic, msg: w.publish(b"out", long)
    begin(w, b"one")
    sent(w)
    w.feed(publish(b"t", b"m"))
    w.feed(auth(0x00))
    step(w)
    assert [p.payload for p in sent(w)] == [long]


def test_not_held_everything_flows():
    w = up(reauth_hold=False)
    begin(w)
    sent(w)
    assert not w.e.held
    w.feed(publish(b"t", b"m", 1, 7))
    pub(w, qos=1)
    w.e.ping(w.now)
    assert names(sent(w)) == ["PINGREQ"]
    assert w.messages == [(b"t", b"m")]
    w.feed(auth(0x18))
    pub(w)
    assert names(sent(step(w))) == ["AUTH"]
    finish(w)


def test_after_disconnect_nothing_goes_out():
    # [MQTT-3.14.4-2]
    w = up()
    begin(w)
    sent(w)
    w.feed(publish(b"t", b"m", 1, 7))
    w.e.end(0, None)
    assert names(sent(w)) == ["DISCONNECT"]
    w.e.closed()
    nothing_stands_in_front(w)
    # Nor what was held, when it is over but not written yet.
    w = up()
    begin(w, b"one")
    w.feed(publish(b"t", b"m", 1, 7))
    w.feed(auth(0x00))
    sent(w)
    w.e.work(w.now)
    assert not w.e.held and w.e.authenticating
    raises(ValueError, w.e.end, 0x87, None)
    w.e.end(0, None)
    assert names(sent(w)) == ["DISCONNECT"]


def test_the_next_connection_knows_nothing_of_what_was_held():
    w = up()
    begin(w)
    w.feed(publish(b"t", b"m", 1, 7))
    w.e.closed()
    nothing_stands_in_front(w)
    assert w.e.state == CLOSED
    granted(w)
    assert sent(w) == []
    begin(w)
    assert names(sent(w)) == ["AUTH"]


def test_not_held_the_next_publish_is_whole():
    # At its end tx is overwritten: what stood there for the next publish is gone too.
    w = up(reauth_hold=False)
    begin(w)
    w.feed(auth(0x18, b"A"))
    step(w)
    w.publish(b"topic", b"one")
    w.flush()
    assert w.e.prepared == b"topic"
    finish(w)
    assert w.e.prepared is None and not any(w.e.tx)
