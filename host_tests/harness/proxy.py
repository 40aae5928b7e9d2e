"""A TCP proxy that understands where MQTT packets end: it shows what passes, and stops or cuts the traffic anywhere.

    with Proxy(broker.plain_port) as proxy:
        proxy.stop_after(2)      # the third packet of the exchange, and all behind it, waits here
        ... the client publishes through proxy.port ...
        proxy.wait_stopped()
        broker.save(); broker.kill(); broker.start()
        proxy.cut()              # both ends see the connection end; the next one passes again

"The exchange" is PUBLISH and its acknowledgements, both ways; other packets pass uncounted until the stop.
It never changes a byte. No wait is without a deadline.
"""

import select
import socket
import threading
import time

from harness import wire

OUT, IN = "out", "in"  # from the client to the broker, and back
_EXCHANGE = {wire.PUBLISH, wire.PUBACK, wire.PUBREC, wire.PUBREL, wire.PUBCOMP}


def packet_end(buffer):
    """How many bytes the first packet in `buffer` has, or 0 where it is not whole."""
    length = 0
    for i in range(1, 5):
        if len(buffer) <= i:
            return 0
        length |= (buffer[i] & 0x7F) << 7 * (i - 1)
        if not buffer[i] & 0x80:
            end = i + 1 + length
            return end if len(buffer) >= end else 0
    raise AssertionError("a remaining length of more than four bytes")


def body_of(packet):
    """What stands behind the fixed header."""
    i = 1
    while packet[i] & 0x80:
        i += 1
    return bytes(packet[i + 1 :])


class Link:
    """One connection: `passed` [(OUT or IN, bytes of a packet)], in order; `held`: those that wait here."""

    def __init__(self, client, server):
        self.socks = {OUT: client, IN: server}  # by the way of what is read from it
        self.buffers = {OUT: bytearray(), IN: bytearray()}
        self.passed, self.held, self.open = [], [], True
        self.logged_in = False
        self.bytes = {OUT: 0, IN: 0}  # passed since the login

    def packets(self, way=None, kinds=_EXCHANGE):
        """The packets of the exchange that have passed (wire.Packet), one way or both, in order."""
        return [
            wire.parse(data[0], body_of(data))
            for w, data in self.passed
            if way in (None, w) and (kinds is None or data[0] >> 4 in kinds)
        ]

    def seen(self, way, kind):
        """The packets of this type, passed or held."""
        return [data for w, data in self.passed + self.held if w == way and data[0] >> 4 == kind]

    def count(self):
        return sum(data[0] >> 4 in _EXCHANGE for _, data in self.passed)

    def sizes(self, way):
        """How many bytes of the exchange have passed."""
        return sum(len(data) for w, data in self.passed if w == way and data[0] >> 4 in _EXCHANGE)


class Proxy:
    """See the head of the file. `port`: where clients connect; `links`: the connections so far."""

    def __init__(self, target):
        self.target, self.links = target, []
        self._limit = self._byte_limit = None
        self._lock, self._stop = threading.Condition(), threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._wake = socket.socketpair()
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        self._wake[0].send(b"x")
        self._thread.join(10)
        for s in (self._listener, *self._wake):
            s.close()
        for link in self.links:
            self._close(link)

    @property
    def link(self):
        """The newest connection."""
        return self.links[-1]

    # --- what a test tells it

    def stop_after(self, count):
        """The newest connection, or the next one where there is none: let `count` more packets of the exchange
        pass, and hold what follows."""
        with self._lock:
            had = self.link.count() if self.links and self.link.open else 0
            self._limit = had + count

    def cut_at(self, way, count):
        """End the newest connection when `count` more bytes have gone that way."""
        with self._lock:
            self._byte_limit = (way, self.link.bytes[way] + count)

    def wait_stopped(self, more=True, seconds=5):
        """Until stop_after()'s packets have passed; more: and the next one waits here."""
        self._await(
            lambda: self._limit is not None and self.link.count() >= self._limit and (self.link.held or not more),
            seconds,
        )

    def wait_seen(self, way, kind, count, seconds=5):
        """Until `count` packets of this type have come that way on the newest connection, passed or held."""
        self._await(lambda: len(self.link.seen(way, kind)) >= count, seconds)

    def wait_ended(self, seconds=5):
        """Until both ends of the newest connection have closed: the broker has seen all that came before."""
        self._await(lambda: not any(self.link.socks.values()), seconds)

    def cut(self):
        """End the newest connection; what is held is lost. The next one passes."""
        with self._lock:
            link = self.link
            self._end(link)
            self._limit = self._byte_limit = None
        self._wake[0].send(b"x")

    def _await(self, condition, seconds):
        with self._lock:
            if not self._lock.wait_for(condition, seconds):
                link = self.link if self.links else None
                seen = link and ([f"{w} {d[:12].hex(' ')}" for w, d in link.passed], len(link.held))
                raise AssertionError(f"it did not come to that; passed and held: {seen}")

    # --- how it works

    def _serve(self):
        while not self._stop.is_set():
            sources = {self._listener: None, self._wake[1]: None}
            for link in self.links:
                for way, sock in link.socks.items():
                    if sock is not None:
                        sources[sock] = (link, way)
            try:
                ready = select.select(list(sources), [], [], 0.5)[0]
            except (ValueError, OSError):
                continue  # a socket was closed meanwhile
            for sock in ready:
                if sock is self._wake[1]:
                    sock.recv(64)
                elif sock is self._listener:
                    self._accept()
                else:
                    with self._lock:
                        self._read(*sources[sock])
                        self._lock.notify_all()

    def _accept(self):
        client, _ = self._listener.accept()
        try:
            server = socket.create_connection(("127.0.0.1", self.target), 2)
        except OSError:
            client.close()
            return
        for s in (client, server):
            s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with self._lock:
            self.links.append(Link(client, server))

    def _read(self, link, way):
        sock = link.socks[way]
        if sock is None:
            return
        try:
            data = sock.recv(65536)
        except OSError:
            data = b""
        if not data:
            self._end(link)
            link.socks[way] = None
            sock.close()
            return
        if not link.open:
            return  # it is over; read only until the end is seen
        buffer = link.buffers[way]
        buffer += data
        while link.open and (end := packet_end(buffer)):
            packet = bytes(buffer[:end])
            del buffer[:end]
            self._pass(link, way, packet)

    def _pass(self, link, way, packet):
        if self._limit is not None and link.count() >= self._limit and link.logged_in:
            link.held.append((way, packet))
            return
        count = len(packet)
        cut = False
        if self._byte_limit and self._byte_limit[0] == way and link.logged_in:
            left = self._byte_limit[1] - link.bytes[way]
            cut = left <= count
            count = min(left, count)
        try:
            link.socks[IN if way == OUT else OUT].sendall(packet[:count])
        except (OSError, AttributeError):
            self._end(link)
            return
        if link.logged_in:
            link.bytes[way] += count
        if count == len(packet):
            link.passed.append((way, packet))
        if packet[0] >> 4 == wire.CONNACK:
            link.logged_in = True
        if cut:
            self._end(link)
            self._byte_limit = None

    def _end(self, link):
        """Both ends are told; what they still send is read until they close."""
        if link.open:
            link.open = False
            for sock in link.socks.values():
                try:
                    sock and sock.shutdown(socket.SHUT_WR)
                except OSError:
                    pass

    def _close(self, link):
        for sock in link.socks.values():
            if sock is not None:
                sock.close()


def wait_for(condition, seconds=5, what="it"):
    """Poll until condition() is true; its value."""
    end = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < end, f"{what} did not come true in {seconds} s"
        time.sleep(0.005)
    return value
