# MQTT 5.0, 3.15 and 4.12: AUTH, at a login.
from rules import (
    METHOD,
    Mechanism,
    breach,
    connack,
    last,
    malformed,
    names,
    opened,
    packet,
    props,
    protocol_error,
    sent,
)
from umqtt5.errors import AuthError, PeerError
from umqtt5.reader import FAILED, UP
from wire import Wire, publish, raises


def auth(reason=0x18, properties=METHOD):
    return packet(0xF0, bytes((reason,)) + props(properties))


def logging_in(*says):
    w = Wire(auth=Mechanism(*(says or (b"one", b"two"))))
    p = opened(w)
    assert p.props.startswith(METHOD) or METHOD in p.props
    return w


def test_a_login():
    m = Mechanism(b"one", b"two", b"three")
    w = Wire(auth=m)
    assert METHOD + b"\x16\x00\x03one" in opened(w).props
    w.feed(auth(0x18, METHOD + b"\x16\x00\x01A"))
    p = last(w)
    assert (p.name, p.flags, p.reason, p.props) == ("AUTH", 0, 0x18, METHOD + b"\x16\x00\x03two")
    w.feed(auth(0x18, METHOD))
    p = last(w)
    assert (p.name, p.flags, p.reason, p.props) == ("AUTH", 0, 0x18, METHOD + b"\x16\x00\x05three")
    w.feed(connack(0, 0, METHOD + b"\x16\x00\x01C"))
    assert w.e.state == UP and m.heard == [b"A", b"", b"C"]
    assert sent(w) == []


def test_flags_of_auth():
    for flags in range(1, 16):
        malformed(logging_in(), bytes((0xF0 | flags,)) + auth()[1:])


def test_reasons_of_auth():
    for reason in range(256):
        if reason != 0x18:  # 0x00 ends a re-authentication only, 0x19 is the client's
            breach(logging_in(), auth(reason), PeerError, 0x81, 0x82)
    protocol_error(logging_in(), b"\xf0\x00")


def test_the_method_must_be_ours():
    for properties in (b"", b"\x16\x00\x01A", b"\x15\x00\x01m", b"\x15\x00\x02MM", b"\x15\x00\x00"):
        protocol_error(logging_in(), auth(0x18, properties))
        w = logging_in(b"one")
        e = raises((PeerError, AuthError), w.feed, connack(0, 0, properties))
        assert w.e.state == FAILED and e.reason in (0x82, None)


def test_method_and_data_come_once():
    protocol_error(logging_in(), auth(0x18, METHOD + METHOD))
    protocol_error(logging_in(), auth(0x18, METHOD + b"\x16\x00\x01A\x16\x00\x01B"))


def test_auth_where_no_method_was_named():
    w = Wire()
    assert b"\x15" not in opened(w).props
    protocol_error(w, auth())
    w = Wire().up()
    for reason in (0x00, 0x18, 0x19):
        w = Wire().up()
        protocol_error(w, auth(reason))
    assert "AUTH" not in names(sent(w))


def test_auth_after_the_login_unasked():
    for reason in (0x00, 0x18, 0x19):
        w = logging_in(b"one")
        w.feed(connack(0, 0, METHOD))
        assert w.e.state == UP
        protocol_error(w, auth(reason))


def test_a_refused_login_closes():
    for reason in (0x86, 0x87, 0x8C):
        w = logging_in()
        e = raises(AuthError, w.feed, connack(0, reason))
        assert e.reason == reason and w.e.state == FAILED and not w.e.farewell()
        w = logging_in()
        w.feed(auth())
        sent(w)
        raises(AuthError, w.feed, connack(0, reason))
        assert w.e.state == FAILED and sent(w) == []


def test_a_login_that_the_mechanism_gives_up():
    class Doubtful(Mechanism):
        def exchange(self):
            yield b"one"
            raise RuntimeError("I do not believe it")

    w = Wire(auth=Doubtful())
    opened(w)
    raises(AuthError, w.feed, auth())
    assert w.e.state == FAILED and w.e.farewell()
    p = sent(w)[-1]
    assert p.name == "DISCONNECT" and p.reason in (0x80, 0x82)


def test_nothing_is_taken_before_the_login_is_done():
    w = logging_in()
    protocol_error(w, publish(b"t", b"m", 1))
    assert w.messages == []
