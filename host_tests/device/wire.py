# A broker's side for the tests of the engine: bytes in, bytes out, no socket, time as an argument.
from umqtt5.props import encode
from umqtt5.protocol import Engine
from umqtt5.reader import UP
from umqtt5.session import DONE


class Stream:
    """What pull() reads from and writes to, and its driver: `view` is what has come and is not read."""

    _together = 1

    def __init__(self, engine, clock, sent):
        self.view = b""
        self.sent = sent
        self.engine = engine
        self.clock = clock
        engine.driver = self
        self._listen()

    def _abort(self):
        pass

    def _listen(self, *ahead):
        from umqtt5.quick import pull  # not above: a test sees that the asyncio client does without

        self.turns = pull(self.engine, self.readinto, self.write, self.clock, *ahead)
        next(self.turns)

    def readinto(self, buf, n):
        n = min(n, len(self.view))
        buf[:n] = self.view[:n]
        self.view = self.view[n:]
        return n or None

    def write(self, buf, n):
        self.sent.append(bytes(buf[:n]))
        return n


class Wire:
    """An engine, what it has sent (a list of packets), and the time."""

    def __init__(self, now=1000, chunk=None, **options):
        options.setdefault("keepalive", 60)
        self.now = now
        self.chunk = chunk  # bytes at a time, None: all
        self.e = Engine(options.pop("client_id", "me"), None, None, options.pop("keepalive"), **options)
        self.e.session.grace = 0  # Receive Maximum to the letter
        self.sent = []
        self.messages = []
        self.e.callback = lambda topic, msg: self.messages.append((topic, msg))

    def flush(self):
        e = self.e
        packet = b""
        while e.left or e.next():
            n = min(e.left, self.chunk or e.left)
            packet += bytes(e.out[e.off : e.off + n])
            e.wrote(n, self.now)
            if not e.midway:
                self.sent.append(packet)
                packet = b""
        return self.sent

    def answer(self, i):
        """The reason code of slot i; None while it waits."""
        s = self.e.session
        return s.reason[i] if s.state[i] == DONE else None

    def feed(self, data):
        """Bytes from the broker, as a non-blocking stream gives them: whole by pull(), in pieces by got()."""
        e = self.e
        if self.chunk is None:
            if e.state != UP or not isinstance(e.driver, Stream):
                Stream(e, lambda: self.now, self.sent)
            e.driver.view = memoryview(data)
            op = 0
            while op is not None or len(e.driver.view):
                self.flush()  # as a driver does before it reads
                op = next(e.driver.turns)
                self.flush()
            return
        view = memoryview(data)
        while len(view):
            n = min(e.need, len(view), self.chunk or len(view))
            e.into[:n] = view[:n]
            view = view[n:]
            e.got(n, self.now)
            self.flush()

    def publish(self, topic, msg, retain=False, qos=0, props=None):
        """As a driver's publish(): the slot, or -1."""
        e = self.e
        e.out_topic, e.out_msg, e.out_props = topic, msg, props
        e.out_flags = qos << 1 | (1 if retain else 0)
        return e.publish()

    def up(self, clean=True, present=0, **granted):
        """Connect; the broker grants these properties."""
        self.e.open(self.now, clean)
        self.flush()
        properties = encode(**granted)
        self.feed(packet(0x20, bytes((present, 0, len(properties))) + properties))
        assert self.e.state == UP
        self.sent.clear()
        return self


def packet(header, body):
    n = len(body)
    if n < 128:
        return bytes((header, n)) + body
    return bytes((header, n & 127 | 128, n >> 7)) + body


def publish(topic, msg, qos=0, pid=1, flags=0, properties=b""):
    body = bytes((len(topic) >> 8, len(topic) & 255)) + topic
    if qos:
        body += bytes((pid >> 8, pid & 255))
    return packet(0x30 | qos << 1 | flags, body + bytes((len(properties),)) + properties + msg)


def raises(kind, function, *args):
    try:
        function(*args)
    except kind as e:
        return e
    raise AssertionError("no " + kind.__name__)
