"""Messages in (MQTT 5.0, 3.3, 3.6, 4.3): from the broker's bytes to a handler and an acknowledgement.

Loaded with the first subscription or callback, or with the first message: a client that only publishes does without.
publish() and pubrel() are entries of Engine.handlers. After the loading nothing here allocates, but where a docstring
says so.
"""

from micropython import const

from .codec import find, u16, vbi
from .errors import ProtocolError, ResourceError, wrong
from .message import Message, Reject, Usual
from .subscribe import suback

_UP = const(2)  # as in reader.py

# Texts of errors: see texts.py.
_UNASKED = const(79)
_NO_TOPIC_NO_ALIAS = const(80)
_ALIAS_ABOVE = const(81)
_ALIAS_NEW = const(82)
_NEEDS_RX_START = const(83)
_TOO_MANY = const(84)
_NOBODY_RUNS = const(130)

_DRAIN = const(3)  # as in reader.py


def begin(e):
    """Let the engine `e` receive messages. Allocates."""
    if e.message is None:
        e.to_callback = e._call_back  # bound once: a bound method is an object on the heap
        message = Message(e.rx)
        message.compare()
        e.message = message  # last: where the memory did not suffice, the next call begins anew
    handlers = list(type(e).handlers)
    handlers[3] = publish
    handlers[6] = pubrel
    handlers[9] = handlers[11] = suback
    e.handlers = tuple(handlers)


def publish(e, n):  # 3.3
    m = e.message
    if not m.is_usual(e, n):
        return _publish(e, m, n)
    if not m.qos:
        _hand(e, m.like.handler or e.to_callback)
        return m.header
    n = e._pid(m.topic_end, n)
    if e.session.receiving or e.owed >= e.session.size:
        return _publish(e, m, m.end)
    _publish1(e, n, m.like.handler or e.to_callback)
    return m.header


def parse(e, n):
    """Parse and check the PUBLISH in rx[:n], or the start of one that is larger: its packet identifier, 0 at QoS 0.
    Allocates when an alias gets a new topic."""
    m = e.message
    m.begin(e.head[0])
    if e.size > n:
        _must_fit(e, 2 + u16(e.rx, 0))
    i = m.parse_topic(n, e.session.usual)
    pid = 0
    if m.qos:
        pid = e._pid(i, n)
        i += 2
    if e.size > n:
        _must_fit(e, i)
        _must_fit(e, vbi(e.rx, i, n) + i)
    m.parse_props(i, n)
    if m.topic_end == 2 or m.props_start < m.start:
        check(e, m)
    return pid


def _publish(e, m, n):
    pid = parse(e, n)
    if e.size > n:
        return oversized(e, m.qos, pid)
    if m.qos > e.max_qos and e.session.known and not m.solicited(e.session.subscriptions):  # 3.3.4
        raise ProtocolError(_UNASKED, 0x9B)
    if m.qos == 2:
        return _publish2(e, pid)
    n = e.head[0]
    if not m.qos:
        _hand(e, None)
    elif place(e.session, pid) >= 0:
        e._ack(0x40, 0x91, pid)  # 2.2.1: in use, by a message at QoS 2
        return 0
    else:
        _publish1(e, pid, None)
    return n


def _publish1(e, pid, handler):  # 4.3.2
    owe(e, 1)
    handler = _hand(e, handler)  # from here on the reason
    if e.state == _UP:  # the handler may have disconnected
        e.owed -= 1
        e._ack(0x40, handler, pid, e.reject_props if handler else b"")


def _publish2(e, pid):  # 4.3.3
    s = e.session
    i = place(s, pid)
    if i >= 0:  # delivered before: only the acknowledgement is repeated
        if not s.counted[i]:
            s.counted[i] = 1
            owe(e, 1)
        e._ack(0x50, 0, pid)
        return 0
    owe(e, 1)
    h = e.head[0]
    i = _hand(e, None)  # from here on the reason
    if i < 0x80:
        received(s, pid)
    else:
        e.owed -= 1
    if e.state == _UP:
        e._ack(0x50, i, pid, e.reject_props if i else b"")
    return h


def pubrel(e, n):  # 3.6
    pid = e._answer(n, 6) & 0xFFFF
    s = e.session
    i = place(s, pid)
    n = 0x92  # from here on the reason
    if i >= 0:
        n = 0
        e.owed -= s.counted[i]
        s.received[i] = 0
        s.receiving -= 1
        if s.store:
            s.store.released(pid)
    e._ack(0x70, n, pid)
    return 0


def _hand(e, handler):
    """Give the message to this handler, or (None) to those that it is for: 0, or the reason to reject it with."""
    e.in_handler = True  # broke() finds it set when anything else leaves the handler
    try:
        if handler:
            handler(e.message)
        else:
            _dispatch(e, e.message, e.session)
        handler = 0
    except Reject:
        handler = e.message.rejected(e)
    e.in_handler = False
    return handler


def _dispatch(e, m, s):
    """Hand it to the handlers of its Subscription Identifiers (3.3.4); where it has none that we know, to those whose
    topic filter matches; where that is nobody, to the callback."""
    # Not by number in a session that another life of this device has made: its numbers may be others.
    by_number = s.known and m.props_start != m.start
    i = _taker(m, s, by_number, 0)
    if i < 0 and by_number:
        by_number = False
        i = _taker(m, s, False, 0)
    if i >= 0 and _taker(m, s, by_number, i + 1) >= 0:
        _hand_all(e, m, s, by_number, i)
    else:
        by_number = i >= 0 or not s.known  # from here on: somebody may have asked for it (3.3.4)
        i = s.subscriptions[i].handler if i >= 0 else None
        if by_number and m.is_new(s):
            _remember(m, s, i)
        i = (i or e.to_callback)(m)
        if i is not None and hasattr(i, "send") and not s.waiters:
            s.usual = None  # so the next one comes here again
            raise wrong(_NOBODY_RUNS, TypeError)


def _hand_all(e, m, s, by_number, i):
    handler = None
    while i >= 0:
        if s.subscriptions[i].handler:
            handler = s.subscriptions[i].handler
            handler(m)
        i = _taker(m, s, by_number, i + 1)
    if not handler:
        e.to_callback(m)


def _remember(m, s, handler):
    """Allocates; where it cannot, nothing is lost but time."""
    try:
        s.usual = Usual(m, handler, s.usual)
    except MemoryError:
        pass


def _taker(m, s, by_number, i):
    """The next subscription that it is for, from the one at i on; or -1."""
    while i < len(s.subscriptions):
        if m.is_for(s.subscriptions[i], s, by_number):
            return i
        i += 1
    return -1


def check(e, m):
    """Topic alias and Subscription Identifiers."""
    i = find(e.rx, m.props_start, m.start, 0x23)
    if i >= 0:
        _alias(e, m, u16(e.rx, i))
    elif m.topic_end == 2:
        raise ProtocolError(_NO_TOPIC_NO_ALIAS)
    if e.session.known:
        m.check_numbers(e.session.top_id)


def _alias(e, m, ident):  # 3.3.2.3.4
    topics = e.terms.topics
    if ident >= len(topics):
        raise ProtocolError((_ALIAS_ABOVE, ident, max(0, len(topics) - 1)), 0x94)
    if m.topic_end > 2:
        topics[ident] = m.topic
    elif topics[ident] is None:
        raise ProtocolError(_ALIAS_NEW)
    else:
        m.topic_buf = topics[ident]
        m.topic_start = 0
        m.topic_end = len(m.topic_buf)


def _must_fit(e, n):
    """Of a message that is too large the start must be there; with four bytes to spare, for a length."""
    if n + 4 > len(e.rx):
        e.parting = 0x95
        raise ResourceError((_NEEDS_RX_START, n + 4), 0x95)


def oversized(e, qos, pid):
    """Refuse a message larger than rx (QoS 1: PUBACK 0x97) and drain it. Announcing a Maximum Packet Size instead
    makes mosquitto 2.0.11 deaf after some of them, and so does a PUBREC 0x97: at QoS 2 it is accepted, and
    dropped."""
    if qos == 1:
        e._ack(0x40, 0x97, pid)
    elif qos:
        if place(e.session, pid) < 0:
            owe(e, 1)
            received(e.session, pid)
        e._ack(0x50, 0, pid)
    e.session.oversized += 1
    drain(e)
    e.tell_inside("oversized", e.size)
    return 0


def drain(e):
    """Of a PUBLISH larger than rx the start has come: read the rest, and keep nothing of it."""
    e.part = _DRAIN
    e.into = e.rx
    e.have = len(e.rx)
    e.need = min(e.size - e.have, e.have)


def place(s, pid):
    """Where the session `s` holds this packet identifier of a message at QoS 2 between PUBREC and PUBREL, or -1."""
    if s.receiving:
        for i in range(len(s.received)):
            if s.received[i] == pid:
                return i
    return -1


def received(s, pid):
    """A message at QoS 2 was delivered: its identifier is kept until PUBREL. Where the broker sends more than it may,
    the table grows: allocates."""
    s.receiving += 1
    n = len(s.received)
    i = 0
    while i < n and s.received[i]:
        i += 1
    if i == n:
        s.received.append(0)
        s.counted.append(0)
    s.received[i] = pid
    s.counted[i] = 1
    if s.store:
        s.store.received(pid)


def owe(e, n):
    """n more messages to acknowledge (4.9). Those that a handler refused by an exception count until the connection
    ends."""
    n += e.owed
    e.owed = n
    s = e.session
    if n > s.size + s.grace:
        raise ProtocolError((_TOO_MANY, s.size), 0x93)
