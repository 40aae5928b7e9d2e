# For test_rules_*.py: packets taken apart independently of the library, every kind of incoming packet in a state
# where it is right, and what must hold after a breach. It must not use umqtt5.codec: two wrongs would agree.
from umqtt5.errors import MalformedPacket, ProtocolError
from umqtt5.reader import CLOSED, FAILED, UP
from umqtt5.subscribe import Subscription, add, send_subscribe, send_unsubscribe
from wire import Wire, packet

NAMES = (
    "0", "CONNECT", "CONNACK", "PUBLISH", "PUBACK", "PUBREC", "PUBREL", "PUBCOMP", "SUBSCRIBE", "SUBACK",
    "UNSUBSCRIBE", "UNSUBACK", "PINGREQ", "PINGRESP", "DISCONNECT", "AUTH",
)  # fmt: skip

# Not well-formed, or forbidden, as UTF-8 in MQTT (1.5.4).
BAD_UTF8 = (b"\xff", b"\x80", b"a\xc3", b"\xc0\x80", b"\xed\xa0\x80", b"\xed\xbf\xbf", b"\xf4\x90\x80\x80", b"a\x00")


def string(raw):
    return bytes((len(raw) >> 8, len(raw) & 255)) + raw


def u16(n):
    return bytes((n >> 8, n & 255))


def prop(ident, data_type, value=None):
    """A property by the specification's name of its type; `value`: bytes, to replace a plain one."""
    if data_type == "UTF-8 String Pair":
        value = string(b"name") + string(b"value") if value is None else value
    elif data_type in ("UTF-8 Encoded String", "Binary Data"):
        value = string(b"text" if value is None else value)
    elif value is None:
        value = {
            "Byte": b"\x01",
            "Two Byte Integer": b"\x00\x01",
            "Four Byte Integer": b"\x00\x00\x00\x01",
            "Variable Byte Integer": b"\x01",
        }[data_type]
    return bytes((ident,)) + value


def props(raw):
    return bytes((len(raw),)) + raw if len(raw) < 128 else bytes((len(raw) & 127 | 128, len(raw) >> 7)) + raw


class Sent:
    """A packet of the client's, taken apart."""

    def __init__(self, raw):
        self.raw = raw
        self.name = NAMES[raw[0] >> 4]
        self.flags = raw[0] & 15
        n, at = self._vbi(1)
        assert at + n == len(raw), "the remaining length is wrong"
        self.body = raw[at:]
        self.pid = self.reason = None
        self.props = self.payload = self.topic = b""
        self.qos = 0
        self._at = at
        if self.name == "PUBLISH":
            self.qos = self.flags >> 1 & 3
            self.topic = self._string()
            if self.qos:
                self.pid = self._u16()
            self.props = self._props()
            self.payload = raw[self._at :]
        elif self.name in ("SUBSCRIBE", "UNSUBSCRIBE"):
            self.pid = self._u16()
            self.props = self._props()
            self.topic = self._string()
            self.payload = raw[self._at :]
        elif self.name in ("PUBACK", "PUBREC", "PUBREL", "PUBCOMP"):
            self.pid = self._u16()
            self._reason()
        elif self.name in ("DISCONNECT", "AUTH"):
            self._reason()
        elif self.name == "CONNECT":
            self._connect()

    def _reason(self):
        self.reason = 0
        if self._at < len(self.raw):
            self.reason = self.raw[self._at]
            self._at += 1
        if self._at < len(self.raw):
            self.props = self._props()
        assert self._at == len(self.raw)

    def _connect(self):
        assert self._string() == b"MQTT"
        self.version = self.raw[self._at]
        self.connect_flags = self.raw[self._at + 1]
        self._at += 2
        self.keepalive = self._u16()
        self.props = self._props()
        # In this order [MQTT-3.1.3-1]; each where its flag says so, and nothing behind them.
        self.client_id = self._string()
        self.will = self.user = self.password = None
        if self.connect_flags & 4:
            self.will = (self._props(), self._string(), self._string())
        if self.connect_flags & 0x80:
            self.user = self._string()
        if self.connect_flags & 0x40:
            self.password = self._string()
        assert self._at == len(self.raw), "bytes behind the payload"

    def _u16(self):
        self._at += 2
        return self.raw[self._at - 2] << 8 | self.raw[self._at - 1]

    def _string(self):
        n = self._u16()
        self._at += n
        assert self._at <= len(self.raw)
        return self.raw[self._at - n : self._at]

    def _vbi(self, at):
        n = shift = 0
        while True:
            n |= (self.raw[at] & 127) << shift
            at += 1
            if self.raw[at - 1] < 128:
                # [MQTT-1.5.5-1]
                assert not shift or self.raw[at - 1], "more bytes than needed"
                return n, at
            shift += 7

    def _props(self):
        n, self._at = self._vbi(self._at)
        self._at += n
        assert self._at <= len(self.raw)
        return self.raw[self._at - n : self._at]


def sent(w):
    """All that the client has sent since the last call."""
    w.flush()
    found = [Sent(raw) for raw in w.sent]
    w.sent.clear()
    return found


def last(w):
    return sent(w)[-1]


def names(packets):
    return [p.name for p in packets]


def pub(w, topic=b"topic", msg=b"", qos=0, retain=False, properties=None):
    """Publish, as a caller that does not wait; the packet."""
    i = w.publish(topic, msg, retain, qos, properties)
    if i >= 0:
        w.e.session.release(i)
    return last(w)


def subscribe(w, filter=b"a/#", ident=0, options=0, handler=None):
    new = Subscription(ident, filter, handler, options, b"")
    send_subscribe(w.e, new)
    add(w.e.session, new)
    return last(w)


def unsubscribe(w, filter=b"a/#", properties=None):
    send_unsubscribe(w.e, filter, properties)
    return last(w)


def ack(kind, pid, reason=None, properties=None):
    """PUBACK, PUBREC, PUBREL or PUBCOMP of the broker's."""
    body = u16(pid)
    if reason is not None:
        body += bytes((reason,))
    if properties is not None:
        body += props(properties)
    header = {"PUBACK": 0x40, "PUBREC": 0x50, "PUBREL": 0x62, "PUBCOMP": 0x70}[kind]
    return packet(header, body)


def connack(present=0, reason=0, properties=b""):
    return packet(0x20, bytes((present, reason)) + props(properties))


def opened(w, clean=True):
    """CONNECT is out; CONNACK is awaited."""
    w.e.open(w.now, clean)
    while w.e.auth_busy():
        w.e.work(w.now)
    return last(w)


def gone(w):
    """The stream broke, and the driver closed it."""
    w.e.closed()
    assert w.e.state == CLOSED
    w.sent.clear()


class Mechanism:
    """An authentication mechanism that says `says`, one after the other."""

    name = "M"

    def __init__(self, *says):
        self.says = says
        self.heard = []

    def exchange(self):
        for data in self.says:
            self.heard.append((yield data))


METHOD = b"\x15\x00\x01M"


def scene(kind, **options):
    """An engine in a state where a packet of type `kind` (a name) from the broker is right, and a function of its
    properties, and of its reason, that makes the packet."""
    options.setdefault("topic_alias_maximum", 5)
    options.setdefault("rx_size", 4096)
    if kind == "AUTH":
        w = Wire(auth=Mechanism(b"one", b"two"), **options)
        opened(w)
        return w, lambda p=b"", r=0x18: packet(0xF0, bytes((r,)) + props(p))
    w = Wire(**options)
    if kind == "CONNACK":
        opened(w)
        return w, lambda p=b"", r=0: packet(0x20, bytes((0, r)) + props(p))
    w.up()
    if kind == "PUBLISH":
        subscribe(w, b"topic", 1)
        return w, lambda p=b"", r=0: packet(0x30, string(b"topic") + props(p) + b"hello")
    if kind == "DISCONNECT":
        return w, lambda p=b"", r=0x8B: packet(0xE0, bytes((r,)) + props(p))
    if kind in ("SUBACK", "UNSUBACK"):
        out = subscribe(w) if kind == "SUBACK" else unsubscribe(w)
        header = 0x90 if kind == "SUBACK" else 0xB0
        return w, lambda p=b"", r=0: packet(header, u16(out.pid) + props(p) + bytes((r,)))
    pid = 9
    if kind == "PUBREL":
        w.feed(packet(0x34, string(b"topic") + u16(pid) + b"\0"))
        w.sent.clear()
        w.messages.clear()
    else:
        pid = pub(w, qos=1 if kind == "PUBACK" else 2).pid
        if kind == "PUBCOMP":
            w.feed(ack("PUBREC", pid))
            w.sent.clear()
    return w, lambda p=b"", r=0: ack(kind, pid, r, p)


INCOMING = ["CONNACK", "PUBLISH", "PUBACK", "PUBREC", "PUBREL", "PUBCOMP", "SUBACK", "UNSUBACK", "DISCONNECT", "AUTH"]


def breach(w, data, kind, *reasons):
    """The bytes are a breach: this class of error (or one of a tuple) with one of these reasons, that reason in our
    DISCONNECT, the last packet, and nothing delivered; the engine is FAILED, so that the driver closes."""
    messages = len(w.messages)
    before = len(w.sent)
    try:
        w.feed(data)
    except (MalformedPacket, ProtocolError) as e:
        assert isinstance(e, kind), "%r and not %r: %s from %r" % (type(e), kind, e, data)
        assert e.reason in reasons, "reason 0x%02X from %r" % (e.reason, data)
        assert w.e.state == FAILED and w.e.farewell()
        out = w.flush()
        assert out[-1] == bytes((0xE0, 1, e.reason)), "DISCONNECT %r" % out[-1]
        # Acknowledgements queued before may go out first, nothing else.
        assert all([p[0] >> 4 in (4, 5, 6, 7) for p in out[before:-1]]), out
        assert len(w.messages) == messages, "delivered"
        assert not w.e.next(), "something more to send"
        gone(w)
        return e
    raise AssertionError("accepted: %r (sent %r)" % (data, w.sent[before:]))


def malformed(w, data):
    return breach(w, data, MalformedPacket, 0x81)


def protocol_error(w, data, *reasons):
    return breach(w, data, ProtocolError, *(reasons or (0x82,)))


def fine(w, data):
    """The bytes are right: no error of ours, the connection lives (or ends by the broker's word)."""
    try:
        w.feed(data)
    except (MalformedPacket, ProtocolError) as e:
        raise AssertionError("refused: %r: %s" % (data, e))
    return w


def alive(w):
    assert w.e.state == UP
    w.messages.clear()
    w.feed(packet(0x30, string(b"still/there") + b"\0m"))
    assert w.messages == [(b"still/there", b"m")]
