# MQTT 5.0, 3.3 and 4.7: PUBLISH in both directions, topics, topic aliases, and what answers it.
from rules import (
    BAD_UTF8,
    ack,
    alive,
    breach,
    fine,
    gone,
    malformed,
    names,
    opened,
    protocol_error,
    pub,
    sent,
    string,
    subscribe,
    u16,
    unsubscribe,
)
from umqtt5.errors import MalformedPacket, PeerError, ProtocolError
from umqtt5.message import Reject
from umqtt5.reader import FAILED, UP
from umqtt5.subscribe import Subscription, add, remove
from wire import Wire, packet, publish, raises


def test_both_qos_bits():
    for flags in (0, 1, 8, 9):
        malformed(Wire().up(), publish(b"t", b"m", 3, flags=flags))
    raises(ValueError, Wire().up().publish, b"t", b"", False, 3, None)
    raises(ValueError, Wire().up().publish, b"t", b"", False, -1, None)


def test_dup_at_qos_0():
    malformed(Wire().up(), publish(b"t", b"m", 0, flags=8))
    malformed(Wire().up(), publish(b"t", b"m", 0, flags=9))
    w = Wire().up()
    for retain in (False, True):
        assert pub(w, retain=retain).flags == retain


def test_flags_of_a_first_publish():
    w = Wire().up()
    for qos in range(3):
        for retain in (False, True):
            p = pub(w, b"a/b", b"m", qos, retain)
            assert p.flags == qos << 1 | retain and p.topic == b"a/b" and p.payload == b"m"


def test_dup_is_told_and_means_nothing_at_qos_1():
    seen = []
    w = Wire().up()
    add(w.e.session, Subscription(0, b"t", lambda m: seen.append((m.payload, m.dup, m.retain, m.qos)), 0, b""))
    w.feed(publish(b"t", b"1", 1, 4) + publish(b"t", b"2", 1, 4, flags=9))
    assert seen == [(b"1", False, False, 1), (b"2", True, True, 1)]
    assert [(p.name, p.pid) for p in sent(w)] == [("PUBACK", 4)] * 2


def test_a_topic_name_with_a_wildcard():
    for topic in (b"#", b"+", b"a/#", b"a/+/b", b"a#", b"+a"):
        for qos in range(3):
            breach(Wire().up(), publish(topic, b"m", qos), PeerError, 0x81, 0x82, 0x90)
        w = Wire().up()
        raises(ValueError, w.publish, topic, b"", False, 0, None)
        assert sent(w) == []


def test_a_topic_name_of_no_bytes():
    for qos in range(3):
        protocol_error(Wire().up(), publish(b"", b"m", qos))
        protocol_error(Wire(topic_alias_maximum=5).up(), publish(b"", b"m", qos))
    raises(ValueError, Wire().up().publish, b"", b"", False, 0, None)
    raises(ValueError, Wire().up().publish, "", b"", False, 0, None)


def test_topics_of_ours_without_nul_and_of_65535_bytes_at_most():
    w = Wire(tx_size=70000).up()
    for call in (
        lambda: w.publish(b"a\0b", b"", False, 0, None),
        lambda: w.publish(b"t" * 65536, b"", False, 0, None),
        lambda: w.e.set_will(b"t" * 65536, b"", False, 0, None),
    ):
        raises(ValueError, call)
    assert len(pub(w, b"t" * 65535).topic) == 65535


def test_a_topic_longer_than_its_packet():
    malformed(Wire().up(), packet(0x30, b"\x00\x20abc\x00"))
    malformed(Wire().up(), packet(0x30, b"\x00"))
    malformed(Wire().up(), packet(0x30, b""))
    malformed(Wire().up(), packet(0x32, string(b"t") + b"\x00"))


def test_payload_format_indicator():
    for value in (0, 1):
        fine(Wire().up(), publish(b"t", b"", properties=bytes((1, value))))
    for value in (2, 255):
        breach(Wire().up(), publish(b"t", b"", properties=bytes((1, value))), PeerError, 0x81, 0x82, 0x99)


def test_a_response_topic_that_is_none():
    for topic in (b"a/#", b"+", b"#", b""):
        raw = b"\x08" + string(topic)
        breach(Wire().up(), publish(b"t", b"", properties=raw), PeerError, 0x81, 0x82, 0x90)
        w = Wire().up()
        raises(ValueError, w.publish, b"t", b"", False, 0, raw)
        raises(ValueError, w.publish, b"t", b"", False, 0, {"response_topic": topic})
        raises(ValueError, w.e.set_will, b"t", b"", False, 0, {"response_topic": topic})
        assert sent(w) == []
    for bad in BAD_UTF8:
        malformed(Wire().up(), publish(b"t", b"", properties=b"\x08" + string(bad)))
        raises(ValueError, Wire().up().publish, b"t", b"", False, 0, b"\x08" + string(bad))
    fine(Wire().up(), publish(b"t", b"", properties=b"\x08\x00\x03a/b"))


def test_a_content_type_that_is_not_utf8():
    for bad in BAD_UTF8:
        malformed(Wire().up(), publish(b"t", b"", properties=b"\x03" + string(bad)))
        raises(ValueError, Wire().up().publish, b"t", b"", False, 0, b"\x03" + string(bad))


# Topic aliases that come -----------------------------------------------------------------------------------


def test_an_alias_of_0():
    protocol_error(Wire(topic_alias_maximum=5).up(), publish(b"t", b"", properties=b"\x23\x00\x00"), 0x94)
    protocol_error(Wire().up(), publish(b"t", b"", properties=b"\x23\x00\x00"), 0x94)


def test_every_alias_up_to_our_maximum_is_taken():
    w = Wire(topic_alias_maximum=300).up()
    for alias in range(1, 301):
        fine(w, publish(b"t/%d" % alias, b"", properties=b"\x23" + u16(alias)))
    w.messages.clear()
    for alias in range(300, 0, -1):
        fine(w, publish(b"", b"m", properties=b"\x23" + u16(alias)))
    assert [topic for topic, _ in w.messages] == [b"t/%d" % alias for alias in range(300, 0, -1)]


def test_an_alias_can_change_its_topic():
    w = Wire(topic_alias_maximum=5).up()
    w.feed(publish(b"one", b"1", properties=b"\x23\x00\x02"))
    w.feed(publish(b"two", b"2", properties=b"\x23\x00\x02"))
    w.feed(publish(b"", b"3", 1, 7, properties=b"\x23\x00\x02"))
    assert w.messages == [(b"one", b"1"), (b"two", b"2"), (b"two", b"3")]


def test_an_alias_in_a_message_too_large_for_us_counts():
    w = Wire(topic_alias_maximum=5, rx_size=64).up()
    fine(w, publish(b"t", bytes(200), 1, 7, properties=b"\x23\x00\x02"))
    assert w.e.session.oversized == 1 and [(p.name, p.reason) for p in sent(w)] == [("PUBACK", 0x97)]
    fine(w, publish(b"", b"m", properties=b"\x23\x00\x02"))
    assert w.messages == [(b"t", b"m")]


def test_a_message_too_large_for_us_is_checked_all_the_same():
    for data, reasons in (
        (publish(b"a/#", bytes(200)), (0x81, 0x82, 0x90)),
        (publish(b"\xff", bytes(200)), (0x81,)),
        (publish(b"", bytes(200)), (0x82,)),
        (publish(b"t", bytes(200), 3), (0x81,)),
        (publish(b"t", bytes(200), 0, flags=8), (0x81,)),
        (publish(b"t", bytes(200), 1, 0), (0x82,)),
        (publish(b"t", bytes(200), properties=b"\x23\x00\x09"), (0x94,)),
        (publish(b"t", bytes(200), properties=b"\x11\x00\x00\x00\x01"), (0x81,)),
    ):
        breach(Wire(topic_alias_maximum=5, rx_size=64).up(), data, PeerError, *reasons)


def test_an_alias_that_was_never_given_a_topic():
    # 3.3.4, 3 a: 0x82, and not 0x94
    for qos in range(3):
        protocol_error(Wire(topic_alias_maximum=5).up(), publish(b"", b"", qos, properties=b"\x23\x00\x02"), 0x82)


def test_an_alias_ends_with_its_connection():
    w = Wire(topic_alias_maximum=5, session_expiry=60).up()
    fine(w, publish(b"t", b"", properties=b"\x23\x00\x02"))
    gone(w)
    w.up(clean=False, present=1)
    protocol_error(w, publish(b"", b"", properties=b"\x23\x00\x02"), 0x82)


# Subscription Identifiers ----------------------------------------------------------------------------------


def test_an_identifier_of_0():
    w = Wire().up()
    subscribe(w, b"t", 1)
    protocol_error(w, publish(b"t", b"", properties=b"\x0b\x00"))


def test_an_identifier_that_no_subscription_ever_had():
    w = Wire().up()
    subscribe(w, b"t", 1)
    fine(w, publish(b"t", b"", properties=b"\x0b\x01"))
    protocol_error(w, publish(b"t", b"", properties=b"\x0b\x07"))
    w = Wire().up()
    subscribe(w, b"t", 1)
    protocol_error(w, publish(b"t", b"", properties=b"\x0b\x01\x0b\x07"))


def test_an_identifier_that_was_unsubscribed_may_still_come():
    # 3.10.4: what the broker has started to send, it goes on with.
    w = Wire().up()
    p = subscribe(w, b"t", 1)
    w.feed(packet(0x90, u16(p.pid) + b"\0\0"))
    p = unsubscribe(w, b"t")
    fine(w, publish(b"t", b"on its way", 1, 5, properties=b"\x0b\x01"))
    w.feed(packet(0xB0, u16(p.pid) + b"\0\0"))
    remove(w.e.session, b"t")
    fine(w, publish(b"t", b"late", 1, 6, properties=b"\x0b\x01"))
    assert names(sent(w)) == ["PUBACK", "PUBACK"]
    alive(w)


def test_no_identifier_in_a_publish_of_ours():
    w = Wire().up()
    raises(ValueError, w.publish, b"t", b"", False, 0, {"subscription_identifier": 1})
    raises(ValueError, w.publish, b"t", b"", False, 1, b"\x0b\x01")
    assert sent(w) == []


# Answers ---------------------------------------------------------------------------------------------------


def test_the_answer_to_each_qos():
    w = Wire().up()
    for qos, answer in ((0, []), (1, ["PUBACK"]), (2, ["PUBREC"])):
        w.feed(publish(b"t", b"", qos, 5 + qos))
        assert names(sent(w)) == answer


def test_a_message_of_no_subscription_is_acknowledged_too():
    w = Wire().up()
    w.e.callback = None
    w.feed(publish(b"who/asked", b"", 1, 5) + publish(b"who/asked", b"", 2, 6) + ack("PUBREL", 6))
    assert [(p.name, p.pid, p.reason) for p in sent(w)] == [("PUBACK", 5, 0), ("PUBREC", 6, 0), ("PUBCOMP", 6, 0)]


def test_an_unsolicited_message_above_maximum_qos():
    for maximum, qos in ((0, 1), (0, 2), (1, 2)):
        w = Wire().up(maximum_qos=maximum)
        breach(w, publish(b"who/asked", b"m", qos, 5), ProtocolError, 0x9B)
    w = Wire().up(maximum_qos=1)
    fine(w, publish(b"who/asked", b"m", 1, 5))


def test_more_than_receive_maximum_at_qos_2():
    w = Wire(receive_maximum=3)
    assert b"\x21\x00\x03" in opened(w).props
    w.feed(b"\x20\x03\x00\x00\x00")
    for pid in (5, 6, 7):
        fine(w, publish(b"t", b"", 2, pid))
    fine(w, publish(b"t", b"", 2, 6, flags=8))  # sent again: not one more
    fine(w, publish(b"t", b"", 0))
    fine(w, publish(b"t", b"", 0))
    w.feed(ack("PUBREL", 5))
    fine(w, publish(b"t", b"", 2, 8))
    protocol_error(w, publish(b"t", b"", 2, 9), 0x93)


def test_more_than_receive_maximum_at_both_qos():
    w = Wire(receive_maximum=2).up()
    fine(w, publish(b"t", b"", 2, 5))
    fine(w, publish(b"t", b"", 2, 6))
    protocol_error(w, publish(b"t", b"", 1, 7), 0x93)

    def handler(m):
        raise KeyError("not acknowledged")

    w = Wire(receive_maximum=2).up()
    add(w.e.session, Subscription(0, b"t", handler, 0, b""))
    raises(KeyError, w.feed, publish(b"t", b"", 1, 5))
    assert w.e.state == UP
    w.e.handler_raised = False
    fine(w, publish(b"other", b"", 2, 6))
    protocol_error(w, publish(b"t", b"", 1, 7), 0x93)


def test_all_that_may_come_has_come_and_its_handlers_raised():
    def handler(m):
        raise KeyError("not acknowledged")

    for qos in (1, 2):
        w = Wire(receive_maximum=2).up()
        add(w.e.session, Subscription(0, b"t", handler, 0, b""))
        raises(KeyError, w.feed, publish(b"t", b"", qos, 5))
        assert w.e.state == UP
        raises(KeyError, w.feed, publish(b"t", b"", qos, 6))
        assert w.e.state == FAILED and w.e.farewell()
        assert w.flush()[-1] == b"\xe0\x01\x83", w.sent


def test_messages_on_their_way_are_no_reason_to_end():
    """At QoS 2 a broker may have more of them in flight than it should: Session.grace."""

    def handler(m):
        raise KeyError("not acknowledged")

    w = Wire(receive_maximum=2).up()
    w.e.session.grace = 9
    add(w.e.session, Subscription(0, b"t", handler, 0, b""))
    for pid in (5, 6, 7):
        fine(w, publish(b"other", b"", 2, pid))
    for qos in (0, 1):
        raises(KeyError, w.feed, publish(b"t", b"", qos, 8))
        assert w.e.state == UP
        w.e.handler_raised = False
    raises(KeyError, w.feed, publish(b"t", b"", 1, 9))
    assert w.e.state == FAILED


def test_acknowledged_messages_no_longer_count():
    def handler(m):
        raise Reject(0x97)

    w = Wire(receive_maximum=2).up()
    add(w.e.session, Subscription(0, b"no", handler, 0, b""))
    for i in range(5):
        fine(w, publish(b"t", b"", 1, 5 + i))
        fine(w, publish(b"no", b"", 2, 15 + i))  # PUBREC >= 0x80 is the end of it
        fine(w, publish(b"t", b"", 2, 25 + i) + ack("PUBREL", 25 + i))
    alive(w)


def test_the_count_starts_anew_with_each_connection():
    w = Wire(receive_maximum=2, session_expiry=60).up()
    w.feed(publish(b"t", b"1", 2, 5) + publish(b"t", b"2", 2, 6))
    gone(w)
    w.up(clean=False, present=1)
    w.messages.clear()
    # The broker did not get our PUBRECs: it sends both again; then one is done with, and a new one comes.
    w.feed(publish(b"t", b"1", 2, 5, flags=8) + publish(b"t", b"2", 2, 6, flags=8))
    assert w.messages == []
    w.feed(ack("PUBREL", 5) + publish(b"t", b"3", 2, 7) + ack("PUBREL", 6) + publish(b"t", b"4", 2, 8))
    assert w.messages == [(b"t", b"3"), (b"t", b"4")]
    w.feed(publish(b"t", b"3", 2, 7, flags=8) + publish(b"t", b"4", 2, 8, flags=8))
    assert len(w.messages) == 2
    protocol_error(w, publish(b"t", b"", 1, 9), 0x93)


def test_malformed_and_protocol_errors_are_what_they_are_called():
    assert issubclass(MalformedPacket, PeerError) and issubclass(ProtocolError, PeerError)
    assert malformed(Wire().up(), publish(b"t", b"", 3)).reason == 0x81
    assert protocol_error(Wire().up(), publish(b"", b"")).reason == 0x82
