"""Server redirection (MQTT 5.0, 4.11). Loaded where a broker has sent us to another one, and we may follow."""

from micropython import const

from .errors import ProtocolError

# Texts of errors: see texts.py.
_SERVER_REFERENCE = const(67)


def follow(engine, where):
    """Where the broker's Server Reference leads to: ((host, port, tls), the same where it is for good or else None).
    where: the broker that said it. TLS stays, with the other's name checked, and so does authentication."""
    reason, reference = engine.terms.redirect
    engine.terms.redirect = None
    reference = reference.split(" ")[0]
    host, port = reference, where[1]
    if ":" in reference[reference.rfind("]") + 1 :]:
        host, _, digits = reference.rpartition(":")
        if not digits.isdigit() or not 0 < int(digits) < 65536:
            raise ProtocolError(_SERVER_REFERENCE)
        port = int(digits)
    host = host.strip("[]")
    for c in host or "\0":
        if ord(c) < 0x20 or 0x7F <= ord(c) < 0xA0:  # no host's; an OSError's text would show it
            raise ProtocolError(_SERVER_REFERENCE)
    where = host, port, where[2] and (where[2][0], host)
    return where, where if reason == 0x9D else None
