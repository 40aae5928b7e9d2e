# MQTT 5.0, 3.2: CONNACK, and what it grants.
from rules import (
    Mechanism,
    Sent,
    ack,
    alive,
    connack,
    fine,
    gone,
    last,
    malformed,
    names,
    opened,
    packet,
    protocol_error,
    pub,
    sent,
    string,
    subscribe,
    unsubscribe,
)
from umqtt5.errors import Refused, ResourceError
from umqtt5.message import Reject
from umqtt5.reader import FAILED, UP
from umqtt5.subscribe import Subscription, add, send_subscribe, send_unsubscribe
from wire import Wire, publish, raises


def test_nothing_comes_before_connack():
    for data in [ack(kind, 1) for kind in ("PUBACK", "PUBREC", "PUBREL", "PUBCOMP")] + [
        publish(b"t", b"m"),
        publish(b"t", b"m", 1),
        publish(b"t", b"m", 2),
        b"\x90\x04\x00\x01\x00\x00",
        b"\xb0\x04\x00\x01\x00\x00",
        b"\xd0\x00",
    ]:
        for auth in (None, Mechanism(b"x", b"y")):
            w = Wire(auth=auth)
            opened(w)
            protocol_error(w, data)
            assert w.messages == []


def test_a_second_connack():
    protocol_error(Wire().up(), connack())
    protocol_error(Wire().up(), connack(0, 0x87))


def test_reserved_flags():
    for bit in range(1, 8):
        w = Wire()
        opened(w)
        malformed(w, connack(1 << bit))
        w = Wire()
        opened(w, False)
        malformed(w, connack(1 << bit | 1))


def test_session_present_after_clean_start():
    w = Wire()
    opened(w, True)
    protocol_error(w, connack(1))


def test_session_present_with_a_refusal():
    # A breach; the refusal is the graver news, and nothing of the flag takes effect.
    w = Wire(session_expiry=60).up()
    pid = pub(w, qos=1).pid
    gone(w)
    opened(w, False)
    e = raises(Refused, w.feed, connack(1, 0x89))
    assert e.reason == 0x89 and w.e.state == FAILED and not w.e.farewell()
    assert sent(w) == []
    gone(w)
    opened(w, False)
    w.feed(connack(1))
    assert [p.pid for p in sent(w)] == [pid], "the session is as it was"


def test_without_session_present_our_state_is_discarded():
    events = []
    w = Wire(session_expiry=60, on_event=lambda *event: events.append(event)).up()
    pub(w, b"one", qos=1)
    w.feed(ack("PUBREC", pub(w, b"two", qos=2).pid) + publish(b"t", b"", 2, 5))
    w.messages.clear()
    gone(w)
    opened(w, False)
    w.feed(connack(0))
    assert w.e.session.in_flight() == 0 and sent(w) == []
    assert events, "the application is told"
    w.feed(publish(b"t", b"new", 2, 5))
    assert w.messages == [(b"t", b"new")], "the identifier is free again"
    assert pub(w, qos=1).flags & 8 == 0


def test_a_refusal_closes():
    for reason in (0x80, 0x84, 0x86, 0x89, 0x9F):
        w = Wire()
        opened(w)
        e = raises(Refused, w.feed, connack(0, reason))
        assert e.reason == reason and w.e.state == FAILED
        assert not w.e.farewell() and sent(w) == [], "the server has ended it: there is nobody to tell"
        raises(OSError, w.publish, b"t", b"", False, 0, None)


def test_maximum_qos():
    for maximum in (0, 1):
        w = Wire().up(maximum_qos=maximum)
        for qos in range(3):
            if qos <= maximum:
                assert pub(w, qos=qos).qos == qos
            else:
                raises(ValueError, w.publish, b"t", b"", False, qos, None)
        assert sent(w) == []
        subscribe(w, options=2)  # a subscription may ask for any [MQTT-3.2.2-10]
    w = Wire().up()
    assert pub(w, qos=2).qos == 2


def test_no_resend_above_a_new_maximum_qos():
    for qos, maximum in ((2, 1), (2, 0), (1, 0)):
        told = []
        w = Wire(session_expiry=60, on_event=lambda *event: told.append(event)).up()  # noqa: B023
        pub(w, qos=qos)
        pub(w, b"after", qos=1)
        gone(w)
        opened(w, False)
        w.feed(connack(1, 0, bytes((0x24, maximum))))
        assert [p.topic for p in sent(w) if p.qos > maximum] == []
        assert told, "the application is told"
        alive(w)


def test_retain_available():
    w = Wire().up(retain_available=0)
    raises(ValueError, w.publish, b"t", b"", True, 0, None)
    raises(ValueError, w.publish, b"t", b"", True, 1, None)
    assert sent(w) == []
    assert pub(w).flags == 0
    assert pub(Wire().up(retain_available=1), retain=True).flags == 1
    assert pub(Wire().up(), retain=True).flags == 1


def test_no_resend_of_a_retained_message_that_is_no_longer_taken():
    w = Wire(session_expiry=60).up()
    pub(w, qos=1, retain=True)
    gone(w)
    opened(w, False)
    w.feed(connack(1, 0, b"\x25\x00"))
    assert [p for p in sent(w) if p.flags & 1] == []
    alive(w)


def test_the_broker_s_maximum_packet_size():
    w = Wire(tx_size=512).up(maximum_packet_size=30)
    for n in range(60):
        size = 6 + n  # PUBLISH to "t" at QoS 0
        for qos in (0, 1):
            if size + (2 if qos else 0) <= 30:
                p = pub(w, b"t", bytes(n), qos)
                assert len(p.raw) <= 30
                if qos:
                    w.feed(ack("PUBACK", p.pid))
            else:
                e = raises(ValueError, w.publish, b"t", bytes(n), False, qos, None)
                assert "30" in str(e), "the text has the figures"
    long = b"f" * 40
    raises(ValueError, send_subscribe, w.e, Subscription(0, long, None, 0, b""))
    raises(ValueError, send_unsubscribe, w.e, long, None)
    raises(ValueError, w.e.end, 0, {"reason_string": long.decode()})
    assert sent(w) == []
    alive(w)
    pub(w, b"t", bytes(24))


def test_an_acknowledgement_never_exceeds_it():
    def handler(m):
        raise Reject(0x83, {"reason_string": "x" * 40, "user_property": [("a", "b")]})

    for maximum, whole in ((30, False), (None, True)):
        w = Wire(tx_size=512).up(**({} if maximum is None else {"maximum_packet_size": maximum}))
        add(w.e.session, Subscription(0, b"t", handler, 0, b""))
        for qos, name in ((1, "PUBACK"), (2, "PUBREC")):
            w.feed(publish(b"t", b"", qos, 3))
            p = last(w)
            assert (p.name, p.reason, p.pid) == (name, 0x83, 3)
            assert bool(p.props) == whole and (whole or len(p.raw) <= maximum)


def test_no_resend_above_a_new_maximum_packet_size():
    w = Wire(session_expiry=60).up()
    pub(w, b"t", bytes(50), 1)
    small = pub(w, b"t", b"small", 1).pid
    gone(w)
    opened(w, False)
    w.feed(connack(1, 0, b"\x27\x00\x00\x00\x1e"))
    assert [p.pid for p in sent(w)] == [small]


def test_topic_aliases_up_to_the_broker_s_maximum():
    for maximum in (1, 3, 65535):
        w = Wire().up(topic_alias_maximum=maximum)
        seen = {}
        for i in range(60):
            p = pub(w, b"a/long/topic/%d" % (i * i % 7), qos=i % 3 if i < 12 else 0)
            alias = 0
            if b"\x23" in p.props:
                alias = p.props[1] << 8 | p.props[2]
                assert p.props[0] == 0x23 and len(p.props) == 3 and 1 <= alias <= maximum, p.props
            if p.topic:
                if alias:
                    seen[alias] = p.topic
            else:
                assert seen[alias] == b"a/long/topic/%d" % (i * i % 7), "an alias that means another topic"
        assert seen and len(seen) <= maximum
        assert not p.topic or maximum < 4


def test_no_topic_alias_where_the_broker_takes_none():
    for granted in ({}, {"topic_alias_maximum": 0}):
        w = Wire().up(**granted)
        for _ in range(5):
            p = pub(w, b"a/long/topic")
            assert p.topic == b"a/long/topic" and p.props == b""


def test_no_topic_alias_by_hand_outside_its_bounds():
    for granted, alias in (({}, 1), ({"topic_alias_maximum": 2}, 3), ({"topic_alias_maximum": 2}, 0)):
        w = Wire().up(**granted)
        raises(ValueError, w.publish, b"t", b"", False, 0, {"topic_alias": alias})
        raises(ValueError, w.publish, b"t", b"", False, 0, b"\x23" + bytes((0, alias)))
        assert sent(w) == []


def test_our_aliases_end_with_the_connection():
    w = Wire(session_expiry=60).up(topic_alias_maximum=5)
    for _ in range(4):
        p = pub(w, b"a/long/topic")
    assert p.topic == b""
    pub(w, b"a/long/topic", b"kept", 1)
    gone(w)
    opened(w, False)
    w.feed(connack(1, 0, b"\x22\x00\x05"))
    again = last(w)
    assert (again.topic, again.props, again.payload) == (b"a/long/topic", b"", b"kept"), "resent with its full topic"
    assert pub(w, b"a/long/topic").topic == b"a/long/topic"


def test_what_the_broker_does_not_offer():
    w = Wire().up(wildcard_subscription_available=0, shared_subscription_available=0)
    for filter in (b"a/#", b"+", b"$share/g/a"):
        raises(ValueError, send_subscribe, w.e, Subscription(0, filter, None, 0, b""))
    subscribe(w, b"a")
    w = Wire().up(subscription_identifier_available=0)
    assert subscribe(w, b"a", ident=5).props == b"", "none is sent"
    assert sent(w) == []


def test_values_out_of_bounds():
    # Receive Maximum and Maximum Packet Size 0; Maximum QoS and whether there is this or that: 0 or 1.
    switches = [bytes((ident, value)) for ident in (0x24, 0x25, 0x28, 0x29, 0x2A) for value in (2, 255)]
    for properties in [b"\x21\x00\x00", b"\x27\x00\x00\x00\x00"] + switches:
        w = Wire()
        opened(w)
        protocol_error(w, connack(0, 0, properties))


def test_no_authentication_that_nobody_asked_for():
    for properties in (b"\x15\x00\x01M", b"\x16\x00\x01d", b"\x15\x00\x01M\x16\x00\x01d"):
        w = Wire()
        opened(w)
        protocol_error(w, connack(0, 0, properties))


def test_connack_cut_short():
    for body in (b"", b"\0", b"\0\0"):
        w = Wire()
        opened(w)
        malformed(w, packet(0x20, body))


def test_receive_maximum_is_the_send_quota():
    for maximum in (1, 3):
        w = Wire(receive_maximum=10).up(receive_maximum=maximum)
        pids = [pub(w, qos=1 + i % 2).pid for i in range(maximum)]
        raises(ResourceError, w.publish, b"t", b"", False, 1, None)
        assert not w.e.may_publish()
        # Everything else goes on [MQTT-3.3.4-8], [MQTT-4.9.0-3].
        pub(w)
        subscribe(w)
        unsubscribe(w)
        w.e.ping(w.now)
        w.feed(publish(b"t", b"", 1, 4) + publish(b"t", b"", 2, 5) + ack("PUBREL", 5))
        assert names(sent(w)) == ["PINGREQ", "PUBACK", "PUBREC", "PUBCOMP"]
        if maximum > 1:
            w.feed(ack("PUBREC", pids[1]))
            assert not w.e.may_publish(), "PUBREC is not the end"
            w.feed(ack("PUBCOMP", pids[1]))
            assert w.e.may_publish() and w.e.quota == 1
        w.feed(ack("PUBACK", pids[0]))
        assert w.e.may_publish()


def test_a_new_connection_has_a_new_quota():
    w = Wire(session_expiry=60).up(receive_maximum=5)
    for _ in range(3):
        pub(w, qos=1)
    gone(w)
    opened(w, False)
    w.feed(connack(1, 0, b"\x21\x00\x02"))
    first = sent(w)
    assert len(first) == 2, "no more than the new Receive Maximum"
    w.feed(ack("PUBACK", first[0].pid))
    assert len(sent(w)) == 1
    w.feed(ack("PUBACK", first[1].pid))
    assert w.e.quota == 1 and w.e.granted(0x21, 65535) == 2


def test_the_quota_never_exceeds_receive_maximum():
    w = Wire(session_expiry=60).up(receive_maximum=5)
    pid = pub(w, qos=2).pid
    w.feed(ack("PUBREC", pid))
    gone(w)
    opened(w, False)
    w.feed(connack(1, 0, b"\x21\x00\x02"))
    assert names(sent(w)) == ["PUBREL"]
    w.feed(ack("PUBCOMP", pid) + ack("PUBCOMP", pid))
    assert w.e.quota == 2


def test_an_error_acknowledgement_gives_the_quota_back():
    w = Wire().up(receive_maximum=1)
    w.feed(ack("PUBREC", pub(w, qos=2).pid, 0x97))
    assert names(sent(w)) == [], "no PUBREL"
    w.feed(ack("PUBACK", pub(w, qos=1).pid, 0x87))
    assert w.e.quota == 1


def test_a_connack_of_nothing_grants_the_defaults():
    w = Wire()
    opened(w)
    fine(w, connack())
    assert w.e.state == UP
    assert Sent(pub(w, b"t", b"", 2, True).raw).flags == 5
    assert subscribe(w, b"$share/g/#", 7).props == b"\x0b\x07"
    assert string(b"t") in pub(w, b"t").raw
