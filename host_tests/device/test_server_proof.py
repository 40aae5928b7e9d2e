# usasl.scram where the server ends a login without its signature: what server_proof= forgives, and what it does not;
# and that nothing of a login stays in the mechanism.
# runs under CPython too
from test_scram import step
from test_scram512 import MECHANISMS, Server, login
from usasl.crypto import SASLError, ServerNotProven
from usasl.scram import ScramSHA256

KINDS = ("require", "reauth", "skip")


def mechanisms(server_proof):
    """(mechanism, server), of each hash, with keys and with a password."""
    for kind in MECHANISMS:
        server = Server(kind, b"salt", 10, "pass")
        yield kind("user", keys=[server.keys], min_iterations=1, server_proof=server_proof), server
        yield kind("user", "pass", min_iterations=1, server_proof=server_proof), server


def final(m, server, data):
    """A login up to our proof, then `data`: the error's type, None if exchange() returns."""
    x = m.exchange()
    out, _ = step(x, server.first(x.send(None)))
    try:
        out = x.send(server.final(out) if data is True else data)
    except StopIteration:
        return None
    except SASLError as e:
        return type(e)
    raise AssertionError(out)


def test_an_absent_signature():
    for kind in KINDS:
        for m, server in mechanisms(kind):
            assert m.server_proof == kind and m.proof_due is False
            assert final(m, server, b"") == (ServerNotProven if kind == "require" else None)
            assert m.proof_due is (kind == "reauth")


def test_the_default_is_to_require_it():
    m = ScramSHA256("user", "pass")
    assert m.server_proof == "require" and m.proof_due is False


def test_reauth_forgives_once():
    for m, server in mechanisms("reauth"):
        assert final(m, server, b"") is None and m.proof_due
        # The engine's next exchange(): now it must come.
        assert final(m, server, b"") is ServerNotProven and m.proof_due
        assert final(m, server, b"v=AAAA") is ServerNotProven and m.proof_due
        assert final(m, server, True) is None and m.proof_due is False
        # As the engine does for a new login.
        assert final(m, server, b"") is None and m.proof_due
        m.proof_due = False
        assert final(m, server, b"") is None and m.proof_due


def test_a_signature_at_the_first_login_is_enough():
    for kind in KINDS:
        for m, server in mechanisms(kind):
            assert final(m, server, True) is None and m.proof_due is False


def test_nothing_else_is_forgiven():
    for kind in KINDS:
        for m, server in mechanisms(kind):
            for data in (b"v=AAAA", b"v=", b"v", b"e=other-error", b"x=1", b"\0", b",", b" ", server.keys[3]):
                assert final(m, server, data) is ServerNotProven, (kind, data)
                assert m.proof_due is False
            # No challenge: the CONNACK of a listener without authentication.
            x = m.exchange()
            x.send(None)
            try:
                x.send(b"")
            except ServerNotProven as e:
                assert "without a challenge" in str(e)
            else:
                raise AssertionError(kind)
            assert m.proof_due is False


def test_an_unproven_count_is_not_taken_for_proven():
    for kind in ("reauth", "skip"):
        m = ScramSHA256("user", "pass", min_iterations=1, server_proof=kind)
        high, low = (Server(ScramSHA256, b"salt", count, "pass") for count in (300, 100))
        assert final(m, high, b"") is None
        m.proof_due = False
        assert login(m, low) == 2  # 99 iterations; not "fewer than the count with which it was proven"
        assert login(m, high) == 0
        try:
            login(m, Server(ScramSHA256, b"salt", 200, "pass"))
        except SASLError as e:
            assert "200" in str(e) and "300" in str(e)
        else:
            raise AssertionError(kind)


def test_wrong_server_proof():
    for value in ("", "Skip", None, True, 1, b"skip"):
        try:
            ScramSHA256("user", "pass", server_proof=value)
        except ValueError as e:
            assert "'require', 'reauth', 'skip'" in str(e)
            continue
        raise AssertionError(value)


# What stays ---------------------------------------------------------------------------------------------------

NAMES = (
    "user",
    "progress",
    "server_proof",
    "proof_due",
    "_gs2",
    "_name",
    "_min",
    "_max",
    "_proven",
    "_secret",
    "_keys",
)


def kept(m):
    """All that the object holds, as one text."""
    return repr([value for name, value in sorted(m.__dict__.items()) if name != "_keys"]), len(m._keys)


def test_nothing_of_a_login_stays():
    for m, server in mechanisms("require"):
        login(m, server)
        for name in m.__dict__:
            assert name in NAMES, name
        before = kept(m)
        for data in (True, b"", b"v=AAAA"):
            final(m, server, data)
            assert kept(m) == before
        # Closed at each of its stops.
        for stop in range(3):
            x = m.exchange()
            out = x.send(None) if stop else None
            if stop == 2:
                step(x, server.first(out))
            x.close()
            assert kept(m) == before
        m = type(m)("user", "pass", min_iterations=1, max_iterations=9999)
        before = kept(m)
        x = m.exchange()
        assert x.send(Server(type(m), b"salt", 999, "pass").first(x.send(None))) is None and m.progress < 100
        x.close()
        assert kept(m) == before and m.progress == 100
