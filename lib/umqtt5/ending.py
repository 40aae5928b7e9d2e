"""How a connection ends: what the server says by a CONNACK >= 0x80 or a DISCONNECT (MQTT 5.0, 3.2.2.2, 3.14), our own
DISCONNECT where it says more than goodbye, and an OSError with the step in which it came.

Loaded when the first of these happens. Allocates. It must never close anything.
"""

from micropython import const

import errno

import umqtt5.errors as errors

from .codec import data, find, properties, vbi, vbi_size

# Texts of errors: see texts.py.
_CONNACK_REASON = const(30)
_DISCONNECT_EXPIRY = const(37)
_DISCONNECT_REASON = const(38)
_NOT_A_CLIENTS = const(99)
_WHOLE_NUMBER = const(122)
_REFERENCE = const(100)
_EXPIRY_0 = const(101)

_TLS = const("TLS handshake")  # as in tls.py
_FAILED = const(3)  # as in reader.py

# The reasons of 3.2.2.2, and those of 3.14.2.1 that are a server's. 0x8C is not among these, but EMQX ends a failed
# re-authentication with it.
_CONNACK_REASONS = const(b"\x80\x81\x82\x83\x84\x85\x86\x87\x88\x89\x8a\x8c\x90\x95\x97\x99\x9a\x9b\x9c\x9d\x9f")
_DISCONNECT_REASONS = const(
    b"\x00\x80\x81\x82\x83\x87\x89\x8b\x8c\x8d\x8e\x8f\x90\x93\x94\x95\x96\x97\x98\x99\x9a\x9b\x9c\x9d\x9e\x9f"
    b"\xa0\xa1\xa2"
)
_OUR_DISCONNECTS = const(b"\x00\x04\x80\x81\x82\x83\x90\x93\x94\x95\x96\x97\x98\x99")  # 3.14.2.1, a client's


def connack(e, n):
    """The error for the CONNACK with a reason >= 0x80 in rx[:n], its properties checked."""
    reason = e.rx[1]
    if reason not in _CONNACK_REASONS:
        raise errors.ProtocolError((_CONNACK_REASON, reason))
    return _refusal(e, "CONNACK", reason, 2 + vbi_size(vbi(e.rx, 2, n)), n)


def disconnect(e, n):
    """The error for the DISCONNECT in rx[:n] (3.14)."""
    reason = e.rx[0] if n else 0
    at = n
    if n > 1:
        if properties(e.rx, 1, n, 14) != n:
            raise errors.MalformedPacket("DISCONNECT")
        at = 1 + vbi_size(vbi(e.rx, 1, n))
        if find(e.rx, at, n, 0x11) >= 0:  # [MQTT-3.14.2-2]
            raise errors.ProtocolError(_DISCONNECT_EXPIRY)
    if reason not in _DISCONNECT_REASONS:
        raise errors.ProtocolError((_DISCONNECT_REASON, reason))
    return _refusal(e, "DISCONNECT", reason, at, n)


def _refusal(e, packet, reason, at, n):
    said = find(e.rx, at, n, 0x1F)
    said = None if said < 0 else str(data(e.rx, said), "utf-8")
    e.parting = 0  # the server has spoken first
    x = e.exchange
    if reason == 0x86 or reason == 0x87 or reason == 0x8C or (x and x.again and x.refused(reason)):
        mechanism = e.terms.mechanism
        error = errors.AuthError(packet, reason, said, mechanism and mechanism.name)
        error.step = (3 if x.again else x.step) if x else 0
    elif packet == "DISCONNECT":
        error = errors.Disconnected(reason, said)
    else:
        error = errors.Refused(packet, reason, said)
    error.props = bytes(e.rx[at:n])
    i = find(e.rx, at, n, 0x1C)
    if i >= 0:
        error.server = str(data(e.rx, i), "utf-8")
        if reason == 0x9C or reason == 0x9D:
            e.terms.redirect = (reason, error.server)
    return error


def end(e, reason, props, session_expiry):
    """Build our DISCONNECT with a reason or properties: see Engine.end()."""
    if not isinstance(reason, int):
        raise errors.wrong((_WHOLE_NUMBER, "reason"), TypeError)
    if reason not in _OUR_DISCONNECTS:
        raise errors.wrong((_NOT_A_CLIENTS, reason))
    props = e.properties(props, 14)
    if find(props, 0, len(props), 0x1C) >= 0:
        raise errors.wrong(_REFERENCE)
    if session_expiry is not None:
        from .props import encode

        props = e.properties(props + encode(session_expiry_interval=session_expiry), 14)
    i = find(props, 0, len(props), 0x11)
    if i >= 0 and props[i : i + 4] != b"\0\0\0\0" and not e.terms.expiry:  # [MQTT-3.1.2-23], 3.14.2.2.2
        raise errors.wrong(_EXPIRY_0)
    if not props:
        e.put_disconnect(reason)
        return
    i = e._begin(0xE0, 1 + vbi_size(len(props)) + len(props))
    e.out[i] = reason
    e._props(e.out, i + 1, props)
    e._drop()  # as in put_disconnect()
    e.keepalive = 0


def last_words(e):
    """A write has failed: read on. Raises what the broker has said before it closed, and nothing else."""
    try:
        while not e.in_handler and not e.acks_full() and e.state != _FAILED:
            op = e.turn(None)
            if op is None or op is False:
                return
    except (errors.Refused, errors.Disconnected):
        raise
    except Exception:
        pass  # the write's error it is


def named(x, doing):
    """The exception `x`: an error of the socket's with the step `doing`, in which it came; any other as it is."""
    if type(x) is OSError and (len(x.args) == 1 or not isinstance(x.args[0], int)):
        # The unix port's look-up has a text in the place of a number.
        number = x.args[0] if len(x.args) == 1 and isinstance(x.args[0], int) else errno.EHOSTUNREACH
        return OSError(number, doing)
    if type(x) is ValueError and doing == _TLS:
        return OSError(errno.ECONNABORTED, "%s: %s" % (_TLS, x.args[0].strip()))  # mbedtls' word on the certificate
    return x
