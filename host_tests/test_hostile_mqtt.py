"""Servers that break MQTT: what broke the other MicroPython clients (facts/peers.md d), and more of the kind.

Each case: the right typed error, nothing delivered that did not arrive whole, the socket closed with the
right DISCONNECT (or none), and the same client object connects anew and publishes. The client runs in
MicroPython, without authentication: test_hostile_auth.py and test_hostile_login.py are about that;
deadlines and sizes are in test_hostile_limits.py.
"""

import pytest
from harness import wire
from harness.attack import attack, gave_up, survived
from harness.cases import cases, login, say
from harness.logins import receive_connect
from harness.wire import ack, packet, publish, string

ECONNRESET, ETIMEDOUT = 104, 110
MALFORMED, PROTOCOL = "MalformedPacket", "ProtocolError"
CONNECT_AND_WAIT = [["connect"], ["wait_msg"]]
SMALL_HEAP = 800 * 1024  # bytes, so that a handler runs out of it at once


# Bytes that are not MQTT -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "errors"),
    cases(
        ("remaining-length-of-five-bytes", b"\x30\xff\xff\xff\xff\x01", MALFORMED),
        ("topic-longer-than-packet", packet(wire.PUBLISH, b"\x00\x20abc\x00"), MALFORMED),
        ("publish-of-length-0", packet(wire.PUBLISH), MALFORMED),
        ("publish-of-length-1", packet(wire.PUBLISH, b"\x00"), MALFORMED),
        ("publish-ends-in-packet-id", packet(wire.PUBLISH, b"\x00\x01t\x00", flags=2), MALFORMED),
        ("publish-without-properties", packet(wire.PUBLISH, b"\x00\x01t"), MALFORMED),
        ("packet-type-0", packet(0, b"\x00\x00"), (MALFORMED, PROTOCOL)),
        ("qos-3", publish("t", b"m", 3), MALFORMED),
        ("qos-0-with-dup", publish("t", b"m", flags=8), (MALFORMED, PROTOCOL)),
        ("packet-id-0", publish("t", b"m", 1, 0), (MALFORMED, PROTOCOL)),
        ("topic-not-utf8", publish(b"\xff\xfe", b"m"), MALFORMED),
        ("topic-with-nul", publish(b"a\0b", b"m"), MALFORMED),
        ("topic-with-wildcard", publish("a/#", b"m"), (MALFORMED, PROTOCOL)),
        ("topic-empty-without-alias", publish("", b"m"), (MALFORMED, PROTOCOL)),
        (
            "property-unknown",
            packet(wire.PUBLISH, string("t") + b"\x02\x7e\x01" + b"m"),
            (MALFORMED, PROTOCOL),
        ),
        ("property-overruns", packet(wire.PUBLISH, string("t") + b"\x04\x03\x00\x20abcdefg"), MALFORMED),
        ("property-length-overruns", packet(wire.PUBLISH, string("t") + b"\x7fm"), MALFORMED),
        (
            "property-length-five-bytes",
            packet(wire.PUBLISH, string("t") + b"\xff\xff\xff\xff\x01m"),
            MALFORMED,
        ),
        ("property-twice", publish("t", b"m", 0, 1, (0x03, "a"), (0x03, "b")), (MALFORMED, PROTOCOL)),
        ("property-of-connack", publish("t", b"m", 0, 1, (0x21, 5)), (MALFORMED, PROTOCOL)),
        ("subscription-id-0", publish("t", b"m", 0, 1, (0x0B, 0)), (MALFORMED, PROTOCOL)),
        ("pingresp-with-a-body", packet(wire.PINGRESP, b"\x00"), MALFORMED),
        ("pubrel-with-wrong-flags", packet(wire.PUBREL, b"\x00\x01", flags=0), MALFORMED),
        ("suback-with-flags", packet(wire.SUBACK, b"\x00\x01\x00\x00", flags=1), MALFORMED),
        ("puback-of-length-1", packet(wire.PUBACK, b"\x00"), MALFORMED),
        ("disconnect-property-overruns", packet(wire.DISCONNECT, b"\x00\x05\x1f"), MALFORMED),
        (
            "connect-from-the-server",
            packet(wire.CONNECT, b"\x00\x04MQTT\x05\x02\x00\x00\x00\x00\x00"),
            PROTOCOL,
        ),
        (
            "subscribe-from-the-server",
            packet(wire.SUBSCRIBE, b"\x00\x01\x00\x00\x01t\x00", flags=2),
            (MALFORMED, PROTOCOL),
        ),
        ("pingreq-from-the-server", packet(wire.PINGREQ), PROTOCOL),
        ("second-connack", wire.connack(0), PROTOCOL),
    ),
)
def test_not_mqtt(data, errors):
    """Nothing of it is delivered; the client says why in its DISCONNECT (4.13) and closes."""
    outcome = attack(say(data), steps=CONNECT_AND_WAIT)
    e = outcome.error
    assert e["type"] in ([errors] if isinstance(errors, str) else errors), e
    # 0x90: Topic Name invalid, the one more exact reason that there is for these cases
    gave_up(outcome.first, (0x81,) if e["type"] == MALFORMED else (0x82, 0x90))
    assert outcome.ms < 2500
    assert outcome.end["messages"] == []
    survived(outcome)


@pytest.mark.parametrize("alias", [0, 1, 65535])
def test_topic_alias_that_nobody_allowed(alias):
    """3.3.2.3.4: an alias of 0 or above our Topic Alias Maximum (none is announced here)."""
    client = {"topic_alias_maximum": 0}
    outcome = attack(say(publish("t", b"m", 0, 1, (0x23, alias))), steps=CONNECT_AND_WAIT, client=client)
    assert "PeerError" in outcome.error["isa"]
    gave_up(outcome.first, (0x81, 0x82, 0x94))
    survived(outcome)


# CONNACK ---------------------------------------------------------------------------------------------------


def answer(*data):
    """A script: these bytes in answer to CONNECT, and FIN."""

    def script(conn):
        receive_connect(conn)
        conn.send(*data)
        conn.close()

    return script


@pytest.mark.parametrize(
    ("data", "type_", "reason"),
    cases(
        ("0x80", wire.connack(0x80), "Refused", 0x80),
        ("0x86", wire.connack(0x86), "AuthError", 0x86),
        ("0x87", wire.connack(0x87), "AuthError", 0x87),
        ("0x97", wire.connack(0x97), "Refused", 0x97),
        ("disconnect-0x87", wire.disconnect(0x87), "AuthError", 0x87),
    ),
)
def test_connack_refuses(data, type_, reason):
    outcome = attack(answer(data))
    assert (outcome.error["type"], outcome.error["reason"]) == (type_, reason)
    assert f"0x{reason:02X}" in outcome.error["text"]
    gave_up(outcome.first, None)
    survived(outcome)


def test_connack_of_an_old_broker():
    """A 3.1.1 broker's "unacceptable protocol version", of two bytes, is an error of ours and no
    IndexError."""
    outcome = attack(answer(b"\x20\x02\x00\x01"))
    assert "MQTTError" in outcome.error["isa"], outcome.error
    survived(outcome)


@pytest.mark.parametrize("size", range(1, 6))
def test_connack_cut_off(size):
    outcome = attack(answer(wire.connack(0, (0x21, 5))[:size]))
    assert outcome.error["oserror"] and outcome.error["errno"] == ECONNRESET, outcome.error
    assert "CONN" in outcome.error["text"]
    survived(outcome)


@pytest.mark.parametrize(
    ("data", "type_"),
    cases(
        ("flags-reserved", packet(wire.CONNACK, b"\x02\x00\x00"), (MALFORMED, PROTOCOL)),
        ("fixed-header-flags", packet(wire.CONNACK, b"\x00\x00\x00", flags=1), (MALFORMED,)),
        ("session-present-after-clean-start", wire.connack(0, present=1), (PROTOCOL,)),
        ("present-with-a-refusal", wire.connack(0x87, present=1), (MALFORMED, PROTOCOL, "AuthError")),
        ("receive-maximum-0", wire.connack(0, (0x21, 0)), (MALFORMED, PROTOCOL)),
        ("maximum-packet-size-0", wire.connack(0, (0x27, 0)), (MALFORMED, PROTOCOL)),
        ("maximum-qos-2", wire.connack(0, (0x24, 2)), (MALFORMED, PROTOCOL)),
        ("property-of-publish", wire.connack(0, (0x23, 1)), (MALFORMED, PROTOCOL)),
        ("bytes-too-many", packet(wire.CONNACK, b"\x00\x00\x00\x00"), (MALFORMED,)),
        ("suback-instead", ack(wire.SUBACK, 1), (PROTOCOL,)),
        ("http-instead", b"HTTP/1.1 400 Bad Request\r\n\r\n", (MALFORMED, PROTOCOL)),
    ),
)
def test_connack_is_wrong(data, type_):
    outcome = attack(answer(data))
    assert outcome.error["type"] in type_, outcome.error
    survived(outcome)


def test_session_present():
    """After clean_session=False a session is what was asked for."""
    script = login(lambda conn: conn.serve(), present=1)
    outcome = attack(script, steps=[["connect", False], ["publish", "t", "m", False, 1], ["disconnect"]])
    assert "error" not in outcome.steps[-1] and outcome.steps[0]["value"] is True
    survived(outcome)


# Packets that are cut off, and the end of the stream -------------------------------------------------------

MESSAGE = publish("topic", b"the message", 1, 9)


def fin(conn):
    conn.close()


def rst(conn):
    conn.reset()


@pytest.mark.parametrize("how", [fin, rst])
@pytest.mark.parametrize("size", [0, 1, 2, 5, 12, len(MESSAGE) - 1])
def test_publish_cut_off(size, how):
    """Half a message is never delivered nor acknowledged: umqtt delivers it."""

    def act(conn):
        conn.send(MESSAGE[:size])
        how(conn)

    outcome = attack(login(act), steps=CONNECT_AND_WAIT)
    assert outcome.error["oserror"] and outcome.error["errno"] == ECONNRESET, outcome.error
    assert outcome.ms < 2500
    assert outcome.end["messages"] == [] and not outcome.first.all(wire.PUBACK)
    survived(outcome)


def test_message_before_the_end_is_delivered():
    """What arrived whole counts, and is acknowledged, though FIN came right behind it."""

    def act(conn):
        conn.send(MESSAGE)
        conn.close()

    outcome = attack(login(act), steps=[["connect"], ["wait_msg"], ["wait_msg"]])
    assert outcome.error["errno"] == ECONNRESET
    assert outcome.end["messages"] == [["topic", "the message"]]
    assert [p.pid for p in outcome.first.all(wire.PUBACK)] == [9]
    survived(outcome)


def test_calls_after_the_end():
    """A publish after the connection has ended is an OSError at once, not half a packet to nobody."""
    again = [["publish", "t", "m", False, 1]]
    outcome = attack(login(fin), steps=CONNECT_AND_WAIT, again=again, second=False)
    assert outcome.error["errno"] == ECONNRESET
    assert outcome.again[0]["error"]["oserror"], outcome.again


@pytest.mark.parametrize("reason", [0x00, 0x8B, 0x8E])
def test_disconnect_of_the_server(reason):
    """Disconnected, with the broker's reason; 3.14.4: nothing is sent after it, and the client closes."""
    outcome = attack(say(wire.disconnect(reason, (wire.REASON_STRING, "bye"))), steps=CONNECT_AND_WAIT)
    e = outcome.error
    assert (e["type"], e["reason"], e["oserror"]) == ("Disconnected", reason, True), e
    assert f"0x{reason:02X}" in e["text"] and "bye" in e["text"]
    assert outcome.first.names() == ["CONNECT"]
    survived(outcome)


# Answers ---------------------------------------------------------------------------------------------------

ON_IT_GOES = [["publish", "t", "on it goes", False, 1], ["disconnect"]]


def replies(kind, build):
    """A script: build(packet) in answer to the first packet of this type, then an honest broker."""

    def act(conn):
        p = conn.expect(kind)
        conn.send(build(p))
        conn.serve()

    return login(act)


@pytest.mark.parametrize(
    ("kind", "answer_", "step"),
    cases(
        ("suback", wire.SUBSCRIBE, wire.SUBACK, ["subscribe", "t", 1, "collect"]),
        ("unsuback", wire.UNSUBSCRIBE, wire.UNSUBACK, ["unsubscribe", "t"]),
        ("puback", wire.PUBLISH, wire.PUBACK, ["publish", "t", "m", False, 1]),
    ),
)
@pytest.mark.parametrize("reason", [0x80, 0x87, 0x91])
def test_refused(kind, answer_, step, reason):
    """Refused with the reason; the connection is whole and goes on."""
    script = replies(kind, lambda p: ack(answer_, p.pid, reason))
    outcome = attack(script, steps=[["connect"], step], again=ON_IT_GOES, second=False)
    e = outcome.error
    assert (e["type"], e["reason"]) == ("Refused", reason) and f"0x{reason:02X}" in e["text"], e
    assert not [line for line in outcome.again if "error" in line], outcome.again
    assert outcome.first.names()[-2:] == ["PUBLISH", "DISCONNECT"]


def test_puback_of_an_unknown_id():
    """It is ignored; the right one still counts."""
    script = replies(wire.PUBLISH, lambda p: ack(wire.PUBACK, p.pid + 1) + ack(wire.PUBACK, p.pid))
    steps = [["connect"], ["publish", "t", "m", False, 1]]
    outcome = attack(script, steps=steps, again=ON_IT_GOES, second=False)
    assert "error" not in outcome.steps[-1] and "error" not in outcome.again[-1], outcome.again


@pytest.mark.parametrize(
    ("kind", "answer_", "step"),
    cases(
        ("suback", wire.SUBSCRIBE, wire.SUBACK, ["subscribe", "t", 1, "collect"]),
        ("puback", wire.PUBLISH, wire.PUBACK, ["publish", "t", "m", False, 1]),
    ),
)
def test_only_the_wrong_packet_id(kind, answer_, step):
    """An answer to another question is not taken for ours: the call ends by its deadline or by the broker's
    fault."""
    script = replies(kind, lambda p: ack(answer_, p.pid + 1, 0))
    outcome = attack(script, steps=[["connect"], step], timeout=1)
    assert outcome.error["errno"] == ETIMEDOUT or outcome.error["type"] == PROTOCOL, outcome.error
    assert outcome.ms < 2000
    survived(outcome)


@pytest.mark.parametrize("codes", [b"", b"\x00\x00"], ids=["none", "two"])
def test_suback_with_a_wrong_number_of_reasons(codes):
    script = replies(wire.SUBSCRIBE, lambda p: packet(wire.SUBACK, p.pid.to_bytes(2, "big") + b"\0" + codes))
    outcome = attack(script, steps=[["connect"], ["subscribe", "t", 1, "collect"]])
    assert "PeerError" in outcome.error["isa"], outcome.error
    survived(outcome)


def test_unknown_pubrec_and_pubrel():
    """Answered with 0x92, and the connection lives on (DESIGN.md)."""

    def act(conn):
        conn.send(ack(wire.PUBREC, 77) + ack(wire.PUBREL, 78) + ack(wire.PUBCOMP, 79) + publish("t", b"m"))
        conn.serve()

    outcome = attack(login(act), steps=[["connect"], ["receive", 1], ["disconnect"]])
    assert "error" not in outcome.steps[-1], outcome.steps
    answers = [(p.name, p.pid, p.reason) for p in outcome.first.received[1:-1]]
    assert answers == [("PUBREL", 77, 0x92), ("PUBCOMP", 78, 0x92)]
    survived(outcome)


# Handlers --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("handler", ["out_of_memory", "failing"])
@pytest.mark.parametrize("qos", [0, 1])
def test_handler_that_raises(handler, qos):
    """The exception leaves wait_msg, that message is not acknowledged, and the next one comes as if nothing
    was."""

    def act(conn):
        s = conn.expect(wire.SUBSCRIBE)
        conn.send(ack(wire.SUBACK, s.pid, qos))
        to = (wire.SUBSCRIPTION_ID, s.prop(wire.SUBSCRIPTION_ID))
        conn.send(publish("t", b"first", qos, 21, to), publish("t", b"second", qos, 22, to))
        conn.serve()

    steps = [["connect"], ["subscribe", "t", qos, handler], ["receive", 2]]
    again = [["receive", 2], *ON_IT_GOES]
    outcome = attack(login(act), steps=steps, again=again, second=False, heap=SMALL_HEAP)
    assert outcome.error["type"] == {"out_of_memory": "MemoryError", "failing": "KeyError"}[handler]
    assert not [line for line in outcome.again if "error" in line], outcome.again
    assert outcome.end["messages"] == [["t", "first"], ["t", "second"]]
    assert [p.pid for p in outcome.first.all(wire.PUBACK)] == ([22] if qos else [])


def test_qos_2_is_delivered_once():
    """PUBLISH QoS 2 twice (the second with DUP) before PUBREL: one message (4.3.3)."""

    def act(conn):
        s = conn.expect(wire.SUBSCRIBE)
        conn.send(ack(wire.SUBACK, s.pid, 2))
        to = (wire.SUBSCRIPTION_ID, s.prop(wire.SUBSCRIPTION_ID))
        conn.send(publish("t", b"once", 2, 5, to), publish("t", b"once", 2, 5, to, flags=0x0C))
        conn.send(ack(wire.PUBREL, 5), publish("t", b"after", 0))
        conn.serve()

    steps = [["connect"], ["subscribe", "t", 2, "collect"], ["receive", 2], ["disconnect"]]
    outcome = attack(login(act), steps=steps)
    assert "error" not in outcome.steps[-1], outcome.steps
    assert outcome.end["messages"] == [["t", "once"], ["t", "after"]]
    assert outcome.first.names().count("PUBCOMP") == 1
    survived(outcome)


def test_the_reason_of_a_broker_that_has_closed_already():
    """The client only writes; the write fails; the DISCONNECT that lies unread in its buffer is the error."""

    def act(conn):
        conn.expect(wire.PUBLISH)
        conn.send(wire.packet(wire.DISCONNECT, b"\x8e"))
        conn.pause(0.3)  # publishes pile up unread: so closing sends RST, and the next write fails
        conn.sock.close()
        conn.ended = "reset by the server"

    steps = [["connect"], *[["publish_and_sleep", "t", 20]] * 40]
    outcome = attack(login(act), steps=steps)
    assert outcome.error["type"] == "Disconnected" and outcome.error["reason"] == 0x8E
    survived(outcome)
