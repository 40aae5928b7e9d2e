"""The engine: what packets mean, and what the application may do. Every rule of MQTT 5.0 lives in it, once.

It is built in layers, a file each: packets.py (bytes out), reader.py (bytes in, time), login.py (CONNECT, AUTH,
CONNACK) and this one. It has no socket and no clock: a driver moves bytes, waits and keeps time.

    reading   read at most `need` bytes into `into`, then got(n, now); while auth_busy() or acks_full(): do not read
    writing   while left or next(): write out[off : off + left], then wrote(n, now)
    time      timer(now) -> ms until it wants to be called again; raises when a deadline has passed
    login     open(now, ...); work(now) while auth_busy(); it is done when state is UP
    again     reauthenticate(mechanism, now), or by itself in timer(); `authenticating` until it is done: work(now)
              while auth_busy(), reading may go on; while `held` build no packet of the application's
    the end   an exception with state FAILED: farewell() may build a DISCONNECT to try once; then close the stream

After the login nothing here allocates, but where a docstring says so.
"""

from micropython import const

import umqtt5.errors as errors

from .codec import properties, vbi, vbi_size
from .login import Login
from .packets import payload

# Texts of errors: see texts.py.
_WRONG_REASON = const(94)
_BEHIND = const(95)
_QOS_ABOVE = const(96)
_NO_RETAIN = const(97)
_FUNCTION = const(125)

_UP = const(2)  # as in reader.py
_PUBACK = const(1)  # as in session.py
_PUBREC = const(2)  # as in session.py
_PUBCOMP = const(3)  # as in session.py
_DONE = const(6)  # as in session.py
_AGAIN = const(0x10)  # as in resume.py
_NO_RESEND = const(-1)  # as in packets.py

# The reasons that a server may give (3.4.2.1, 3.5.2.1; 3.6.2.1, 3.7.2.1).
_PUB_REASONS = const(b"\x00\x10\x80\x83\x87\x90\x91\x97\x99")
_REL_REASONS = const(b"\x00\x92")


class Engine(Login):
    """See the top of the file. Takes the keyword arguments of MQTTClient that concern MQTT; makes every buffer and
    attribute: see make.py."""

    def __init__(self, *args, **options):
        from .make import make

        make(self, *args, **options)

    # What runs for each message is found in this table, the first that is searched, not in the third or fourth.
    start_publish = Login.start_publish
    put_publish = Login.put_publish
    wrote = Login.wrote
    _ack = Login._ack

    # --- packets in: each function gets the length of rx[:n]

    def receiving(self):
        """Messages are to come: load what receives them (receive.py). Allocates, the first time."""
        if self.message is None:
            import gc
            import sys

            if "umqtt5.receive" not in sys.modules:
                # What is loaded goes into the holes, not above the garbage. With these and the one in simple.py a
                # day's work needs some 12 KB less (tools/bench/smallest.py).
                for name in ("message", "subscribe", "receive"):
                    gc.collect()
                    __import__("umqtt5." + name)
            from .receive import begin

            begin(self)

    def _load(self, n):
        """A packet that receive.py is for has come first."""
        from .receive import begin

        begin(self)
        return self.handlers[self.head[0] >> 4](self, n)

    def _pingresp(self, n):  # 3.13
        if n:
            raise errors.MalformedPacket("PINGRESP")
        self.pinged = None
        return 0

    def set_callback(self, f):
        """See simple.MQTTClient's."""
        if f and not callable(f):
            raise errors.wrong((_FUNCTION, "callback"), TypeError)
        self.receiving()
        self.callback = f

    def _call_back(self, message):
        if self.callback:
            return self.callback(message.topic, message.payload)
        if self.on_event:
            self.tell("unhandled", message.topic)
        return None

    def _answer(self, n, packet):
        """Parse PUBACK, PUBREC, PUBREL, PUBCOMP (3.4.2): reason << 16 | packet identifier. Allocates where the broker
        sends properties."""
        rx = self.rx
        pid = self._pid(0, n)
        reason = rx[2] if n > 2 else 0
        if reason not in (_PUB_REASONS if packet < 6 else _REL_REASONS):
            raise errors.ProtocolError((_WRONG_REASON, reason, packet))
        self.answer_props = b""
        if n > 3:
            if properties(rx, 3, n, packet) != n:
                raise errors.MalformedPacket(_BEHIND)
            self._keep_props(3, n)
        return reason << 16 | pid

    def _keep_props(self, i, end):
        at = i + vbi_size(vbi(self.rx, i, end))
        self.check_problem_information(at, end)
        if at < end:
            self.answer_props = bytes(self.rx[at:end])

    def _puback(self, n):  # 3.4
        return self._sent(self._answer(n, 4), _PUBACK)

    def _sent(self, answer, state):
        """What waits for `state` is acknowledged for good, or refused. answer: what _answer() returned."""
        s = self.session
        i = s.find(answer & 0xFFFF, state)
        if i < 0:
            s.unmatched += 1
            return 0
        answer >>= 16  # from here on the reason
        if answer == 0x92 and s.flags[i] & _AGAIN:
            answer = 0  # 3.7.2.1: not an error after a reconnect, where the last PUBCOMP may have been lost
        self.quota += s.flags[i] >> 7  # 4.9
        topic = s.topic[i]
        s.answered(i, answer)
        if answer >= 0x80 and s.state[i] != _DONE:
            self.tell_inside("refused", (topic, answer))  # nobody waits for it
        return 0

    def _pubrec(self, n):  # 3.5
        reason = self._answer(n, 5)
        n = reason & 0xFFFF  # from here on the packet identifier
        s = self.session
        i = s.find(n, _PUBREC)
        if i < 0:
            # PUBREC again, after a reconnect: the same answer again. Or one for a packet that we know nothing of.
            i = 0 if s.find(n, _PUBCOMP) >= 0 else 0x92
            self._ack(0x62, i, n)
        elif reason >= 0x800000:
            self._sent(reason, _PUBREC)
        else:
            s.reached(i)
            self._ack(0x62, 0, n)
        return 0

    def _pubcomp(self, n):  # 3.7
        return self._sent(self._answer(n, 7), _PUBCOMP)

    # --- what the application does, through a driver

    def may_publish(self):
        """True where a PUBLISH with QoS > 0 may go out now (4.9), behind those to be resent (4.6)."""
        return self.quota > 0 and self.resend == _NO_RESEND

    def publish(self):
        """Build the PUBLISH that the driver has put into out_topic, out_msg (str or bytes), out_props (None, bytes,
        dict) and out_flags (qos << 1 | retain): the slot that waits for its acknowledgement, -1 at QoS 0. ValueError
        for what the broker's CONNACK does not allow. Allocates only to encode what is not bytes."""
        if self.state != _UP:
            self._ready_for_use()
        if self.out_flags:
            if not 0 <= self.out_flags >> 1 <= self.max_qos:  # [MQTT-3.2.2-11]
                raise errors.wrong((_QOS_ABOVE, self.out_flags >> 1, self.max_qos))
            if self.out_flags & 1 and not self.retain_available:  # [MQTT-3.2.2-14]
                raise errors.wrong(_NO_RETAIN)
        if type(self.out_topic) is not bytes or self.out_topic not in self.topics_ok[0]:
            self.out_topic = self.topic(self.out_topic)
        msg = self.out_msg
        if type(msg) is not bytes:
            if type(msg) is str:
                self.out_msg = msg.encode()
            elif type(msg) is not bytearray:
                payload(msg)  # before an alias counts as sent
        self.out_props = self.properties(self.out_props, 3) if self.out_props else b""
        self.out_alias = self._outgoing_alias() if self.alias_limit else -1
        if self.out_flags & 6:
            return self.start_publish()
        self.put_publish()
        return -1

    def _give_back(self, i):
        self.session.release(i)
        self.session.answered(i, 0)

    def end(self, reason, props, session_expiry=None):
        """Build our DISCONNECT (3.14). Nothing else goes out after it [MQTT-3.14.4-2]. session_expiry: s, instead of
        CONNECT's. Allocates."""
        self._ready_for_use()
        if reason or props or session_expiry is not None:
            from .ending import end

            end(self, reason, props, session_expiry)
        else:
            self.put_disconnect(0)


Engine.handlers = (
    None,
    None,
    Engine._connack,
    Engine._load,
    Engine._puback,
    Engine._pubrec,
    Engine._load,
    Engine._pubcomp,
    None,
    Engine._load,
    None,
    Engine._load,
    None,
    Engine._pingresp,
    Engine._disconnect,
    Engine._auth,
)
