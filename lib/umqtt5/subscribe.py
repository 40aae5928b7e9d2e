"""Subscriptions (MQTT 5.0, 3.8 to 3.11, 4.7, 4.8): topic filters, SUBSCRIBE and UNSUBSCRIBE, their answers.

Loaded with the first subscription, together with receive.py: a client that only publishes does without. Allocates,
but for the answers.
"""

from micropython import const

from .codec import find, properties, put_data, put_vbi, text, vbi_size
from .errors import ProtocolError, Refused, ResourceError, wrong

# Texts of errors: see texts.py.
_NO_FILTER = const(85)
_SUB_OPTIONS = const(86)
_FUNCTION = const(125)
_NO_LOCAL = const(87)
_SUB_ID = const(88)
_SECOND_ID = const(89)
_NO_SHARED = const(90)
_NO_WILDCARDS = const(91)
_ONE_REASON = const(92)
_SUB_UNKNOWN = const(93)
_WRONG_REASON = const(94)
_TOO_MANY_REQUESTS = const(98)
_IN_HANDLER = const(102)

_SUBACK = const(4)  # as in session.py
_UNSUBACK = const(5)  # as in session.py
# The reasons that a server may give (3.9.3, 3.11.3).
_SUB_REASONS = const(b"\x00\x01\x02\x80\x83\x87\x8f\x91\x97\x9e\xa1\xa2")
_UNSUB_REASONS = const(b"\x00\x11\x80\x83\x87\x8f\x91")


def check_filter(raw):
    """A topic filter (str or bytes) as checked bytes (4.7.1, 4.7.3, 4.8.2). ValueError where it is none."""
    filter = text(raw, "topic filter")
    good = len(filter) > 0
    levels = filter.split(b"/")
    if levels[0] == b"$share" and len(levels) > 1:
        # [MQTT-4.8.2-1], [MQTT-4.8.2-2]: $share/name/filter
        good = len(levels) > 2 and levels[1] and len(filter) > 8 + len(levels[1])
        good = good and b"+" not in levels[1] and b"#" not in levels[1]
        levels = levels[2:]
    for i in range(len(levels)):
        level = levels[i]
        if len(level) > 1 and (b"+" in level or b"#" in level):  # [MQTT-4.7.1-2]
            good = False
        if level == b"#" and i + 1 < len(levels):  # [MQTT-4.7.1-1]
            good = False
    if not good:
        raise wrong(_NO_FILTER)
    return filter


class Subscription:
    """One topic filter (checked bytes) and its handler. `id`: its Subscription Identifier, 0 for none."""

    def __init__(self, ident, filter, handler, options, props):
        self.id = ident
        self.filter = filter
        self.handler = handler
        self.options = options
        self.props = props
        # 4.8.2: a shared subscription, $share/name/filter, is matched by what stands behind the name.
        self.match = filter.split(b"/", 2)[2] if filter.startswith(b"$share/") else filter


def subscription(topic, qos, handler, ident, no_local, retain_as_published, retain_handling, props):
    """A Subscription with its options (3.8.3.1) checked. topic: the topic filter, str or bytes; props: checked bytes.
    ValueError."""
    filter = check_filter(topic)
    if qos not in (0, 1, 2) or retain_handling not in (0, 1, 2):
        raise wrong(_SUB_OPTIONS)
    if handler and not callable(handler):
        raise wrong((_FUNCTION, "handler"), TypeError)
    if not isinstance(ident, int) or not 0 <= ident <= 268435455:
        raise wrong(_SUB_ID)
    if no_local and filter.startswith(b"$share/"):
        raise wrong(_NO_LOCAL)  # [MQTT-3.8.3-4]
    options = qos | (4 if no_local else 0) | (8 if retain_as_published else 0) | retain_handling << 4
    return Subscription(ident, filter, handler, options, props)


# --- the subscriptions of a session `s`


def next_id(s):
    """A Subscription Identifier that is not in use."""
    while True:
        s.last_id = s.last_id % 268435455 + 1
        for one in s.subscriptions:
            if one.id == s.last_id:
                break
        else:
            return s.last_id


def add(s, subscription):
    """Keep a subscription; the one with the same filter is replaced (3.8.4)."""
    one = get(s, subscription.filter)
    if one:  # in its place: a handler may do this, while others of the same message are still to come
        s.subscriptions[s.subscriptions.index(one)] = subscription
    else:
        s.subscriptions.append(subscription)
    s.usual = None
    s.top_id = max(s.top_id, subscription.id)


def get(s, filter):
    """The subscription with this topic filter (bytes), or None."""
    for one in s.subscriptions:
        if one.filter == filter:
            return one
    return None


def remove(s, filter):
    """Forget the subscription with this topic filter, if there is one."""
    one = get(s, filter)
    if one:
        s.subscriptions.remove(one)
        s.usual = None


# --- for the engine `e`


def not_granted(e, filter):
    """The reason code (3.9.3) with which this broker would refuse to subscribe to `filter`, by what its CONNACK has
    said; 0: it would not."""
    if filter.startswith(b"$share/") and not e.granted(0x2A, 1):
        return 0x9E
    return 0xA2 if not e.granted(0x28, 1) and (b"+" in filter or b"#" in filter) else 0


def send_subscribe(e, s):
    """Build the SUBSCRIBE of subscription `s`: the slot that waits for its answer. ValueError for what the broker's
    CONNACK does not allow."""
    _may_request(e)
    f = s.filter
    if s.id and find(s.props, 0, len(s.props), 0x0B) >= 0:
        raise wrong(_SECOND_ID)
    reason = not_granted(e, f)
    if reason == 0x9E:
        raise wrong(_NO_SHARED)
    if reason:
        raise wrong(_NO_WILDCARDS)
    if not e.granted(0x29, 1):
        s.id = 0  # [MQTT-3.2.2.3.12]
    props = s.props
    if s.id:
        number = bytearray(1 + vbi_size(s.id))
        number[0] = 0x0B
        put_vbi(number, 1, s.id)
        props = bytes(number) + props
    return request(e, _SUBACK, 0x82, f, props, bytes((s.options,)))


def send_unsubscribe(e, filter, props):
    """Build an UNSUBSCRIBE: its slot."""
    _may_request(e)
    return request(e, _UNSUBACK, 0xA2, filter, e.properties(props, 10), b"")


def request(e, state, header, filter, props, options):
    """Build a SUBSCRIBE (3.8) or UNSUBSCRIBE (3.10) of one filter: the slot, which waits for `state`. options: bytes,
    behind the filter."""
    slot = e.session.take(state)
    if slot < 0:
        raise ResourceError((_TOO_MANY_REQUESTS, e.session.size))
    pid = e.session.pid[slot]
    try:
        i = e._begin(header, 4 + vbi_size(len(props)) + len(props) + len(filter) + len(options))
    except Exception:
        e._give_back(slot)
        raise
    out = e.out
    out[i] = pid >> 8
    out[i + 1] = pid & 0xFF
    i = put_data(out, e._props(out, i + 2, props), filter)
    out[i : i + len(options)] = options
    if e.exchange:
        e.exchange._keep()  # a re-authentication may have to keep it
    return slot


def _may_request(e):
    e._ready_for_use()
    if e.in_handler:
        raise wrong(_IN_HANDLER, RuntimeError)
    return e.receiving()


def suback(e, n):
    """SUBACK and UNSUBACK (3.9, 3.11)."""
    rx = e.rx
    pid = e._pid(0, n)
    t = e.head[0] >> 4
    i = properties(rx, 2, n, t)
    if n - i != 1:  # we never ask for more than one filter in a packet
        raise ProtocolError(_ONE_REASON)
    slot = e.session.find(pid, _SUBACK if t == 9 else _UNSUBACK)
    if slot < 0:
        raise ProtocolError(_SUB_UNKNOWN)
    if rx[i] not in (_SUB_REASONS if t == 9 else _UNSUB_REASONS):
        raise ProtocolError((_WRONG_REASON, rx[i], t))
    e.answer_props = b""
    e._keep_props(2, i)
    e.session.answered(slot, rx[i])
    return 0


# --- for the blocking client `c`: see simple.MQTTClient


def subscribe(
    c, topic, qos, handler, id=None, no_local=False, retain_as_published=False, retain_handling=0, props=None
):
    e = c._engine
    s = e.session
    old = get(s, check_filter(topic))
    if id is None:
        # The one that this filter has keeps its number: messages that carry it may be on their way.
        id = ((old and old.id) or next_id(s)) if handler else 0
    props = e.properties(props, 8)
    new = subscription(topic, qos, handler, id, no_local, retain_as_published, retain_handling, props)
    _clear_way(c)
    i = send_subscribe(e, new)
    add(s, new)  # now: messages may come before the SUBACK (3.8.4)
    try:
        c._doing = "SUBACK"
        return c._finish(i)
    except Refused:  # anything else, a handler's own error too: the broker may have it, and send messages
        remove(s, new.filter)
        if old:
            add(s, old)
        raise


def unsubscribe(c, topic, props):
    filter = check_filter(topic)
    _clear_way(c)
    c._doing = "UNSUBACK"
    reason = c._finish(send_unsubscribe(c._engine, filter, props))
    remove(c._engine.session, filter)
    return reason


def on(c, filter, handler, id):
    c._engine.receiving()
    add(c._engine.session, subscription(filter, 0, handler, id or 0, False, False, 0, b""))


def _clear_way(c):
    c._unheld()
    c._until = c._deadline()
    c._flush(c._until)
