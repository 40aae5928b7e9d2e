"""An optional store on flash: what a session owes and is owed outlives a power cut (MQTT 5.0, 4.1, 4.3, 4.4).

    store = Store("mqtt.log")
    client = MQTTClient(id, server, store=store)           # any of the clients; robust and aio take an outbox as well

Kept: messages in flight, with how far they are; those that wait in an outbox (QoS 1 and 2); the identifiers received
at QoS 2; what is subscribed; an assigned client identifier; and the application's own `word`.

The order is "write to flash, then send". What each step costs, for a topic of T bytes and a payload of M:

    out, QoS 1    PUBLISH 11+T+M bytes, flushed, before it is sent; 8 more after PUBACK, with the next record
    out, QoS 2    the same, and 8 flushed before PUBREL is sent: no PUBLISH goes out any more (4.3.3)
    in, QoS 2     8 flushed before PUBREC is sent, 8 before PUBCOMP;  in, QoS 0 and 1: nothing
    by an outbox  14+T+M flushed when put() returns, and 12 instead of the PUBLISH above

On LittleFS with blocks of 4096 bytes a flush is one erase (measured: QoS 1 out 1.0, QoS 2 out 2.0, QoS 2 in 2.0, by
an outbox 2.1 a message, metadata and writing anew included) and about 2 KB programmed: it copies the block it goes on
in. By arithmetic: 512 KB of flash that bear 100,000 erases a block, worn alike, bear 12 million messages at QoS 1,
6 million at QoS 2. A message at QoS 1 leaves 1.2 KB of garbage on a 64-bit heap, one at QoS 2 1.6 KB.

What is promised: a PUBREC goes out only when its identifier is on flash, which is after the handler has returned
(method B of 4.3.3): a power cut in a handler, or between its return and the end of that write, delivers the message
again. Exactly once, whatever happens: what the handler gives to keep(). It is written in the same record.
It must never let a write fail silently: StoreError, and no packet goes out, nor a new connection up, until it works.
"""

from micropython import const

from .codec import put_vbi, u16, u32, vbi, vbi_size
from .errors import MQTTError, wrong
from .log import Log
from .resume import age, oldest
from .session import Session

_PUBACK = const(1)  # as in session.py
_PUBREC = const(2)  # as in session.py
_PUBCOMP = const(3)  # as in session.py

# Texts of errors: see texts.py.
_HAS_A_CLIENT = const(107)
_NOT_KEPT = const(108)

# Kinds of records; what their bodies are.
_PUBLISH = const(3)  # packet identifier (2), message: the slot is taken
_WAITS = const(4)  # number in the outbox (4), message
_MOVED = const(5)  # number (4), packet identifier (2): from the outbox to a slot
_DROPPED = const(6)  # number
_REACHED = const(7)  # packet identifier: PUBREC has come
_DONE = const(8)  # packet identifier: the slot is free
_RECEIVED = const(9)  # packet identifier; then, where there is a new word, "w" and the word
_RELEASED = const(10)  # packet identifier: PUBREL has come
_GONE = const(11)  # the broker has forgotten the session
_SUBSCRIBED = const(12)  # options (1), topic filter
_UNSUBSCRIBED = const(13)  # topic filter
_CLIENT = const(14)  # client identifier
_WORD = const(15)  # the application's
_LAST = const(16)  # the packet identifier given last
# A message: flags (1), length of the topic (vbi), topic, length of the properties (vbi), properties, payload.


class StoreError(MQTTError):
    """The flash did not take what must be kept before a packet may go out: it is full, or broken. The session is
    whole; the next publish() or connect() tries again."""


def _u16(n):
    return n.to_bytes(2, "big")


def _message(flags, topic, props):
    """What stands before the payload."""
    head = bytearray(9)
    head[0] = flags
    i = put_vbi(head, 1, len(topic))
    j = put_vbi(head, i, len(props))
    return bytes(head[:i]) + topic + bytes(head[i:j]) + props


def _split(body, i):
    """(flags, topic, payload, props) of the message at body[i]."""
    end = len(body)
    flags = body[i]
    n = vbi(body, i + 1, end)
    i += 1 + vbi_size(n)
    topic = body[i : i + n]
    i += n
    n = vbi(body, i, end)
    i += vbi_size(n)
    return flags, topic, body[i + n :], body[i : i + n]


class Store:
    """path: of the file. limit: bytes; the file is written anew when it is larger (one block of flash is well).

    `word`: what the application gave to keep() last; b"" where there is nothing. `cut`: bytes at the file's end that
    were torn or damaged. For one client at a time. Allocates at each record."""

    def __init__(self, path="mqtt.log", limit=4096):
        self.log = Log(path, limit, self._snapshot)
        self.moving = 0  # the number of the outbox's message that is about to take a slot
        self.client_id = b""
        self.word = b""
        self._word = b""  # the same, but for what a handler has given that did not return yet
        self._session = self._outbox = None
        self._entry = None  # about to be put into the outbox
        # A driver that keeps messages for a while sets it before receive(), and calls dealt() later.
        self.holding = False
        self._held = []  # packet identifiers
        self._filters = {}  # topic filter: options
        self._last = 0
        # Until session() and attach() have taken them over: {pid: [flags, topic, msg, props]}, flags negative where
        # PUBREC has come; [pid]; {number: (flags, topic, msg, props)}. Dicts forget the order: see _by_age.
        self._slots = {}
        self._received = []
        self._waiting = {}
        self.log.read(self._apply)
        self.cut = self.log.cut
        self.word = self._word

    def _apply(self, kind, body):
        """One record of the file."""
        pid = u16(body, 0) if len(body) > 1 else 0
        if kind == _PUBLISH:
            self._slots[pid] = list(_split(body, 2))
            self._last = pid
        elif kind == _WAITS:
            self._waiting[u32(body, 0)] = _split(body, 4)
        elif kind == _MOVED:
            self._last = pid = u16(body, 4)
            self._slots[pid] = list(self._waiting.pop(u32(body, 0)))
        elif kind == _DROPPED:
            self._waiting.pop(u32(body, 0), None)
        elif kind == _REACHED:
            if pid in self._slots:
                slot = self._slots[pid]
                slot[0] = -slot[0]
                slot[2] = slot[3] = None
        elif kind == _DONE:
            self._slots.pop(pid, None)
        elif kind == _RECEIVED:
            self._received.append(pid)
            if len(body) > 2:
                self._word = body[3:]
        elif kind == _RELEASED:
            if pid in self._received:
                self._received.remove(pid)
        elif kind == _GONE:
            self._received = []
            self._filters = {}
        elif kind == _SUBSCRIBED:
            self._filters[body[1:]] = body[0]
        elif kind == _UNSUBSCRIBED:
            self._filters.pop(body, None)
        elif kind == _CLIENT:
            self.client_id = body
        elif kind == _WORD:
            self._word = body
        elif kind == _LAST:
            self._last = pid

    def _snapshot(self, put):
        """put() all that is alive; what hurts most to lose comes first."""
        s = self._session
        if self.client_id:
            put(_CLIENT, self.client_id)
        if self._word:
            put(_WORD, self._word)
        for pid in s.received if s else self._received:
            if pid and pid not in self._held:
                put(_RECEIVED, _u16(pid))
        if s:
            i = oldest(s, 65536)
            while i >= 0:
                self._put_slot(
                    put, s.pid[i], s.state[i] == _PUBCOMP, s.flags[i] & 15, s.topic[i], s.msg[i], s.props[i]
                )
                i = oldest(s, age(s, i))
            put(_LAST, _u16(s.last))
        else:
            for pid in self._by_age():
                flags, topic, msg, props = self._slots[pid]
                self._put_slot(put, pid, flags < 0, abs(flags), topic, msg, props)
            put(_LAST, _u16(self._last))
        for filter in self._filters:
            put(_SUBSCRIBED, bytes((self._filters[filter],)), filter)
        for entry in self._entries():
            if entry[1] & 6:
                put(_WAITS, entry[0].to_bytes(4, "big"), _message(entry[1], entry[2], entry[4]), entry[3])

    def _put_slot(self, put, pid, reached, flags, topic, msg, props):
        put(_PUBLISH, _u16(pid), _message(flags, topic or b"", props or b""), msg or b"")
        if reached:
            put(_REACHED, _u16(pid))

    def _entries(self):
        """What waits in the outbox, in order, with what is being put there, without what is leaving it."""
        waiting = self._waiting
        if self._outbox is not None:  # an empty one is false
            found = [entry for entry in self._outbox.entries() if entry[0] != self.moving]
        else:
            found = [(n,) + waiting[n][:2] + waiting[n][2:] + (None,) for n in sorted(waiting)]
        if self._entry:
            found.append(self._entry)
        return found

    def _by_age(self):
        """The packet identifiers in flight, the one taken first at the beginning."""
        return sorted(self._slots, key=lambda pid: -((self._last - pid) % 65535))

    # --- what a driver calls

    def session(self, size):
        """The engine's session, with all that the last life of this device left in flight."""
        if self._session:
            raise wrong(_HAS_A_CLIENT)
        s = self._session = StoredSession(size, self)
        self._slots = self._received = None
        return s

    def attach(self, outbox):
        """Fill an outbox (empty) with what waits, and keep from now on what it holds."""
        outbox.restore([(n,) + self._waiting[n] + (None,) for n in sorted(self._waiting)])
        outbox.store = self
        self._waiting = {}
        self._outbox = outbox

    def identify(self, client_id):
        """The client identifier in use (bytes). After another one the session on flash is no session of ours: what
        was received at QoS 2, and the subscriptions, are forgotten; messages in flight are not."""
        if client_id == self.client_id or not client_id:
            return
        other = self.client_id
        self.client_id = client_id
        if other:
            Session.forget_received(self._session)
            self._filters = {}
            self.log.later(_GONE)
        self.log.later(_CLIENT, client_id)

    def subscribed(self, subscription):
        """The broker has acknowledged this subscription."""
        if self.has(subscription):
            return
        self._filters[subscription.filter] = subscription.options
        self._now(_SUBSCRIBED, bytes((subscription.options,)), subscription.filter)

    def unsubscribed(self, filter):
        """About to unsubscribe from this filter (bytes), or to subscribe with other options: whatever comes of it."""
        if filter in self._filters:
            del self._filters[filter]
            self._now(_UNSUBSCRIBED, filter)

    def doubt(self):
        """The broker may have made a new session without our knowing: it may have no subscription."""
        for filter in self._filters:
            self.log.later(_UNSUBSCRIBED, filter)
        self._filters = {}
        try:
            self.log.flush()
        except OSError:
            pass  # no packet goes out on its word

    def has(self, subscription):
        """True where the session, if it is still present, has this subscription: no need to subscribe."""
        return self._filters.get(subscription.filter, -1) == subscription.options

    def keep(self, word):
        """The application's own few bytes: a count, a state. Called by a handler of a message at QoS 2, as the last
        thing that it does, they are written in one record with the message's identifier: both, or neither. Otherwise
        with flush()."""
        self.word = b"" + word  # bytes(5) would be five zeros

    def flush(self):
        """All on flash: before deep sleep, or where a `word` was kept elsewhere than in a handler."""
        if self.word != self._word:
            self._word = self.word
            self._now(_WORD, self.word)
        try:
            self.log.flush()
        except OSError as e:
            self._error(e)

    def close(self):
        self.flush()
        self.log.close()

    # --- what the outbox and the session tell

    def put(self, entry):
        self._entry = entry
        try:
            self._now(_WAITS, entry[0].to_bytes(4, "big"), _message(entry[1], entry[2], entry[4]), entry[3])
        finally:
            self._entry = None

    def drop(self, number):
        self.log.later(_DROPPED, number.to_bytes(4, "big"))

    def took(self, pid, flags, topic, msg, props):
        if self.moving:
            self._now(_MOVED, self.moving.to_bytes(4, "big"), _u16(pid))
        else:
            self._now(_PUBLISH, _u16(pid), _message(flags, topic, props), msg)

    def dealt(self, pid):
        """A message that a driver has kept is dealt with: its PUBREC may go out now."""
        if pid in self._held:
            self._held.remove(pid)
            self.received(pid)

    def undealt(self, pid):
        """It will not be: it has been refused, or is to be delivered again."""
        if pid in self._held:
            self._held.remove(pid)

    def received(self, pid):
        if self.holding:
            self.holding = False
            self._held.append(pid)
            return
        if self.word == self._word:
            self._now(_RECEIVED, _u16(pid))
        else:
            self._word = self.word
            self._now(_RECEIVED, _u16(pid), b"w", self.word)

    def released(self, pid):
        self._now(_RELEASED, _u16(pid))

    def gone(self):
        self._filters = {}
        self._held = []
        self._now(_GONE)

    def retry(self):
        """After a StoreError: write everything anew."""
        if self.log.failed:
            try:
                self.log.rewrite()
            except OSError as e:
                self._error(e)

    def _now(self, kind, *parts):
        try:
            self.log.now(kind, *parts)
        except OSError as e:
            self._error(e)

    def _error(self, e):
        raise StoreError((_NOT_KEPT, self.log.path, e))


class StoredSession(Session):
    """A Session that tells its store of each step, before the packet that the step allows can be built."""

    def __init__(self, size, store):
        slots = store._slots
        n = size + 2
        # The table may have had another size in the last life: each identifier has to find a place of its own.
        while len({pid % n for pid in slots}) < len(slots):
            n += 1
        from .make import session

        session(self, n - 2)
        self.size = size
        self.last = store._last
        for pid in slots:
            i = pid % n
            flags, topic, msg, props = slots[pid]
            self.pid[i] = pid
            self.flags[i] = abs(flags)
            self.topic[i] = topic
            self.msg[i] = msg
            self.props[i] = props
            self.state[i] = _PUBCOMP if flags < 0 else _PUBACK if flags & 2 else _PUBREC
        if store._received:
            from .receive import received

            for pid in store._received:
                received(self, pid)
            for i in range(len(self.counted)):
                self.counted[i] = 0
        self.store = store  # from now on it is told

    def hold(self, i, out):
        super().hold(i, out)
        self.store.took(self.pid[i], self.flags[i], self.topic[i], self.msg[i], self.props[i])

    def reached(self, i):
        super().reached(i)
        self.store._now(_REACHED, _u16(self.pid[i]))

    def answered(self, i, reason):
        publish = self.state[i] <= _PUBCOMP
        super().answered(i, reason)
        if publish:
            self.store.log.later(_DONE, _u16(self.pid[i]))

    def forget_received(self):
        had = self.receiving or self.store._filters
        super().forget_received()
        if had:
            self.store.gone()

    def forget_connection(self):
        super().forget_connection()
        # A new connection sends on the word of records: not before they are written.
        self.store.retry()
