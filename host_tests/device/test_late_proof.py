# server_proof="reauth": a server that ends the login without its proof has one re-authentication more for it, and
# until then its CONNACK has no effect and its messages are nobody's. In the engine; with SCRAM: test_server_proof.py.
# runs under CPython too
from reauth_steps import auth, step
from rules import (
    METHOD,
    Mechanism,
    connack,
    last,
    malformed,
    names,
    opened,
    packet,
    protocol_error,
    sent,
    string,
)
from umqtt5.errors import AuthError, NotProven, ProtocolError, ResourceError
from umqtt5.reader import CONNECTING, FAILED, UP
from umqtt5.reauth import _early_publish
from umqtt5.receive import place
from wire import Wire, publish, raises


class Late(Mechanism):
    """Its server's last word may be missing at the login."""

    server_proof = "reauth"
    proof_due = None

    def exchange(self):
        for data in self.says:
            heard = yield data
            self.heard.append(heard)
        if not heard:
            self.proof_due = True


def unproven(present=0, properties=METHOD, clean=True, **options):
    """A login whose CONNACK had no proof: AUTH 0x19 is out."""
    told = []
    w = Wire(auth=Late(b"one"), on_event=lambda name, value: told.append((name, value)), **options)
    w.told = told
    opened(w, clean)
    w.feed(connack(present, 0, properties))
    assert w.e.state == CONNECTING and w.e.auth_busy()
    step(w)
    return w


def prove(w):
    w.feed(auth(0x00, b"proof"))
    step(w)
    assert w.e.state == UP and not w.e.auth_busy() and not w.e.authenticating
    assert w.e.handlers[3] is not _early_publish and "closed" not in w.e.__dict__
    return w


def test_the_proof_comes_in_a_re_authentication():
    w = unproven()
    p = last(w)
    assert (p.name, p.reason, p.props) == ("AUTH", 0x19, METHOD + b"\x16\x00\x03one")
    assert not w.e.authenticating, "connect() has not returned"
    prove(w)
    assert w.e.terms.mechanism.heard == [b"", b"proof"]
    assert sent(w) == []


def test_each_login_owes_it_anew():
    m = Late(b"one")
    m.proof_due = True
    w = Wire(auth=m)
    opened(w)
    assert m.proof_due is False
    w.feed(connack(0, 0, METHOD + b"\x16\x00\x05proof"))
    assert w.e.state == UP and sent(w) == []


def test_a_mechanism_without_the_attribute_has_none_set():
    m = Mechanism(b"one")
    opened(Wire(auth=m))
    assert not hasattr(m, "proof_due")


def test_no_proof_then_either():
    for answer in (auth(0x00), auth(0x00, b"")):
        w = unproven()
        sent(w)
        w.feed(answer)
        e = raises(NotProven, step, w)
        assert e.method == "M" and w.e.state == FAILED and w.e.farewell()
        assert [(p.name, p.reason) for p in sent(w)] == [("DISCONNECT", 0x80)]
        w.e.closed()
        assert w.e.handlers[3] is not _early_publish


def test_nor_in_a_later_re_authentication():
    w = prove(unproven())
    w.e.reauthenticate(None, w.now)
    step(w)
    w.feed(auth(0x00))
    raises(NotProven, step, w)


def test_nothing_of_the_connack_holds_before():
    properties = METHOD + b"\x21\x00\x05\x24\x00\x25\x00\x13\x00\x07\x12\x00\x03new\x28\x00"
    w = unproven(0, properties, keepalive=60)
    e = w.e
    before = (e.terms.client_id, e.keepalive, e.session.known, e.terms.connack)
    assert before == (b"me", 60, False, b"\0")
    raises(OSError, w.publish, b"t", b"m")
    prove(w)
    assert (e.terms.client_id, e.keepalive, e.quota, e.max_qos, e.retain_available) == (b"new", 7, 5, 0, 0)
    assert e.session.known and b"new" in e.terms.connack and e.granted(0x28, 1) == 0


def test_a_session_is_not_lost_by_an_unproven_word():
    w = Wire(auth=Late(b"one"), session_expiry=100)
    opened(w, False)
    w.feed(connack(0, 0, METHOD + b"\x16\x00\x05proof"))
    slot = w.publish(b"t", b"m", False, 1)
    w.flush()
    w.feed(publish(b"t", b"m", 2, 9))
    s = w.e.session
    for present in (0, 1):
        w.e.closed()
        opened(w, False)
        w.feed(connack(present, 0, METHOD))
        step(w)
        assert s.state[slot] and place(s, 9) >= 0
        raises(AuthError, w.feed, connack(0, 0x87))
        assert s.state[slot] and place(s, 9) >= 0
    w.e.closed()
    opened(w, False)
    w.feed(connack(0, 0, METHOD))
    step(w)
    prove(w)
    assert not s.in_flight() and place(s, 9) < 0, "proven: it is gone"


def test_a_connack_that_is_wrong_is_so_when_it_is_proven():
    w = unproven(1)
    w.feed(auth(0x00, b"proof"))
    assert "session present" in str(raises(ProtocolError, step, w))
    assert w.e.state == FAILED


def test_what_the_server_takes_holds_at_once():
    w = Wire(auth=Late(bytes(40)))
    opened(w)
    w.feed(connack(0, 0, METHOD + b"\x27\x00\x00\x00\x20"))
    assert "32" in str(raises(AuthError, step, w)) and w.e.state == FAILED


def test_messages_before_the_proof_are_nobodys():
    w = unproven(1, clean=False, topic_alias_maximum=5, receive_maximum=4)
    sent(w)
    w.feed(publish(b"t", b"0"))
    w.feed(publish(b"t", b"1", 1, 7))
    w.feed(publish(b"t", b"2", 2, 8))
    w.feed(publish(b"aliased", b"3", 0, properties=b"\x23\x00\x02"))
    w.feed(packet(0x62, b"\x00\x05"))
    prove(w)
    assert w.messages == [] and sent(w) == [] and w.told == [("unproven", 4)]
    assert place(w.e.session, 8) < 0, "it is new when it comes again"
    # The two with an identifier count against our Receive Maximum, and no more.
    assert w.e.owed == 2
    w.feed(publish(b"", b"by alias", 0, properties=b"\x23\x00\x02"))
    for pid in (1, 2):
        w.feed(publish(b"t", b"new", 2, pid))
    assert w.messages == [(b"aliased", b"by alias"), (b"t", b"new"), (b"t", b"new")]
    protocol_error(w, publish(b"t", b"m", 2, 3), 0x93)
    # In the next session they come again.
    opened(w, False)
    w.feed(connack(1, 0, METHOD + b"\x16\x00\x05proof"))
    w.messages.clear()
    sent(w)
    w.feed(publish(b"t", b"1", 1, 7, 8))
    w.feed(publish(b"t", b"2", 2, 8, 8))
    assert w.messages == [(b"t", b"1"), (b"t", b"2")]
    assert [(p.name, p.pid) for p in sent(w)] == [("PUBACK", 7), ("PUBREC", 8)]


def test_a_message_larger_than_rx_before_the_proof():
    for qos in range(3):
        w = unproven(1, clean=False, rx_size=64)
        sent(w)
        w.feed(publish(b"t", bytes(500), qos, 7))
        prove(w)
        assert w.messages == [] and sent(w) == []
        w.feed(publish(b"t", b"next"))
        assert w.messages == [(b"t", b"next")]
    w = unproven(1, clean=False, rx_size=64)
    raises(ResourceError, w.feed, publish(bytes(b"t" * 70), b"m"))


def test_in_pieces():
    for chunk in (1, 5):
        w = unproven(1, METHOD + b"\x13\x00\x07", clean=False, chunk=chunk)
        sent(w)
        w.feed(publish(b"t", bytes(200), 1, 7))
        prove(w)
        assert w.e.keepalive == 7 and sent(w) == [] and w.messages == []


def test_broken_rules_before_the_proof():
    malformed(unproven(), packet(0x36, string(b"t") + b"\0\1\0"))
    protocol_error(unproven(), packet(0x30, b"\0\0\0m"))  # neither topic nor alias
    protocol_error(unproven(), packet(0x32, string(b"t") + b"\0\0\0"))
    protocol_error(unproven(), connack(0, 0, METHOD))
    protocol_error(unproven(), auth(0x19))
    protocol_error(unproven(), b"\xf0\x00")
    # Nothing was sent that these could answer.
    for data in (
        b"\x40\x02\0\1",
        b"\x50\x02\0\1",
        b"\x70\x02\0\1",
        b"\x90\x04\0\1\0\0",
        b"\xb0\x04\0\1\0\0",
        b"\xd0\0",
    ):
        protocol_error(unproven(), data)


def test_connack_must_carry_the_method_all_the_same():
    for properties in (b"", b"\x15\x00\x01m"):
        w = Wire(auth=Late(b"one"))
        opened(w)
        protocol_error(w, connack(0, 0, properties))


def test_refused_before_the_proof():
    for data in (connack(0, 0x87), packet(0xE0, b"\x87"), packet(0xE0, b"\x98")):
        w = unproven()
        e = raises(AuthError, w.feed, data)
        assert e.method == "M" and w.e.state == FAILED and not w.e.farewell()


def test_no_authentication_data_stays_in_the_buffers():
    for chunk in (None, 7):
        w = Wire(auth=Late(b"ONE-of-ours-1234"), chunk=chunk)
        opened(w)
        w.feed(connack(0, 0, METHOD))
        step(w)
        w.feed(auth(0x00, b"FINAL-of-theirs-12"))
        step(w)
        assert w.e.state == UP
        for buf in (w.e.tx, w.e.rx, w.e.scratch):
            assert b"ours" not in bytes(buf) and b"theirs" not in bytes(buf)


def test_a_mechanism_that_takes_its_time_after_connack():
    class Thinking(Late):
        def exchange(self):
            heard = yield b"one"
            yield None
            yield None
            if not heard:
                self.proof_due = True

    w = Wire(auth=Thinking())
    opened(w)
    w.feed(connack(0, 0, METHOD + b"\x13\x00\x07"))
    step(w)
    assert names(sent(w)) == ["AUTH"]
    prove(w)
    assert w.e.keepalive == 7
