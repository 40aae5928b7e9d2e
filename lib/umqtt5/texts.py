"""The texts of the library's errors, by number. Loaded when an error is printed; one of Python's own (ValueError and
the like) has its text when it is made.

Where an error is raised it has a name: `_TWICE = const(8)`, and `raise ProtocolError((_TWICE, ident))`. Such a name
takes no memory on a board, and a text would take its length and 16 bytes, in a client that never needs it.
host_tests/test_error_texts.py holds both sides together. It must never name a secret.
"""

import sys

_TEXTS = {
    # codec: Variable Byte Integers, strings, properties (1.5, 2.2.2)
    1: "a length that does not end",
    2: "a length in too many bytes",
    3: "a string without its length",
    4: "a string beyond the packet's end",
    5: "a string that is not UTF-8",
    6: "unknown property 0x%02X",
    7: "property 0x%02X where it must not be",
    8: "property 0x%02X twice",
    9: "property 0x%02X is cut off",
    10: "property 0x%02X is neither 0 nor 1",
    11: "a response topic that is no topic name",
    12: "property 0x%02X is 0",
    13: "properties beyond the packet's end",
    14: "%s: str or bytes",
    15: "%s: not UTF-8 of at most 65535 bytes without U+0000",
    # reader: the parts of a packet (2.1)
    16: "a remaining length of more than four bytes",
    17: "a packet of type %d from a server",
    18: "flags 0x%X in a packet of type %d",
    19: "a packet of type %d before CONNACK",
    20: "a packet of %d bytes, max_packet=%d was announced",
    21: "a packet of %d bytes from the broker needs rx_size=%d",
    22: "a packet without its packet identifier",
    23: "packet identifier 0",
    # login: CONNECT, CONNACK, AUTH, DISCONNECT (3.1, 3.2, 3.14, 3.15)
    24: "authentication data of more than 65535 bytes",
    25: "password= beside auth=: the mechanism alone logs in",
    26: "qos: 0, 1 or 2",
    27: "a second CONNACK",
    28: "CONNACK of MQTT 3.1.1: this broker, or this listener, does not speak MQTT 5.0",
    29: "CONNACK with something behind its properties",
    30: "CONNACK 0x%02X",
    31: "CONNACK before our packet was out",
    32: "CONNACK with an authentication that nobody asked for",
    33: "session present after clean_session=True",
    34: "CONNACK without an assigned client identifier",
    35: "response information that nobody asked for",
    36: "AUTH that nobody asked for",
    37: "a server's DISCONNECT with a session expiry interval",
    38: "DISCONNECT 0x%02X from a server",
    39: "a reason string or user property, and request_problem_information is 0",
    # auth: the exchange (4.12)
    40: "deriving the keys from the password takes longer than 1.5 x keepalive=%d s here: provision keys, "
    "or raise keepalive",
    41: "the server ended the login before it proved itself",
    42: "the mechanism has nothing to send",
    43: "AUTH or CONNACK without our Authentication Method, or with another",
    44: "AUTH 0x18 after the mechanism had ended",
    45: "AUTH 0x%02X during a login",
    46: "AUTH without properties",
    47: "AUTH with something behind its properties",
    # packets: what goes out
    48: "a packet of %d bytes; the broker takes %d",
    49: "props: property 0x%02X in a PUBLISH of the client's",
    50: "topic: empty, or with + or #, which are for subscribe",
    51: "a PUBLISH of %d bytes; the broker takes %d",
    52: "topic and properties need tx_size=%d",
    128: "props: a dict, or bytes from props.encode()",
    53: "too many messages in flight: receive_maximum=%d, the broker's %d",
    # protocol: the client's arguments
    54: "keepalive: 0..65535 s",
    55: "receive_maximum: 1..1000; topic_aliases, topic_alias_maximum: 0..1000 (each has a table)",
    56: "tx_size: at least 32; rx_size: at least 64",
    57: "max_packet: 1..4294967295",
    58: "session_expiry: 0..4294967295 s",
    59: "reauth_every: 1..432000 s, with auth=",
    60: "props: property 0x%02X has an argument of its own",
    122: "%s: a whole number",
    123: "timeout: seconds, a number above 0, below 268435",
    124: "auth: a mechanism, made of its class: ScramSHA256(user, password)",
    125: "%s: a function",
    126: "a payload is str or bytes: str(21.5) for a number, json.dumps() for a dict",
    # reauth: re-authentication (4.12.1)
    61: "reauthenticate: the login was without auth=",
    62: "reauthenticate: one is running",
    63: "reauthenticate: by %s; the login was by %s",
    64: "the server did not prove itself, not in a re-authentication either",
    # tls, redirect
    65: "ssl_params: %s is none of %s",
    131: "ssl: True, or an SSLContext",
    66: 'ssl=True needs the CA that signed the broker\'s certificate: ssl_params={"cadata": <DER>}',
    121: "ssl_params: cadata, or cert and key: missing, or not in DER "
    "(openssl x509 -in ca.pem -outform der -out ca.der)",
    67: "a server reference that is no host[:port]",
    # props
    68: "no such property: %s",
    69: "%s: a sequence of (name, value) pairs",
    70: "a property's value is longer than 65535 bytes",
    # outbox
    71: 'outbox: full is "wait", "oldest", "newest" or "raise"',
    72: "outbox: count and size, at least 1",
    73: "a message of %d bytes; the outbox holds size=%d",
    74: "the outbox is full: count=%d, size=%d",
    # errors
    75: "Reject: 0x%02X is not for a PUBACK",
    # message, receive: messages in (3.3, 3.4.2, 4.9)
    76: "PUBLISH flags: QoS 3, or DUP at QoS 0",
    77: "PUBLISH to a topic with a wildcard",
    78: "a subscription identifier that was never sent",
    79: "a message that nobody asked for, above the maximum QoS",
    80: "PUBLISH with neither topic nor alias",
    81: "topic alias %d, topic_alias_maximum is %d",
    82: "a topic alias that was never given a topic",
    83: "a message with topic and properties needs rx_size=%d",
    84: "more than receive_maximum=%d unacknowledged messages",
    130: "a coroutine, which nobody runs here: give a plain function",
    # subscribe (3.8 to 3.11)
    85: "not a topic filter: empty; # not at the end; or # or + beside other characters between two /",
    86: "subscribe(topic, qos, handler): qos, and retain_handling, are 0, 1 or 2",
    87: "no_local with a shared subscription",
    88: "id: 1..268435455",
    89: "props: a subscription identifier, beside id or a handler",
    90: "the broker has no shared subscriptions",
    91: "the broker has no wildcard subscriptions",
    92: "a SUBACK or UNSUBACK without exactly one reason",
    93: "a SUBACK or UNSUBACK for a packet identifier not in use",
    # protocol: acknowledgements (3.4 to 3.7), and what the application does
    94: "reason 0x%02X in a packet of type %d",
    95: "a packet with something behind its properties",
    96: "qos=%d; the broker takes up to %d",
    97: "retain: the broker does not keep messages",
    98: "too many packets in flight: receive_maximum=%d",
    99: "disconnect: 0x%02X is not a client's to say",
    100: "props: a server reference in a client's DISCONNECT",
    101: "session_expiry: CONNECT said 0, and only 0 can follow it",
    # the drivers: simple, aio and what they use
    129: "%s=%s(...): an object, made of that class",
    102: "not inside a message handler: it would wait; set a flag there, and do it when check_msg() has returned",
    127: "server: a host name or an address; port: 1..65535",
    103: "ssl_params without ssl=True",
    104: "server: an empty list",
    105: "dropped from the outbox: it was full",
    106: "dropped: the outbox is full",
    # store
    107: "store: it has a client already",
    108: "store: %s: %s; is the flash full?",
    # secrets
    109: "%s: not JSON: provision and flash again",
    110: "%s: format: not 1: provision again with the tools of this version",
    111: "%s: auth.method: unknown; one of %s, or any with auth.token",
    112: "%s: %s: not an object {...}",
    113: "%s: %s%s: wrong type",
    114: "%s: %s%s: missing",
    115: "%s: %s%s: unknown name",
    116: "quirk: unknown; one of %s",
    117: "quirk: not for %s",
    118: "%s: auth: %s",
    119: "%s: auth.keys: one or two entries, not %d",
    120: "%s: %s%s: not base64",
}


def text(what):
    """`what`: a number, or a tuple of a number and its text's values; a str is its own text. With that this file is
    unloaded again: a program that goes on for months after an error shall have its 9 KB back."""
    sys.modules.pop("umqtt5.texts", None)
    sys.modules["umqtt5"].__dict__.pop("texts", None)
    if isinstance(what, str):
        return what
    if isinstance(what, tuple):
        return _TEXTS[what[0]] % what[1:]
    return _TEXTS[what]
