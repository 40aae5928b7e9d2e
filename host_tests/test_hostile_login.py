"""Servers that break MQTT's rules for AUTH and CONNACK (4.12), refuse, leave or fall silent at each step of
a login.

Each case: the right typed error within the deadline, the socket closed with the right DISCONNECT (or none),
no secret in any text, and the same client object logs in to an honest server and publishes. At the end: what
is odd, but right, and must be accepted.
"""

import base64
import re
from functools import partial

import pytest
from harness import wire
from harness.attack import attack, gave_up, survived
from harness.cases import GOOD, MODES, OURS, Case, after_connect, after_login, after_proof, check
from harness.logins import challenge, client_final, connack, proof_in_auth, receive_connect, scram
from harness.wire import AUTH, DATA, METHOD

ECONNRESET, ETIMEDOUT = 104, 110


# MQTT's rules for AUTH and CONNACK, broken ----------------------------------------------------------------


def auth_twice(pairs):
    """An AUTH 0x18 with these properties, which hold one of them twice."""
    return after_connect(wire.auth(0x18, *pairs))


WRONG = "ProtocolError"
BROKEN_RULES = [
    Case("auth-0x87", after_connect(wire.auth(0x87, (METHOD, OURS))), "MalformedPacket|ProtocolError"),
    Case(
        "auth-0x87-after-proof",
        after_proof(lambda x: wire.auth(0x87, (METHOD, OURS))),
        "MalformedPacket|ProtocolError",
    ),
    Case("auth-0x01", after_connect(wire.auth(0x01, (METHOD, OURS))), "MalformedPacket|ProtocolError"),
    Case("auth-of-length-0", after_connect(wire.packet(AUTH)), WRONG),
    Case("auth-of-length-0-after-proof", after_proof(lambda x: wire.packet(AUTH)), WRONG),
    Case("auth-of-length-1", after_connect(wire.packet(AUTH, b"\x18")), "MalformedPacket|ProtocolError"),
    Case("auth-0x00-before-connack", after_connect(wire.auth(0, (METHOD, OURS), (DATA, b"x"))), WRONG),
    Case(
        "auth-0x00-with-proof-before-connack",
        after_proof(lambda x: wire.auth(0, (METHOD, OURS), (DATA, x.honest))),
        WRONG,
    ),
    Case("auth-0x19-before-connack", after_connect(wire.auth(0x19, (METHOD, OURS), (DATA, b"x"))), WRONG),
    Case(
        "auth-0x19-after-proof",
        after_proof(lambda x: wire.auth(0x19, (METHOD, OURS), (DATA, x.honest))),
        WRONG,
    ),
    Case(
        "auth-of-another-method",
        after_connect(wire.auth(0x18, (METHOD, "SCRAM-SHA-1"), (DATA, b"r=x,s=x,i=1"))),
        WRONG,
    ),
    Case(
        "auth-of-wrong-case-method",
        after_connect(wire.auth(0x18, (METHOD, "scram-sha-256"), (DATA, b"x"))),
        WRONG,
    ),
    Case("auth-without-method", after_connect(wire.auth(0x18, (DATA, b"r=x,s=x,i=4096"))), WRONG),
    Case("auth-method-twice", auth_twice([(METHOD, OURS), (METHOD, OURS)]), "MalformedPacket|ProtocolError"),
    Case(
        "auth-data-twice",
        auth_twice([(METHOD, OURS), (DATA, b"x"), (DATA, b"x")]),
        "MalformedPacket|ProtocolError",
    ),
    Case("auth-flags", after_connect(wire.packet(AUTH, b"\x18\0", flags=1)), "MalformedPacket"),
    Case(
        "auth-property-overruns",
        after_connect(wire.packet(AUTH, b"\x18\x05\x15\x00\x20ab")),
        "MalformedPacket",
    ),
    Case(
        "auth-property-unknown",
        after_connect(wire.packet(AUTH, b"\x18\x02\x7f\x00")),
        "MalformedPacket|ProtocolError",
    ),
    Case(
        "auth-property-of-connack",
        after_connect(wire.auth(0x18, (METHOD, OURS), (0x21, 5))),
        "MalformedPacket|ProtocolError",
    ),
    Case("publish-before-connack", after_connect(wire.publish("t", b"too early")), WRONG),
    Case("publish-qos1-before-connack", after_connect(wire.publish("t", b"too early", 1, 7)), WRONG),
    Case("publish-after-proof", after_proof(lambda x: wire.publish("t", b"too early")), WRONG),
    Case("pingresp-before-connack", after_connect(wire.packet(wire.PINGRESP)), WRONG),
    Case("suback-before-connack", after_connect(wire.ack(wire.SUBACK, 1)), WRONG),
    Case(
        "connack-of-another-method",
        after_proof(lambda x: wire.connack(0, (METHOD, "SCRAM-SHA-1"), (DATA, x.honest))),
        WRONG,
    ),
]


@pytest.mark.parametrize("case", BROKEN_RULES, ids=lambda case: case.id)
def test_broken_rules(case):
    outcome = attack(case.script, GOOD)
    e = outcome.error
    assert e["type"] in case.error.split("|") and "PeerError" in e["isa"], e
    gave_up(outcome.first, (0x81,) if e["type"] == "MalformedPacket" else (0x82,))
    assert outcome.ms < 2500
    assert outcome.end["messages"] == [], "a message was delivered before the server was proven"
    assert not outcome.first.all(wire.PUBACK)
    survived(outcome, GOOD)


AFTER_LOGIN = [
    ("second-connack", wire.connack(0, (METHOD, OURS))),
    ("auth-0x18-unasked", wire.auth(0x18, (METHOD, OURS), (DATA, b"x"))),
    ("auth-0x19-unasked", wire.auth(0x19, (METHOD, OURS), (DATA, b"x"))),
    ("auth-0x00-unasked", wire.auth(0x00, (METHOD, OURS))),
    ("auth-of-length-0-unasked", wire.packet(AUTH)),
]


@pytest.mark.parametrize("data", [pytest.param(d, id=i) for i, d in AFTER_LOGIN])
def test_broken_rules_after_login(data):
    outcome = attack(after_login(data), GOOD, steps=[["connect"], ["wait_msg"]])
    assert outcome.error["type"] == "ProtocolError", outcome.error
    gave_up(outcome.first, (0x82,))
    survived(outcome, GOOD)


def anonymous(data, then=()):
    """These bytes in answer to a CONNECT without a method."""

    def script(conn):
        receive_connect(conn)
        conn.send(data)
        if then:
            conn.send(*then)

    return script


@pytest.mark.parametrize(
    ("script", "steps"),
    [
        pytest.param(anonymous(wire.connack(0, (METHOD, OURS))), [["connect"]], id="method-in-connack"),
        pytest.param(
            anonymous(wire.connack(0, (METHOD, OURS), (DATA, b"v=x"))),
            [["connect"]],
            id="method-and-data-in-connack",
        ),
        pytest.param(
            anonymous(wire.auth(0x18, (METHOD, OURS), (DATA, b"x"))), [["connect"]], id="auth-before-connack"
        ),
        pytest.param(
            anonymous(wire.connack(0), [wire.auth(0x18, (METHOD, OURS))]),
            [["connect"], ["wait_msg"]],
            id="auth-after-connack",
        ),
    ],
)
def test_method_that_nobody_asked_for(script, steps):
    outcome = attack(script, steps=steps)
    assert outcome.error["type"] == "ProtocolError", outcome.error
    gave_up(outcome.first, (0x82,))
    survived(outcome)


def test_second_auth_after_the_proof():
    """The mechanism has returned on AUTH 0x18 and the client answered it: only CONNACK may follow."""
    script = proof_in_auth(GOOD, then=lambda conn: conn.send(challenge(GOOD, b"and another one")))
    outcome = attack(script, GOOD)
    assert outcome.error["type"] == "ProtocolError", outcome.error
    gave_up(outcome.first, (0x82,))
    survived(outcome, GOOD)


# The server refuses, leaves or falls silent, at each step -------------------------------------------------


def at_connect(act, conn):
    receive_connect(conn, GOOD)
    act(conn)


def at_proof(act, conn):
    client_final(conn, GOOD)
    act(conn)


def at_empty_answer(act, conn):
    proof_in_auth(GOOD, then=act)(conn)


STEPS = {"connect": at_connect, "proof": at_proof, "empty-answer": at_empty_answer}


def at(step, act):
    return partial(STEPS[step], act)


each_step = pytest.mark.parametrize("step", STEPS)
LINE = re.compile(r"CONNECT|AUTH|CONNACK|server-first|challenge", re.IGNORECASE)


@each_step
@pytest.mark.parametrize(
    "data",
    [pytest.param(wire.connack(0x87), id="connack"), pytest.param(wire.disconnect(0x87), id="disconnect")],
)
def test_refused(step, data):
    """CONNACK 0x87 and DISCONNECT 0x87 say the same: AuthError with the reason, the method, and what
    usually causes it."""

    def act(conn):
        conn.send(data)
        conn.close()

    outcome = attack(at(step, act), GOOD)
    case = Case("", None, "AuthError", r"SCRAM-SHA-256.*0x87.*(password|user|key)", reason=0x87, says=None)
    check(case, outcome)


@pytest.mark.parametrize("reason", [0x86, 0x8C])
def test_other_refusals_of_a_login(reason):
    outcome = attack(at("connect", lambda conn: conn.send(wire.connack(reason))), GOOD)
    check(Case("", None, "AuthError", rf"SCRAM-SHA-256.*0x{reason:02X}", reason=reason, says=None), outcome)


def test_refusal_that_is_no_matter_of_authentication():
    """0x89, server busy: Refused, so that an application tries again; and the server's own words are
    shown."""
    data = wire.connack(0x89, (wire.REASON_STRING, "come back later"))
    outcome = attack(at("connect", lambda conn: conn.send(data)), GOOD)
    check(Case("", None, "Refused", r"0x89.*come back later", reason=0x89, says=None), outcome)


def bare_close(conn):
    conn.close()


def reset(conn):
    conn.reset()


def half_a_packet(conn):
    conn.send(wire.connack(0, (METHOD, OURS), (DATA, b"v=" + base64.b64encode(bytes(32))))[:20])
    conn.close()


@each_step
@pytest.mark.parametrize("act", [bare_close, reset, half_a_packet])
def test_left(step, act):
    outcome = attack(at(step, act), GOOD)
    e = outcome.error
    assert e["oserror"] and e["errno"] == ECONNRESET, e
    assert LINE.search(e["text"]), f"the text does not name the step: {e['text']}"
    assert outcome.ms < 2500
    survived(outcome, GOOD)


def nothing(conn):
    pass


def drip(conn):
    """One byte of a long CONNACK every 200 ms: trickling bytes do not extend a deadline."""
    conn.trickle(wire.connack(0, (METHOD, OURS), (wire.REASON_STRING, "x" * 90)), 0.2)


@each_step
@pytest.mark.parametrize("act", [nothing, drip])
def test_silence(step, act):
    """A server that says nothing has `timeout` seconds for the whole login."""
    outcome = attack(at(step, act), GOOD, timeout=1)
    e = outcome.error
    assert e["oserror"] and e["errno"] == ETIMEDOUT, e
    assert LINE.search(e["text"]), f"the text does not name the step: {e['text']}"
    assert 900 <= outcome.ms < 2000, outcome.ms
    survived(outcome, GOOD)


def test_nobody_answers_the_connect():
    """TCP is up, and the server does not even read."""
    outcome = attack(lambda conn: None, GOOD, timeout=1)
    assert outcome.error["oserror"] and outcome.error["errno"] == ETIMEDOUT
    survived(outcome, GOOD)


# Odd, but right -------------------------------------------------------------------------------------------


def one_byte(conn, data):
    conn.trickle(data)


def served(conn):
    conn.serve()


def with_del(x):
    """A nonce with 0x7F in it, as EMQX sends in one login of seven."""
    x.nonce += b"\x7f"
    return x.build()


def with_extras(conn):
    """Reason String and User Properties in AUTH and CONNACK are allowed, and change nothing."""
    extras = [(wire.REASON_STRING, "go on"), (0x26, ("a", "b")), (0x26, ("a", "c"))]
    add = wire.props

    def send(conn, data):
        if data[0] >> 4 == AUTH:
            p = wire.parse(data[0], data[2:] if data[1] < 0x80 else data[3:])
            data = wire.packet(AUTH, bytes([p.reason]) + add(*p.props, *extras))
        conn.send(data)

    x = client_final(conn, GOOD, send=send)
    conn.send(connack(GOOD, x.honest, pairs=extras))
    conn.serve()


SUCCESSES = [
    ("plain", scram(GOOD, then=served)),
    ("one-byte-at-a-time", scram(GOOD, send=one_byte, then=served)),
    ("data-before-method", scram(GOOD, method_last=True, then=served)),
    ("extension-after-signature", scram(GOOD, final=lambda x: x.honest + b",x=more", then=served)),
    ("extension-in-server-first", scram(GOOD, first=lambda x: x.build() + b",x=more", then=served)),
    ("del-in-nonce", scram(GOOD, first=with_del, then=served)),
    ("signature-in-auth", proof_in_auth(GOOD)),
    ("reason-string-and-user-property", with_extras),
]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("script", [pytest.param(s, id=i) for i, s in SUCCESSES])
def test_accepted(script, mode):
    steps = [["connect"], ["publish", "t", "m", False, 1], ["disconnect"]]
    outcome = attack(script, GOOD, mode, steps=steps)
    assert not [line for line in outcome.steps if "error" in line], outcome.steps
    assert outcome.steps[0]["value"] is False, "session present"
    assert outcome.first.error is None, outcome.first.error
    assert outcome.first.names()[-2:] == ["PUBLISH", "DISCONNECT"]
    survived(outcome, GOOD)


def test_fresh_nonce_each_time():
    """Two logins of one client object never use the same nonce."""
    outcome = attack(scram(GOOD, then=served), GOOD, steps=[["connect"], ["disconnect"]])
    nonces = [c.received[0].prop(DATA).split(b"r=")[1] for c in (outcome.first, outcome.second)]
    assert nonces[0] != nonces[1] and len(nonces[0]) >= 24
