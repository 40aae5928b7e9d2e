"""Servers that try to be let off their proof, or that break DIGEST-MD5's rules (RFC 2831).

Each case: the right typed error within the deadline, the socket closed with the right DISCONNECT, no secret in any
text, and the same client object logs in to an honest server and publishes. The client runs in MicroPython.
"""

import re

import pytest
from harness import wire
from harness.attack import AGAIN, attack, gave_up, no_secrets, survived
from harness.cases import cases
from harness.digest import Digest, DigestExchange, answered, digest, folded, honest, md5, split
from harness.logins import challenge, connack, receive_connect
from harness.wire import DATA, METHOD
from usasl import digest_md5
from usasl.crypto import SASLError, ServerNotProven
from usasl.digest_md5 import DigestMD5

GOOD = Digest()
IMPOSTOR = Digest(password="another-password")


def responses(connection):
    """The raw proofs that the client sent on a connection."""
    data = [p.prop(DATA) or b"" for p in connection.received if p.type in (wire.CONNECT, wire.AUTH)]
    return [split(message)["response"] for message in data if message]


def check(outcome, error, text="", answers=None, says=(0x80,)):
    """answers: how many digest-responses the client may have sent."""
    e = outcome.error
    assert (e["type"], e["reason"]) == (error, None), e
    assert "DIGEST-MD5" in e["text"] and re.search(text, e["text"]), e["text"]
    assert outcome.ms < 2500, "the error came by the deadline, not by what the server did"
    gave_up(outcome.first, says)
    if answers is not None:
        assert len(responses(outcome.first)) == answers
    survived(outcome, GOOD)
    no_secrets(outcome, GOOD, [bytes.fromhex(r.decode()) for r in responses(outcome.first)])


def run(script, mode="password", **more):
    return attack(script, GOOD, mode, second=honest(GOOD), **more)


# The server does not prove itself ---------------------------------------------------------------------------


def at_once(*pairs, present=0):
    def script(conn):
        receive_connect(conn, GOOD)
        conn.send(wire.connack(0, *pairs, present=present))

    return script


OURS = (METHOD, GOOD.method)


@pytest.mark.parametrize("mode", ["password", "keys"])
@pytest.mark.parametrize(
    "script",
    cases(
        ("nothing", at_once()),
        ("method-echoed", at_once(OURS)),
        ("empty-data", at_once(OURS, (DATA, b""))),
        ("session-present", at_once(OURS, present=1)),
        ("challenge-as-last-word", at_once(OURS, (DATA, DigestExchange(GOOD).build()))),
    ),
)
def test_connack_at_once(script, mode):
    check(run(script, mode), "NotProven")


def flipped(x):
    return x.honest[:-1] + (b"0" if x.honest[-1:] != b"0" else b"1")


@pytest.mark.parametrize("mode", ["password", "keys"])
@pytest.mark.parametrize(
    "final",
    cases(
        ("missing", lambda x: None),
        ("empty", lambda x: b""),
        ("of-an-impostor", lambda x: b"rspauth=" + x.proof(b":", 1, IMPOSTOR.key)),
        ("our-own-response", lambda x: b"rspauth=" + x.proof(b"AUTHENTICATE:", 1)),
        ("of-another-count", lambda x: b"rspauth=" + x.proof(b":", 2)),
        ("one-digit-wrong", flipped),
        ("upper-case", lambda x: b"rspauth=" + x.honest[8:].upper()),
        ("cut", lambda x: x.honest[:-1]),
        ("longer", lambda x: x.honest + b"0"),
        ("without-value", lambda x: b"rspauth="),
        ("with-newline", lambda x: x.honest + b"\n"),
        ("twice", lambda x: x.honest + b"," + x.honest),
        ("garbage", lambda x: b"\xff\0\xfe"),
        ("challenge-again", lambda x: x.build(nonce=b"another")),
    ),
)
def test_not_proven(final, mode):
    check(run(digest(GOOD, final=final), mode), "NotProven", answers=1)


def test_wrong_proof_in_auth():
    def script(conn):
        receive_connect(conn, GOOD)
        x = DigestExchange(GOOD)
        answered(conn, x, x.build())
        conn.send(challenge(GOOD, flipped(x)))

    check(run(script), "NotProven", answers=1)


def test_proof_in_auth():
    """Some servers send it one round earlier: an empty answer, then CONNACK."""

    def script(conn):
        receive_connect(conn, GOOD)
        x = DigestExchange(GOOD)
        answered(conn, x, x.build())
        conn.send(challenge(GOOD, x.honest))
        assert conn.expect(wire.AUTH).prop(DATA) == b""
        conn.send(connack(GOOD, None))
        conn.serve()

    outcome = run(script, steps=[["connect"], ["disconnect"]], again=[])
    assert not [line for line in outcome.steps if "error" in line], outcome.steps


# DIGEST-MD5's rules, broken in the challenge ----------------------------------------------------------------


@pytest.mark.parametrize("mode", ["password", "keys"])
@pytest.mark.parametrize(
    ("build", "text"),
    cases(
        ("no-realm", lambda x: x.build(realm=b""), "realm"),
        ("no-nonce", lambda x: x.build().partition(b",")[2], "nonce"),
        ("nonce-empty", lambda x: x.build(nonce=b""), "nonce"),
        ("nonce-twice", lambda x: x.build(more=b'nonce="other"'), "nonce"),
        ("no-algorithm", lambda x: x.build().replace(b",algorithm=md5-sess", b""), "algorithm"),
        ("other-algorithm", lambda x: x.build().replace(b"md5-sess", b"md5"), "algorithm"),
        ("algorithm-twice", lambda x: x.build(more=b"algorithm=md5-sess"), "algorithm"),
        ("other-qop", lambda x: x.build(qop=b'qop="auth-int,auth-conf"'), "auth-int"),
        ("qop-twice", lambda x: x.build(more=b'qop="auth"'), "qop"),
        ("other-charset", lambda x: x.build(charset=b"charset=utf-16"), "charset"),
        ("stale-twice", lambda x: x.build(more=b"stale=true,stale=true"), "stale"),
        ("open-quote", lambda x: x.build(more=b'x="y'), ""),
        ("control-character", lambda x: x.build(more=b'x="\x1b[31m"'), ""),
        ("too-long", lambda x: x.build(more=b'x="%b"' % (b"y" * 2048)), "length"),
        ("rubbish", lambda x: b"\xff\0\xfe", ""),
        ("proof-too-early", lambda x: b"rspauth=" + b"0" * 32, ""),
        ("scram", lambda x: b"r=abc,s=AAAA,i=4096", ""),
    ),
)
def test_bad_challenge(build, text, mode):
    outcome = run(digest(GOOD, first=build), mode, client={"rx_size": 4096})
    check(outcome, "AuthError", text, answers=0)
    assert "\x1b" not in outcome.error["text"]


def test_keys_for_another_realm():
    """They answer only to the realm that they were made for."""
    outcome = run(digest(GOOD, first=lambda x: x.build(realm=b'realm="evil"')), "keys")
    check(outcome, "AuthError", "evil.*broker.example", answers=0)


def test_several_realms():
    """Named, the right one is taken; else the text says what to do, and what there is."""
    both = b'realm="first",realm="broker.example"'
    outcome = run(digest(GOOD, first=lambda x: x.build(realm=both)), "password")
    check(outcome, "AuthError", r"first, ?\??broker.example.*realm=", answers=0)
    script = digest(GOOD, first=lambda x: x.build(realm=both), then=lambda conn: conn.serve())
    outcome = attack(script, GOOD, "keys", steps=AGAIN, again=[])
    assert not [line for line in outcome.steps if "error" in line], outcome.steps


# Nonces -----------------------------------------------------------------------------------------------------


def asking(*messages):
    """A script: each of these messages, answered honestly by the client, then silence. A message is a function of
    the exchange before it, or None: an honest challenge."""

    def script(conn):
        receive_connect(conn, GOOD)
        x = None
        for message in messages:
            before, x = x, DigestExchange(GOOD)
            data = message(x, before) if message else x.build()
            answered(conn, x, data)

    return script


def stale(x, _before):
    return x.build(more=b"stale=true")


def same_nonce(x, before):
    x.nonce = before.nonce
    return x.build(more=b"stale=true")


def test_stale_loop():
    """One retry, not more: else a server collects answers to nonces of its choice, or keeps us busy for ever."""
    check(run(asking(None, stale, stale)), "NotProven", "again", answers=2)


def test_asked_again():
    check(run(asking(None, None)), "NotProven", "again", answers=1)


def test_nonce_again():
    check(run(asking(None, same_nonce)), "AuthError", "nonce", answers=1)


def test_stale_then_good():
    def script(conn):
        asking(None)(conn)
        digest_again = DigestExchange(GOOD)
        answered(conn, digest_again, digest_again.build(more=b"stale=true"))
        conn.send(connack(GOOD, digest_again.honest))
        conn.serve()

    outcome = run(script, steps=[["connect"], ["disconnect"]], again=[])
    assert not [line for line in outcome.steps if "error" in line], outcome.steps


def test_nonce_of_the_login_before():
    """A server that does not make a fresh nonce at each login."""
    x = DigestExchange(GOOD, b"the-nonce-of-a-bad-server")

    def script(conn):
        c = receive_connect(conn, GOOD)
        assert (c.prop(DATA) is None) == (x.count == 0)
        x.count = 0
        answered(conn, x, x.build())
        conn.send(connack(GOOD, x.honest))
        conn.serve()

    outcome = attack(script, GOOD, steps=[["connect"], ["disconnect"]], again=[["connect"]], second=script)
    assert "error" not in outcome.steps[-1]
    error = outcome.again[-1]["error"]
    assert error["type"] == "AuthError" and "nonce" in error["text"], error
    gave_up(outcome.second, (0x80,))


def taken_up(final):
    """Two scripts: an honest login, and one where the client's first word is its next answer, and ours `final`."""
    x = DigestExchange(GOOD)

    def one(conn):
        receive_connect(conn, GOOD)
        answered(conn, x, x.build())
        conn.send(connack(GOOD, x.honest))
        conn.serve()

    def two(conn):
        message = receive_connect(conn, GOOD).prop(DATA)
        assert split(message)["nc"] == b"00000002"
        before = x.honest
        x.honest = x.check(message)
        conn.send(connack(GOOD, final(x, before)))
        conn.serve()

    return one, two


def test_subsequent_authentication():
    one, two = taken_up(lambda x, before: x.honest)
    outcome = attack(one, GOOD, steps=[["connect"], ["disconnect"]], again=[["connect"], ["disconnect"]], second=two)
    assert not [line for line in outcome.steps + outcome.again if "error" in line], outcome.again
    assert outcome.second.names() == ["CONNECT", "DISCONNECT"]


@pytest.mark.parametrize(
    "final",
    cases(
        ("of-the-login-before", lambda x, before: before),
        ("one-digit-wrong", lambda x, before: flipped(x)),
        ("missing", lambda x, before: None),
    ),
)
def test_subsequent_authentication_not_proven(final):
    one, two = taken_up(final)
    outcome = attack(one, GOOD, steps=[["connect"], ["disconnect"]], again=[["connect"]], second=two)
    assert "error" not in outcome.steps[-1]
    assert outcome.again[-1]["error"]["type"] == "NotProven"
    gave_up(outcome.second, (0x80,))


# Any one byte of any message --------------------------------------------------------------------------------

# As Cyrus SASL and GNU SASL write it, and one with all that there is.
CYRUS = b'nonce="%b",realm="localhost",qop="auth",charset=utf-8,algorithm=md5-sess'
GNU = b'realm="localhost", nonce="%b", qop="auth", charset=utf-8, algorithm=md5-sess'
ALL = CYRUS.replace(b'qop="auth"', b'qop="auth,auth-int",cipher="rc4,3des",maxbuf=65535,stale=true')
USERS = [Digest("device1", "pencil", "localhost"), Digest("dévice", "päss", "localhost")]


def login(credentials, cnonce, seen, message, host="localhost"):
    """A login at an honest server that sent seen.build-like bytes, of which the client gets `message`. -> the
    client's answer, None where it (or the server) ends the login."""
    digest_md5.nonce, real = lambda: cnonce, digest_md5.nonce
    try:
        m = DigestMD5(credentials.user, credentials.password, realm=credentials.realm, host=host)
        exchange = m.exchange()
        exchange.send(None)
        answer = exchange.send(message)
        rspauth = seen.check(answer, host)
    except (SASLError, ValueError) as e:
        assert isinstance(e, SASLError), e
        return None
    except Exception as e:
        assert type(e).__name__ == "DigestFailure", e
        return None
    finally:
        digest_md5.nonce = real
    with pytest.raises(StopIteration):
        exchange.send(rspauth)
    return answer


@pytest.mark.parametrize(
    ("form", "credentials"),
    cases(("cyrus", CYRUS, USERS[0]), ("gnu-iso-8859-1", GNU, USERS[1]), ("all", ALL, USERS[0])),
)
def test_any_one_byte_of_the_challenge(form, credentials):
    """Whatever one byte becomes: the login fails, or the client says exactly what it says to the honest challenge,
    hash and all (but that where it does not see charset=utf-8, it does not repeat it, and writes its name in ISO
    8859-1).

    What is not covered, for both sides' hashes are over user, realm, nonce, cnonce, count, qop=auth and digest-uri
    only: the letter case of names and of the tokens auth, utf-8, md5-sess (they mean the same); white space and
    commas between directives; the *names* of directives that may be missing (qop: it is auth then; charset, cipher,
    maxbuf, stale), which become unknown ones, and the values of cipher and maxbuf and of the qop options that we do
    not speak, which qop=auth does not use. Realm and nonce, and the name and value of algorithm, are covered wholly.
    """
    nonce, cnonce = b"OA6MG9tEQGm2hh", b"cnonce-of-enough-bytes"
    original = form % nonce
    honest_answer = login(credentials, cnonce, DigestExchange(credentials, nonce), original)
    assert honest_answer
    name = credentials.user
    without_charset = honest_answer.removesuffix(b",charset=utf-8").replace(name.encode(), folded(name))
    survived = set()
    for i in range(len(original)):
        for value in range(256):
            if value == original[i]:
                continue
            changed = original[:i] + bytes([value]) + original[i + 1 :]
            answer = login(credentials, cnonce, DigestExchange(credentials, nonce), changed)
            if answer is not None:
                assert answer in (honest_answer, without_charset), changed
                if original[i : i + 1].swapcase() != bytes([value]):
                    survived.add(i)
    # Where it survived (but for letter case) is where it may.
    allowed = set()
    for pattern in (rb"qop(?==)", rb"charset(?==)", rb"stale(?==)", rb"cipher(?==)", rb"maxbuf(?==)", rb",? ,?"):
        allowed |= {i for m in re.finditer(pattern, original) for i in range(*m.span())}
    for pattern in (rb'cipher="([^"]*)"', rb"maxbuf=([0-9]*)", rb"auth(,auth-int)"):
        allowed |= {i for m in re.finditer(pattern, original) for i in range(*m.span(1))}
    assert survived <= allowed, [original[: i + 1] for i in survived - allowed]


def test_any_one_byte_of_the_proof():
    """All 40 bytes are covered."""
    credentials, nonce, cnonce = USERS[0], b"OA6MG9tEQGm2hh", b"cnonce-of-enough-bytes"
    x = DigestExchange(credentials, nonce)
    digest_md5.nonce, real = lambda: cnonce, digest_md5.nonce
    try:
        mechanism = DigestMD5(credentials.user, credentials.password)

        def answer():
            mechanism._last = None
            exchange = mechanism.exchange()
            exchange.send(None)
            return exchange, exchange.send(CYRUS % nonce)

        good = x.check(answer()[1])
        assert len(good) == 40
        for i in range(len(good)):
            for value in range(256):
                if value != good[i]:
                    with pytest.raises(ServerNotProven):
                        answer()[0].send(good[:i] + bytes([value]) + good[i + 1 :])
    finally:
        digest_md5.nonce = real


def test_the_harness_hashes_as_the_rfc_says():
    """The server that judges here, against the RFC's own example (section 4)."""
    x = DigestExchange(Digest("chris", "secret", "elwood.innosoft.com"), b"OA6MG9tEQGm2hh")
    x.cnonce, x.uri = b"OA6MHXh6VqTrRk", b"imap/elwood.innosoft.com"
    assert x.proof(b"AUTHENTICATE:") == b"d388dad90d4bbd760a152321f2143af7"
    assert x.proof(b":") == b"ea40f60335c427b5527b84dbabcdfffd"
    assert md5(folded("ä") + folded("€")) == md5(b"\xe4\xe2\x82\xac")
