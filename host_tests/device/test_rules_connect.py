# MQTT 5.0, 3.1: what CONNECT says, and what it obliges both sides to.
from rules import (
    BAD_UTF8,
    Mechanism,
    Sent,
    ack,
    alive,
    connack,
    fine,
    gone,
    names,
    opened,
    packet,
    protocol_error,
    pub,
    scene,
    sent,
    string,
    subscribe,
    u16,
    unsubscribe,
)
from umqtt5.protocol import Engine
from umqtt5.reader import UP
from wire import Wire, publish, raises


def test_connect_is_the_first_packet_and_comes_once():
    w = Wire()
    w.e.open(w.now, True)
    raises(OSError, w.publish, b"t", b"", False, 0, None)
    raises(OSError, lambda: subscribe(w))
    raises(OSError, lambda: unsubscribe(w))
    assert names(sent(w))[0] == "CONNECT"
    w.feed(connack())
    pub(w)
    pub(w, qos=1)
    w.now += 60000
    w.e.timer(w.now)
    w.e.end(0, None)
    assert "CONNECT" not in names(sent(w))


def test_protocol_name_and_version():
    assert opened(Wire()).raw[2:9] == b"\x00\x04MQTT\x05"


def test_flags_say_what_the_payload_holds():
    # Sent() reads the payload by the flags, in the specification's order, and wants nothing left over.
    for will in (None, (0, False), (1, True), (2, False)):
        for user in (None, "user", ""):
            for password in (None, b"password", b""):
                for clean in (True, False):
                    w = Wire()
                    w.e.terms.user = None if user is None else user.encode()
                    w.e.terms.password = password
                    if will:
                        w.e.set_will("will/t", b"bye", will[1], will[0], {"will_delay_interval": 5})
                    p = opened(w, clean)
                    flags = p.connect_flags
                    assert p.version == 5 and p.client_id == b"me" and not flags & 1
                    assert bool(flags & 2) == clean
                    assert p.user == w.e.terms.user and p.password == password
                    if will:
                        assert p.will == (b"\x18\x00\x00\x00\x05", b"will/t", b"bye")
                        assert flags >> 3 & 3 == will[0] and bool(flags & 32) == will[1]
                    else:
                        assert p.will is None and not flags & 0x3C


def test_the_will_is_checked_here():
    w = Wire()
    for qos in (-1, 3):
        raises(ValueError, w.e.set_will, "t", b"", False, qos, None)
    for topic in ("", "a/#", "a/+/b", "a\0") + BAD_UTF8:
        raises(ValueError, w.e.set_will, topic, b"", False, 0, None)
    for properties in ({"topic_alias": 1}, {"reason_string": "x"}, {"response_topic": "a/#"}):
        raises(ValueError, w.e.set_will, "t", b"", False, 0, properties)
    assert opened(w).will is None


def test_client_identifier_and_user_name_are_utf8():
    for bad in BAD_UTF8:
        raises(ValueError, lambda: Wire(client_id=bad))  # noqa: B023
        raises(ValueError, lambda: Engine("c", bad, None, 0))  # noqa: B023
    raises(ValueError, lambda: Wire(client_id="c" * 65536))


def test_an_empty_client_identifier_is_present():
    p = opened(Wire(client_id=""))
    assert p.client_id == b"" and p.raw.endswith(b"\x00\x00")


def test_the_client_identifier_stays_and_an_assigned_one_is_kept():
    w = Wire(client_id="").up(assigned_client_identifier="given")
    gone(w)
    assert opened(w, False).client_id == b"given"
    w = Wire().up()
    gone(w)
    assert opened(w, False).client_id == b"me"


def test_an_empty_client_identifier_must_be_answered_with_one():
    w = Wire(client_id="")
    opened(w)
    protocol_error(w, connack())


def test_clean_start_discards_our_session_too():
    w = Wire(session_expiry=60).up()
    pub(w, qos=1)
    w.feed(publish(b"t", b"", 2, 5))
    gone(w)
    w.messages.clear()
    w.up(clean=True)
    assert sent(w) == [], "nothing is resent"
    w.feed(publish(b"t", b"new", 2, 5))
    assert w.messages == [(b"t", b"new")], "a new message, not the old one again"


def test_session_state_outlives_the_connection():
    w = Wire(session_expiry=60).up()
    one = pub(w, b"one", b"1", 1).pid
    two = pub(w, b"two", b"2", 2).pid
    w.feed(ack("PUBREC", two) + publish(b"t", b"once", 2, 5))
    gone(w)
    w.messages.clear()
    opened(w, False)
    w.feed(connack(1))
    assert [(p.name, p.pid) for p in sent(w)] == [("PUBLISH", one), ("PUBREL", two)]
    w.feed(publish(b"t", b"once", 2, 5, flags=8))
    assert w.messages == [], "received before"
    assert names(sent(w)) == ["PUBREC"]


def test_keep_alive_in_connect_and_a_ping_in_time():
    for keepalive in (1, 10, 300, 65535):
        w = Wire(keepalive=keepalive)
        assert opened(w).keepalive == keepalive
        w.feed(connack())
        waited = 0
        while not sent(w):
            ms = w.e.timer(w.now)
            assert waited + ms <= keepalive * 1000, "too late"
            waited += ms
            w.now += ms
    raises(ValueError, lambda: Wire(keepalive=65536))


def test_keep_alive_0_is_none():
    w = Wire(keepalive=0)
    assert opened(w).keepalive == 0
    w.feed(connack())
    w.now += 10_000_000
    w.e.timer(w.now)
    assert sent(w) == []


def test_the_server_s_keep_alive_counts_instead_of_ours():
    for ours, theirs in ((60, 10), (10, 60), (0, 10), (60, 0)):
        w = Wire(keepalive=ours).up(server_keep_alive=theirs)
        ms = w.e.timer(w.now)
        if theirs:
            assert theirs * 900 <= ms <= theirs * 1000, (ours, theirs, ms)
        else:
            assert ms > 100_000_000


def test_maximum_packet_size():
    w = Wire(max_packet=40)
    assert b"\x27\x00\x00\x00\x28" in opened(w).props
    w.feed(connack())
    right = publish(b"t", bytes(34))
    assert len(right) == 40
    fine(w, right)
    protocol_error(w, publish(b"t", bytes(35)), 0x95)
    for kind in ("CONNACK", "PUBACK", "PUBREC", "PUBREL", "PUBCOMP", "SUBACK", "UNSUBACK", "DISCONNECT", "AUTH"):
        for ident in (0x1F, 0x26):  # Reason String, User Property
            method = b"\x15\x00\x01M" if kind == "AUTH" else b""
            value = string(b"x" * 40) + (string(b"y") if ident == 0x26 else b"")
            w, make = scene(kind, max_packet=40)
            protocol_error(w, make(method + bytes((ident,)) + value), 0x95)
    w = Wire()
    assert b"\x27" not in opened(w).props  # 3.1.2.11.4: no limit is no property


def test_no_topic_alias_above_our_maximum():
    w = Wire(topic_alias_maximum=3)
    assert b"\x22\x00\x03" in opened(w).props
    w.feed(connack())
    for alias in (1, 2, 3):
        fine(w, publish(b"t/%d" % alias, b"", properties=b"\x23" + u16(alias)))
    protocol_error(w, publish(b"t", b"", properties=b"\x23\x00\x04"), 0x94)
    protocol_error(Wire(topic_alias_maximum=3).up(), publish(b"t", b"", properties=b"\x23\xff\xff"), 0x94)


def test_no_topic_alias_where_we_take_none():
    w = Wire(topic_alias_maximum=0)
    assert b"\x22" not in opened(w).props
    w.feed(connack())
    protocol_error(w, publish(b"t", b"", properties=b"\x23\x00\x01"), 0x94)


def test_response_information_only_where_we_asked():
    for asked, right in ((None, False), (0, False), (1, True)):
        w = Wire(props=None if asked is None else {"request_response_information": asked})
        opened(w)
        answer = connack(0, 0, b"\x1a\x00\x01r")
        if right:
            fine(w, answer)
            assert w.e.state == UP
        else:
            protocol_error(w, answer)


def test_no_problem_information_where_we_asked_for_none():
    said = b"\x1f\x00\x03why", b"\x26\x00\x01a\x00\x01b"
    for kind in ("PUBACK", "PUBREC", "PUBREL", "PUBCOMP", "SUBACK", "UNSUBACK", "AUTH"):
        for properties in said:
            method = b"\x15\x00\x01M" if kind == "AUTH" else b""
            w, make = scene(kind, props={"request_problem_information": 0})
            protocol_error(w, make(method + properties))
            w, make = scene(kind, props={"request_problem_information": 1})
            fine(w, make(method + properties))
    for kind in ("CONNACK", "PUBLISH", "DISCONNECT"):
        for properties in said:
            if kind != "PUBLISH" or properties[0] == 0x26:
                w, make = scene(kind, props={"request_problem_information": 0})
                try:
                    fine(w, make(properties))
                except OSError:
                    assert kind == "DISCONNECT"


def test_before_connack_only_auth_and_disconnect():
    w = Wire(auth=Mechanism(b"one", b"two", b"three"), keepalive=1)
    opened(w)
    out = []
    for data in (b"1", b"2"):
        for call in (
            lambda: w.publish(b"t", b"", False, 0, None),
            lambda: subscribe(w),
            lambda: unsubscribe(w),
            lambda: w.e.end(0, None),
        ):
            raises(OSError, call)
        w.now += 5000  # five times the keep alive
        w.e.timer(w.now)
        w.feed(packet(0xF0, b"\x18\x08\x15\x00\x01M\x16\x00\x01" + data))
        out += sent(w)
    assert names(out) == ["AUTH", "AUTH"]
    protocol_error(w, publish(b"t", b"", 1))  # DISCONNECT, and no PUBACK


def test_a_resumed_session_waits_for_connack():
    w = Wire(session_expiry=60).up()
    pub(w, qos=1)
    gone(w)
    w.e.open(w.now, False)
    assert [Sent(p).name for p in w.flush()] == ["CONNECT"]
    w.sent.clear()
    w.feed(connack(1))
    assert names(sent(w)) == ["PUBLISH"]
    alive(w)
