"""Scripts for logging in: an honest broker, with SCRAM or without, and one whose every message can be
altered.

A hook is a function of the scram.Exchange that returns what is sent instead of the honest message.
"""

from harness import wire
from harness.scram import Exchange, ScramFailure
from harness.scripted import Unexpected


def receive_connect(conn, credentials=None):
    """Take the CONNECT and check it for what every client with (or without) a mechanism must say. Returns
    the packet."""
    c = conn.expect(wire.CONNECT)
    method = c.prop(wire.METHOD)
    if credentials is None:
        if method is not None or c.prop(wire.DATA) is not None:
            raise AssertionError("CONNECT names an authentication method or data that nobody asked for")
    else:
        assert method == credentials.method, f"CONNECT names method {method!r}"
        assert c.connect.get("user") == credentials.user.encode(), "CONNECT has not the mechanism's user name"
        assert "password" not in c.connect, "CONNECT holds a password beside SCRAM"
    return c


def connack(credentials, data, reason=0, present=0, pairs=()):
    """The CONNACK that ends a SCRAM login, with the server-final message in it."""
    pairs = [(wire.METHOD, credentials.method), (wire.DATA, data), *pairs]
    return wire.connack(reason, *[p for p in pairs if p[1] is not None], present=present)


def challenge(credentials, data, method_last=False):
    """AUTH 0x18 with data; EMQX sends the data before the method."""
    pairs = [(wire.METHOD, credentials.method), (wire.DATA, data)]
    return wire.auth(0x18, *(reversed(pairs) if method_last else pairs))


def client_final(conn, credentials, first=None, method_last=False, send=None):
    """The first half: CONNECT, our server-first (honest, or the hook `first`), up to the client's proof,
    which is checked.

    Returns the Exchange with `honest`, the honest server-final. `send(conn, bytes)`: how bytes go out (all at
    once).
    """
    send = send or (lambda conn, data: conn.send(data))
    x = Exchange(credentials)
    c = receive_connect(conn, credentials)
    x.first(c.prop(wire.DATA))
    server_first = x.build() if first is None else first(x)
    x.sent_first(server_first)
    send(conn, challenge(credentials, server_first, method_last))
    a = conn.expect(wire.AUTH)
    assert a.reason == 0x18, f"the client answered with AUTH 0x{a.reason:02X}"
    assert a.prop(wire.METHOD) == credentials.method, "the client's AUTH names another method"
    try:
        x.honest = x.final(a.prop(wire.DATA))
    except ScramFailure as e:
        raise Unexpected(f"an honest server would refuse: {e}") from None
    return x


def scram(credentials, *, first=None, final=None, then=None, method_last=False, send=None):
    """A script: SCRAM login with hooks `first` and `final`; afterwards `then(conn)`."""

    def script(conn):
        x = client_final(conn, credentials, first, method_last, send)
        data = x.honest if final is None else final(x)
        (send or (lambda conn, data: conn.send(data)))(conn, connack(credentials, data))
        if then:
            then(conn)

    return script


def honest(credentials=None, pairs=()):
    """A script: an honest broker until the client leaves. `pairs`: further CONNACK properties."""

    def script(conn):
        if credentials:
            x = client_final(conn, credentials)
            conn.send(connack(credentials, x.honest, pairs=pairs))
        else:
            receive_connect(conn)
            conn.send(wire.connack(0, *pairs))
        conn.serve()

    return script


def proof_in_auth(credentials, final=None, then=None):
    """A script: the server-final comes in AUTH 0x18 and CONNACK after the client's empty answer (as some
    servers do)."""

    def script(conn):
        x = client_final(conn, credentials)
        conn.send(challenge(credentials, x.honest if final is None else final(x)))
        a = conn.expect(wire.AUTH)
        assert a.reason == 0x18 and a.prop(wire.DATA) == b"", "the answer must be AUTH 0x18 with data of length 0"
        if then:
            then(conn)
        else:
            conn.send(connack(credentials, None))
            conn.serve()

    return script
