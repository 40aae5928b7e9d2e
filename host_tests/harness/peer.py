"""An MQTT 5 client of the tests' own, over wire.py: the witness at the other side of a real broker.

It must never import the library under test. Every wait ends after some seconds.
"""

import itertools
import socket

from harness import wire
from harness.proxy import body_of, packet_end

_numbers = itertools.count(1)


class Peer:
    """A logged-in connection. `granted`: CONNACK's properties [(identifier, value)], `present`: its session flag."""

    def __init__(self, port, client_id=None, clean=True, expiry=0, pairs=(), seconds=5):
        self.sock = socket.create_connection(("127.0.0.1", port), seconds)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._buffer, self._pid, self.queue = bytearray(), 0, []
        self.client_id = client_id or f"peer{next(_numbers)}"
        if expiry:
            pairs = [(0x11, expiry), *pairs]
        body = wire.string("MQTT") + bytes([5, 2 if clean else 0, 0, 60]) + wire.props(*pairs)
        self.send(wire.CONNECT, body + wire.string(self.client_id))
        first, body = self._packet()
        assert first >> 4 == wire.CONNACK and body[1] == 0, (first, body)
        self.present, self.granted = body[0], wire._Reader(body[2:]).props()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.sock.close()

    def send(self, kind, body=b"", flags=0):
        self.sock.sendall(wire.packet(kind, body, flags))

    def leave(self, reason=0, *pairs):
        """DISCONNECT, and close."""
        self.send(wire.DISCONNECT, bytes([reason]) + wire.props(*pairs))
        self.sock.close()

    def subscribe(self, filter, qos=2, options=0, *pairs):
        """-> the granted QoS."""
        pid = self._next_pid()
        body = pid + wire.props(*pairs) + wire.string(filter) + bytes([qos | options])
        self.send(wire.SUBSCRIBE, body, 2)
        return self._until(wire.SUBACK, pid)[-1]

    def publish(self, topic, payload=b"", qos=0, *pairs, retain=False):
        """Publish, and see it acknowledged: (reason, properties) of the last acknowledgement, None at QoS 0."""
        pid = self._next_pid() if qos else b""
        body = wire.string(topic) + pid + wire.props(*pairs) + payload
        self.send(wire.PUBLISH, body, qos << 1 | retain)
        if not qos:
            return None
        p = wire.parse(0x40, self._until(wire.PUBACK if qos == 1 else wire.PUBREC, pid))
        if qos == 2 and p.reason < 0x80:
            self.send(wire.PUBREL, pid, 2)
            p = wire.parse(0x40, self._until(wire.PUBCOMP, pid))
        return p.reason, p.props

    def receive(self):
        """The next message (wire.Packet); it is acknowledged."""
        while not self.queue:
            self._take(*self._packet())
        return self.queue.pop(0)

    def payloads(self, last=b"END"):
        """The payloads of all messages up to `last`, which is left out."""
        found = []
        while (payload := self.receive().payload) != last:
            found.append(payload)
        return found

    def sync(self):
        """Until the broker has dealt with all that was sent: PINGREQ, PINGRESP."""
        self.send(wire.PINGREQ)
        self._until(wire.PINGRESP)

    # --- how it works

    def _next_pid(self):
        self._pid += 1
        return self._pid.to_bytes(2, "big")

    def _packet(self):
        while True:
            if end := packet_end(self._buffer):
                packet = bytes(self._buffer[:end])
                del self._buffer[:end]
                return packet[0], body_of(packet)
            data = self.sock.recv(65536)
            if not data:
                raise AssertionError(f"the broker has closed on {self.client_id}")
            self._buffer += data

    def _take(self, first, body):
        kind = first >> 4
        if kind == wire.PUBLISH:
            p = wire.parse(first, body)
            self.queue.append(p)
            if p.qos:
                self.send(wire.PUBACK if p.qos == 1 else wire.PUBREC, body_pid(p))
        elif kind == wire.PUBREL:
            self.send(wire.PUBCOMP, body[:2])
        elif kind == wire.DISCONNECT:
            raise AssertionError(f"the broker says DISCONNECT 0x{body[0] if body else 0:02X}")
        else:
            raise AssertionError(f"unexpected: {wire.NAMES[kind]}")

    def _until(self, kind, pid=b""):
        """The body of the next packet of this type; messages that come before it are queued."""
        while True:
            first, body = self._packet()
            if first >> 4 == kind and body.startswith(pid):
                return body
            self._take(first, body)


def body_pid(p):
    return p.pid.to_bytes(2, "big")
