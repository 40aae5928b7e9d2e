# MQTT 5.0, 4.12.1: re-authentication, in the engine: the exchange, and how it fails. Its hostile servers are in
# test_hostile_reauth.py, real brokers in test_reauth.py, a late proof of the server in device/test_late_proof.py.
# runs under CPython too
from reauth_steps import auth, begin, finish, granted, nothing_stands_in_front, step, up
from rules import METHOD, Mechanism, connack, last, opened, packet, protocol_error, sent
from umqtt5.errors import AuthError, Disconnected, NotProven, ProtocolError
from umqtt5.reader import FAILED, UP
from wire import Wire, raises


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
            w.e.terms.user = given.encode()
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
