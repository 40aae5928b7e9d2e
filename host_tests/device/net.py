# A network for the blocking client without sockets: what comes stands there, what goes out is kept.
import umqtt5.transport as transport

CONNACK = b"\x20\3\0\0\0"


class Net:
    """In transport's place: streams to a broker that says CONNACK, and then what stands in `says`."""

    def __init__(self, connack=CONNACK):
        self.connack = connack
        self.streams = []
        self.full = False  # no memory for a poll object
        for name in ("addresses", "start", "poller", "connected", "may_wait"):
            setattr(transport, name, getattr(self, name))

    def addresses(self, server, port):
        return [(2, 1, 0, "", (server, port))]

    def start(self, where):
        self.streams.append(Stream(self.connack))
        return self.streams[-1]

    def poller(self):
        if self.full:
            raise MemoryError
        return Poll()

    def connected(self, sock, poll):
        return True

    def may_wait(self, sock, on):
        pass


class Stream:
    def __init__(self, says):
        self.says = says
        self.took = []
        self.closed = False
        self.error = None  # what write() raises
        self.ended = False  # behind `says`
        self.takes = []  # of the next writes: so many bytes, None for none

    def write(self, buf, at, n=None):
        if n is None:
            at, n = 0, at
        if self.error:
            raise self.error
        if self.takes:
            most = self.takes.pop(0)
            n = None if most is None else min(n, most)
        if n:
            self.took.append(bytes(buf[at : at + n]))
        return n

    def readinto(self, buf, n):
        n = min(n, len(self.says))
        buf[:n] = self.says[:n]
        self.says = self.says[n:]
        return n or (0 if self.ended else None)

    def close(self):
        self.closed = True


class Poll:
    def register(self, sock, events):
        pass

    modify = register

    def unregister(self, sock):
        pass

    def ipoll(self, ms):
        return ()
