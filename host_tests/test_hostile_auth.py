"""Servers that try to be let off their proof, or that break SCRAM's rules (RFC 5802, 7677).

Each case: the right typed error within the deadline, the socket closed with the right DISCONNECT, no secret
in any text, and the same client object logs in to an honest server and publishes. The client runs in
MicroPython.
"""

import base64
import re

import pytest
from harness import wire
from harness.attack import attack, gave_up, proofs_of, survived
from harness.cases import GOOD, MODES, OURS, Case, after_connect, check, params
from harness.logins import honest, proof_in_auth, scram
from harness.scram import Credentials
from harness.wire import DATA, METHOD

IMPOSTOR = Credentials(password="another-password")


# The server does not prove itself -------------------------------------------------------------------------


def connected(*pairs, present=0):
    """CONNACK 0x00 in answer to CONNECT, as from a listener without an authenticator."""
    return after_connect(wire.connack(0, *pairs, present=present))


def final(build):
    """CONNACK 0x00 whose Authentication Data is build(exchange) instead of the server's signature (None: no
    data)."""
    return scram(GOOD, final=build)


def cut(x):
    return b"v=" + base64.b64encode(base64.b64decode(x.signature())[:-1])


def longer(x):
    return b"v=" + base64.b64encode(base64.b64decode(x.signature()) + b"\0")


def flipped(x):
    good = bytearray(base64.b64decode(x.signature()))
    good[-1] ^= 1
    return b"v=" + base64.b64encode(good)


NOT_PROVEN = [
    ("connack-at-once", connected(), False),
    ("connack-at-once-method-echoed", connected((METHOD, OURS)), False),
    ("connack-at-once-empty-data", connected((METHOD, OURS), (DATA, b"")), False),
    ("connack-at-once-session-present", connected((METHOD, OURS), present=1), False),
    ("connack-at-once-with-limits", connected((METHOD, OURS), (0x21, 1), (0x12, "assigned")), False),
    ("connack-without-signature", final(lambda x: None), True),
    ("empty-data", final(lambda x: b""), True),
    ("wrong-signature", final(lambda x: b"v=" + x.signature(IMPOSTOR.server_key)), True),
    ("one-bit-wrong", final(flipped), True),
    ("signature-of-31-bytes", final(cut), True),
    ("signature-of-33-bytes", final(longer), True),
    ("signature-empty", final(lambda x: b"v="), True),
    ("signature-not-base64", final(lambda x: b"v=!!!!"), True),
    ("signature-with-newline", final(lambda x: x.honest + b"\n"), True),
    ("our-own-proof", final(lambda x: b"v=" + x.proof), True),
    ("error-instead", final(lambda x: b"e=other-error"), True),
    ("error-before-signature", final(lambda x: b"e=other-error," + x.honest), True),
    ("server-first-again", final(lambda x: x.server_first), True),
    ("mandatory-extension-before-signature", final(lambda x: b"m=x," + x.honest), True),
    (
        "wrong-signature-in-auth",
        proof_in_auth(GOOD, lambda x: b"v=" + x.signature(IMPOSTOR.server_key)),
        True,
    ),
]


@pytest.mark.parametrize(
    ("case", "mode"),
    params([Case(i, s, "NotProven", "SCRAM-SHA-256", proof=p, modes=MODES) for i, s, p in NOT_PROVEN]),
)
def test_not_proven(case, mode):
    check(case, attack(case.script, GOOD, mode))


def test_unproven_connack_takes_no_effect():
    """Nothing of it holds: the next connection is not bound by its limits, nor named by its client id
    (DESIGN.md)."""
    script = connected((METHOD, OURS), (0x12, "stolen"), (0x24, 0), (0x25, 0), (0x27, 20), (0x13, 1))
    outcome = attack(script, GOOD, client={"client_id": "c7"})
    survived(outcome, GOOD)
    assert outcome.second.received[0].connect["client_id"] == b"c7"


# SCRAM's rules, broken in the server's first message ------------------------------------------------------


def first(build):
    """A server-first that is build(exchange)."""
    return scram(GOOD, first=build)


def changed(x):
    return b"X" + x.nonce[1:] if x.nonce[:1] != b"X" else b"Y" + x.nonce[1:]


BAD_FIRST = [
    ("nonce-not-extended", lambda x: x.build(r=x.client_nonce), "nonce"),
    ("nonce-changed", lambda x: x.build(r=changed(x)), "nonce"),
    ("nonce-cut", lambda x: x.build(r=x.client_nonce[:-1]), "nonce"),
    ("nonce-empty", lambda x: x.build(r=b""), ""),
    ("count-empty", lambda x: x.build(i=b""), ""),
    ("count-plus", lambda x: x.build(i=b"+4096"), ""),
    ("count-space", lambda x: x.build(i=b" 4096"), ""),
    ("count-underscore", lambda x: x.build(i=b"4_096"), ""),
    ("count-newline", lambda x: x.build(i=b"4096\n"), ""),
    ("count-leading-zero", lambda x: x.build(i=b"04096"), ""),
    ("count-negative", lambda x: x.build(i=b"-4096"), ""),
    ("count-zero", lambda x: x.build(i=b"0"), ""),
    ("salt-empty", lambda x: x.build(s=b""), ""),
    ("salt-not-base64", lambda x: x.build(s=b"!!!!"), "base64"),
    ("salt-base64-unpadded", lambda x: x.build(s=x.salt.rstrip(b"=")), "base64"),
    ("salt-base64-space-inside", lambda x: x.build(s=x.salt[:4] + b" " + x.salt[4:]), "base64"),
    ("salt-base64-goes-on-after-padding", lambda x: x.build(s=b"AAA=AAA="), "base64"),
    ("out-of-order", lambda x: b"s=%b,r=%b,i=4096" % (x.salt, x.nonce), ""),
    ("count-before-salt", lambda x: b"r=%b,i=4096,s=%b" % (x.nonce, x.salt), ""),
    ("nonce-twice", lambda x: b"r=%b,%b" % (x.nonce, x.build()), ""),
    ("count-twice", lambda x: x.build() + b",i=4096", ""),
    ("salt-missing", lambda x: b"r=%b,i=4096" % x.nonce, ""),
    ("mandatory-extension", lambda x: b"m=ext," + x.build(), ""),
    ("mandatory-extension-at-the-end", lambda x: x.build() + b",m=ext", ""),
    ("rubbish", lambda x: b"\xff\x00\xfe", ""),
    ("empty", lambda x: b"", ""),
    ("error-at-once", lambda x: b"e=unknown-user", "unknown-user"),
    ("signature-too-early", lambda x: b"v=" + base64.b64encode(bytes(32)), ""),
]


@pytest.mark.parametrize(
    ("case", "mode"),
    params([Case(i, first(f), "AuthError", t, proof=False) for i, f, t in BAD_FIRST if i != "empty"]),
)
def test_bad_server_first(case, mode):
    check(case, attack(case.script, GOOD, mode))


def test_empty_server_first():
    """An empty challenge is a server without proof, or one that breaks SCRAM: no third thing, and no proof
    of ours."""
    outcome = attack(first(lambda x: b""), GOOD)
    assert "AuthError" in outcome.error["isa"]
    assert not proofs_of(outcome.first)
    gave_up(outcome.first, (0x80,))
    survived(outcome, GOOD)


COUNTS = [
    (1, "min_iterations"),
    (4095, "min_iterations"),
    (20001, "max_iterations"),
    (2**31, "max_iterations"),
    (10**30, "max_iterations"),
]


@pytest.mark.parametrize(("count", "argument"), COUNTS, ids=lambda v: str(v))
def test_iterations_out_of_bounds(count, argument):
    """Refused before any work is done, naming the number and the argument that holds the bound."""
    script = first(lambda x: x.build(i=str(count).encode()))
    case = Case("", script, "AuthError", rf"{count}\b.*{argument}|{argument}.*{count}\b", proof=False)
    outcome = attack(script, GOOD, "password")
    check(case, outcome)
    assert outcome.ms < 500, "it derived keys before it looked at the bounds"


@pytest.mark.parametrize("count", [1, 4095])
def test_min_iterations_holds_for_keys(count):
    """Keys that match a weak count are refused all the same."""
    weak = Credentials(iterations=count)
    outcome = attack(scram(weak), weak, "keys", again=[])
    assert outcome.error["type"] == "AuthError"
    assert re.search(rf"\b{count}\b.*min_iterations", outcome.error["text"])
    assert not proofs_of(outcome.first)
    gave_up(outcome.first, (0x80,))


@pytest.mark.parametrize(
    "build",
    [
        pytest.param(lambda x: x.build(i=b"5000"), id="other-count"),
        pytest.param(lambda x: x.build(i=str(2**31).encode()), id="huge-count"),
        pytest.param(lambda x: x.build(s=base64.b64encode(b"another-salt")), id="other-salt"),
    ],
)
def test_keys_never_derive(build):
    """Keys that do not fit what the server asks for: an error before any proof, which tells to provision
    again."""
    case = Case("", first(build), "AuthError", "provision", proof=False)
    check(case, attack(case.script, GOOD, "keys"))


def test_lower_count_than_proven_before():
    """A count that has been proven once is the least that a later server may ask for (DESIGN.md, Secrets)."""
    strong, weak = Credentials(iterations=6000), Credentials(iterations=4096)
    steps = [["connect"], ["disconnect"]]
    outcome = attack(honest(strong), strong, "password", steps=steps, again=[["connect"]], second=scram(weak))
    assert "error" not in outcome.steps[-1]
    error = outcome.again[-1]["error"]
    assert error["type"] == "AuthError" and "4096" in error["text"]
    assert not proofs_of(outcome.second)
    gave_up(outcome.second, (0x80,))
