"""MQTT 5 packets as a test server sees them: bytes to values and back, written from the specification alone.

It must never import the library under test. It is strict about what it reads (a client that sends rubbish
fails the test) and lax about what it builds (a hostile server sends what it likes).
"""

from dataclasses import dataclass, field

CONNECT, CONNACK, PUBLISH, PUBACK, PUBREC, PUBREL, PUBCOMP, SUBSCRIBE = range(1, 9)
SUBACK, UNSUBSCRIBE, UNSUBACK, PINGREQ, PINGRESP, DISCONNECT, AUTH = range(9, 16)
NAMES = "- CONNECT CONNACK PUBLISH PUBACK PUBREC PUBREL PUBCOMP SUBSCRIBE".split()  # noqa: SIM905
NAMES += "SUBACK UNSUBSCRIBE UNSUBACK PINGREQ PINGRESP DISCONNECT AUTH".split()  # noqa: SIM905

# Identifiers of properties by what they hold (2.2.2.2): integers of 1, 2 or 4 bytes, "v" a variable byte
# integer, "b" binary data, "s" a string, "p" a pair of strings.
_HOLD = {
    "1": (0x01, 0x17, 0x19, 0x24, 0x25, 0x28, 0x29, 0x2A),
    "2": (0x13, 0x21, 0x22, 0x23),
    "4": (0x02, 0x11, 0x18, 0x27),
    "v": (0x0B,),
    "b": (0x09, 0x16),
    "s": (0x03, 0x08, 0x12, 0x15, 0x1A, 0x1C, 0x1F),
    "p": (0x26,),
}
KINDS = {identifier: kind for kind, identifiers in _HOLD.items() for identifier in identifiers}
METHOD, DATA, REASON_STRING, SUBSCRIPTION_ID = 0x15, 0x16, 0x1F, 0x0B


class WireError(Exception):
    """The client sent something that is not MQTT 5."""


@dataclass
class Packet:
    """One packet: `type` and `flags` of the fixed header, `body` the bytes after it, and what was read from
    them."""

    type: int
    flags: int
    body: bytes
    reason: int = 0
    props: list = field(default_factory=list)  # [(identifier, value)], in the order they came in
    pid: int | None = None
    topic: bytes = b""
    payload: bytes = b""
    connect: dict = field(default_factory=dict)
    filters: list = field(default_factory=list)  # [(filter, options)]

    @property
    def name(self):
        return NAMES[self.type]

    @property
    def qos(self):
        return self.flags >> 1 & 3

    def prop(self, identifier):
        """The value of a property that may stand once, or None."""
        found = [value for key, value in self.props if key == identifier]
        if len(found) > 1:
            raise WireError(f"{self.name}: property 0x{identifier:02X} stands {len(found)} times")
        return found[0] if found else None

    def __repr__(self):
        # Never the properties or the body: they hold proofs and passwords, and this goes into test reports.
        reason = f" 0x{self.reason:02X}" if self.type in (DISCONNECT, AUTH, PUBACK) else ""
        return f"<{self.name}{reason} {len(self.body)} bytes>"


# Building -------------------------------------------------------------------------------------------------


def varint(value, width=0):
    """A variable byte integer; `width` forces that many bytes (not minimal, or longer than allowed)."""
    out = bytearray()
    while True:
        value, low = divmod(value, 128)
        more = value or len(out) + 1 < width
        out.append(low | 0x80 if more else low)
        if not more:
            return bytes(out)


def string(data):
    data = data.encode() if isinstance(data, str) else data
    return len(data).to_bytes(2, "big") + data


def prop(identifier, value):
    kind = KINDS[identifier]
    if kind in "124":
        return bytes([identifier]) + value.to_bytes(int(kind), "big")
    if kind == "v":
        return bytes([identifier]) + varint(value)
    if kind == "p":
        return bytes([identifier]) + string(value[0]) + string(value[1])
    return bytes([identifier]) + string(value)


def props(*pairs):
    """A property block with its length: `props((0x15, "SCRAM-SHA-256"), (0x16, b"..."))`; bytes stand for
    themselves."""
    body = b"".join(p if isinstance(p, bytes) else prop(*p) for p in pairs)
    return varint(len(body)) + body


def packet(kind, body=b"", flags=0):
    return bytes([kind << 4 | flags]) + varint(len(body)) + body


def connack(reason=0, *pairs, present=0):
    return packet(CONNACK, bytes([present, reason]) + props(*pairs))


def auth(reason=0x18, *pairs):
    return packet(AUTH, bytes([reason]) + props(*pairs))


def disconnect(reason=0, *pairs):
    return packet(DISCONNECT, bytes([reason]) + props(*pairs))


def publish(topic, payload=b"", qos=0, pid=1, *pairs, flags=None):
    body = string(topic) + (pid.to_bytes(2, "big") if qos else b"") + props(*pairs) + payload
    return packet(PUBLISH, body, qos << 1 if flags is None else flags)


def ack(kind, pid, reason=0, *pairs):
    """PUBACK, PUBREC, PUBREL, PUBCOMP; and SUBACK, UNSUBACK with one reason code."""
    if kind in (SUBACK, UNSUBACK):
        return packet(kind, pid.to_bytes(2, "big") + props(*pairs) + bytes([reason]))
    return packet(kind, pid.to_bytes(2, "big") + bytes([reason]) + props(*pairs), 2 if kind == PUBREL else 0)


# Reading --------------------------------------------------------------------------------------------------


class _Reader:
    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, count):
        if self.at + count > len(self.data):
            raise WireError("a packet of the client ends too early")
        self.at += count
        return self.data[self.at - count : self.at]

    def rest(self):
        return self.take(len(self.data) - self.at)

    def left(self):
        return len(self.data) - self.at

    def number(self, width):
        return int.from_bytes(self.take(width), "big")

    def text(self):
        return self.take(self.number(2))

    def varint(self):
        value = 0
        for shift in (0, 7, 14, 21):
            byte = self.number(1)
            value |= (byte & 0x7F) << shift
            if not byte & 0x80:
                return value
        raise WireError("a variable byte integer of the client has more than four bytes")

    def props(self):
        inner = _Reader(self.take(self.varint()))
        found = []
        while inner.left():
            identifier = inner.varint()
            kind = KINDS.get(identifier)
            if kind is None:
                raise WireError(f"the client sent an unknown property 0x{identifier:02X}")
            if kind in "124":
                value = inner.number(int(kind))
            elif kind == "v":
                value = inner.varint()
            elif kind == "p":
                value = (inner.text().decode(), inner.text().decode())
            else:
                value = inner.text().decode() if kind == "s" else inner.text()
            found.append((identifier, value))
        return found


def split(buffer):
    """(Packet, bytes used) from the start of `buffer`, or (None, 0) if it does not hold a whole one yet."""
    length = 0
    for i in range(1, 5):
        if len(buffer) <= i:
            return None, 0
        length |= (buffer[i] & 0x7F) << 7 * (i - 1)
        if not buffer[i] & 0x80:
            end = i + 1 + length
            if len(buffer) < end:
                return None, 0
            return parse(buffer[0], bytes(buffer[i + 1 : end])), end
    raise WireError("the client sent a remaining length of more than four bytes")


def parse(first, body):
    kind, flags = first >> 4, first & 15
    if not kind:
        raise WireError("the client sent packet type 0")
    p = Packet(kind, flags, body)
    r = _Reader(body)
    if kind != PUBLISH and flags != (2 if kind in (PUBREL, SUBSCRIBE, UNSUBSCRIBE) else 0):
        raise WireError(f"{p.name}: flags 0x{flags:X}")
    if kind == CONNECT:
        _connect(p, r)
    elif kind == PUBLISH:
        p.topic = r.text()
        p.pid = r.number(2) if p.qos else None
        p.props = r.props()
        p.payload = r.rest()
    elif kind in (SUBSCRIBE, UNSUBSCRIBE):
        p.pid = r.number(2)
        p.props = r.props()
        while r.left():
            p.filters.append((r.text(), r.number(1) if kind == SUBSCRIBE else None))
    elif kind in (PUBACK, PUBREC, PUBREL, PUBCOMP):
        p.pid = r.number(2)
        p.reason = r.number(1) if r.left() else 0
        p.props = r.props() if r.left() else []
    elif kind in (DISCONNECT, AUTH):
        p.reason = r.number(1) if r.left() else 0
        p.props = r.props() if r.left() else []
    elif kind != PINGREQ:
        raise WireError(f"the client sent a {p.name}, which is for servers")
    if r.left():
        raise WireError(f"{p.name}: {r.left()} bytes too many")
    return p


def _connect(p, r):
    name, version, flags, keepalive = r.text(), r.number(1), r.number(1), r.number(2)
    if name != b"MQTT" or version != 5:
        raise WireError(f"CONNECT names protocol {name!r} {version}")
    if flags & 1:
        raise WireError("CONNECT: reserved flag set")
    p.props = r.props()
    c = p.connect
    c.update(clean=bool(flags & 2), keepalive=keepalive, client_id=r.text())
    if flags & 4:
        c["will"] = {
            "qos": flags >> 3 & 3,
            "retain": bool(flags & 32),
            "props": r.props(),
            "topic": r.text(),
            "payload": r.text(),
        }
    if flags & 0x80:
        c["user"] = r.text()
    if flags & 0x40:
        c["password"] = r.text()
