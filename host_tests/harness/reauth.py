"""Scripts for re-authentication (4.12.1): an honest login, then what a server does when AUTH 0x19 comes; and servers
that bring their proof late, in a re-authentication straight after CONNACK.
"""

from harness import wire
from harness.cases import GOOD
from harness.logins import challenge, client_final, connack
from harness.proxy import IN, OUT
from harness.scram import Exchange, ScramFailure
from harness.scripted import Unexpected
from harness.scripts import Server, nothing
from harness.wire import AUTH, DATA, METHOD, PINGREQ, PUBLISH

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


def silent(conn):
    begun(conn, GOOD)


def closes(conn):
    begun(conn, GOOD)
    conn.close()


def forged(conn):
    x = proof(conn, GOOD)
    conn.send(success(GOOD, b"v=" + x.signature(b"another key")))


def refuses(conn):
    proof(conn, GOOD)
    conn.send(wire.disconnect(0x87))
    conn.close()


def slowly(conn, packets=(), seconds=0.3):
    """A re-authentication with a pause in it, and these packets; nothing but AUTH may come."""
    x = begun(conn, GOOD)
    conn.send(*packets)
    nothing(conn, seconds)
    proof(conn, GOOD, x=x)
    nothing(conn, seconds / 3)
    conn.send(success(GOOD, x.honest))


def with_pings(conn, hold, message=None):
    """A re-authentication longer than half of the client's keep alive (1 s): PINGREQ waits where all waits, else it
    goes out and is answered; before it this message, if one is given."""
    x = begun(conn, GOOD)
    if hold:
        nothing(conn, 1.3)
    else:
        if message:
            assert conn.expect(PUBLISH).payload == message
        conn.expect(PINGREQ)
        conn.send(wire.packet(wire.PINGRESP))
    proof(conn, GOOD, x=x)
    conn.send(success(GOOD, x.honest))
    conn.serve()


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


def scripted(then, *more):
    """A server: an honest login, then(conn); these scripts for further connections."""
    return Server(after_login(GOOD, then), *more)


# What a proxy has seen ---------------------------------------------------------------------------------------


def reason(packet):
    """Of an AUTH packet's bytes."""
    return packet[2] if packet[1] < 0x80 else packet[3]


def rounds(proxy):
    """How many re-authentications have come to a good end."""
    return sum(way == IN and data[0] >> 4 == AUTH and not reason(data) for way, data in list(proxy.link.passed))


def between(proxy):
    """The names of the packets that the client sent from an AUTH 0x19 to its end, AUTH left out."""
    found, running = [], False
    for way, data in proxy.link.passed:
        kind = data[0] >> 4
        if kind == AUTH:
            running = reason(data) == 0x19 or (running and reason(data) != 0)
        elif way == OUT and running:
            found.append(wire.NAMES[kind])
    return found


# Pieces of program for a Board ---------------------------------------------------------------------------------

# Publishes for so many `ms`.
BUSY = """
from time import ticks_ms, ticks_diff
began = ticks_ms()
while ticks_diff(ticks_ms(), began) < ms:
    for qos in range(3):
        c.publish("reauth/out", b"m", qos=qos)
        c.check_msg()
"""

SLOW = """
import time
class Slow(ScramSHA256):
    # 0.6 s of work before each thing it says
    def exchange(self):
        inner = super().exchange()
        value = None
        while True:
            try:
                out = inner.send(value)
            except StopIteration:
                return
            for _ in range(15 if out else 0):
                time.sleep_ms(40)
                yield None
            value = yield out
c._engine.timeout = 500
"""
