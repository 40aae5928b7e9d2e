"""Scripts for re-authentication (4.12.1): an honest login, then what a server does when AUTH 0x19 comes; and servers
that bring their proof late, in a re-authentication straight after CONNACK.
"""

from harness import wire
from harness.logins import challenge, client_final, connack
from harness.scram import Exchange, ScramFailure
from harness.scripted import Unexpected
from harness.wire import AUTH, DATA, METHOD

REAUTHENTICATE = 0x19


def begun(conn, credentials):
    """Take AUTH 0x19 with its client-first: the Exchange."""
    x = Exchange(credentials)
    a = conn.expect(AUTH)
    assert a.reason == REAUTHENTICATE, f"AUTH 0x{a.reason:02X} begins a re-authentication"
    assert a.prop(METHOD) == credentials.method
    x.first(a.prop(DATA))
    return x


def proof(conn, credentials, first=None, x=None):
    """Up to the client's proof, which is checked: the Exchange, with `honest`, the server-final."""
    x = x or begun(conn, credentials)
    data = x.build() if first is None else first(x)
    x.sent_first(data)
    conn.send(challenge(credentials, data))
    a = conn.expect(AUTH)
    assert a.reason == 0x18 and a.prop(METHOD) == credentials.method
    try:
        x.honest = x.final(a.prop(DATA))
    except ScramFailure as e:
        raise Unexpected(f"an honest server would refuse: {e}") from None
    return x


def success(credentials, data):
    """AUTH 0x00 with the server-final (None: without data)."""
    return wire.auth(0, *[p for p in ((METHOD, credentials.method), (DATA, data)) if p[1] is not None])


def honest_again(conn, credentials):
    """One re-authentication, as an honest server does it."""
    x = proof(conn, credentials)
    conn.send(success(credentials, x.honest))


def after_login(credentials, then):
    """A script: an honest login, then then(conn)."""

    def script(conn):
        x = client_final(conn, credentials)
        conn.send(connack(credentials, x.honest))
        then(conn)

    return script


def without_proof(credentials, then, present=0, pairs=(), data=None):
    """A script: a login whose CONNACK has the method, but no server-final, as ThingsBoard's TBMQ sends it."""

    def script(conn):
        client_final(conn, credentials)
        conn.send(connack(credentials, data, present=present, pairs=pairs))
        then(conn)

    return script
