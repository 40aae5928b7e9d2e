"""A message received, which handlers get it (MQTT 5.0, 3.3.4, 4.7), and what a handler may say to it: Reject."""

from micropython import const

from .codec import field, find, properties, skip, topic, utf8, vbi, vbi_size
from .errors import MalformedPacket, ProtocolError

# Texts of errors: see texts.py.
_REJECT = const(75)
_PUBLISH_FLAGS = const(76)
_WILDCARD = const(77)
_NEVER_SENT = const(78)

_USUAL = const(8)  # topics, some 200 bytes each: see Message.is_new()


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
    if b"+" not in filter and b"#" not in filter:
        return end - i == n and buf.startswith(filter, i)
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


class Usual:
    """A message that one handler took alone (None: the callback), to know the next one by that differs in its payload
    only: one comparison, in C, then shows that its topic is UTF-8 and no filter, who gets it, and that no property is
    wrong. Forgotten when a subscription comes or goes, or its handler is another."""

    def __init__(self, m, handler, next):
        self.head = bytes(m.buf[: m.topic_end])  # how the variable header of the PUBLISH begins
        self.tail = bytes(m.buf[m.props_start - 1 : m.start])  # and ends: at QoS 0 right behind `head`
        self.whole = self.head + self.tail
        self.topic_end = m.topic_end
        # At QoS 0:
        self.start = len(self.whole)
        self.props_start = m.topic_end + 1
        self.handler = handler
        self.next = next


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
        # The Usual that the last one was like (0: none), its first byte, and how its variable header began: the next
        # is likely to differ in its payload only.
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
        """Whether it is like one that is remembered, at QoS 0 or 1: then it is parsed, in fewer steps and with no
        check less, and that one comes first the next time."""
        last = None
        qos = e.head[0] >> 1 & 3
        s = e.session.usual if qos < 2 else None
        while s is not None:  # asked for its truth, an object searches its class: 600 instructions
            if qos:
                if self.buf.startswith(s.head) and self.buf.startswith(s.tail, s.topic_end + 2):
                    break
            elif self.buf.startswith(s.whole):
                break
            last = s
            s = s.next
        if s is None or e.size or qos > e.max_qos or n < s.start + 2 * qos or (not qos and e.head[0] & 8):
            return False
        if last is not None:
            last.next = s.next
            s.next = e.session.usual
            e.session.usual = s
        self.like = s
        self.header = last = e.head[0]
        self.same = s.head if qos else s.whole
        self.topic_buf = self.buf
        self.topic_start = 2
        self.topic_end = s.topic_end
        self.start = s.start + 2 * qos
        self.props_start = s.props_start + 2 * qos
        self.end = n
        self.qos = qos
        self.dup = last & 8 == 8
        self.retain = last & 1 == 1
        return True

    def is_new(self, session):
        """Whether it may be remembered, and is not yet: of the first few topics. Of those that come later none takes
        a place, or the heap would never come to rest."""
        i = self.props_start
        if self.retain or not (self.start == i or self.start == i + 2):
            return False  # what comes once; and what has more properties than a Subscription Identifier
        n = _USUAL
        s = session.usual
        while s is not None:
            if self._begin(s.head, self.start) and self.buf.startswith(s.tail, i - 1):
                return False  # QoS 2 comes here each time
            n -= 1
            s = s.next
        return n > 0

    def rejected(self, e):
        """A handler has raised Reject: the reason to acknowledge with."""
        reject = Reject.latest or Reject()
        Reject.latest = None
        e.reject_props = e.properties(reject.props, 4)
        return reject.reason

    def parse_topic(self, n, usual):
        """The topic name; returns the index behind it."""
        self.like = 0
        self.topic_buf = self.buf
        self.topic_start = 2
        while usual is not None:
            if self._begin(usual.head, n):  # it needs no look at each byte
                self.topic_end = len(usual.head)
                return self.topic_end
            usual = usual.next
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
        return len(head) <= n and self.buf.startswith(head)

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

    def is_for(self, s, session, by_number):
        """Whether it is for the subscription `s`: by the Subscription Identifiers that came with it (3.3.4), or by
        its topic name (4.7)."""
        if not by_number:
            # Where messages come with our identifiers, one without is of a subscription that has none.
            return (session.known < 2 or not s.id) and self._matches(s)
        i = self.props_start
        while i < self.start:
            if self.buf[i] == 0x0B and vbi(self.buf, i + 1, self.start) == s.id:
                return s.handler
            i = skip(self.buf, i)
        return False

    def _matches(self, s):
        return matches(s.match, self.topic_buf, self.topic_start, self.topic_end)

    def solicited(self, subscriptions):
        """Whether any of our subscriptions asked for it."""
        for s in subscriptions:
            if self._matches(s):
                return True
        return False
