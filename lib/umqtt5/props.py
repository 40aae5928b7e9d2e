"""Properties by name (MQTT 5.0, 2.2.2.2): encode() what is sent, decode() what was received.

The hot paths never come here: encode a publish's properties once and pass the bytes. Loaded when first used.
"""

from micropython import const

from .codec import check, kind, put_data, put_vbi, skip, text, u16, u32, vbi, vbi_size
from .errors import PeerError, wrong

# Texts of errors: see texts.py.
_NO_PROPERTY = const(68)
_PAIRS = const(69)
_LONG_VALUE = const(70)

_NAMES = {
    "payload_format_indicator": 0x01,
    "message_expiry_interval": 0x02,
    "content_type": 0x03,
    "response_topic": 0x08,
    "correlation_data": 0x09,
    "subscription_identifier": 0x0B,
    "session_expiry_interval": 0x11,
    "assigned_client_identifier": 0x12,
    "server_keep_alive": 0x13,
    "authentication_method": 0x15,
    "authentication_data": 0x16,
    "request_problem_information": 0x17,
    "will_delay_interval": 0x18,
    "request_response_information": 0x19,
    "response_information": 0x1A,
    "server_reference": 0x1C,
    "reason_string": 0x1F,
    "receive_maximum": 0x21,
    "topic_alias_maximum": 0x22,
    "topic_alias": 0x23,
    "maximum_qos": 0x24,
    "retain_available": 0x25,
    "user_property": 0x26,
    "maximum_packet_size": 0x27,
    "wildcard_subscription_available": 0x28,
    "subscription_identifier_available": 0x29,
    "shared_subscription_available": 0x2A,
}

# What a CONNACK without the property means (3.2.2.3).
_DEFAULTS = {
    "receive_maximum": 65535,
    "topic_alias_maximum": 0,
    "maximum_qos": 2,
    "retain_available": 1,
    "wildcard_subscription_available": 1,
    "subscription_identifier_available": 1,
    "shared_subscription_available": 1,
}


def encode(**properties):
    """Properties by name -> bytes, without their length before them; make them once, pass them as props= for ever.

    Strings are str or bytes; integers int; `user_property` is a sequence of (name, value) pairs, sent in that order.
    Raises ValueError for an unknown name or a value that does not fit."""
    out = b""
    for name, value in properties.items():
        ident = _NAMES.get(name)
        if ident is None:
            raise wrong((_NO_PROPERTY, name))
        t = kind(ident)
        if t == 7:
            for pair in value:
                if not isinstance(pair, (tuple, list)) or len(pair) != 2:
                    raise wrong((_PAIRS, name))
                out += b"\x26" + _data(text(pair[0], name)) + _data(text(pair[1], name))
        elif t == 6:
            out += bytes((ident,)) + _data(value.encode() if isinstance(value, str) else value)
        elif t == 5:
            out += bytes((ident,)) + _data(text(value, name))
        else:
            out += bytes((ident,)) + _integer(name, t, value)
    return out


def _data(raw):
    if len(raw) > 65535:
        raise wrong(_LONG_VALUE)
    buf = bytearray(2 + len(raw))
    put_data(buf, 0, raw)
    return buf


def _integer(name, t, value):
    size = 1 if t == 1 or t == 8 else 2 if t == 2 else 4
    top = 268435455 if t == 4 else 1 if t == 8 else (1 << 8 * size) - 1
    try:
        value = int(value)
    except (TypeError, ValueError):
        value = -1
    if not 0 <= value <= top:
        raise ValueError("%s: 0..%d" % (name, top))
    if t == 4:
        buf = bytearray(vbi_size(value))
        put_vbi(buf, 0, value)
        return buf
    return value.to_bytes(size, "big")


def decode(buf, i=0, end=None, packet=None):
    """buf[i:end] -> dict, a new one: integers as int, strings as str, binary data as bytes, `user_property` as a list
    of (name, value), `subscription_identifier` as an int, or as a list where there are several.

    `packet` (control packet type, 0 for a will's): they are checked first; None: that has been done."""
    if end is None:
        end = len(buf)
    if packet is not None:
        try:
            check(buf, i, end, packet)
        except PeerError:
            PeerError.latest = 0  # the caller's bytes: what the engine reads it checks by itself
            raise
    out = {}
    while i < end:
        ident = buf[i]
        for name in _NAMES:
            if _NAMES[name] == ident:
                break
        t = kind(ident)
        at = i + 1
        i = skip(buf, i)
        if t == 7:
            mid = at + 2 + u16(buf, at)
            out.setdefault(name, []).append((_str(buf, at + 2, mid), _str(buf, mid + 2, i)))
        elif t == 5:
            out[name] = _str(buf, at + 2, i)
        elif t == 6:
            out[name] = bytes(buf[at + 2 : i])
        elif ident == 0x0B:
            value = vbi(buf, at, end)
            had = out.get(name)
            out[name] = value if had is None else had + [value] if isinstance(had, list) else [had, value]
        else:
            out[name] = u32(buf, at) if t == 3 else u16(buf, at) if t == 2 else buf[at]
    return out


def _str(buf, i, end):
    return str(bytes(buf[i:end]), "utf-8")


def granted(raw):
    """A CONNACK's flags byte and properties -> what the broker granted: a dict of its properties, with the
    specification's defaults where it named none, and `session_present` (bool)."""
    out = dict(_DEFAULTS)
    out.update(decode(raw, 1))
    out["session_present"] = bool(raw[0])
    return out
