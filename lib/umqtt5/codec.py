"""Bytes <-> values: Variable Byte Integers, UTF-8 strings, and the table of properties (MQTT 5.0, 1.5, 2.2.2).

All functions work in place on a buffer and allocate nothing, except where their docstring says so. Malformed input
raises MalformedPacket or ProtocolError; nothing here knows about connections or state.
"""

from micropython import const

from .errors import MalformedPacket, ProtocolError, wrong

# Texts of errors: see texts.py.
_ENDLESS = const(1)
_OVERLONG = const(2)
_NO_LENGTH = const(3)
_BEYOND = const(4)
_NOT_UTF8 = const(5)
_UNKNOWN = const(6)
_MISPLACED = const(7)
_TWICE = const(8)
_CUT_OFF = const(9)
_NOT_0_OR_1 = const(10)
_NO_TOPIC = const(11)
_ZERO = const(12)
_PROPS_BEYOND = const(13)
_NOT_A_STRING = const(14)
_NOT_TEXT = const(15)
_TIMEOUT = const(123)

# 2.2.2.2, table 2-4. Three bytes an identifier, found at 3 * identifier: its type, and the packets that may carry it,
# high byte first: bit n = control packet type n; bit 0 = the will inside CONNECT.
# Types: 1 one byte, 2 and 3 two and four byte integers, 4 Variable Byte Integer, 5 string, 6 binary data,
# 7 string pair; 0 is no property; 8: one byte that may only be 0 or 1.
_TABLE = const(
    b"\0\0\0"
    b"\x08\x00\x09"  # 01 payload format indicator
    b"\x03\x00\x09"  # 02 message expiry interval
    b"\x05\x00\x09"  # 03 content type
    b"\0\0\0\0\0\0\0\0\0\0\0\0"
    b"\x05\x00\x09"  # 08 response topic
    b"\x06\x00\x09"  # 09 correlation data
    b"\0\0\0"
    b"\x04\x01\x08"  # 0B subscription identifier
    b"\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"
    b"\x03\x40\x06"  # 11 session expiry interval
    b"\x05\x00\x04"  # 12 assigned client identifier
    b"\x02\x00\x04"  # 13 server keep alive
    b"\0\0\0"
    b"\x05\x80\x06"  # 15 authentication method
    b"\x06\x80\x06"  # 16 authentication data
    b"\x08\x00\x02"  # 17 request problem information
    b"\x03\x00\x01"  # 18 will delay interval
    b"\x08\x00\x02"  # 19 request response information
    b"\x05\x00\x04"  # 1A response information
    b"\0\0\0"
    b"\x05\x40\x04"  # 1C server reference
    b"\0\0\0\0\0\0"
    b"\x05\xca\xf4"  # 1F reason string
    b"\0\0\0"
    b"\x02\x00\x06"  # 21 receive maximum
    b"\x02\x00\x06"  # 22 topic alias maximum
    b"\x02\x00\x08"  # 23 topic alias
    b"\x08\x00\x04"  # 24 maximum QoS
    b"\x08\x00\x04"  # 25 retain available
    b"\x07\xcf\xff"  # 26 user property
    b"\x03\x00\x06"  # 27 maximum packet size
    b"\x08\x00\x04"  # 28 wildcard subscription available
    b"\x08\x00\x04"  # 29 subscription identifier available
    b"\x08\x00\x04"  # 2A shared subscription available
)
_LAST = const(0x2A)

# Zero is a Protocol Error in these: 0B, 21, 23 (a Malformed Packet nowhere), 27.
_NOT_ZERO = const(b"\x0b\x21\x23\x27")


def kind(ident):
    """Type of the property `ident`: 0..8 as listed above _TABLE; 0 where there is no such property."""
    return _TABLE[3 * ident] if 0 <= ident <= _LAST else 0


def milliseconds(timeout):
    """`timeout` (s) in ms, of which a board's clock can tell at most 268 millions apart."""
    if not isinstance(timeout, (int, float)) or not timeout < 268435:
        raise wrong(_TIMEOUT)
    return int(timeout * 1000)


def u16(buf, i):
    return buf[i] << 8 | buf[i + 1]


def u32(buf, i):
    """Allocates where the value needs more than 30 bits."""
    return u16(buf, i) << 16 | u16(buf, i + 2)


def vbi(buf, i, end):
    """The Variable Byte Integer at buf[i] (1.5.5), which must end before `end`."""
    n = shift = 0
    while True:
        if i >= end or shift > 21:
            raise MalformedPacket(_ENDLESS)
        b = buf[i]
        n |= (b & 0x7F) << shift
        if b < 0x80:
            if shift and not b:  # [MQTT-1.5.5-1]: as few bytes as possible; so vbi_size() tells how many were read
                raise MalformedPacket(_OVERLONG)
            return n
        shift += 7
        i += 1


def vbi_size(n):
    """How many bytes n takes as a Variable Byte Integer: 1..4."""
    return 1 if n < 0x80 else 2 if n < 0x4000 else 3 if n < 0x200000 else 4


def put_vbi(buf, i, n):
    """Write n at buf[i]; returns the index after it."""
    while n > 0x7F:
        buf[i] = n & 0x7F | 0x80
        n >>= 7
        i += 1
    buf[i] = n
    return i + 1


def put_data(buf, i, data):
    """Write `data` (bytes) with its length in two bytes before it at buf[i]; returns the index after it."""
    n = len(data)
    buf[i] = n >> 8
    buf[i + 1] = n & 0xFF
    i += 2
    buf[i : i + n] = data
    return i + n


def utf8(buf, i, end, text=False):
    """True where buf[i:end] is UTF-8 as 1.5.4 wants it: no surrogates, nothing overlong, and no U+0000; text=True: a
    payload, which may have that."""
    while i < end:
        b = buf[i]
        if b >= 0x80:
            i = _utf8_more(buf, i, end)
            if i < 0:
                return False
        elif b or text:
            i += 1
        else:  # [MQTT-1.5.4-2]
            return False
    return True


def _utf8_more(buf, i, end):
    """The index behind the character of two to four bytes at buf[i], -1 where it is none."""
    b = buf[i]
    more = 1 if b < 0xE0 else 2 if b < 0xF0 else 3
    i += 1
    if b < 0xC2 or b > 0xF4 or i + more > end:
        return -1
    c = buf[i]
    # The second byte shows what is overlong, surrogates [MQTT-1.5.4-1], and what is above U+10FFFF.
    if (b == 0xE0 and c < 0xA0) or (b == 0xED and c > 0x9F) or (b == 0xF0 and c < 0x90) or (b == 0xF4 and c > 0x8F):
        return -1
    while more:
        if buf[i] & 0xC0 != 0x80:
            return -1
        i += 1
        more -= 1
    return i


def topic(buf, i, end):
    """True where buf[i:end], UTF-8, is a topic name: not empty, no wildcard (4.7.1, 4.7.3)."""
    return i < end and buf.find(b"+", i, end) < 0 and buf.find(b"#", i, end) < 0


def field(buf, i, end, text):
    """The string (text=True: UTF-8, checked) or binary data with its length before it at buf[i]: the index behind."""
    if i + 2 > end:
        raise MalformedPacket(_NO_LENGTH)
    j = i + 2 + u16(buf, i)
    if j > end:
        raise MalformedPacket(_BEYOND)
    if text and not utf8(buf, i + 2, j):
        raise MalformedPacket(_NOT_UTF8)
    return j


def skip(buf, i):
    """The index after the property (identifier and value) at buf[i], which check() has passed before."""
    t = _TABLE[3 * buf[i]]
    i += 1
    if t == 8:
        return i + 1
    if t < 4:
        return i + (4 if t == 3 else t)
    if t == 4:
        return i + vbi_size(vbi(buf, i, i + 4))
    if t == 7:
        i += 2 + u16(buf, i)
    return i + 2 + u16(buf, i)


def check(buf, i, end, packet):
    """Check the properties in buf[i:end] (without their length before them), in a packet of type `packet` (0 for
    the will's): each known, allowed in this packet, whole, and no more often than once (2.2.2.2)."""
    first = i
    while i < end:
        ident = buf[i]
        t = kind(ident)
        if not t:
            raise MalformedPacket((_UNKNOWN, ident))
        if not u16(_TABLE, 3 * ident + 1) & (1 << packet):
            raise MalformedPacket((_MISPLACED, ident))  # 2.2.2.2
        # Twice is right for user properties, and for the subscription identifiers of a PUBLISH (3.3.2.3.8).
        if ident != 0x26 and not (ident == 0x0B and packet == 3) and find(buf, first, i, ident) >= 0:
            raise ProtocolError((_TWICE, ident))
        at = i + 1
        if t == 7:
            i = field(buf, field(buf, at, end, True), end, True)
        elif t == 5 or t == 6:
            i = field(buf, at, end, t == 5)
        elif t == 4:
            i = at + vbi_size(vbi(buf, at, end))
        else:
            i = at + (4 if t == 3 else 2 if t == 2 else 1)
            if i > end:
                raise MalformedPacket((_CUT_OFF, ident))
            if t == 8 and buf[at] > 1:
                raise ProtocolError((_NOT_0_OR_1, ident))
        if ident == 0x08 and not topic(buf, at + 2, i):
            raise ProtocolError(_NO_TOPIC)  # [MQTT-3.3.2-14]
        if ident in _NOT_ZERO:
            while at < i and not buf[at]:
                at += 1
            if at == i:
                raise ProtocolError((_ZERO, ident), 0x94 if ident == 0x23 else None)


def properties(buf, i, end, packet):
    """Check the property length at buf[i] and the properties behind it: the index after them."""
    n = vbi(buf, i, end)
    i += vbi_size(n)
    if i + n > end:
        raise MalformedPacket(_PROPS_BEYOND)
    if n:
        check(buf, i, i + n, packet)
    return i + n


def find(buf, i, end, ident):
    """The index of the value of the first property `ident` in buf[i:end] (checked before), or -1."""
    while i < end:
        if buf[i] == ident:
            return i + 1
        i = skip(buf, i)
    return -1


def data(buf, i):
    """The string or binary data at buf[i], a copy: allocates."""
    return bytes(buf[i + 2 : i + 2 + u16(buf, i)])


def text(raw, what):
    """`raw` (str or bytes) as bytes that MQTT can carry as a string (1.5.4); ValueError names `what`. What is not
    bytes is encoded or copied: allocates."""
    if type(raw) is not bytes:
        if isinstance(raw, str):
            raw = raw.encode()
        elif isinstance(raw, bytearray):
            raw = bytes(raw)
        else:
            raise wrong((_NOT_A_STRING, what), TypeError)
    n = len(raw)
    if n > 65535 or not utf8(raw, 0, n):
        raise wrong((_NOT_TEXT, what))
    return raw
