"""Reads what the demo shows out of captured bytes: MQTT 5 packets of a login, and TLS records.

For the display only, written from the specifications, apart from lib/: so that what is shown does not rest
on the library's own word. It must never be used to talk to a broker.
"""

from dataclasses import dataclass

# 2.1.2, by their number.
NAMES = "reserved CONNECT CONNACK PUBLISH PUBACK PUBREC PUBREL PUBCOMP SUBSCRIBE".split()  # noqa: SIM905
NAMES += "SUBACK UNSUBSCRIBE UNSUBACK PINGREQ PINGRESP DISCONNECT AUTH".split()  # noqa: SIM905
METHOD, DATA = 0x15, 0x16

# 2.2.2.2: how the value of a property is laid out. A number: that many bytes; "v": a variable byte integer;
# "s": two bytes of length, then that many bytes; "ss": a pair of those.
_VALUES = {0x0B: "v", 0x26: "ss"}
_VALUES |= dict.fromkeys((0x01, 0x17, 0x19, 0x24, 0x25, 0x28, 0x29, 0x2A), 1)
_VALUES |= dict.fromkeys((0x13, 0x21, 0x22, 0x23), 2)
_VALUES |= dict.fromkeys((0x02, 0x11, 0x18, 0x27), 4)
_VALUES |= dict.fromkeys((0x03, 0x08, 0x09, 0x12, 0x15, 0x16, 0x1A, 0x1C, 0x1F), "s")

_TLS_RECORDS = (20, 21, 22, 23)  # change_cipher_spec, alert, handshake, application_data (RFC 8446, 5.1)


class NotReadable(Exception):
    """The bytes are not what they should be."""


class _TooShort(NotReadable):
    pass


@dataclass(frozen=True)
class Packet:
    """name: "CONNECT"; reason: of CONNACK and AUTH, else None; method, data: the authentication properties
    (str, bytes), or None; client_id: of CONNECT (str), else None."""

    name: str
    reason: int | None = None
    method: str | None = None
    data: bytes | None = None
    client_id: str | None = None

    def __str__(self):  # goes into errors: nothing of the data
        return self.name if self.reason is None else f"{self.name} 0x{self.reason:02X}"


class _Bytes:
    def __init__(self, data):
        self.data, self.at = bytes(data), 0

    def take(self, count):
        if self.at + count > len(self.data):
            raise _TooShort("a packet ends too early")
        self.at += count
        return self.data[self.at - count : self.at]

    def number(self, size):
        return int.from_bytes(self.take(size), "big")

    def string(self):
        return self.take(self.number(2))

    def varint(self):  # 1.5.5
        value = 0
        for shift in (0, 7, 14, 21):
            byte = self.number(1)
            value |= (byte & 127) << shift
            if byte < 128:
                return value
        raise NotReadable("a length of more than four bytes")

    def properties(self):
        """{identifier: bytes}; those that are not strings are skipped over."""
        end = self.varint() + self.at
        found = {}
        while self.at < end:
            kind = _VALUES.get(identifier := self.varint())
            if kind == "s":
                found[identifier] = self.string()
            elif kind == "ss":
                self.string()
                self.string()
            elif kind == "v":
                self.varint()
            elif kind:
                self.take(kind)
            else:
                raise NotReadable(f"unknown property 0x{identifier:02X}")
        return found


def packets(stream):
    """The whole packets in `stream`, one way of a connection, as a list of Packet. NotReadable."""
    stream, found = _Bytes(stream), []
    while True:
        try:
            first = stream.number(1)
            body = stream.take(stream.varint())
        except _TooShort:
            return found  # the rest has not come yet
        found.append(_packet(NAMES[first >> 4], _Bytes(body)))


def _packet(name, body):
    reason, properties, client_id = None, {}, None
    if name == "CONNECT":  # 3.1
        if (body.string(), body.number(1)) != (b"MQTT", 5):
            raise NotReadable("a CONNECT that is not MQTT 5")
        body.take(3)  # flags, keep alive
        properties = body.properties()
        client_id = body.string().decode()
    elif name == "CONNACK":  # 3.2
        body.take(1)
        reason, properties = body.number(1), body.properties()
    elif name in ("AUTH", "DISCONNECT"):  # 3.15, 3.14: of length 0 means reason 0 and no properties
        reason = body.number(1) if body.data else 0
        properties = body.properties() if len(body.data) > 1 else {}
    method = properties.get(METHOD)
    return Packet(name, reason, method and method.decode(), properties.get(DATA), client_id)


def tls_records(stream):
    """How many TLS records `stream` is made of (the last one may be cut off); NotReadable where anything
    else is in it."""
    at = count = 0
    while at < len(stream):
        head = stream[at : at + 5]
        if head[0] not in _TLS_RECORDS or (len(head) > 1 and head[1] != 3):
            raise NotReadable(f"byte {at} is not the start of a TLS record")
        if len(head) < 5:
            break
        at += 5 + int.from_bytes(head[3:5], "big")
        count += 1
    return count
