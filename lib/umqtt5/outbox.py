"""Publishes that wait for a connection: a queue, bounded in count and in bytes, that both clients that stay up use.

Passive: no clock, no socket, no waiting of its own. One queue for all topics and QoS, so the order is kept among all
of them, as long as a driver that finds something in it puts new publishes behind (see `feed`).
It must never grow beyond its bounds (but for what a store brings back), nor hold a buffer that the caller may change.

    number = outbox.put(topic, msg, flags, props)     while offline, or while something waits in it
    entry = outbox.feed(engine)                       while connected and nothing is left to write: builds the first
"""

from micropython import const

from .errors import ResourceError, wrong
from .packets import payload

# Texts of errors: see texts.py.
_FULL = const(71)
_COUNT = const(72)
_OUTBOX_SIZE = const(73)
_OUTBOX_FULL = const(74)

# An entry: (number, flags, topic, msg, props, token). `flags`: qos << 1 | retain. `token`: the driver's own, for the
# caller that waits; None: nobody does.
WAIT = "wait"
OLDEST = "oldest"
NEWEST = "newest"
RAISE = "raise"


class Outbox:
    """count: messages; size: bytes of topics, payloads and properties together (beside them the queue's own table
    takes a word a message, and an entry nine). full: what becomes of a publish that does not fit: "wait" (the caller
    does), "oldest" or "newest" (that one is dropped), "raise" (ResourceError).

    The table is made here; put() allocates an entry, and copies what is not bytes. on_drop(entry) is called for each
    message that was dropped; `dropped` counts them."""

    def __init__(self, count=16, size=4096, full=WAIT):
        if full not in (WAIT, OLDEST, NEWEST, RAISE):
            raise wrong(_FULL)
        if not isinstance(count, int) or not isinstance(size, int) or count < 1 or size < 1:
            raise wrong(_COUNT)
        self.size = size
        self.full = full
        self.on_drop = None
        self.store = None  # told of put and drop, see store.py
        self.dropped = 0
        self.used = 0  # bytes
        self.last = 0  # the number given last
        self.slot = -1  # where feed() has put the entry it returned
        self._ring = [None] * count
        self._head = 0
        self._count = 0

    def __len__(self):
        return self._count

    def fits(self, n):
        """True where a message of n bytes (topic, payload and properties) has room now."""
        return self._count < len(self._ring) and self.used + n <= self.size

    def put(self, topic, msg, flags, props=b"", token=None):
        """Let a message wait: its number (> 0); 0 where it was dropped itself ("newest"); -1 where there is no room,
        and the caller has to try again when something has left ("wait"). topic, props: checked bytes (see
        Packets.topic, .properties). msg: str or bytes; anything else is copied.

        ResourceError for one that has no room ("raise"), or that never can have any. Where there is a store: what it
        raises; then the message does not wait."""
        if isinstance(msg, str):
            msg = msg.encode()
        elif type(msg) is not bytes:
            payload(msg)
            msg = b"" + msg
        n = len(topic) + len(msg) + len(props)
        if n > self.size:
            raise ResourceError((_OUTBOX_SIZE, n, self.size))
        if not self.fits(n):
            if self.full == RAISE:
                raise ResourceError((_OUTBOX_FULL, len(self._ring), self.size))
            if self.full == WAIT:
                return -1
            if self.full == NEWEST:
                self._tell((0, flags, topic, msg, props, token))
                return 0
        number = self.last + 1
        entry = (number, flags, topic, msg, props, token)
        if self.store and flags & 6:  # QoS 0 promises nothing: it is not worth the flash
            self.store.put(entry)
        self.last = number
        while not self.fits(n):  # "oldest"; now that the new one is safe
            self._tell(self._remove(0))
        self._add(entry)
        return number

    def first(self):
        """The entry whose turn it is, or None."""
        return self._ring[self._head] if self._count else None

    def withdraw(self, number):
        """Take back a message that is not wanted any more: its entry, or None where it is on its way already."""
        for i in range(self._count):
            entry = self._ring[(self._head + i) % len(self._ring)]
            if entry[0] == number:
                return self._forget(self._remove(i))
        return None

    def feed(self, engine):
        """Build the first message in the engine, if it may go out now; to be called while the engine is up and has
        nothing left to write. Returns its entry (`slot`: the one in flight; -1 at QoS 0), or None. Where its token is
        None, its slot is released: its answer frees it.

        One that this broker takes not at all is dropped, and told to on_event: "refused"."""
        while self._count and not engine.left:
            entry = self._ring[self._head]
            flags = entry[1]
            if flags & 6 and not engine.may_publish():
                return None
            engine.out_topic = entry[2]
            engine.out_msg = entry[3]
            engine.out_props = entry[4]
            engine.out_flags = flags
            if self.store and flags & 6:
                self.store.moving = entry[0]
            try:
                self.slot = engine.publish()
            except (ValueError, ResourceError) as e:
                self._forget(self._remove(0))
                # Larger than it takes, or a QoS or RETAIN it has not (3.2.2.3.4 to 3.2.2.3.6).
                engine.tell("refused", (entry[2], 0x95 if isinstance(e, ResourceError) else 0x83))
                if self.on_drop and entry[5] is not None:
                    self.on_drop(entry)
                continue
            finally:
                if self.store:
                    self.store.moving = 0
            self._remove(0)
            if self.slot >= 0 and entry[5] is None:
                engine.session.release(self.slot)
            return entry
        return None

    def entries(self):
        """All that waits, in order: a new list."""
        return [self._ring[(self._head + i) % len(self._ring)] for i in range(self._count)]

    def restore(self, entries):
        """What a store has kept, in order; before anything else was put. Takes all of them, whatever the bounds."""
        self._ring.extend([None] * (len(entries) - len(self._ring)))
        for entry in entries:
            self._add(entry)
            self.last = entry[0]

    # --- small parts

    def _add(self, entry):
        self._ring[(self._head + self._count) % len(self._ring)] = entry
        self._count += 1
        self.used += len(entry[2]) + len(entry[3]) + len(entry[4])

    def _remove(self, i):
        """Take out the entry with i others before it."""
        ring = self._ring
        at = (self._head + i) % len(ring)
        entry = ring[at]
        while i:  # those before it move up: their order stays
            before = (at - 1) % len(ring)
            ring[at] = ring[before]
            at = before
            i -= 1
        ring[at] = None
        self._head = (self._head + 1) % len(ring)
        self._count -= 1
        self.used -= len(entry[2]) + len(entry[3]) + len(entry[4])
        return entry

    def _forget(self, entry):
        if self.store and entry[1] & 6:
            self.store.drop(entry[0])
        return entry

    def _tell(self, entry):
        self.dropped += 1
        if entry[0]:
            self._forget(entry)
        if self.on_drop:
            self.on_drop(entry)
