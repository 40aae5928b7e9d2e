"""A server on 127.0.0.1 that does what a script says, one script a connection, and remembers all that it
received.

    with ScriptedServer(hostile, honest(credentials)) as server:
        ... run a client against server.port ...
        first, second = server.finish()
        assert first.ended == "fin" and first.names() == ["CONNECT", "DISCONNECT"]

A script is a function of a Connection. When it returns, the server only listens: it reads until the client
has closed, or connects anew without having closed ("left open"). Silence is a script that returns. Nothing
here waits without a deadline.
"""

import contextlib
import select
import socket
import struct
import threading
import time

from harness import wire

STEP = 5  # seconds that a script waits for one packet of the client
LINGER = 20  # seconds that the server waits for the client to close


class Unexpected(Exception):
    """The client did something else than the script waited for. In hostile scripts this is often how it
    should end."""


class Connection:
    """One connection: `received` (wire.Packet), `ended` (how the client closed: "fin", "reset", "left
    open", or None), `error` (why its script ended early, or None), `broken` (what the client sent that is
    not MQTT, or None)."""

    def __init__(self, sock, listener, stop):
        self.sock, self._listener, self._stop = sock, listener, stop
        self.received, self.ended, self.error, self.broken = [], None, None, None
        self._buffer, self._read = bytearray(), 0
        self.opened = time.monotonic()
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    # What a script does

    def expect(self, kind, timeout=STEP):
        """The next packet, which must be of this type (wire.CONNECT, ...)."""
        packet = self.next(timeout)
        if packet is None or packet.type != kind:
            got = packet if packet else f"the end ({self.ended})"
            raise Unexpected(f"waited for {wire.NAMES[kind]}, got {got}")
        return packet

    def next(self, timeout=STEP):
        """The next packet of the client, or None after it has closed."""
        end = time.monotonic() + timeout
        while self._read == len(self.received):
            if self.ended:
                return None
            self._receive(end)
        self._read += 1
        return self.received[self._read - 1]

    def send(self, *chunks):
        """Send all bytes; raises Unexpected if the client is gone or takes nothing for STEP seconds."""
        self.sock.settimeout(STEP)
        try:
            self.sock.sendall(b"".join(chunks))
        except OSError as e:
            raise Unexpected(f"could not send: {e}") from None

    def trickle(self, data, pause=0.0):
        """Send one byte at a time, each in a TCP segment of its own, with a pause in seconds after each."""
        for i in range(len(data)):
            self.send(data[i : i + 1])
            if self._stop.wait(pause):
                raise Unexpected("the server was told to stop")

    def close(self):
        """FIN: this side sends no more, and goes on reading, to see what the client does about it."""
        try:
            self.sock.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # the client was faster, and has reset the connection already

    def reset(self):
        """RST. Nothing of the client can be seen afterwards."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()
        self.ended = "reset by the server"

    def pause(self, seconds):
        """Let time pass (a script's own timing: a stall in a packet, a deadline of the client)."""
        self._stop.wait(seconds)

    def stall(self, timeout=STEP):
        """Read nothing until the client gives up and connects anew."""
        end = time.monotonic() + timeout
        while not select.select([self._listener], [], [], 0.1)[0]:
            if time.monotonic() > end or self._stop.is_set():
                raise Unexpected("the client did not connect anew in time")

    def serve(self, timeout=STEP):
        """Answer as an honest broker does, until the client says DISCONNECT or closes."""
        while (p := self.next(timeout)) is not None and p.type != wire.DISCONNECT:
            if p.type == wire.PINGREQ:
                self.send(wire.packet(wire.PINGRESP))
            elif p.type == wire.SUBSCRIBE:
                granted = bytes(options & 3 for _, options in p.filters)
                self.send(wire.packet(wire.SUBACK, p.pid.to_bytes(2, "big") + b"\0" + granted))
            elif p.type == wire.UNSUBSCRIBE:
                self.send(wire.packet(wire.UNSUBACK, p.pid.to_bytes(2, "big") + b"\0" + bytes(len(p.filters))))
            elif p.type == wire.PUBLISH and p.qos:
                self.send(wire.ack(wire.PUBACK if p.qos == 1 else wire.PUBREC, p.pid))
            elif p.type == wire.PUBREL:
                self.send(wire.ack(wire.PUBCOMP, p.pid))

    # What a test asks

    def names(self):
        """The types of all packets received, in order."""
        return [p.name for p in self.received]

    def all(self, kind):
        return [p for p in self.received if p.type == kind]

    # How it works

    def _receive(self, end):
        """Read once, until `end` at the latest; sets `ended` when there is no more to come."""
        wait = end - time.monotonic()
        if wait <= 0 or self._stop.is_set():
            raise Unexpected("the client sent nothing in time")
        if not select.select([self.sock], [], [], min(wait, 0.2))[0]:
            return
        try:
            data = self.sock.recv(65536)
            if not data:
                self.ended = "fin"
        except ConnectionResetError:  # the kernel's way of closing with unread bytes: it is closed all the same
            data, self.ended = b"", "reset"
        self._buffer += data
        try:
            while self._buffer:
                packet, used = wire.split(self._buffer)
                if not used:
                    break
                del self._buffer[:used]
                self.received.append(packet)
        except (wire.WireError, UnicodeError) as e:
            self.broken, self.ended = str(e), self.ended or "left open"

    def _drain(self):
        """Listen until the client has closed. A new connection while this one is open means: it was
        forgotten."""
        end = time.monotonic() + LINGER
        grace = None
        while not self.ended and not self._stop.is_set() and time.monotonic() < end:
            if grace is None and select.select([self._listener], [], [], 0)[0]:
                grace = time.monotonic() + 0.3
            if grace and time.monotonic() > grace:
                self.ended = "left open"
                break
            before = len(self._buffer), len(self.received)
            with contextlib.suppress(Unexpected):
                self._receive(min(end, time.monotonic() + 0.05))
            if before != (len(self._buffer), len(self.received)):
                grace = None  # what it has sent before it connected anew is still on its way
        if self._buffer:
            self.broken = self.broken or f"the client's last packet was cut off ({len(self._buffer)} bytes)"

    def _run(self, script):
        try:
            script(self)
        except Unexpected as e:
            self.error = str(e)
        except Exception as e:  # a fault of the script itself: shown by finish()
            self.error = f"{type(e).__name__}: {e}"
            raise
        finally:
            if self.ended is None:
                self._drain()
            self.sock.close()


class ScriptedServer:
    """See the head of the file. `rcvbuf`: the receive buffer of its sockets in bytes, to make a peer that
    stops reading."""

    def __init__(self, *scripts, rcvbuf=None):
        self._scripts, self._stop, self._failure = scripts, threading.Event(), None
        self.connections = []
        self._listener = socket.socket()
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if rcvbuf:
            self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, rcvbuf)
        self._listener.bind(("127.0.0.1", 0))
        self._listener.listen(4)
        self.host, self.port = self._listener.getsockname()
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def _serve(self):
        try:
            for script in self._scripts:
                while not select.select([self._listener], [], [], 0.1)[0]:
                    if self._stop.is_set():
                        return
                sock, _ = self._listener.accept()
                connection = Connection(sock, self._listener, self._stop)
                self.connections.append(connection)
                connection._run(script)
        except Exception as e:
            self._failure = e
        finally:
            self._listener.close()

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *exc):
        self._stop.set()
        self._thread.join(LINGER)

    def finish(self, timeout=STEP):
        """All connections, one for each script, after the client has ended; AssertionError if it did not
        use them all."""
        self._thread.join(timeout)
        self._stop.set()
        self._thread.join(LINGER)
        if self._failure:
            raise self._failure
        assert len(self.connections) == len(self._scripts), (
            f"the client connected {len(self.connections)} times, the test has {len(self._scripts)} scripts"
        )
        return self.connections
