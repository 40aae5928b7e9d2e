"""Servers that try to be let off their proof, break a rule, refuse, leave or fall silent in a re-authentication.

Each case: an honest login, then AUTH 0x19; the right typed error within the deadline, the socket closed with the
right DISCONNECT, no secret in any text, and the same client object logs in to an honest server and publishes. The
client runs in MicroPython.
"""

import base64
import re
from functools import partial

import pytest
from harness import wire
from harness.attack import attack, gave_up, proofs_of, survived
from harness.cases import GOOD, MODES, OURS
from harness.logins import challenge
from harness.reauth import after_login, begun, honest_again, proof, success
from harness.wire import AUTH, DATA, METHOD
from test_hostile_auth import BAD_FIRST, IMPOSTOR, cut, flipped, longer

ECONNRESET, ETIMEDOUT = 104, 110


def again(then, mode="keys", **more):
    """The outcome of a re-authentication with a server that goes on by then(conn)."""
    steps = more.pop("steps", [["connect"], ["reauthenticate"]])
    return attack(after_login(GOOD, then), GOOD, mode, steps=steps, **more)


def failed(outcome, kind, text="", reason=None, says=(0x80,), proofs=2):
    """The re-authentication ended like this; and all that survived() asks. proofs: the login shows one."""
    assert outcome.steps[-1]["op"] == "reauthenticate" or "error" in outcome.steps[-1]
    e = outcome.error
    assert e["type"] in kind.split("|"), e
    assert e["reason"] == reason, e
    assert re.search(text, e["text"]), e["text"]
    assert outcome.ms < 2500, "the error came by the deadline, not by what the server did"
    gave_up(outcome.first, says)
    assert len(proofs_of(outcome.first)) == proofs
    assert outcome.end["messages"] == []
    survived(outcome, GOOD)


# The server does not prove itself -------------------------------------------------------------------------


def at_once(data=None):
    def act(conn):
        begun(conn, GOOD)
        conn.send(success(GOOD, data))

    return act


def final(build):
    def act(conn):
        x = proof(conn, GOOD)
        conn.send(success(GOOD, build(x)))

    return act


def final_in_auth(build):
    """The server-final in one more AUTH round, then AUTH 0x00 with nothing."""

    def act(conn):
        x = proof(conn, GOOD)
        conn.send(challenge(GOOD, build(x)))
        a = conn.expect(AUTH)
        assert a.reason == 0x18 and a.prop(DATA) == b""
        conn.send(success(GOOD, None))
        conn.serve()

    return act


def twice(conn):
    """Two challenges at once: the second stands where the server-final belongs."""
    x = begun(conn, GOOD)
    conn.send(challenge(GOOD, x.build()), challenge(GOOD, x.build()))


NOT_PROVEN = [
    # EMQX, where the listener has no authenticator any more: AUTH 0x00 with the method, no data
    ("success-at-once", at_once(), 1),
    ("success-at-once-empty-data", at_once(b""), 1),
    ("without-signature", final(lambda x: None), 2),
    ("empty-data", final(lambda x: b""), 2),
    ("wrong-signature", final(lambda x: b"v=" + x.signature(IMPOSTOR.server_key)), 2),
    ("one-bit-wrong", final(flipped), 2),
    ("signature-of-31-bytes", final(cut), 2),
    ("signature-of-33-bytes", final(longer), 2),
    ("signature-empty", final(lambda x: b"v="), 2),
    ("signature-not-base64", final(lambda x: b"v=!!!!"), 2),
    ("our-own-proof", final(lambda x: b"v=" + x.proof), 2),
    ("error-instead", final(lambda x: b"e=other-error"), 2),
    ("server-first-again", final(lambda x: x.server_first), 2),
    ("two-challenges", twice, 2),
    ("wrong-signature-in-auth", final_in_auth(lambda x: b"v=" + x.signature(IMPOSTOR.server_key)), 2),
]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("act", "proofs"), [pytest.param(a, p, id=i) for i, a, p in NOT_PROVEN])
def test_not_proven(act, proofs, mode):
    failed(again(act, mode), "NotProven", "SCRAM-SHA-256", proofs=proofs)


@pytest.mark.parametrize(("build", "text"), [pytest.param(f, t, id=i) for i, f, t in BAD_FIRST if i != "empty"])
def test_bad_server_first(build, text):
    failed(again(lambda conn: proof(conn, GOOD, build)), "AuthError", text, proofs=1)


@pytest.mark.parametrize("count", [1, 4095, 2**31])
def test_iterations_out_of_bounds(count):
    def act(conn):
        proof(conn, GOOD, lambda x: x.build(i=str(count).encode()))

    failed(again(act, "password"), "AuthError", "iterations", proofs=1)


# The rules of AUTH and CONNACK, broken --------------------------------------------------------------------


def in_answer(*data):
    """These bytes in answer to AUTH 0x19."""

    def act(conn):
        begun(conn, GOOD)
        conn.send(*data)

    return act


def in_answer_to_proof(build):
    def act(conn):
        x = proof(conn, GOOD)
        conn.send(build(x))

    return act


def success_twice(conn):
    x = proof(conn, GOOD)
    conn.send(success(GOOD, x.honest), success(GOOD, x.honest))


OTHER = "SCRAM-SHA-1"
BROKEN_RULES = [
    ("auth-of-length-0", in_answer(wire.packet(AUTH))),
    ("auth-of-length-1", in_answer(wire.packet(AUTH, b"\x18"))),
    ("auth-of-length-1-success", in_answer_to_proof(lambda x: wire.packet(AUTH, b"\0"))),
    ("auth-of-length-0-after-proof", in_answer_to_proof(lambda x: wire.packet(AUTH))),
    ("auth-0x19", in_answer(wire.auth(0x19, (METHOD, OURS), (DATA, b"x")))),
    ("auth-0x87", in_answer(wire.auth(0x87, (METHOD, OURS)))),
    ("auth-0x19-after-proof", in_answer_to_proof(lambda x: wire.auth(0x19, (METHOD, OURS), (DATA, x.honest)))),
    ("auth-of-another-method", in_answer(wire.auth(0x18, (METHOD, OTHER), (DATA, b"x")))),
    ("success-of-another-method", in_answer_to_proof(lambda x: wire.auth(0, (METHOD, OTHER), (DATA, x.honest)))),
    ("auth-without-method", in_answer(wire.auth(0x18, (DATA, b"x")))),
    ("success-without-method", in_answer_to_proof(lambda x: wire.auth(0, (DATA, x.honest)))),
    ("method-twice", in_answer(wire.auth(0x18, (METHOD, OURS), (METHOD, OURS)))),
    ("data-twice", in_answer(wire.auth(0x18, (METHOD, OURS), (DATA, b"x"), (DATA, b"x")))),
    ("flags", in_answer(wire.packet(AUTH, b"\x18\0", flags=1))),
    ("property-overruns", in_answer(wire.packet(AUTH, b"\x18\x05\x15\x00\x20ab"))),
    ("property-of-connack", in_answer(wire.auth(0x18, (METHOD, OURS), (0x21, 5)))),
    ("connack-0x00", in_answer(wire.connack(0, (METHOD, OURS)))),
    ("connack-0x00-with-proof", in_answer_to_proof(lambda x: wire.connack(0, (METHOD, OURS), (DATA, x.honest)))),
]


@pytest.mark.parametrize("act", [pytest.param(a, id=i) for i, a in BROKEN_RULES])
def test_broken_rules(act):
    outcome = again(act)
    e = outcome.error
    assert e["type"] in ("MalformedPacket", "ProtocolError"), e
    gave_up(outcome.first, (0x81,) if e["type"] == "MalformedPacket" else (0x82,))
    assert outcome.ms < 2500
    survived(outcome, GOOD)


def and_then(*data):
    def act(conn):
        honest_again(conn, GOOD)
        conn.send(*data)

    return act


OVER = [
    ("success-twice", success_twice),
    ("challenge-after-success", and_then(wire.auth(0x18, (METHOD, OURS), (DATA, b"x")))),
    ("connack-0x87-after-success", and_then(wire.connack(0x87))),
]


@pytest.mark.parametrize("act", [pytest.param(a, id=i) for i, a in OVER])
def test_broken_rules_when_it_is_over(act):
    """AUTH is unasked again, and a refusal has nothing to refuse."""
    outcome = again(act, steps=[["connect"], ["reauthenticate"], ["wait_msg"]])
    assert outcome.error["type"] == "ProtocolError", outcome.error
    survived(outcome, GOOD)


def test_a_refusal_before_any():
    outcome = again(lambda conn: conn.send(wire.connack(0x87)), steps=[["connect"], ["wait_msg"]])
    assert outcome.error["type"] == "ProtocolError", outcome.error
    survived(outcome, GOOD)


def test_a_challenge_larger_than_rx():
    """The engine's own limit: it ends, and says which argument to raise."""

    def act(conn):
        x = begun(conn, GOOD)
        conn.send(challenge(GOOD, x.build() + b",x=" + bytes(2000)))

    failed(again(act), "ResourceError", "rx_size", reason=0x95, says=(0x95,), proofs=1)


# It refuses, leaves or falls silent, at each step ----------------------------------------------------------


def at_begin(act, conn):
    begun(conn, GOOD)
    act(conn)


def at_proof(act, conn):
    proof(conn, GOOD)
    act(conn)


def at_empty_answer(act, conn):
    x = proof(conn, GOOD)
    conn.send(challenge(GOOD, x.honest))
    conn.expect(AUTH)
    act(conn)


STEPS = {"begin": at_begin, "proof": at_proof, "empty-answer": at_empty_answer}
each_step = pytest.mark.parametrize("step", STEPS)
PROOFS = {"begin": 1, "proof": 2, "empty-answer": 2}


def end_with(data, conn):
    conn.send(data)
    conn.close()


@each_step
@pytest.mark.parametrize("packet", [wire.connack, wire.disconnect])
@pytest.mark.parametrize("reason", [0x87, 0x8C])
def test_refused(step, packet, reason):
    """4.12.1: by DISCONNECT. mosquitto 2.0.11: by CONNACK. EMQX: 0x87 or 0x8C."""
    outcome = again(partial(STEPS[step], partial(end_with, packet(reason))))
    text = rf"^SCRAM-SHA-256: .*0x{reason:02X}.*(password|user|key)"
    failed(outcome, "AuthError", text, reason=reason, says=None, proofs=PROOFS[step])


@pytest.mark.parametrize("reason", [0x80, 0x82, 0x83, 0x98])
def test_any_disconnect_is_its_refusal(reason):
    outcome = again(partial(at_proof, partial(end_with, wire.disconnect(reason, (wire.REASON_STRING, "no more")))))
    failed(outcome, "AuthError", rf"SCRAM-SHA-256.*0x{reason:02X}.*no more", reason=reason, says=None)


@pytest.mark.parametrize("reason", [0x00, 0x8B, 0x8D, 0x8E, 0x9C])
def test_but_one_about_the_connection(reason):
    """It shuts down, or another client took the session over: an OSError, so that an application reconnects."""
    outcome = again(partial(at_proof, partial(end_with, wire.disconnect(reason))))
    failed(outcome, "Disconnected", rf"0x{reason:02X}", reason=reason, says=None)


def bare_close(conn):
    conn.close()


def reset(conn):
    conn.reset()


def half_a_packet(conn):
    conn.send(success(GOOD, b"v=" + base64.b64encode(bytes(32)))[:20])
    conn.close()


@each_step
@pytest.mark.parametrize("act", [bare_close, reset, half_a_packet])
def test_left(step, act):
    outcome = again(partial(STEPS[step], act))
    e = outcome.error
    assert e["oserror"] and e["errno"] == ECONNRESET, e
    assert "re-authentication" in e["text"] or act is reset, e["text"]
    assert outcome.ms < 2500
    survived(outcome, GOOD)


def nothing(conn):
    pass


def drip(conn):
    conn.trickle(wire.auth(0, (METHOD, OURS), (wire.REASON_STRING, "x" * 90)), 0.2)


def messages(conn):
    """Messages at QoS 0 all the time do not extend the deadline."""
    for _ in range(40):
        conn.send(wire.publish("t", b"m"))
        conn.pause(0.1)


@each_step
@pytest.mark.parametrize("act", [nothing, drip, messages])
def test_silence(step, act):
    outcome = again(partial(STEPS[step], act), timeout=1)
    e = outcome.error
    assert e["oserror"] and e["errno"] == ETIMEDOUT and "re-authentication" in e["text"], e
    assert 900 <= outcome.ms < 2000, outcome.ms
    survived(outcome, GOOD)


# Odd, but right -------------------------------------------------------------------------------------------


def one_byte(conn):
    x = begun(conn, GOOD)
    data = x.build()
    x.sent_first(data)
    conn.trickle(challenge(GOOD, data))
    x.honest = x.final(conn.expect(AUTH).prop(DATA))
    conn.trickle(success(GOOD, x.honest))
    conn.serve()


def data_first(conn):
    x = begun(conn, GOOD)
    x.sent_first(x.build())
    conn.send(challenge(GOOD, x.build(), method_last=True))
    x.honest = x.final(conn.expect(AUTH).prop(DATA))
    extras = [(wire.REASON_STRING, "welcome back"), (0x26, ("a", "b"))]
    conn.send(wire.auth(0, (DATA, x.honest), *extras, (METHOD, OURS)))
    conn.serve()


def plain(conn):
    honest_again(conn, GOOD)
    conn.serve()


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("act", [plain, one_byte, data_first, final_in_auth(lambda x: x.honest)])
def test_accepted(act, mode):
    steps = [["connect"], ["reauthenticate"], ["publish", "t", "m", False, 1], ["disconnect"]]
    outcome = again(act, mode, steps=steps)
    assert not [line for line in outcome.steps if "error" in line], outcome.steps
    assert outcome.first.error is None, outcome.first.error
    assert outcome.first.names()[-2:] == ["PUBLISH", "DISCONNECT"]
    survived(outcome, GOOD)


def test_each_one_has_a_nonce_of_its_own():
    def act(conn):
        honest_again(conn, GOOD)
        honest_again(conn, GOOD)
        conn.serve()

    outcome = again(act, steps=[["connect"], ["reauthenticate"], ["reauthenticate"], ["disconnect"]])
    assert outcome.first.error is None, outcome.first.error
    first = [p for p in outcome.first.received if p.type == wire.CONNECT or p.reason == 0x19]
    nonces = {p.prop(DATA).split(b"r=")[1] for p in first}
    assert len(nonces) == 3
