# MQTT 5.0, 4.12.1: re-authentication, in the engine. Its hostile servers are in test_hostile_reauth.py, real brokers
# in test_reauth.py, a late proof of the server in device/test_late_proof.py.
# runs under CPython too
from rules import METHOD, Mechanism, ack, connack, last, names, opened, packet, props, protocol_error, pub, sent
from umqtt5.errors import AuthError, Disconnected, NotProven, ProtocolError, Reject
from umqtt5.reader import CLOSED, FAILED, UP
from umqtt5.session import PUBACK
from wire import Wire, publish, raises

FRONT = ("next", "timer", "_ack", "publish", "put_encoded", "_request", "end", "closed", "handlers")


def auth(reason=0x18, data=None, properties=METHOD):
    if data is not None:
        properties += b"\x16" + bytes((len(data) >> 8, len(data) & 255)) + data
    return packet(0xF0, bytes((reason,)) + props(properties))


def granted(w):
    """CONNECT is out: log in with a mechanism that has one thing to say."""
    opened(w)
    w.feed(connack(0, 0, METHOD))
    assert w.e.state == UP
    w.sent.clear()
    return w


def up(**options):
    options.setdefault("auth", Mechanism(b"login"))
    return granted(Wire(**options))


def step(w):
    """What a driver does while the mechanism works."""
    w.flush()
    while w.e.auth_busy():
        w.e.work(w.now)
        w.flush()
    return w


def begin(w, *says):
    """AUTH 0x19 is out; the mechanism."""
    m = Mechanism(*(says or (b"one", b"two")))
    w.e.reauthenticate(m, w.now)
    assert w.e.authenticating and w.e.auth_busy()
    step(w)
    return m


def nothing_stands_in_front(w):
    assert not [name for name in FRONT if name in w.e.__dict__], w.e.__dict__
    assert not w.e.held and not w.e.authenticating and not w.e.auth_busy()


def finish(w, data=None):
    w.feed(auth(0x00, data))
    step(w)
    nothing_stands_in_front(w)
    assert w.e.state == UP


# --- the exchange


def test_a_re_authentication():
    w = up()
    m = begin(w, b"one", b"two", b"three")
    p = last(w)
    assert (p.name, p.flags, p.reason, p.props) == ("AUTH", 0, 0x19, METHOD + b"\x16\x00\x03one")
    w.feed(auth(0x18, b"A"))
    assert w.e.authenticating and w.e.auth_busy()
    p = last(step(w))
    assert (p.name, p.flags, p.reason, p.props) == ("AUTH", 0, 0x18, METHOD + b"\x16\x00\x03two")
    w.feed(auth(0x18))
    assert last(step(w)).props == METHOD + b"\x16\x00\x05three"
    finish(w, b"C")
    assert m.heard == [b"A", b"", b"C"]
    assert sent(w) == []


def test_nothing_to_say_first_is_no_data():
    w = up()
    begin(w, b"", b"two")
    assert last(w).props == METHOD
    w.feed(auth(0x18, b"A"))
    assert last(step(w)).props == METHOD + b"\x16\x00\x03two"
    finish(w)


def test_a_mechanism_that_ends_on_a_challenge_answers_it():
    w = up()
    m = begin(w, b"one")
    sent(w)
    w.feed(auth(0x18, b"A"))
    assert last(step(w)).props == METHOD + b"\x16\x00\x00"
    assert w.e.authenticating
    protocol = up()
    begin(protocol, b"one")
    protocol.feed(auth(0x18, b"A"))
    step(protocol)
    protocol_error(protocol, auth(0x18, b"B"))
    finish(w)
    assert m.heard == [b"A"]


def test_only_by_the_method_of_the_login():
    # [MQTT-4.12.1-1]
    class Other(Mechanism):
        name = "Other"

    w = up()
    text = str(raises(ValueError, w.e.reauthenticate, Other(b"one"), w.now))
    assert "Other" in text and "by M" in text, text
    w.flush()
    assert sent(w) == [] and w.e.state == UP and not w.e.authenticating
    begin(w)
    assert METHOD in last(w).props
    w = Wire().up()
    for mechanism in (None, Mechanism(b"one")):
        raises(ValueError, w.e.reauthenticate, mechanism, w.now)
    assert sent(w) == [] and w.e.state == UP


def test_the_same_mechanism_again():
    m = Mechanism(b"login")
    w = up(auth=m)
    for _ in range(3):
        w.e.reauthenticate(None, w.now)
        step(w)
        assert last(w).props == METHOD + b"\x16\x00\x05login"
        finish(w, b"proof")
    assert m.heard == [b"", b"proof", b"proof", b"proof"]


def test_not_a_second_one_while_one_runs():
    w = up()
    begin(w)
    raises(RuntimeError, w.e.reauthenticate, None, w.now)
    w.feed(auth(0x18))
    raises(RuntimeError, w.e.reauthenticate, None, w.now)
    step(w)
    finish(w)
    begin(w)


def test_not_without_a_connection():
    w = Wire(auth=Mechanism(b"login"))
    raises(OSError, w.e.reauthenticate, None, w.now)
    opened(w)
    raises(OSError, w.e.reauthenticate, None, w.now)


def test_props_of_the_mechanism_go_with_it_where_they_fit():
    m = Mechanism(b"one", b"two")
    m.props = {"reason_string": "again"}
    w = up()
    w.e.reauthenticate(m, w.now)
    assert last(step(w)).props.endswith(b"\x1f\x00\x05again")
    # [MQTT-3.15.2-2], [MQTT-3.15.2-3]: never beyond the server's Maximum Packet Size
    w = up()
    w.e.max_out = 16
    w.e.reauthenticate(m, w.now)
    assert last(step(w)).props == METHOD + b"\x16\x00\x03one"


def test_an_auth_larger_than_the_server_takes():
    w = up()
    w.e.max_out = 10
    w.e.reauthenticate(Mechanism(b"more than ten"), w.now)
    e = raises(AuthError, step, w)
    assert e.method == "M" and "10" in str(e) and w.e.state == FAILED


def test_an_auth_larger_than_tx():
    w = up(tx_size=32)
    long = bytes(range(200))
    begin(w, long, long)
    assert last(w).props.endswith(long)
    w.feed(auth(0x18))
    assert last(step(w)).props.endswith(long)
    finish(w)


def test_its_credentials_are_those_of_the_next_login():
    class User(Mechanism):
        def __init__(self, user, *says):
            super().__init__(*says)
            self.user = user

    for given, then in ((None, b"two"), ("mine", b"mine")):
        w = Wire(auth=User("one", b"login"))
        if given:
            w.e.user = given.encode()
        granted(w)
        new = User("two", b"new", b"proof")
        w.e.reauthenticate(new, w.now)
        step(w)
        w.feed(auth(0x18))
        step(w)
        finish(w)
        w.e.closed()
        p = opened(w)
        assert METHOD + b"\x16\x00\x03new" in p.props and p.user == then, p.user
    # A failed one changes nothing.
    w = Wire(auth=User("one", b"login"))
    granted(w)
    w.e.reauthenticate(User("two", b"new"), w.now)
    step(w)
    raises(AuthError, w.feed, connack(0, 0x87))
    w.e.closed()
    p = opened(w)
    assert b"login" in p.props and p.user == b"one"


# --- what goes out meanwhile


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
    assert w.e.session.find(out[1].pid, PUBACK) >= 0


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


# --- it fails


def test_a_failed_one_ends_the_connection():
    # [MQTT-4.12.1-2]: the client SHOULD send DISCONNECT, and MUST close.
    class Doubtful(Mechanism):
        def exchange(self):
            yield b"one"
            raise RuntimeError("I do not believe it")

    class NotOurs(Exception):
        not_proven = True

    class Deceived(Mechanism):
        def exchange(self):
            yield b"one"
            raise NotOurs("another broker")

    for m, kind in ((Doubtful(), AuthError), (Deceived(), NotProven)):
        for answer in (auth(0x18), auth(0x00)):
            w = up()
            w.e.reauthenticate(m, w.now)
            step(w)
            sent(w)
            w.feed(answer)
            e = raises(AuthError, step, w)
            assert type(e) is kind and e.method == "M", e
            assert w.e.state == FAILED and w.e.farewell()
            p = sent(w)[-1]
            assert (p.name, p.reason) == ("DISCONNECT", 0x80)
            w.e.closed()
            nothing_stands_in_front(w)


def test_success_before_the_mechanism_is_satisfied():
    w = up()
    begin(w, b"one", b"two")
    w.feed(auth(0x00, b"x"))
    raises(NotProven, step, w)
    assert w.e.state == FAILED


def test_a_refusal():
    for reason in (0x86, 0x87, 0x8C, 0x80, 0x8A):
        w = up()
        begin(w)
        e = raises(AuthError, w.feed, connack(0, reason))
        assert e.reason == reason and w.e.state == FAILED and not w.e.farewell()
    for reason in (0x80, 0x82, 0x87, 0x8C, 0x98):
        w = up()
        begin(w)
        e = raises(AuthError, w.feed, packet(0xE0, bytes((reason,))))
        assert e.reason == reason and e.method == "M" and w.e.state == FAILED and not w.e.farewell()
    for reason in (0x00, 0x8B, 0x8E):
        w = up()
        begin(w)
        raises(Disconnected, w.feed, packet(0xE0, bytes((reason,))))
    # Not yet under way: it cannot be that.
    w = up()
    w.e.reauthenticate(None, w.now)
    raises(Disconnected, w.feed, packet(0xE0, b"\x98"))


def test_broken_rules():
    for data in (
        b"\xf0\x00",
        auth(0x19),
        auth(0x18, None, b""),
        auth(0x00, None, b""),
        auth(0x18, None, b"\x15\x00\x01m"),
        auth(0x00, None, b"\x15\x00\x02MM"),
        connack(0, 0, METHOD),
        connack(1, 0, METHOD),
    ):
        w = up()
        begin(w)
        protocol_error(w, data)
        nothing_stands_in_front(w)
    w = up()
    w.e.reauthenticate(None, w.now)
    raises(ProtocolError, w.feed, auth(0x18))  # ours is not out yet


def test_reasons_of_auth():
    for reason in range(256):
        if reason not in (0x00, 0x18):
            w = up()
            begin(w)
            protocol_error(w, auth(reason))


def test_auth_after_its_end():
    for reason in (0x00, 0x18, 0x19):
        w = up()
        begin(w, b"one")
        finish(w)
        sent(w)
        protocol_error(w, auth(reason))


# --- time


def test_the_deadline_is_timeout_without_our_own_computing():
    class Slow(Mechanism):
        def exchange(self):
            yield b"one"
            for _ in range(100):
                yield None
            yield b"two"

    for answers in (0, 1):
        w = up(timeout=10)
        w.e.reauthenticate(Slow(), w.now)
        step(w)
        for _ in range(4):
            w.now += 1000
            assert 0 < w.e.timer(w.now) <= 6000
        if answers:
            w.feed(auth(0x18))
            for _ in range(101):  # 101 s
                assert w.e.auth_busy() and not w.e.timer(w.now)
                w.now += 1000
                w.e.work(w.now)
                w.flush()
            assert not w.e.auth_busy()
        for _ in range(5):
            w.now += 1000
            w.e.timer(w.now)
        w.now += 1001
        text = str(raises(OSError, w.e.timer, w.now))
        assert "re-authentication" in text and w.e.state == FAILED and not w.e.farewell(), text


def test_an_application_that_looks_in_late_finds_the_answer_in_time():
    w = up(timeout=10, keepalive=0)
    begin(w, b"one", b"two")
    w.now += 60000
    w.feed(auth(0x18))
    step(w)
    assert w.e.timer(w.now) > 0
    w.now += 60000
    finish(w)


def test_keep_alive_waits_where_packets_wait():
    for hold in (True, False):
        w = up(keepalive=4, timeout=100, reauth_hold=hold)
        begin(w)
        sent(w)
        for _ in range(4):
            w.now += 1000
            w.e.timer(w.now)
        assert names(sent(w)) == ([] if hold else ["PINGREQ"])
        w.feed(auth(0x18))
        if not hold:
            w.feed(b"\xd0\x00")
        step(w)
        sent(w)
        finish(w)
        for _ in range(4):
            w.now += 1000
            w.e.timer(w.now)
        assert names(sent(w)) == ["PINGREQ"]


def test_a_ping_that_was_held_gets_its_time():
    w = up(keepalive=4, timeout=100)
    w.e.ping(w.now)
    begin(w)
    w.e.ping(w.now)
    for _ in range(10):
        w.now += 1000
        w.e.timer(w.now)
    w.feed(auth(0x18))
    step(w)
    finish(w)
    assert w.e.timer(w.now) > 1000
    w.now += 2001
    raises(OSError, w.e.timer, w.now)


def test_a_derivation_longer_than_keep_alive_allows():
    class Slow(Mechanism):
        def exchange(self):
            yield b"one"
            self.progress = 10
            while True:
                yield None

    def derive(hold):
        w = up(keepalive=4, reauth_hold=hold)
        w.e.reauthenticate(Slow(), w.now)
        step(w)
        w.feed(auth(0x18))
        for _ in range(4):
            w.now += 1000
            w.e.work(w.now)
        return w

    assert "keepalive" in str(raises(AuthError, derive, True))
    assert derive(False).e.state == UP


def test_by_the_timer():
    m = Mechanism(b"login")
    w = up(auth=m, reauth_every=100, keepalive=0)
    for _ in range(3):
        for _ in range(99):
            w.now += 1000
            assert 0 < w.e.timer(w.now) <= 100000
        assert not w.e.authenticating
        w.now += 1000
        assert w.e.timer(w.now) == 0 and w.e.auth_busy()
        step(w)
        assert last(w).reason == 0x19
        w.now += 500
        w.feed(auth(0x00))
        w.now += 10
        step(w)
        assert not w.e.authenticating and w.e.state == UP
    # One by hand begins the time anew.
    w.now += 99000
    w.e.reauthenticate(None, w.now)
    step(w)
    w.feed(auth(0x00))
    step(w)
    assert w.e.timer(w.now) > 99000
    # And so does a new login.
    w.now += 99000
    w.e.closed()
    w.now += 5000
    granted(w)
    assert w.e.timer(w.now) > 99000


def test_the_timer_starts_none_where_it_cannot():
    w = up(reauth_every=1, keepalive=0)
    w.e.in_handler = True
    w.now += 5000
    assert w.e.timer(w.now) > 0 and not w.e.authenticating
    w.e.in_handler = False
    w.e.closed()
    assert w.e.timer(w.now) > 0
    w.e.open(w.now, True)
    while w.e.auth_busy():
        w.e.work(w.now)
    assert w.e.timer(w.now) > 0 and not w.e.authenticating


def test_arguments():
    for value in (-1, 0.5, 432001):
        try:
            Wire(auth=Mechanism(b"login"), reauth_every=value)
        except ValueError as e:
            assert "reauth_every" in str(e)
        else:
            raise AssertionError(value)
    try:
        Wire(reauth_every=60)
    except ValueError as e:
        assert "auth" in str(e)
    else:
        raise AssertionError("without auth")


# --- the buffers

SECRETS = (b"FIRST-of-ours-1234", b"CHALLENGE-of-theirs-1", b"SECOND-of-ours-5678", b"FINAL-of-theirs-12")


def clean(w):
    e = w.e
    for name in ("tx", "rx", "scratch"):
        held = bytes(getattr(e, name))
        for secret in SECRETS:
            for i in range(len(secret) - 5):
                assert secret[i : i + 5] not in held, (name, secret[i : i + 5])
    assert e.out is e.tx and e.exchange is None


def exchange(w, answer):
    """Feed the challenge, and `answer` when our second is out."""
    w.feed(auth(0x18, SECRETS[1]))
    step(w)
    w.feed(answer)
    step(w)


def test_no_authentication_data_stays_in_the_buffers():
    # tx_size=32: AUTH is built in a temporary. chunk=7: bodies come in pieces, through scratch.
    for tx_size in (256, 32):
        for chunk in (None, 1, 7):
            w = Wire(auth=Mechanism(SECRETS[0], SECRETS[2]), tx_size=tx_size, chunk=chunk)
            w.e.open(w.now, True)
            step(w)
            w.feed(auth(0x18, SECRETS[1]))
            w.feed(connack(0, 0, METHOD + b"\x16\x00\x12" + SECRETS[3]))
            assert w.e.state == UP
            clean(w)
            for _ in range(2):
                w.e.reauthenticate(Mechanism(SECRETS[0], SECRETS[2]), w.now)
                step(w)
                exchange(w, auth(0x00, SECRETS[3]))
                nothing_stands_in_front(w)
                clean(w)


def test_nor_after_a_failed_one():
    for chunk in (None, 1, 7):
        for hold in (True, False):
            for answer in (
                auth(0x18, SECRETS[3]),  # one too many: no answer is left
                auth(0x19, SECRETS[3]),
                auth(0x00, SECRETS[3], b""),
                connack(0, 0x87, b"\x16\x00\x12" + SECRETS[3]),
                packet(0xE0, b"\x87"),
                b"",
            ):
                w = up(chunk=chunk, reauth_hold=hold)
                m = Mechanism(SECRETS[0], SECRETS[2])
                w.e.reauthenticate(m, w.now)
                step(w)
                try:
                    exchange(w, answer)
                    w.feed(auth(0x18, SECRETS[3]))
                    step(w)
                except (AuthError, ProtocolError, Disconnected):
                    pass
                w.e.closed()
                clean(w)
                nothing_stands_in_front(w)


def test_nor_after_a_failed_login():
    for chunk in (None, 1, 7):
        for answer in (auth(0x00, SECRETS[3]), connack(0, 0x87), connack(0, 0, METHOD[:-1] + b"X"), b""):
            w = Wire(auth=Mechanism(SECRETS[0], SECRETS[2]), chunk=chunk)
            w.e.open(w.now, True)
            step(w)
            try:
                exchange(w, answer)
            except (AuthError, ProtocolError):
                pass
            w.e.closed()
            clean(w)


def test_nothing_of_an_application_is_wiped():
    # A message that comes in pieces around the answer, while ours flow.
    w = up(reauth_hold=False)
    begin(w)
    message = publish(b"topic", bytes(range(100)))
    w.feed(auth(0x18, b"A"))
    w.feed(message[:50])
    step(w)
    w.feed(message[50:])
    w.feed(auth(0x00, b"B"))
    w.feed(message[:70])
    step(w)
    w.feed(message[70:])
    assert w.messages == [(b"topic", bytes(range(100)))] * 2
    nothing_stands_in_front(w)
