# MQTT 5.0, 1.5 and 2: strings, lengths, flags, packet identifiers; on both sides of the wire.
from rules import (
    BAD_UTF8,
    INCOMING,
    Sent,
    ack,
    alive,
    connack,
    fine,
    last,
    malformed,
    names,
    opened,
    props,
    protocol_error,
    pub,
    scene,
    sent,
    string,
    subscribe,
    u16,
    unsubscribe,
)
from umqtt5.subscribe import Subscription, add, send_subscribe, send_unsubscribe
from wire import Wire, packet, publish, raises


def test_a_topic_that_is_not_utf8():
    for bad in BAD_UTF8:
        for qos in (0, 1, 2):
            malformed(Wire().up(), publish(bad, b"m", qos))


def test_a_string_property_that_is_not_utf8():
    for bad in BAD_UTF8:
        malformed(Wire().up(), publish(b"t", b"", properties=b"\x03" + string(bad)))
        w = Wire()
        opened(w)
        malformed(w, connack(0, 0, b"\x1f" + string(bad)))


def test_a_string_pair_that_is_not_utf8():
    for bad in BAD_UTF8:
        malformed(Wire().up(), publish(b"t", b"", properties=b"\x26" + string(bad) + string(b"value")))
        malformed(Wire().up(), publish(b"t", b"", properties=b"\x26" + string(b"name") + string(bad)))


def test_no_string_of_ours_is_ill_formed():
    for bad in BAD_UTF8:
        w = Wire().up()
        for call in (
            lambda: Wire(client_id=bad),  # noqa: B023
            lambda: w.e.set_will(bad, b"", False, 0, None),  # noqa: B023
            lambda: w.publish(bad, b"", False, 0, None),  # noqa: B023
            lambda: w.publish(b"t", b"", False, 0, {"content_type": bad}),  # noqa: B023
            lambda: w.publish(b"t", b"", False, 0, b"\x03" + string(bad)),  # noqa: B023
            lambda: w.publish(b"t", b"", False, 0, {"user_property": [(bad, "v")]}),  # noqa: B023
            lambda: w.publish(b"t", b"", False, 0, {"user_property": [("n", bad)]}),  # noqa: B023
            lambda: w.publish(b"t", b"", False, 0, b"\x26" + string(b"n") + string(bad)),  # noqa: B023
            lambda: w.e.end(0, {"reason_string": bad}),  # noqa: B023
        ):
            raises(ValueError, call)
        assert sent(w) == []


def test_a_bom_is_kept():
    bom = b"\xef\xbb\xbf"
    w = Wire().up()
    seen = []
    add(w.e.session, Subscription(0, bom + b"t/#", lambda m: seen.append((m.topic, m.props["content_type"])), 0, b""))
    w.feed(publish(bom + b"t", b"", properties=b"\x03" + string(bom + b"x")))
    assert seen == [(bom + b"t", (bom + b"x").decode())]
    p = pub(w, bom + b"t", properties={"content_type": bom + b"x"})
    assert p.topic == bom + b"t" and p.props == b"\x03" + string(bom + b"x")


def test_our_lengths_take_the_fewest_bytes():
    # Sent() refuses any other. The bounds of each size, of the remaining length and of the property length.
    w = Wire(tx_size=20000).up()
    for size in (0, 1, 127, 128, 16383, 16384):
        for around in range(-6, 1):
            if size + around >= 0:
                assert len(pub(w, b"t", bytes(size + around)).payload) == size + around
        name = b"n" * (size - 5 - 1) if size > 5 else b""
        assert (
            pub(w, b"t", b"", properties={"user_property": [(name, "v")]}).props == b"\x26" + string(name) + b"\0\1v"
        )
    for ident, value in ((127, b"\x7f"), (128, b"\x80\x01"), (16384, b"\x80\x80\x01")):
        assert subscribe(w, ident=ident).props == b"\x0b" + value


def test_a_length_in_too_many_bytes():
    malformed(Wire().up(), b"\x30\x85\x00\x00\x01t\x00m")  # remaining length 5 in two bytes
    malformed(Wire().up(), packet(0x30, string(b"t") + b"\x80\x00m"))  # property length 0 in two
    malformed(Wire().up(), publish(b"t", b"", properties=b"\x0b\x81\x00"))  # an identifier of 1 in two


def test_a_length_of_more_than_four_bytes():
    malformed(Wire().up(), b"\x30\xff\xff\xff\xff\x01")
    malformed(Wire().up(), packet(0x30, string(b"t") + b"\xff\xff\xff\xff\x01m"))


def test_flags_of_the_packets_that_come():
    for kind in INCOMING:
        if kind == "PUBLISH":
            continue
        right = 2 if kind == "PUBREL" else 0
        for flags in range(16):
            w, make = scene(kind)
            data = bytearray(make(b"\x15\x00\x01M" if kind == "AUTH" else b""))
            data[0] = data[0] & 0xF0 | flags
            if flags != right:
                malformed(w, bytes(data))
    for flags in range(1, 16):
        malformed(Wire().up(), bytes((0xD0 | flags, 0)))  # PINGRESP


def test_flags_of_the_packets_that_go():
    w = Wire()
    w.e.open(w.now, True)
    w.flush()
    w.feed(connack())
    pub(w)
    w.sent.clear()
    w.publish(b"t", b"", False, 1, None)
    w.e.ping(w.now)
    w.flush()
    pid = Sent(w.sent[0]).pid
    w.feed(ack("PUBACK", pid))
    w.publish(b"t", b"", False, 2, None)
    w.flush()
    w.feed(ack("PUBREC", Sent(w.sent[-1]).pid))
    send_subscribe(w.e, Subscription(0, b"a", None, 0, b""))
    w.flush()
    send_unsubscribe(w.e, b"a", None)
    w.flush()
    w.feed(publish(b"t", b"", 1, 4) + publish(b"t", b"", 2, 5) + ack("PUBREL", 5))
    w.e.end(0, None)
    packets = sent(w)
    seen = {p.name: p.flags for p in packets if p.name != "PUBLISH"}
    assert seen == {
        "PINGREQ": 0,
        "PUBREL": 2,
        "SUBSCRIBE": 2,
        "UNSUBSCRIBE": 2,
        "PUBACK": 0,
        "PUBREC": 0,
        "PUBCOMP": 0,
        "DISCONNECT": 0,
    }, seen


def test_packets_that_a_server_never_sends():
    for kind in (0, 1, 8, 10, 12):
        for body in (b"", b"\x00\x01\x00"):
            protocol_error(Wire().up(), packet(kind << 4 | (2 if kind in (8, 10) else 0), body), 0x81, 0x82)


def test_no_packet_identifier_at_qos_0():
    w = Wire().up()
    w.publish(b"ab", b"m", False, 0, None)
    assert w.flush() == [b"\x30\x06\x00\x02ab\x00m"]


def test_our_packet_identifiers_are_unused_and_not_0():
    w = Wire(receive_maximum=4).up()
    in_use = []
    for _ in range(3):
        in_use.append(pub(w, qos=1).pid)
    in_use.append(pub(w, qos=2).pid)
    in_use.append(subscribe(w).pid)
    in_use.append(unsubscribe(w).pid)
    assert len(set(in_use)) == 6 and 0 not in in_use
    w.e.session.last = 65535  # it wraps: 1 and 3 are free again, 2 is not
    w.feed(ack("PUBACK", in_use[0]) + ack("PUBACK", in_use[2]))
    more = [pub(w, qos=1).pid, pub(w, qos=1).pid]
    assert in_use == [1, 2, 3, 4, 5, 6] and more == [1, 3], "those in use are skipped"


def test_a_packet_identifier_of_0():
    for qos in (1, 2):
        protocol_error(Wire().up(), publish(b"t", b"", qos, 0))
    for kind in ("PUBACK", "PUBREC", "PUBREL", "PUBCOMP"):
        protocol_error(Wire().up(), ack(kind, 0))
    protocol_error(Wire().up(), b"\x90\x04\x00\x00\x00\x00")
    protocol_error(Wire().up(), b"\xb0\x04\x00\x00\x00\x00")


def test_a_qos_1_message_with_the_identifier_of_a_qos_2_message_on_its_way():
    # 3.4.2.1: 0x91, Packet Identifier in use; two messages must not share one.
    w = Wire().up()
    w.feed(publish(b"two", b"", 2, 7))
    w.messages.clear()
    w.sent.clear()
    w.feed(publish(b"one", b"", 1, 7))
    assert [(p.name, p.pid, p.reason) for p in sent(w)] == [("PUBACK", 7, 0x91)] and w.messages == []
    w.feed(ack("PUBREL", 7) + publish(b"one", b"", 1, 7))
    assert [(p.name, p.reason) for p in sent(w)] == [("PUBCOMP", 0), ("PUBACK", 0)]


def test_our_acknowledgements_carry_the_message_s_identifier():
    w = Wire().up()
    w.feed(publish(b"t", b"", 1, 65535) + publish(b"t", b"", 2, 256) + ack("PUBREL", 256))
    assert [(p.name, p.pid) for p in sent(w)] == [("PUBACK", 65535), ("PUBREC", 256), ("PUBCOMP", 256)]
    pid = pub(w, qos=2).pid
    w.feed(ack("PUBREC", pid))
    p = last(w)
    assert (p.name, p.pid) == ("PUBREL", pid)


def test_an_acknowledgement_of_another_message_does_not_count():
    w = Wire().up()
    i = w.publish(b"t", b"", False, 1, None)
    pid = last(w).pid
    fine(w, ack("PUBACK", pid + 1))
    assert w.answer(i) is None and sent(w) == []
    fine(w, ack("PUBACK", pid))
    assert w.answer(i) == 0


def test_a_suback_or_unsuback_of_another_request():
    w = Wire().up()
    p = subscribe(w)
    protocol_error(w, packet(0x90, u16(p.pid + 1) + b"\0\0"))
    w = Wire().up()
    p = unsubscribe(w)
    protocol_error(w, packet(0xB0, u16(p.pid + 1) + b"\0\0"))
    w = Wire().up()
    p = subscribe(w)
    protocol_error(w, packet(0xB0, u16(p.pid) + b"\0\0"))  # UNSUBACK for a SUBSCRIBE


def test_no_properties_are_a_length_of_0():
    w = Wire()
    assert b"MQTT\x05\x02\x00\x3c\x03\x21" in opened(w).raw  # Receive Maximum, always
    w.feed(connack())
    assert pub(w, b"ab", b"m").body == b"\x00\x02ab\x00m"
    assert subscribe(w, b"ab").body[2:] == b"\x00\x00\x02ab\x00"
    assert unsubscribe(w, b"ab").body[2:] == b"\x00\x00\x02ab"
    w.e.set_will(b"w", b"m", False, 0, None)
    w.e.closed()
    assert opened(w).raw.endswith(b"\x00\x02me" + b"\x00" + b"\x00\x01w\x00\x01m")


def test_a_packet_without_its_property_length():
    malformed(Wire().up(), packet(0x30, string(b"t")))
    w = Wire()
    opened(w)
    malformed(w, packet(0x20, b"\0\0"))
    for make, header in ((subscribe, 0x90), (unsubscribe, 0xB0)):
        w = Wire().up()
        malformed(w, packet(header, u16(make(w).pid)))


def test_properties_beyond_the_packet_s_end():
    for kind in INCOMING:
        w, make = scene(kind)
        data = make(b"\x15\x00\x01M" if kind == "AUTH" else b"")
        right = props(b"\x15\x00\x01M" if kind == "AUTH" else b"")
        at = data.rfind(right, 0, -1 if kind in ("SUBACK", "UNSUBACK") else len(data))
        malformed(w, data[:at] + b"\x7f" + data[at + 1 :])


def test_bytes_behind_the_properties():
    for kind in INCOMING:
        if kind not in ("PUBLISH", "SUBACK", "UNSUBACK"):
            w, make = scene(kind)
            data = bytearray(make(b"\x15\x00\x01M" if kind == "AUTH" else b"") + b"\0")
            data[1] += 1
            malformed(w, bytes(data))


def test_packets_cut_short():
    for kind in INCOMING:
        w, make = scene(kind)
        data = make(b"\x15\x00\x01M\x26\x00\x01a\x00\x01b" if kind == "AUTH" else b"\x26\x00\x01a\x00\x01b")
        # Cut within the properties: the last byte of them is missing.
        cut = 1 if kind not in ("PUBLISH", "SUBACK", "UNSUBACK") else 6 if kind == "PUBLISH" else 2
        malformed(w, bytes((data[0], data[1] - cut)) + data[2 : len(data) - cut])
    for kind in ("PUBACK", "PUBREC", "PUBREL", "PUBCOMP"):
        w, make = scene(kind)
        header = make()[0]
        malformed(w, bytes((header, 1, 0)))
        w, make = scene(kind)
        malformed(w, bytes((header, 0)))
    malformed(Wire().up(), b"\xd0\x01\x00")  # PINGRESP has no body


def test_short_forms_are_right():
    # 3.4.2, 3.14.2: the reason and the property length may be left out.
    w = Wire().up()
    i = w.publish(b"t", b"", False, 1, None)
    fine(w, packet(0x40, u16(last(w).pid) + b"\x10"))
    assert w.answer(i) == 0x10
    i = w.publish(b"t", b"", False, 2, None)
    pid = last(w).pid
    fine(w, packet(0x50, u16(pid)))
    fine(w, packet(0x70, u16(pid) + b"\x00"))
    assert w.answer(i) == 0 and names(sent(w)) == ["PUBREL"]
    alive(w)
