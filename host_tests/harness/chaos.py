"""A TCP proxy that does to connections what networks do: it counts bytes, from the first one of a connection on, and
knows nothing of packets (proxy.py does). For the ledger tests.

    with Chaos(broker.port, faults) as chaos:        # faults: an iterator; each connection takes the next one
        ... clients connect to chaos.port ...

A Fault happens when `at` bytes have gone its `way`; behind one that does not end the connection comes the next, which
counts from there:

    cut      both ends are closed               half     only this way is closed, the other one goes on
    reset    both ends are reset                hole     nothing goes either way any more; nobody is told
    stall    nothing moves for `seconds`        delay    until the next fault each piece comes `seconds` later
    drip     until the next fault one byte at a time
"""

import selectors
import socket
import struct
import threading
import time
from dataclasses import dataclass, replace

OUT, IN = "out", "in"  # from the client to the broker, and back


@dataclass
class Fault:
    kind: str
    way: str = OUT
    at: int = 0
    seconds: float = 0.0

    @property
    def ends(self):
        """It takes no other fault behind it."""
        return self.kind in ("cut", "reset", "half", "hole")


def random_faults(rng, bytes_between, kinds):
    """Faults for ever, at random places: on average after so many bytes."""
    while True:
        kind = rng.choice(kinds)
        seconds = {"stall": rng.uniform(0.05, 0.3), "delay": rng.uniform(0.001, 0.004)}.get(kind, 0)
        yield Fault(kind, rng.choice((OUT, IN)), int(rng.expovariate(1 / bytes_between)), seconds)


def after_each_cut_a_whole_one(faults):
    """A decorator of faults for tests of every byte: the connection behind one that was cut passes."""
    for fault in faults:
        yield fault
        if fault is not None:
            yield None


class Link:
    def __init__(self, client, server, fault):
        self.socks = {OUT: client, IN: server}  # by the way of what is read from it
        self.bytes = {OUT: 0, IN: 0}
        self.came = bytearray()  # what has gone IN
        self.fault, self.struck = fault, None  # what is to come, what has come last
        self.hole = False
        self.held, self.until = [], 0.0  # what waits for a stall's end

    def other(self, way):
        return self.socks[IN if way == OUT else OUT]


class Chaos:
    """See the head of the file. `port`; `count`: connections so far; `struck`: faults that have happened, by kind;
    `last`: the newest Link."""

    def __init__(self, target, faults=()):
        self.target, self._faults = target, iter(faults)
        self.count, self.struck, self.last, self.began = 0, {}, None, None
        self._links, self._lock, self._stop = [], threading.RLock(), False
        self.links = []  # all there have been
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self._listener.setblocking(False)
        self.port = self._listener.getsockname()[1]
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._stop = True
        self._thread.join(10)
        for link in list(self._links):
            self._end(link)
        self._selector.close()
        self._listener.close()

    def held(self):
        """A context in which nothing moves, and at whose end all connections are cut."""
        return _Held(self)

    def until(self, way, count, seconds=30):
        """Wait until so many bytes have gone this way, by all connections together."""
        end = time.monotonic() + seconds
        while sum(link.bytes[way] for link in self.links) < count:
            assert time.monotonic() < end, f"fewer than {count} bytes went {way} in {seconds} s"
            time.sleep(0.001)

    # --- how it works

    def _serve(self):
        while not self._stop:
            now = time.monotonic()
            waits = [link.until for link in self._links if link.held]
            timeout = max(0, min([0.05, *(until - now for until in waits)]))
            events = self._selector.select(timeout)
            with self._lock:
                for key, _ in events:
                    if key.data is None:
                        self._accept()
                    elif key.data[0] in self._links:
                        self._read(*key.data)
                now = time.monotonic()
                for link in list(self._links):
                    if link.held and now >= link.until:
                        held, link.held = link.held, []
                        for way, data in held:
                            self._forward(link, way, data)

    def _accept(self):
        try:
            client, _ = self._listener.accept()
        except OSError:
            return
        try:
            server = socket.create_connection(("127.0.0.1", self.target), 2)
        except OSError:
            client.close()  # the broker is down; no connection of ours: it takes no fault
            return
        self.count += 1
        link = self.last = Link(client, server, next(self._faults, None))
        for way, sock in link.socks.items():
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.settimeout(5)
            self._selector.register(sock, selectors.EVENT_READ, (link, way))
        self._links.append(link)
        self.links.append(link)
        if link.fault and not link.fault.at:
            self._strike(link)

    def _read(self, link, way):
        try:
            data = link.socks[way].recv(65536)
        except OSError:
            data = b""
        if not data:
            self._end(link)
            return
        if link.hole:
            return
        if link.held:
            link.held.append((way, data))
            return
        fault = link.fault
        if fault and fault.way == way and link.bytes[way] + len(data) >= fault.at:
            n = fault.at - link.bytes[way]
            self._forward(link, way, data[:n])
            if link in self._links:
                self._strike(link, data[n:])
            return
        if link.struck and link.struck.kind == "delay":
            link.held.append((way, data))
            link.until = time.monotonic() + link.struck.seconds
            return
        self._forward(link, way, data)

    def _forward(self, link, way, data):
        if link.hole or link not in self._links or not data:
            return
        link.bytes[way] += len(data)
        try:
            if link.struck and link.struck.kind == "drip":
                for i in range(len(data)):
                    link.other(way).send(data[i : i + 1])
            else:
                link.other(way).sendall(data)
            if way == IN:
                link.came += data
        except OSError:
            if not (link.struck and link.struck.kind == "half"):
                self._end(link)

    def _strike(self, link, rest=b""):
        """The fault happens now; `rest`: what came behind it."""
        fault = link.struck = link.fault
        link.fault = None if fault.ends else next(self._faults, None)
        if link.fault:
            link.fault = replace(link.fault, at=link.bytes[link.fault.way] + link.fault.at + 1)
        self.began = time.monotonic()
        self.struck[fault.kind] = self.struck.get(fault.kind, 0) + 1
        if fault.kind == "cut":
            self._end(link)
        elif fault.kind == "reset":
            for sock in link.socks.values():
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self._end(link)
        elif fault.kind == "half":
            try:
                link.other(fault.way).shutdown(socket.SHUT_WR)
            except OSError:
                self._end(link)
        elif fault.kind == "hole":
            link.hole = True
        elif fault.kind in ("stall", "delay"):
            link.held.append((fault.way, rest))
            link.until = time.monotonic() + fault.seconds
        else:
            self._forward(link, fault.way, rest)

    def _end(self, link):
        if link in self._links:
            self._links.remove(link)
            for sock in link.socks.values():
                self._selector.unregister(sock)
                sock.close()


class _Held:
    def __init__(self, chaos):
        self.chaos = chaos

    def __enter__(self):
        self.chaos._lock.acquire()

    def __exit__(self, *_):
        for link in list(self.chaos._links):
            self.chaos._end(link)
        self.chaos._lock.release()


def every_byte(sizes):
    """A cut after each byte, both ways: {way: bytes} -> faults."""
    return [Fault("cut", way, at) for way, size in sizes.items() for at in range(size)]
