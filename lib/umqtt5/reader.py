"""Bytes in: cuts the stream into packets, in place, and keeps the connection's time.

A packet is read exactly: two bytes of fixed header, further bytes of its length, then its body to rx[0] (driver.py
reads the next header with it). So nothing is ever moved or copied, but for a body that comes in pieces. What a packet
means is not known here.
"""

from micropython import const

from errno import ETIMEDOUT
from time import ticks_diff

from .codec import vbi, vbi_size
from .errors import MalformedPacket, PeerError, ProtocolError, ResourceError
from .packets import Packets

# Texts of errors: see texts.py.
_LONG_LENGTH = const(16)
_NOT_A_SERVERS = const(17)
_WRONG_FLAGS = const(18)
_BEFORE_CONNACK = const(19)
_ABOVE_MAX_PACKET = const(20)
_NEEDS_RX = const(21)
_NO_PID = const(22)
_PID_0 = const(23)

# Engine.state
CLOSED = const(0)
CONNECTING = const(1)  # CONNECT goes out, or CONNACK is awaited
UP = const(2)
FAILED = const(3)  # an error of the connection's was raised: the driver closes the stream

# What the next bytes belong to.
_HEAD = const(0)
_LENGTH = const(1)
_BODY = const(2)
_DRAIN = const(3)

_PING = const(34)  # as in packets.py

_SCRATCH = const(32)
# ms; longer than any interval of MQTT's. Half of what ticks can tell apart on a board: asyncio's queue compares a
# task that is to wake up then with those that are late already.
_NEVER = const(0x0FFFFFFF)

# 2.1.3: the flags of each packet type that a server may send; _ANY: PUBLISH; _NONE: not a server's.
_ANY = const(0x20)
_NONE = const(0x21)
_FLAGS = const(b"\x21\x21\0\x20\0\0\x02\0\x21\0\x21\0\x21\0\0\0")


class Reader(Packets):
    """The incoming half of the engine, below the meaning of packets. Owns `rx`. Its attributes: see make.py."""

    # --- what the driver calls

    def got(self, n, now):
        """The driver has read n > 0 bytes into `into`: deal with them, one packet at most. now: ticks, ms. Returns
        the first byte of a PUBLISH dealt with, else 0. Raises what is wrong with the packet, or what a handler
        raised; broke() has been called then."""
        self.last_rx = now
        try:
            return self._got(n)
        except:
            self.broke()
            raise

    def broke(self):
        """An exception has left the engine. State is FAILED now; or UP, and handler_raised set, where it is a message
        handler's own: then the connection is whole. But not when the last of the messages that the broker may send
        without an acknowledgement has raised: in a new connection they all come again."""
        self.handler_raised = self.in_handler and self.state == UP
        self.in_handler = False
        if self.handler_raised and self.stuck():
            self._failed(0x83)
        elif self.state == CONNECTING or (self.state == UP and not self.handler_raised):
            self._failed(PeerError.latest or 0x80 if self.parting is None else self.parting)
        PeerError.latest = 0

    def stuck(self):
        """True where as many messages as Receive Maximum will never be acknowledged in this connection, since their
        handlers raised: nothing would come any more (4.9). Those between PUBREC and PUBREL are on their way."""
        s = self.session
        n = self.owed
        for i in range(len(s.received)):
            if s.received[i]:
                n -= s.counted[i]
        return n >= s.size

    def _got(self, n):
        if self.part != _BODY:
            return self._got_head(n)
        if self.into is self.scratch:  # it goes on from rx[have]
            i = 0
            if n == _SCRATCH:  # at once
                self.rx[self.have : self.have + n] = self.scratch
                i = n
            while i < n:
                self.rx[self.have + i] = self.scratch[i]
                i += 1
        self.have += n
        return self._go_on()

    def _got_head(self, n):
        head = self.head
        if n == 2 and self.part == _HEAD:  # at once, as nearly always
            self.have = 2
            if head[1] < 0x80:
                return self._body(head[1])
        elif self.part == _DRAIN:
            self.have += n
            self.need = min(self.size - self.have, len(self.rx))
            if self.need:
                return 0
            self.size = 0
            self._await()
            return 0x30
        else:
            # A header in pieces: byte by byte.
            if self.into is self.scratch:
                head[self.have] = self.scratch[0]
            n = self.have + 1
            self.have = n
            if n >= 2 and head[n - 1] < 0x80:
                return self._body(vbi(head, 1, n))
            if n == 5:
                raise MalformedPacket(_LONG_LENGTH)
        self.part = _LENGTH
        self.into = self.scratch
        self.need = 1
        return 0

    def timer(self, now):
        """ms until it wants to be called again. Queues PINGREQ when it is time (3.1.2.10); OSError(ETIMEDOUT) when
        the broker is silent: it left a packet unfinished, or its PINGRESP is overdue."""
        quiet = ticks_diff(now, self.last_rx)
        left = _NEVER
        if self.part or self.have:
            left = self.timeout - quiet
            if left <= 0:
                self._silent("the rest of a packet")
        if self.keepalive and self.state == UP:
            quiet = self._keep_alive(now, quiet)
            if quiet < left:
                return quiet
        return left

    def _keep_alive(self, now, quiet):
        ms = self.keepalive * 1000
        if self.pinged is not None:
            ms = min(self.timeout, ms // 2) - ticks_diff(now, self.pinged)
            if ms <= 0:
                self._silent("PINGRESP")
            return ms
        # A little early: the interval must not exceed the keep alive [MQTT-3.1.2-20]. Nothing received for so long
        # asks for a ping too, or a board that publishes QoS 0 into a black hole never notices.
        sent = ticks_diff(now, self.last_tx)
        ms -= ms // 16 + max(sent, quiet)
        if ms > 0:
            return ms
        self.ping(now)
        return 0

    def flowing(self, now):
        """Packets come without a pause: nobody waits, and asks timer(). We have to send something all the same
        [MQTT-3.1.2-20], and PINGRESP stands behind them, perhaps many: its time begins anew."""
        if self.keepalive and self.state == UP:
            if self.pinged is not None:
                self.pinged = now
            ms = self.keepalive * 1000
            if ticks_diff(now, self.last_tx) >= ms - ms // 16:
                self.ping(now)

    def ping(self, now):
        """Queue PINGREQ (3.12); its answer is due within min(timeout, keepalive / 2)."""
        self.acks[_PING] = 1
        self.pending = True
        self.prepared = None
        if self.pinged is None:
            self.pinged = now

    def farewell(self):
        """After an error: True where a DISCONNECT has been built, for the driver to try to write once."""
        # Not before CONNECT is out, not behind half a packet.
        reason = self.parting
        if not reason or self.midway:
            return False
        self.put_disconnect(reason)
        return True

    def wipe(self):
        """Overwrite the buffers: they held a password or authentication data."""
        for buf in (self.tx, self.rx, self.scratch):
            for i in range(len(buf)):
                buf[i] = 0

    def closed(self):
        """The stream is closed. The session stays."""
        if self.state == CONNECTING or self.state == FAILED:
            self.wipe()
        self.state = CLOSED
        self.authenticating = False
        self.quick = -1
        self.prepared = None
        self.exchange = None
        self.left = 0
        self.pending = False  # or the next call would build what waits, for a stream that is none
        self.tail = None
        self.out = self.tx

    # --- a packet's parts

    def _await(self):
        """The next bytes are a fixed header."""
        self.part = _HEAD
        self.have = 0
        self.into = self.head
        self.need = 2

    def _go_on(self):
        """A packet has come whole, or the start of a PUBLISH too large; or else the next piece goes to rx[have]."""
        have = self.have
        n = min(self.size, len(self.rx))
        if have == n:
            # Ready for the next packet before anything is done with this one: a handler may raise.
            self._await()
            if n == self.size:
                self.size = 0
            return self.handlers[self.head[0] >> 4](self, n)
        step = len(self.rx)
        if len(self.views) > 1:
            step -= len(self.views[1])
        off = have % step
        if off:
            self.into = self.scratch
            self.need = min(_SCRATCH, step - off, n - have)
        else:
            self.into = self.views[have // step]
            self.need = n - have
        return 0

    def _body(self, n):
        """The fixed header is whole: check it, and make room for n more bytes."""
        h = self.head[0]
        t = h >> 4
        flags = _FLAGS[t]
        if flags == _NONE:
            raise ProtocolError((_NOT_A_SERVERS, t))
        if flags != _ANY and h & 15 != flags:
            raise MalformedPacket((_WRONG_FLAGS, h & 15, t))
        if self.state != UP and t != 2 and t != 14 and t != 15 and not (self.exchange and t in self.exchange.early):
            raise ProtocolError((_BEFORE_CONNACK, t))
        most = self.terms.max_packet
        if most and 1 + vbi_size(n) + n > most:
            raise ProtocolError((_ABOVE_MAX_PACKET, n, most), 0x95)
        if n > len(self.rx) and t != 3:  # of a PUBLISH the start is kept: topic and packet identifier are needed
            self.parting = 0x95
            raise ResourceError((_NEEDS_RX, n, n), 0x95)
        self.size = n
        self.part = _BODY
        self.have = 0
        return self._go_on()

    def _pid(self, i, n):
        if i + 2 > n:
            raise MalformedPacket(_NO_PID)
        pid = self.rx[i] << 8 | self.rx[i + 1]
        if not pid:  # 2.2.1
            raise ProtocolError(_PID_0)
        return pid

    # --- errors and events

    def _failed(self, parting):
        """An error of the connection's (not one of a handler's) is about to be raised, or is on its way."""
        self.state = FAILED
        self.authenticating = False
        self.quick = -1
        self.prepared = None
        self.exchange = None
        self.parting = parting

    def _silent(self, what):
        self._failed(0)  # nobody would hear it
        raise OSError(ETIMEDOUT, what + " did not come")

    def tell(self, name, value):
        """on_event(name, value): something that no call of the application's can report.

        "oversized": bytes of a PUBLISH larger than rx. "unhandled": the topic of a message that no handler and no
        callback was there for; it is acknowledged, and gone. "refused": (topic, reason), a publish that nobody waits
        for; or (topic filter, reason), a subscription that could not be made again.
        After a reconnect with the session gone: "unsent": (topic, msg), not acknowledged, and not sent anew (without
        republish=True); "unconfirmed": the topic of a message at QoS 2 that the broker had received, not confirmed.
        "unproven": how many messages came before the proof of a server that gives it late (server_proof="reauth"),
        and were dropped."""
        if self.on_event:
            self.on_event(name, value)

    def tell_inside(self, name, value):
        """tell(), while a packet is dealt with: nothing may wait then, as inside a handler."""
        inside = self.in_handler
        self.in_handler = True
        try:
            self.tell(name, value)
        finally:
            self.in_handler = inside
