# MQTT 5.0, 3.4 to 3.7, 4.3, 4.4, 4.6: acknowledgements, delivery at each QoS, resending, order.
from rules import (
    ack,
    alive,
    connack,
    fine,
    gone,
    last,
    names,
    opened,
    pub,
    sent,
    subscribe,
    unsubscribe,
)
from umqtt5.message import Reject
from umqtt5.resume import oldest
from umqtt5.subscribe import Subscription, add
from wire import Wire, publish, raises


def resume(w):
    """The stream breaks; the session is resumed; what is resent."""
    gone(w)
    opened(w, False)
    w.feed(connack(1))
    return sent(w)


def test_the_reasons_of_our_acknowledgements(client_reasons):
    def handler(m):
        raise Reject(reason)

    for qos, name in ((1, "PUBACK"), (2, "PUBREC")):
        seen = set()
        for reason in range(256):
            w = Wire().up()
            add(w.e.session, Subscription(0, b"t", handler, 0, b""))
            try:
                w.feed(publish(b"t", b"", qos, 5))
            except ValueError:
                continue  # refused here: nothing was sent
            out = sent(w)
            assert all([p.reason in client_reasons[name] for p in out]), (reason, out[0].raw)
            seen.update([p.reason for p in out])
        assert seen >= {0x80, 0x83, 0x87, 0x90, 0x97, 0x99}


def test_pubrel_and_pubcomp_of_ours():
    # Success, or Packet Identifier not found; never a property: so no size can be exceeded by one.
    w = Wire().up()
    pid = pub(w, qos=2).pid
    w.feed(ack("PUBREC", pid))
    w.feed(ack("PUBREC", pid + 1))
    w.feed(publish(b"t", b"", 2, 5) + ack("PUBREL", 5) + ack("PUBREL", 6))
    out = [p for p in sent(w) if p.name != "PUBREC"]
    assert [(p.name, p.pid, p.reason) for p in out] == [
        ("PUBREL", pid, 0),
        ("PUBREL", pid + 1, 0x92),
        ("PUBCOMP", 5, 0),
        ("PUBCOMP", 6, 0x92),
    ]
    assert [len(p.raw) for p in out] == [4, 5, 4, 5] and not any([p.props for p in out])
    assert all([p.flags == 2 for p in out if p.name == "PUBREL"])


def test_acknowledgements_without_a_reason_are_short():
    w = Wire().up()
    w.feed(publish(b"t", b"", 1, 5) + publish(b"t", b"", 2, 6))
    assert [p.raw for p in sent(w)] == [b"\x40\x02\x00\x05", b"\x50\x02\x00\x06"]


# QoS 0 and 1 -----------------------------------------------------------------------------------------------


def test_qos_0_is_sent_once():
    w = Wire(session_expiry=60).up()
    p = pub(w, qos=0)
    assert p.flags == 0 and p.pid is None
    assert resume(w) == []


def test_qos_1_as_the_sender():
    w = Wire(session_expiry=60).up()
    i = w.publish(b"t", b"m", False, 1, None)
    p = last(w)
    assert (p.flags, p.qos, p.topic, p.payload) == (2, 1, b"t", b"m") and p.pid
    assert w.answer(i) is None, "unacknowledged"
    assert pub(w, qos=1).pid != p.pid
    w.now += 3600_000
    w.e.closed()
    first = resume(w)
    assert [(q.pid, q.flags) for q in first] == [(p.pid, 0x0A), (first[1].pid, 0x0A)], "still"
    w.feed(ack("PUBACK", p.pid))
    assert [q.pid for q in resume(w)] == [first[1].pid], "acknowledged now"
    w.feed(ack("PUBACK", first[1].pid))
    assert resume(w) == []


def test_qos_1_as_the_receiver():
    w = Wire().up()
    w.feed(publish(b"t", b"1", 1, 5))
    assert [(p.name, p.pid, p.reason) for p in sent(w)] == [("PUBACK", 5, 0)]
    # Once acknowledged, the same identifier is a new message, whatever DUP says.
    w.feed(publish(b"t", b"2", 1, 5, flags=8) + publish(b"t", b"3", 1, 5))
    assert [m for _, m in w.messages] == [b"1", b"2", b"3"]
    assert [p.pid for p in sent(w)] == [5, 5]


# QoS 2 -----------------------------------------------------------------------------------------------------


def test_qos_2_as_the_sender():
    w = Wire(session_expiry=60).up()
    i = w.publish(b"t", b"m", False, 2, None)
    p = last(w)
    assert (p.flags, p.qos, p.topic, p.payload) == (4, 2, b"t", b"m") and p.pid
    again = resume(w)
    assert [(q.name, q.pid, q.flags, q.payload) for q in again] == [("PUBLISH", p.pid, 0x0C, b"m")], "unacknowledged"
    w.feed(ack("PUBREC", p.pid))
    q = last(w)
    assert (q.name, q.pid, q.reason, q.flags) == ("PUBREL", p.pid, 0, 2)
    assert w.answer(i) is None
    for _ in range(2):
        again = resume(w)
        assert [(q.name, q.pid) for q in again] == [("PUBREL", p.pid)], "never the PUBLISH again"
    assert w.e.session.in_flight() == 1
    w.feed(ack("PUBCOMP", p.pid))
    assert w.e.session.in_flight() == 0 and resume(w) == []


def test_pubrec_with_a_success_that_is_not_0():
    w = Wire().up()
    pid = pub(w, qos=2).pid
    w.feed(ack("PUBREC", pid, 0x10))
    assert [(p.name, p.pid, p.reason) for p in sent(w)] == [("PUBREL", pid, 0)]


def test_a_refused_message_is_done_with():
    w = Wire(session_expiry=60).up()
    one = w.publish(b"t", b"1", False, 1, None)
    w.feed(ack("PUBACK", last(w).pid, 0x97))
    two = w.publish(b"t", b"2", False, 2, None)
    w.feed(ack("PUBREC", last(w).pid, 0x87))
    assert sent(w) == [], "no PUBREL"
    assert (w.answer(one), w.answer(two)) == (0x97, 0x87)
    assert resume(w) == []


def test_qos_2_as_the_receiver():
    w = Wire().up()
    w.feed(publish(b"other", b"", 2, 9))  # on its way all the time
    w.messages.clear()
    sent(w)
    w.feed(publish(b"t", b"1", 2, 5))
    assert [(p.name, p.pid, p.reason) for p in sent(w)] == [("PUBREC", 5, 0)]
    w.feed(publish(b"t", b"1", 2, 5, flags=8) + publish(b"t", b"1", 2, 5))
    assert [(p.name, p.pid, p.reason) for p in sent(w)] == [("PUBREC", 5, 0)] * 2
    assert len(w.messages) == 1, "delivered once"
    w.feed(ack("PUBREL", 5))
    assert [(p.name, p.pid, p.reason) for p in sent(w)] == [("PUBCOMP", 5, 0)]
    w.feed(publish(b"t", b"2", 2, 5))
    assert [m for _, m in w.messages] == [b"1", b"2"], "a new message after PUBCOMP"
    assert names(sent(w)) == ["PUBREC"]


def test_after_a_refusing_pubrec_the_identifier_is_free():
    seen = []

    def handler(m):
        seen.append(m.payload)
        if len(seen) == 1:
            raise Reject(0x97)

    w = Wire().up()
    add(w.e.session, Subscription(0, b"t", handler, 0, b""))
    w.feed(publish(b"t", b"1", 2, 5) + publish(b"t", b"2", 2, 5, flags=8))
    assert seen == [b"1", b"2"]
    assert [(p.name, p.reason) for p in sent(w)] == [("PUBREC", 0x97), ("PUBREC", 0)]


def test_message_expiry_changes_nothing_once_sent():
    w = Wire(session_expiry=60).up()
    p = pub(w, b"t", b"m", 2, properties={"message_expiry_interval": 1})
    w.now += 3600_000
    again = resume(w)
    assert [(q.pid, q.props) for q in again] == [(p.pid, b"\x02\x00\x00\x00\x01")]
    w.feed(ack("PUBREC", p.pid))
    assert names(sent(w)) == ["PUBREL"]


def test_an_expired_message_is_still_acknowledged():
    w = Wire().up()
    w.feed(publish(b"t", b"", 2, 5, properties=b"\x02\x00\x00\x00\x00"))
    w.now += 3600_000
    w.feed(ack("PUBREL", 5))
    assert names(sent(w)) == ["PUBREC", "PUBCOMP"]


# Resending and order ---------------------------------------------------------------------------------------


def test_resending_in_the_order_of_sending():
    w = Wire(session_expiry=60, receive_maximum=10).up()
    w.e.session.last = 65530  # the identifiers wrap on the way
    for i in range(10):
        pub(w, b"t", b"%d" % i, 1 + i % 2)
    w.feed(ack("PUBACK", w.e.session.pid[oldest(w.e.session, 65536)]))
    again = resume(w)
    assert [p.payload for p in again] == [b"%d" % i for i in range(1, 10)]
    assert all([p.flags & 8 for p in again])
    again = resume(w)
    assert [p.payload for p in again] == [b"%d" % i for i in range(1, 10)], "and once more, with another break"


def test_nothing_is_resent_at_any_other_time():
    w = Wire(session_expiry=60).up()
    pub(w, qos=1)
    w.feed(ack("PUBREC", pub(w, qos=2).pid))
    assert names(sent(w)) == ["PUBREL"]
    for _ in range(20):
        w.now += 30_000
        w.e.timer(w.now)
        w.feed(b"\xd0\x00")
        assert [name for name in names(sent(w)) if name != "PINGREQ"] == []
    gone(w)
    opened(w, True)
    w.feed(connack(0))
    assert sent(w) == []
    w = Wire(session_expiry=60).up()
    pub(w, qos=1)
    gone(w)
    opened(w, False)
    w.feed(connack(0))
    assert sent(w) == []


def test_requests_are_not_resent():
    w = Wire(session_expiry=60).up()
    subscribe(w)
    unsubscribe(w)
    assert resume(w) == []


def test_new_messages_wait_behind_those_that_are_resent():
    w = Wire(session_expiry=60).up()
    for i in range(3):
        pub(w, b"t", b"%d" % i, 1)
    gone(w)
    opened(w, False)
    for data in (connack(1),):
        view = memoryview(data)
        while len(view):
            n = min(w.e.need, len(view))
            w.e.into[:n] = view[:n]
            view = view[n:]
            w.e.got(n, w.now)
    assert not w.e.may_publish()
    assert [p.payload for p in sent(w)] == [b"0", b"1", b"2"]
    assert w.e.may_publish() and pub(w, b"t", b"3", 1).payload == b"3"


def test_acknowledgements_in_the_order_of_the_messages():
    w = Wire().up()
    data = b"".join([publish(b"t", b"", 1 + i % 2, 50 - i) for i in range(7)])
    fine(w, data)
    assert [p.pid for p in sent(w)] == [50 - i for i in range(7)]


def test_acknowledgements_in_order_when_they_pile_up():
    w = Wire().up()
    flush = w.flush
    w.flush = lambda: None  # nothing can be written for a while
    w.feed(b"".join([publish(b"t", b"", 1 + i % 2, 50 - i) for i in range(8)]))
    assert w.e.acks_full()
    w.flush = flush
    assert [p.pid for p in sent(w)] == [50 - i for i in range(8)]


def test_pubrels_in_the_order_of_the_pubrecs():
    w = Wire().up()
    pids = [pub(w, qos=2).pid for _ in range(4)]
    order = [pids[2], pids[0], pids[3], pids[1]]
    w.feed(b"".join([ack("PUBREC", pid) for pid in order]))
    assert [(p.name, p.pid) for p in sent(w)] == [("PUBREL", pid) for pid in order]


def test_the_session_stays_while_connected():
    w = Wire(session_expiry=0).up()  # not even with an expiry of 0
    pid = pub(w, qos=2).pid
    w.feed(publish(b"t", b"", 2, 5))
    w.messages.clear()
    w.now += 7 * 24 * 3600_000
    w.feed(b"\xd0\x00")
    assert w.e.session.in_flight() == 1
    w.feed(publish(b"t", b"", 2, 5, flags=8))
    assert w.messages == []
    w.feed(ack("PUBREC", pid))
    assert [(p.name, p.pid) for p in sent(w)] == [("PUBREC", 5), ("PUBREC", 5), ("PUBREL", pid)]
    alive(w)


def test_unknown_acknowledgements_do_no_harm():
    # DESIGN.md: PUBREC and PUBREL are answered with 0x92, PUBACK and PUBCOMP are counted.
    w = Wire().up()
    fine(w, ack("PUBACK", 5) + ack("PUBREC", 5) + ack("PUBREL", 5) + ack("PUBCOMP", 5))
    assert [(p.name, p.reason) for p in sent(w)] == [("PUBREL", 0x92), ("PUBCOMP", 0x92)]
    assert w.e.session.unmatched == 2
    alive(w)
    raises(ValueError, w.publish, b"t", b"", False, 5, None)
