"""server_proof="reauth" and "skip" with SCRAM, in the blocking client: a broker whose CONNACK has no server-final, as
ThingsBoard's TBMQ, and hostile ones that would like to be taken for it.

They forgive only a server-final that is absent, after our client-final went out. device/test_late_proof.py has the
engine's rules, device/test_server_proof.py the mechanism's.
"""

import base64
import re
from functools import partial

import pytest
from harness import wire
from harness.attack import AGAIN, gave_up, mechanism, proofs_of
from harness.cases import GOOD, OURS
from harness.logins import challenge, honest, receive_connect, scram
from harness.micropython import run_device
from harness.reauth import begun, honest_again, proof, success, without_proof
from harness.scripts import Server
from harness.wire import DATA, METHOD
from test_hostile_auth import BAD_FIRST, IMPOSTOR, NOT_PROVEN, flipped


def login(script, server_proof="reauth", steps=None, second=None, mode="keys", **client):
    """What client_run.py said of its steps and of `again`, the connections, and its last line."""
    with Server(script, second or honest(GOOD)) as server:
        told = {
            "client": {"server": server.host, "port": server.port, "timeout": 3, **client},
            "auth": mechanism(GOOD, mode, server_proof=server_proof),
            "steps": steps or [["connect"]],
            "again": AGAIN,
        }
        result = run_device("client_run.py", told, timeout=40)
        server._thread.join(5)
        first, second = server.connections
    lines = result.lines
    result.steps = [line for line in lines if line.get("in") == "steps"]
    result.again = [line for line in lines if line.get("in") == "again"]
    assert not [line for line in result.again if "error" in line], result.again
    assert second.error is None and second.names() == ["CONNECT", "AUTH", "PUBLISH", "DISCONNECT"]
    assert first.broken is None and first.ended, (first.broken, first.ended)
    result.first = first
    result.messages = lines[-1]["messages"]
    output = result.out + result.err
    for secret in (*GOOD.secrets(), *proofs_of(first)):
        assert base64.b64encode(secret).decode()[:16] not in output and secret.hex()[:16] not in output
    return result


def failed(result, kind="NotProven", text="SCRAM-SHA-256", reason=None, says=(0x80,)):
    assert "error" in result.steps[-1], result.steps
    e = result.steps[-1]["error"]
    assert (e["type"], e["reason"]) == (kind, reason) and re.search(text, e["text"]), e
    assert result.steps[-1]["ms"] < 2500
    gave_up(result.first, says)
    assert result.messages == []


def serve(conn):
    conn.serve()


def proven_then_serve(conn):
    honest_again(conn, GOOD)
    conn.serve()


DONE = [["connect"], ["publish", "t", "m", False, 1], ["disconnect"]]


@pytest.mark.parametrize("mode", ["password", "keys"])
def test_tbmq(mode):
    result = login(without_proof(GOOD, proven_then_serve), steps=DONE, mode=mode)
    assert not [line for line in result.steps if "error" in line], result.steps
    assert result.first.error is None
    assert result.first.names() == ["CONNECT", "AUTH", "AUTH", "AUTH", "PUBLISH", "DISCONNECT"]
    assert len(proofs_of(result.first)) == 2


def test_tbmq_with_empty_data():
    result = login(without_proof(GOOD, proven_then_serve, data=b""), steps=DONE)
    assert not [line for line in result.steps if "error" in line], result.steps


def test_a_broker_that_proves_itself_at_once_needs_no_second_round():
    result = login(scram(GOOD, then=serve), steps=DONE)
    assert result.first.names() == ["CONNECT", "AUTH", "PUBLISH", "DISCONNECT"], result.steps


def test_skip():
    """The named risk: no proof, no second round."""
    result = login(without_proof(GOOD, serve), "skip", steps=DONE)
    assert not [line for line in result.steps if "error" in line], result.steps
    assert result.first.names() == ["CONNECT", "AUTH", "PUBLISH", "DISCONNECT"]


def test_require_is_as_ever():
    failed(login(without_proof(GOOD, serve), "require"))


ABSENT = ("connack-without-signature", "empty-data")


@pytest.mark.parametrize("server_proof", ["reauth", "skip"])
@pytest.mark.parametrize(
    "script",
    [pytest.param(s, id=i) for i, s, _ in NOT_PROVEN if i not in ("connack-without-signature", "empty-data")],
)
def test_only_an_absent_proof_is_forgiven(script, server_proof):
    """CONNACK before our client-final, a wrong signature, an error instead: what they always were."""
    failed(login(script, server_proof))


@pytest.mark.parametrize("server_proof", ["reauth", "skip"])
@pytest.mark.parametrize(
    ("build", "text"), [pytest.param(f, t, id=i) for i, f, t in BAD_FIRST if i in ("nonce-changed", "out-of-order")]
)
def test_the_first_message_is_checked_as_ever(build, text, server_proof):
    failed(login(scram(GOOD, first=build), server_proof), "AuthError", text)


# It owes the proof, and does not give it ---------------------------------------------------------------------


def again_at_once(data, conn):
    begun(conn, GOOD)
    conn.send(success(GOOD, data))


def again_final(build, conn):
    x = proof(conn, GOOD)
    conn.send(success(GOOD, build(x)))


def again_in_auth(build, conn):
    x = proof(conn, GOOD)
    conn.send(challenge(GOOD, build(x)))
    conn.next()


OWING = [
    ("success-at-once", partial(again_at_once, None)),
    ("success-at-once-empty", partial(again_at_once, b"")),
    ("absent-again", partial(again_final, lambda x: None)),
    ("empty-again", partial(again_final, lambda x: b"")),
    ("wrong-signature", partial(again_final, lambda x: b"v=" + x.signature(IMPOSTOR.server_key))),
    ("one-bit-wrong", partial(again_final, flipped)),
    ("error", partial(again_final, lambda x: b"e=other-error")),
    ("wrong-signature-in-auth", partial(again_in_auth, lambda x: b"v=" + x.signature(IMPOSTOR.server_key))),
]


@pytest.mark.parametrize("act", [pytest.param(a, id=i) for i, a in OWING])
def test_not_proven_then_either(act):
    """And nothing of its CONNACK has taken effect: the next connection has its old client id and limits."""
    pairs = [(0x12, "stolen"), (0x24, 0), (0x27, 2000), (0x13, 1)]
    failed(login(without_proof(GOOD, act, pairs=pairs), client_id="c7"))


@pytest.mark.parametrize("packet", [wire.connack, wire.disconnect])
@pytest.mark.parametrize("reason", [0x87, 0x8C])
def test_refused(packet, reason):
    def act(conn):
        proof(conn, GOOD)
        conn.send(packet(reason))

    failed(login(without_proof(GOOD, act)), "AuthError", rf"SCRAM-SHA-256.*0x{reason:02X}", reason, None)


def test_silence_is_the_logins():
    result = login(without_proof(GOOD, lambda conn: None), timeout=1)
    e = result.steps[-1]["error"]
    assert e["oserror"] and e["errno"] == 110 and 900 <= result.steps[-1]["ms"] < 2000, e


def test_a_second_connack():
    def act(conn):
        begun(conn, GOOD)
        conn.send(wire.connack(0, (METHOD, OURS)))

    failed(login(without_proof(GOOD, act)), "ProtocolError", "second CONNACK", 0x82, (0x82,))


def test_method_missing_from_connack():
    def script(conn):
        c = receive_connect(conn, GOOD)
        x = proof(conn, GOOD, x=first_of(c))
        assert x.honest
        conn.send(wire.connack(0))

    failed(login(script), "ProtocolError", "Method", 0x82, (0x82,))


def first_of(connect):
    from harness.scram import Exchange

    x = Exchange(GOOD)
    x.first(connect.prop(DATA))
    return x


# Messages before the proof -----------------------------------------------------------------------------------


def test_messages_before_the_proof():
    """Neither delivered nor acknowledged; what comes after is both."""
    early = [wire.publish("early", b"0"), wire.publish("early", b"1", 1, 1), wire.publish("early", b"2", 2, 2)]

    def act(conn):
        conn.send(*early)
        x = begun(conn, GOOD)
        conn.send(*early[:1])
        proof_then_more(conn, x)

    def proof_then_more(conn, x):
        proof(conn, GOOD, x=x)
        conn.send(wire.publish("early", b"3", 1, 3), success(GOOD, x.honest), wire.publish("late", b"4", 1, 4))
        assert conn.expect(wire.PUBACK).pid == 4
        conn.serve()

    steps = [["connect"], ["receive", 1], ["publish", "t", "m", False, 1], ["disconnect"]]
    result = login(without_proof(GOOD, act), steps=steps)
    assert not [line for line in result.steps if "error" in line], result.steps
    assert result.first.error is None, result.first.error
    assert result.messages == [["late", "4"]]
    assert [p.pid for p in result.first.all(wire.PUBACK)] == [4] and not result.first.all(wire.PUBREC)


def test_a_message_and_then_no_proof():
    def act(conn):
        conn.send(wire.publish("early", b"1", 1, 1))
        x = proof(conn, GOOD)
        conn.send(wire.publish("early", b"2", 1, 2), success(GOOD, b"v=" + x.signature(IMPOSTOR.server_key)))

    result = login(without_proof(GOOD, act))
    failed(result)
    assert not result.first.all(wire.PUBACK)
