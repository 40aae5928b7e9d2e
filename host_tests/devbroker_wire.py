"""MQTT 5 by hand and SCRAM by scramp: the client that the tests of the dev broker judge it with.

Must not import lib/: if our own SCRAM and the broker shared a mistake, these tests are to see it.
"""

import socket

from scramp import ScramClient

PASSWORD = "s3cret-of-device1"
CONNACK, PUBACK, DISCONNECT, AUTH = 0x20, 0x40, 0xE0, 0xF0
CONTINUE, REAUTHENTICATE = 0x18, 0x19


def text(value):
    data = value if isinstance(value, bytes) else value.encode()
    return len(data).to_bytes(2, "big") + data


def number(value):
    out = bytearray()
    while True:
        value, digit = divmod(value, 128)
        out.append(digit | (128 if value else 0))
        if not value:
            return bytes(out)


def packet(first_byte, body=b""):
    return bytes([first_byte]) + number(len(body)) + body


def auth_properties(method, data):
    properties = b"\x15" + text(method)
    if data is not None:
        properties += b"\x16" + text(data)
    return number(len(properties)) + properties


def parse_auth_properties(body):
    """-> (method, data) from a property block in which all others are integers."""
    sizes = {0x11: 4, 0x13: 2, 0x21: 2, 0x22: 2, 0x24: 1, 0x25: 1, 0x27: 4, 0x28: 1, 0x29: 1, 0x2A: 1}
    length, body = body[0], body[1:]  # less than 128 in all that we meet, or two bytes
    if length > 127:
        length, body = length & 127 | body[0] << 7, body[1:]
    found, at = {}, 0
    while at < length:
        identifier = body[at]
        size = sizes.get(identifier)
        if size is None:
            size = 2 + int.from_bytes(body[at + 1 : at + 3], "big")
            found[identifier] = bytes(body[at + 3 : at + 1 + size])
        at += 1 + size
    return found.get(0x15), found.get(0x16)


class Wire:
    """One connection; every wait ends after five seconds."""

    def __init__(self, broker, port, client_id="wire", context=None):
        self.socket = socket.create_connection((broker.host, port), 5)
        if context:
            self.socket = context.wrap_socket(self.socket, server_hostname="localhost")
        self.client_id = client_id

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def exactly(self, size):
        data = b""
        while len(data) < size:
            part = self.socket.recv(size - len(data))
            if not part:
                raise EOFError
            data += part
        return data

    def read(self):
        """-> (packet type, body)"""
        kind, size, shift = self.exactly(1)[0], 0, 0
        while True:
            digit = self.exactly(1)[0]
            size |= (digit & 127) << shift
            shift += 7
            if digit < 128:
                return kind & 0xF0, self.exactly(size)

    def closed(self):
        try:
            return self.socket.recv(1) == b""
        except ConnectionResetError:
            return True

    def send(self, first_byte, body=b""):
        self.socket.sendall(packet(first_byte, body))

    def connect(self, method=None, data=None, user=None, password=None):
        properties = auth_properties(method, data) if method is not None else b"\x00"
        flags = 2 | (0x80 if user else 0) | (0x40 if password else 0)
        body = b"\x00\x04MQTT\x05" + bytes([flags]) + b"\x00\x3c" + properties + text(self.client_id)
        self.send(0x10, body + (text(user) if user else b"") + (text(password) if password else b""))

    def auth(self, reason, method, data):
        self.send(AUTH, bytes([reason]) + auth_properties(method, data))

    def refusal(self):
        """-> the reason of a CONNACK after which the broker closes."""
        kind, body = self.read()
        assert kind == CONNACK and self.closed()
        return body[1]


def exchange(wire, mechanism, user, password, again=False):
    """A SCRAM login, or a re-authentication. -> (salt, iterations), if the server proved itself to scramp.

    A refusal raises Refused with the reason code.
    """
    client = ScramClient([mechanism], user, password)
    first = client.get_client_first()
    if again:
        wire.auth(REAUTHENTICATE, mechanism, first)
    else:
        wire.connect(mechanism, first)
    kind, body = wire.read()
    if kind == CONNACK:
        raise Refused(body[1])
    assert (kind, body[0]) == (AUTH, CONTINUE)
    method, data = parse_auth_properties(body[1:])
    assert method == mechanism.encode()
    client.set_server_first(data.decode())
    wire.auth(CONTINUE, mechanism, client.get_client_final())
    kind, body = wire.read()
    if kind == CONNACK and body[1] != 0:
        raise Refused(body[1])
    assert kind == (AUTH if again else CONNACK)
    method, final = parse_auth_properties(body[1:] if again else body[2:])
    assert method == mechanism.encode()
    client.set_server_final(final.decode())  # raises if the server's signature is wrong
    parts = dict(part.split("=", 1) for part in data.decode().split(","))
    return parts["s"], parts["i"]


class Refused(Exception):
    pass


def login(broker, port, mechanism="SCRAM-SHA-256", user="device1", password=PASSWORD, client_id="wire"):
    with Wire(broker, port, client_id) as wire:
        return exchange(wire, mechanism, user, password)


def publish(wire, topic, payload, retain=False):
    """QoS 1, and its acknowledgement's reason."""
    wire.send(0x32 | retain, text(topic) + b"\x00\x01\x00" + payload)
    kind, body = wire.read()
    assert kind == PUBACK
    return body[2] if len(body) > 2 else 0


def ports(broker):
    return {"cyrus": broker.port, "gsasl": broker.gsasl_port}
