"""Server redirection (MQTT 5.0, 4.11). Loaded where we may follow a broker that sends us to another one."""

from micropython import const

from .errors import ProtocolError, Refused

# Texts of errors: see texts.py.
_SERVER_REFERENCE = const(67)


def login(c, timeout, clean_session):
    """What simple.MQTTClient.connect() does where `redirects` is not 0."""
    e = c._engine
    deadline = c._deadline(timeout)
    where = c.server, c.port, c._tls
    hops = c.redirects
    moved = None  # where the broker has moved to for good
    while True:
        if hops and e.terms.redirect:
            where, moved = follow(e, where)
            hops -= 1
        try:
            present = c._login(where, deadline, clean_session)
        except Refused:
            if not hops or not e.terms.redirect:
                raise
        else:
            if moved:  # only now: anybody could have said it
                c.server, c.port, c._tls = moved
            return present


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
