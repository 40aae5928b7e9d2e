"""A message received, which handlers get it (MQTT 5.0, 3.3.4, 4.7), and what a handler may say to it: Reject."""

from micropython import const

from .codec import field, find, properties, skip, topic, utf8, vbi, vbi_size
from .errors import MalformedPacket, ProtocolError

# Texts of errors: see texts.py.
_REJECT = const(75)
_PUBLISH_FLAGS = const(76)
_WILDCARD = const(77)
_NEVER_SENT = const(78)


class Reject(Exception):
    """Raise it in a message handler to acknowledge the message with `reason` (>= 0x80, MQTT 5.0, 3.4.2.1) instead
    of 0: the broker then regards it as dealt with, and does not send it again. props: a Reason String or User
    Properties for the acknowledgement; they are left out where they do not fit tx. Make it where you raise it: the
    engine takes the one made last."""

    latest = None  # as errors.PeerError.latest

    def __init__(self, reason=0x83, props=None):
        super().__init__(reason)
        if reason not in b"\x80\x83\x87\x90\x91\x97\x99":
            from .errors import wrong

            raise wrong((_REJECT, reason))
        self.reason = reason
        self.props = props
        Reject.latest = self


def matches(filter, buf, i, end):
    """Whether the topic name buf[i:end] matches the topic filter (4.7). Allocates nothing."""
    n = len(filter)
    if not n or (i < end and buf[i] == 0x24 and (filter[0] == 0x23 or filter[0] == 0x2B)):
        return False  # [MQTT-4.7.2-1]: $... is not matched by a wildcard at the start
    f = 0
    while f < n:
        c = filter[f]
        if c == 0x23:  # '#'
            return True
        if c == 0x2B:  # '+'
            while i < end and buf[i] != 0x2F:
                i += 1
        elif i < end and buf[i] == c:
            i += 1
        else:
            # 4.7.1.2: "sport/#" matches "sport" too
            return i == end and c == 0x2F and f + 2 == n and filter[f + 1] == 0x23
        f += 1
    return i == end


class Message:
    """A message received. Valid until the handler returns: `buf` is the client's own buffer.

    Without allocation: the payload is buf[start:end]; `qos`, `retain`, `dup`. Made when asked for: `topic` and
    `payload` (bytes), `text` (str; ValueError where it is not UTF-8), `props` (a new dict, see props.decode).
    copy() makes one to keep."""

    Reject = Reject  # for pull(), which may be loaded without this file

    def __init__(self, buf):
        self.buf = self.topic_buf = buf
        self.topic_start = self.topic_end = 0
        self.props_start = self.start = self.end = 0
        self.qos = 0
        self.retain = self.dup = False

    # --- parsing, by the engine: a PUBLISH of n bytes lies in `buf`

    def compare(self):
        """The engine's own message is compared with the one before. A copy does without: 64 bytes less."""
        # The subscription that the last one was usual for (0: for none), its first byte, and how its variable header
        # began: the next is likely to differ in its payload only.
        self.like = self.header = 0
        self.same = b""

    def begin(self, header):
        """The fixed header's first byte."""
        self.qos = header >> 1 & 3
        self.retain = header & 1 == 1
        self.dup = header & 8 == 8
        if self.qos == 3 or (self.dup and not self.qos):  # [MQTT-3.3.1-4], [MQTT-3.3.1-2]
            raise MalformedPacket(_PUBLISH_FLAGS)

    def is_usual(self, e, n):
        """Whether it is one for the subscription that had the last one, and for it alone, without further properties,
        at QoS 0 or 1: then it is parsed, in fewer steps and with no check less."""
        s = e.session.usual
        if s is None or e.size:
            return False
        header = e.head[0]
        self.topic_end = len(s.head)
        self.start = self.topic_end + len(s.tail)
        self.same = s.whole
        self.qos = header >> 1 & 3
        if self.qos:
            self.start += 2
            self.same = s.head
        self.dup = header & 8 == 8
        if self.qos > 1 or self.dup > self.qos or n < self.start or not self.buf.startswith(self.same):
            return False
        if self.qos and not self.buf.startswith(s.tail, self.topic_end + 2):
            return False
        self.topic_buf = self.buf
        self.topic_start = 2
        self.props_start = self.start - 2 if s.id else self.start
        self.end = n
        self.retain = header & 1 == 1
        self.like = s
        self.header = header
        return True

    def rejected(self, e):
        """A handler has raised Reject: the reason to acknowledge with."""
        reject = Reject.latest or Reject()
        Reject.latest = None
        e.reject_props = e.properties(reject.props, 4)
        return reject.reason

    def parse_topic(self, n, subscriptions):
        """The topic name; returns the index behind it."""
        self.like = 0
        self.topic_buf = self.buf
        self.topic_start = 2
        i = 0
        while i < len(subscriptions):
            if self._begin(subscriptions[i].head, n):  # it needs no look at each byte
                self.topic_end = len(subscriptions[i].head)
                return self.topic_end
            i += 1
        self.topic_end = i = field(self.buf, 0, n, True)
        if i > 2 and not topic(self.buf, 2, i):  # [MQTT-3.3.2-2]; empty: with an alias
            raise ProtocolError(_WILDCARD, 0x90)
        return i

    def parse_props(self, i, n):
        """The properties at buf[i]; the rest is payload."""
        buf = self.buf
        self.end = n
        if i < n and not buf[i]:
            self.props_start = self.start = i + 1
        elif i + 3 <= n and buf[i] == 2 and buf[i + 1] == 0x0B and 0 < buf[i + 2] < 0x80:
            # One Subscription Identifier of one byte, as nearly always: nothing is left to check.
            self.props_start = i + 1
            self.start = i + 3
        else:
            self.start = properties(buf, i, n, 3)
            self.props_start = i + vbi_size(vbi(buf, i, n))

    def _begin(self, head, n):
        return head and len(head) <= n and self.buf.startswith(head)

    # --- what a handler asks

    def __getattr__(self, name):
        # Not properties: where a class has one, MicroPython searches all tables at each attribute that is set. That
        # was a third of the time that a message takes.
        if name == "topic":
            return bytes(self.topic_buf[self.topic_start : self.topic_end])
        if name == "payload":
            return bytes(self.buf[self.start : self.end])
        if name == "text":
            return str(self.payload, "utf-8")  # UnicodeError is a ValueError
        if name == "props":
            from .props import decode

            return decode(self.buf, self.props_start, self.start)
        raise AttributeError(name)

    def check_format(self):
        """Check the Payload Format Indicator on demand (3.3.2.3.2): raises Reject(0x99) where it says UTF-8 and the
        payload is not; let it pass through the handler, and the sender learns of it. Allocates nothing else."""
        i = find(self.buf, self.props_start, self.start, 0x01)
        if i >= 0 and self.buf[i] and not utf8(self.buf, self.start, self.end, True):
            raise Reject(0x99)

    def copy(self):
        """A copy with a buffer of its own, which stays valid after the handler has returned."""
        m = Message(None)
        base = self.props_start
        m.topic_start = self.topic_start
        m.topic_end = self.topic_end
        if self.topic_buf is self.buf:
            base = self.topic_start
            m.topic_start = 0
            m.topic_end -= base
        m.buf = bytes(self.buf[base : self.end])
        m.topic_buf = m.buf if self.topic_buf is self.buf else self.topic_buf
        m.props_start = self.props_start - base
        m.start = self.start - base
        m.end = self.end - base
        m.qos = self.qos
        m.retain = self.retain
        m.dup = self.dup
        return m

    def check_numbers(self, n):
        """ProtocolError for a Subscription Identifier above `n`, the largest that was ever sent (3.3.4)."""
        i = self.props_start
        while i < self.start:
            if self.buf[i] == 0x0B and vbi(self.buf, i + 1, self.start) > n:
                raise ProtocolError(_NEVER_SENT)
            i = skip(self.buf, i)

    def by_number(self, session):
        """Hand it to the handlers of its Subscription Identifiers (3.3.4). True where there was one."""
        found = 0
        i = self.props_start
        while i < self.start:
            if self.buf[i] == 0x0B:
                found += self._hand(session, vbi(self.buf, i + 1, self.start))
            i = skip(self.buf, i)
        if found != 1 or self.start - self.props_start != 2:
            session.usual = None
        return found > 0

    def _hand(self, session, ident):
        found = i = 0
        while i < len(session.subscriptions):
            s = session.subscriptions[i]
            if s.id == ident and s.handler:
                if s.head and ident < 128:
                    session.usual = s
                s.handler(self)
                found += 1
            i += 1
        return found

    def by_filter(self, session, all, callback):
        """Hand it to the handlers whose topic filter matches; all=False: of those that have no Subscription
        Identifier; or to the callback, where there is none."""
        found = handled = i = 0
        while i < len(session.subscriptions):
            s = session.subscriptions[i]
            i += 1
            if (all or not s.id) and self._matches(s):
                found += 1
                if s.head and s.id < 128:
                    session.usual = s
                if s.handler:
                    s.handler(self)
                    handled += 1
        if not handled:
            callback(self)
        if found != 1:
            session.usual = None

    def _matches(self, subscription):
        if subscription.head and self.topic_start:  # it lies in rx
            return self.topic_end == len(subscription.head) and self._begin(subscription.head, self.topic_end)
        return matches(subscription.match, self.topic_buf, self.topic_start, self.topic_end)

    def solicited(self, subscriptions):
        """Whether any of our subscriptions asked for it."""
        for s in subscriptions:
            if self._matches(s):
                return True
        return False
