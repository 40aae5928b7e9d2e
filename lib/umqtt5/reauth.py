"""Re-authentication (MQTT 5.0, 4.12.1): AUTH 0x19 on a connection that is up, and the proof that a server owes
at login.

Loaded when the first one starts. While one runs, its object stands in front of the engine: methods of its own, set on
the engine's instance, hide the class's. So a client that never re-authenticates pays nothing for it, in bytes or in
time. They are gone when it is over, or the connection.

Held (reauth_hold=True, the default), nothing but AUTH goes out from AUTH 0x19 to its end, since mosquitto 2.0 closes
on any other packet, PINGREQ too: keep alive waits, for which AUTH itself counts, and a derivation that would outlast
1.5 x keep alive is refused as at login. Acknowledgements, and what a message handler publishes, are kept, and go out
in their order.
It must never let two exchanges run at once, nor let what came before a server's proof reach the application.
"""

from micropython import const

from time import ticks_diff, ticks_ms

from .auth import Exchange
from .codec import find, text, u32, vbi, vbi_size
from .errors import AuthError, NotProven, ProtocolError, wrong
from .reader import Reader

_UP = const(2)  # as in reader.py

# Texts of errors: see texts.py.
_CONNACK_AGAIN = const(27)
_AUTH_UNASKED = const(36)
_AUTH_AFTER_END = const(44)
_NO_AUTH = const(61)
_REAUTH_RUNS = const(62)
_OTHER_METHOD = const(63)
_NO_PROOF_AGAIN = const(64)

_FIRST = const(0)  # as in auth.py
_LAST = const(2)

_LOOK = const(1000)  # ms: the longest wait between two looks at the clock

# A DISCONNECT with one of these reasons is about the connection or the server, not about who we are: Disconnected.
_ELSEWHERE = b"\x00\x89\x8b\x8d\x8e\x9c\x9d\x9f\xa0"

_HOLD = ("next", "_ack", "publish", "end")


def start(engine, mechanism, now):
    """See Login.reauthenticate()."""
    ours = engine.terms.mechanism
    if not ours:
        raise wrong(_NO_AUTH)
    if engine.exchange:
        raise wrong(_REAUTH_RUNS, RuntimeError)
    mechanism = mechanism or ours
    if mechanism.name != ours.name:  # [MQTT-4.12.1-1]
        raise wrong((_OTHER_METHOD, mechanism.name, ours.name))
    engine.exchange = Again(engine, mechanism, now)
    engine.authenticating = True
    engine.prepared = None


def reauthenticate(c, mechanism):
    """See simple.MQTTClient.reauthenticate()."""
    e = c._engine
    start(e, mechanism, ticks_ms())
    while e.authenticating:
        c._doing = "re-authentication: waiting for AUTH"
        if e.auth_busy():
            try:
                c._work(None)  # not by _due(): the time is looked at where nothing is left to read
            except:
                c._abort()
                raise
        c._flush(None)
        if e.authenticating:
            c._turn(None)


def arm(engine, now):
    """The engine's timer() shall start the next one, reauth_every after `now`."""
    engine.timer = _Due(engine, now).timer


class _Due:
    def __init__(self, engine, since):
        self.engine = engine
        self.since = since

    def timer(self, now):
        """In front of the engine's. Allocates nothing until it is time."""
        e = self.engine
        left = Reader.timer(e, now)
        if e.state != _UP or e.in_handler:
            return left
        ms = e.terms.reauth_every - ticks_diff(now, self.since)
        if ms > 0:
            return min(left, ms)
        start(e, None, now)  # another timer stands in front now
        return 0


class _Again(Exchange):
    """AUTH 0x19, AUTH 0x18 ..., AUTH 0x00. What a server's AUTH brings is given to the mechanism by work(): at once
    it could meet a packet of ours half out."""

    again = True

    def __init__(self, engine, mechanism):
        super().__init__(engine, mechanism)
        self.front = []
        self.packet = None  # where our last AUTH was built
        self.stand(("closed",))

    def stand(self, names):
        for name in names:
            self.front.append(name)
            setattr(self.engine, name, getattr(self, name))

    def aside(self, names):
        for name in reversed(names):  # "closed" last: where Ctrl-C comes in between, it takes the others away
            if name in self.front:
                self.front.remove(name)
                delattr(self.engine, name)

    def closed(self):
        """The engine's closed(): the stream is gone, in the middle of it."""
        self.aside(list(self.front))
        self.engine.held = False
        self.engine.wipe()
        self.engine.closed()

    def work(self, now):
        # Not before what is on its way is out.
        if self.engine.left or (self.phase == _FIRST and self.engine.next()):
            return
        if self.proven:  # AUTH 0x00 has come after our empty answer
            self._finish()
        else:
            super().work(now)

    def _first(self, out):
        self._put(0x19, out)

    def _next(self, out):
        self._put(0x18, out)

    def _put(self, reason, out):
        e = self.engine
        try:
            try:
                e.put_auth(reason, self.method, out, self.props)
            except ValueError:  # [MQTT-3.15.2-2], [MQTT-3.15.2-3]
                e.put_auth(reason, self.method, out, b"")
            self.packet = e.out
        except ValueError as x:
            self._failed(AuthError("AUTH: " + str(x)))

    def auth(self, n):
        e = self.engine
        if self.busy or (e.left and e.out is self.packet and e.out[0] == 0xF0):
            raise ProtocolError(_AUTH_UNASKED)
        value = self._parse(n, 0)
        if not e.rx[0]:
            self.phase = _LAST
        elif self.proven:
            raise ProtocolError(_AUTH_AFTER_END)
        for buf in (e.rx, e.scratch):
            for i in range(min(n, len(buf))):
                buf[i] = 0
        self.value = value
        self.busy = True

    def connack(self, n):
        raise ProtocolError(_CONNACK_AGAIN)

    def refused(self, reason):
        """Whether a CONNACK or DISCONNECT with this reason refuses us. mosquitto 2.0.11 says CONNACK (4.12.1: it must
        be DISCONNECT)."""
        return self.phase != _FIRST and reason not in _ELSEWHERE

    def _finish(self):
        if getattr(self.mechanism, "proof_due", False):
            self._failed(NotProven(_NO_PROOF_AGAIN))
        self.done()


class Again(_Again):
    """One on a connection that is up."""

    def __init__(self, engine, mechanism, now):
        super().__init__(engine, mechanism)
        self.quiet = engine.terms.reauth_hold
        self.ms = engine.timeout  # what is left of it
        self.since = now  # counted until then
        # What was held: packets (bytes), acknowledgements without properties (a bytearray: four bytes each, as in
        # Packets.acks), with properties (the arguments of _ack()).
        self.later = []
        self.acks = 0  # how many of them
        self.at = 0  # where the first of `later` goes on
        self.over = False  # done, but for what was held
        self.stand(("timer",))

    def count(self, now):
        self.ms -= ticks_diff(now, self.since)
        self.since = now

    def work(self, now):
        if self.wait:
            self.count(now)
        # Our own computing does not count; nor does the time until an application came to read, but for what timer()
        # saw of it.
        self.since = now
        super().work(now)

    def auth(self, n):
        if self.over:
            raise ProtocolError(_AUTH_UNASKED)
        super().auth(n)

    def refused(self, reason):
        return not self.over and super().refused(reason)

    def _first(self, out):
        super()._first(out)
        if self.quiet:
            self.engine.held = self.engine.pending = True
            self.stand(_HOLD)

    def done(self):
        e = self.engine
        # The next connect() logs in with what has proved right; the MQTT User Name too, where it was the mechanism's.
        terms = e.terms
        user = getattr(terms.mechanism, "user", None)
        new = getattr(self.mechanism, "user", None)
        if user and new and terms.user == text(user, "user"):
            terms.user = text(new, "user")
        terms.mechanism = self.mechanism
        e.held = False
        if e.pinged is not None:  # its answer could not come, or it could not even go out
            e.pinged = self.since
        e.prepared = None  # not held, a publish may have left one in tx
        for i in range(len(e.tx)):  # nothing else is in it: work() saw to that
            e.tx[i] = 0
        self.aside(("_ack",))
        self.over = True
        if not self.later:
            self.leave()

    def leave(self):
        self.engine.exchange = None
        self.engine.authenticating = False
        self.aside(list(self.front))
        if self.engine.terms.reauth_every:
            arm(self.engine, self.since)

    # --- in front of the engine

    def timer(self, now):
        """As Reader.timer(); and the deadline, `timeout` without our own computing."""
        e = self.engine
        keepalive = e.keepalive
        if e.held:
            e.keepalive = 0
        try:
            left = Reader.timer(e, now)
        finally:
            e.keepalive = keepalive
        if self.over:
            return left
        if self.busy and not self.wait:
            return left if e.left or e.in_handler else 0
        self.count(now)
        if self.ms <= 0:
            e._silent("AUTH, the answer to our re-authentication,")
        return 0 if self.busy and not e.in_handler else min(left, self.ms, _LOOK)

    def next(self):
        e = self.engine
        if e.left:
            return True
        if e.held:
            return False
        if not self.later:
            self.leave()
            return e.next()
        held = self.later[0]
        i = self.at
        if isinstance(held, bytearray):
            e._ack(held[i], held[i + 1], held[i + 2] << 8 | held[i + 3])
            self.at = i = (i + 4) % len(held)
        elif isinstance(held, bytes):
            e.out = held
            e._ready(len(held))
        else:
            e._ack(*held)
        if not i:
            self.later.pop(0)
        if not e.left:
            e._next_ack()
        return True

    def _ack(self, header, reason, pid, props=b""):
        # Not into the ring of eight: as many may wait as the server may send. mosquitto 2.0.11 sends hundreds.
        e = self.engine
        keeps = getattr(e, "keeps", None)
        if keeps and keeps(header, pid):  # aio's: not before the message is dealt with
            return
        self.acks += 1
        if self.acks > e.session.size + e.session.grace:
            from .receive import owe

            owe(e, self.acks)
        if props:
            self.later.append((header, reason, pid, props))
            return
        if not self.later or not isinstance(self.later[-1], bytearray):
            self.later.append(bytearray())
        self.later[-1].extend(bytes((header, reason, pid >> 8, pid & 0xFF)))

    def publish(self):
        # By a handler, which never waits; a driver's publish() waits while `held`. Behind others that waited, or an
        # alias would come before its topic.
        i = type(self.engine).publish(self.engine)
        self._keep()
        return i

    def _keep(self):
        """A packet of the application's stands in the engine: subscribe.py calls it too."""
        if "publish" not in self.front:
            return
        e = self.engine
        packet = bytes(memoryview(e.out)[: e.left])
        if e.tail is not None:
            packet += bytes(e.tail)
            e.tail = None
        e.left = 0
        e.out = e.tx
        self.later.append(packet)

    def end(self, *how):
        type(self.engine).end(self.engine, *how)
        self.later.clear()  # [MQTT-3.14.4-2]


class Proof(_Again):
    """One between CONNACK 0x00 and its taking effect: the server had no proof in it, and the mechanism allows it
    this one exchange more to bring it (server_proof="reauth"; ThingsBoard's TBMQ needs it)."""

    early = b"\x03\x06"  # PUBLISH, PUBREL

    def __init__(self, engine, mechanism, n):
        super().__init__(engine, mechanism)
        rx = engine.rx
        self.granted = bytes(rx[:n])
        self.missed = 0
        # All that holds of this CONNACK already: our AUTH must not be larger than the server takes.
        i = find(rx, 2 + vbi_size(vbi(rx, 2, n)), n, 0x27)
        if i >= 0:
            engine.max_out = u32(rx, i)
        engine.receiving()
        handlers = list(engine.handlers)
        handlers[3] = _early_publish
        handlers[6] = _early_pubrel
        self.handlers = tuple(handlers)
        self.stand(("handlers",))

    def done(self):
        e = self.engine
        self.aside(list(self.front))
        n = len(self.granted)
        e.rx[:n] = self.granted  # nothing is read while work() is due
        e.accept(n)
        if self.missed:
            e.tell_inside("unproven", self.missed)


def _early_publish(e, n):
    """A PUBLISH before the proof: anybody's. It is neither delivered nor acknowledged, and comes again in the next
    session; till then its packet identifier is in use at the server, and so it counts against our Receive Maximum
    (4.9). Its identifier is not remembered: when it comes again, it is new. An alias that it sets holds, or later
    messages would refer to nothing."""
    from .receive import drain, owe, parse

    if parse(e, n):
        owe(e, 1)
    e.exchange.missed += 1
    if e.size > n:
        drain(e)
    return 0


def _early_pubrel(e, n):
    """A PUBREL of the session, before we know whose it is. It comes again like the others: to forget its identifier
    now could have a message delivered twice."""
    e._answer(n, 6)
    return 0
