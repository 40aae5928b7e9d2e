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

from .codec import find, properties, u16, u32, vbi, vbi_size
from .errors import MalformedPacket, ProtocolError, Reject, ResourceError
from .login import Login
from .message import Message
from .packets import Packets, may_publish
from .reader import UP, Reader
from .session import DONE, PUBACK, PUBCOMP, PUBREC, SUBACK, UNSUBACK, Session

# The reasons that a server may give (3.4.2.1, 3.5.2.1; 3.6.2.1, 3.7.2.1; 3.9.3; 3.11.3).
_PUB_REASONS = b"\x00\x10\x80\x83\x87\x90\x91\x97\x99"
_REL_REASONS = b"\x00\x92"
_SUB_REASONS = b"\x00\x01\x02\x80\x83\x87\x8f\x91\x97\x9e\xa1\xa2"
_OUR_DISCONNECTS = b"\x00\x04\x80\x81\x82\x83\x90\x93\x94\x95\x96\x97\x98\x99"  # 3.14.2.1, those of a client
_UNSUB_REASONS = b"\x00\x11\x80\x83\x87\x8f\x91"


def _hand(e, handler):
    """handler(message), a message handler: 0, or the reason with which it rejects the message."""
    e.in_handler = True  # broke() finds it set when anything else leaves the handler
    try:
        handler(e.message)
        handler = 0
    except Reject:
        handler = e._rejected()
    e.in_handler = False
    return handler


class Engine(Login):
    """See the top of the file. Takes the keyword arguments of MQTTClient that concern MQTT; makes every buffer."""

    def __init__(
        self,
        client_id,
        user,
        password,
        keepalive,
        *,
        auth=None,
        tx_size=256,
        rx_size=1024,
        receive_maximum=20,
        topic_alias_maximum=0,
        topic_aliases=8,
        max_packet=None,
        timeout=10,
        session_expiry=None,
        republish=False,
        props=None,
        ack_props=None,
        on_event=None,
        reauth_every=0,
        reauth_hold=True,
        store=None,
    ):
        if not 0 <= keepalive <= 65535:
            raise ValueError("keepalive: 0..65535 s")
        if not 1 <= receive_maximum <= 1000 or not 0 <= topic_alias_maximum <= 1000:
            raise ValueError("receive_maximum: 1..1000, topic_alias_maximum: 0..1000 (each has a table)")
        if tx_size < 32 or rx_size < 64:
            raise ValueError("tx_size: at least 32; rx_size: at least 64")
        if max_packet is not None and not 1 <= max_packet <= 0xFFFFFFFF:
            raise ValueError("max_packet: 1..4294967295")
        if session_expiry is not None and not 0 <= session_expiry <= 0xFFFFFFFF:
            raise ValueError("session_expiry: 0..4294967295 s")
        if reauth_every and (not auth or not 1 <= reauth_every <= 432000):
            # The clock of a board compares spans of up to 6.2 days.
            raise ValueError("reauth_every: 1..432000 s, with auth=")
        if store:
            session = store.session(receive_maximum)
            client_id = client_id or store.client_id
        else:
            session = Session(receive_maximum)
        login = (client_id, user, password, keepalive, auth, session_expiry, topic_alias_maximum)
        buffers = (session, tx_size, rx_size, topic_aliases, max_packet, int(timeout * 1000))
        super().__init__(*login, *buffers)
        self.connect_props = props = self.properties(props, 1)
        for ident in (0x11, 0x15, 0x16, 0x21, 0x22, 0x27):
            if find(props, 0, len(props), ident) >= 0:
                raise ValueError("props: property 0x%02X has an argument of its own" % ident)
        i = find(props, 0, len(props), 0x17)
        self.no_problems = i >= 0 and not props[i]
        i = find(props, 0, len(props), 0x19)
        self.wants_response_information = i >= 0 and props[i] == 1
        self.republish = republish
        self.reauth_every = int(reauth_every * 1000)
        self.reauth_hold = reauth_hold
        self.ack_always = self.properties(ack_props, 4)
        self.on_event = on_event
        self.store = store
        if store:
            store.identify(self.client_id)
        self.callback = None
        # Bound once: a bound method is an object on the heap.
        self.to_handlers = self._dispatch
        self.to_callback = self._call_back
        self.unmatched = 0  # PUBACK and PUBCOMP for a packet identifier not in use
        self.message = Message(self.rx)
        self.reject_props = b""
        self.topics = None  # by topic alias
        self.said_reason = 0  # the last acknowledgement's reason
        self.answer_props = b""  # and its properties
        self.owed = 0  # PUBLISH with QoS > 0 that came and are not acknowledged yet (4.9)
        # How many more than our Receive Maximum are borne: mosquitto 2.0.11 sends the next message at QoS 2 when it
        # has the PUBREC, not the PUBCOMP; half of a long queue can be open at once.
        self.grace = 1000

    # What runs for each message is found in this table, the first that is searched, not in the third or fourth.
    start_publish = Packets.start_publish
    put_publish = Packets.put_publish
    may_publish = may_publish
    wrote = Packets.wrote
    next = Packets.next
    _put_topic = Packets._put_topic
    _put_props = Packets._put_props
    _outgoing_alias = Packets._outgoing_alias
    _ack = Packets._ack
    pull = Reader.pull
    timer = Reader.timer

    # --- packets in: each function gets the length of rx[:n]

    def _pingresp(self, n):  # 3.13
        if n:
            raise MalformedPacket("PINGRESP")
        self.pinging = False
        return 0

    def _publish(self, n):  # 3.3
        message = self.message
        s = self.session.usual
        if s is not None and self.size == n and message.is_usual(s, self.head[0], n):
            if message.qos:
                return self._publish1_usual(s.handler or self.to_callback, message)
            n = self.head[0]
            _hand(self, s.handler or self.to_callback)
            return n
        message.begin(self.head[0])
        return self._publish_any(message, n)

    def _publish1_usual(self, handler, message):
        pid = u16(self.rx, message.topic_end)
        if not pid or self.session.receiving or self.owed >= self.session.size:
            return self._publish_any(message, message.end)
        h = self.head[0]
        self.owed += 1
        handler = _hand(self, handler)  # from here on the reason
        if self.state == UP:
            self.owed -= 1
            if handler:
                self._answer_with(0x40, handler, pid)
            else:
                self._ack(0x40, 0, pid)
        return h

    def _publish_any(self, message, n):
        if self.size > n:
            self._must_fit(2 + u16(self.rx, 0))
        i = message.parse_topic(n, self.session.subscriptions)
        pid = 0
        if message.qos:
            pid = self._pid(i, n)
            i += 2
        if self.size > n:
            self._must_fit(i)
            self._props_must_fit(i, n)
        message.parse_props(i, n)
        if message.topic_end == 2 or message.props_start < message.start:
            self._check_publish(message)
        if self.size > n:
            return self._oversized(message.qos, pid)
        if (
            message.qos > self.max_qos and self.known_session and not message.solicited(self.session.subscriptions)
        ):  # 3.3.4
            raise ProtocolError("a message that nobody asked for, above the maximum QoS", 0x9B)
        if not message.qos:
            _hand(self, self.to_handlers)
            return self.head[0]
        return self._publish1(message, pid) if message.qos == 1 else self._publish2(message, pid)

    def _check_publish(self, message):
        """Topic alias and Subscription Identifiers."""
        i = find(self.rx, message.props_start, message.start, 0x23)
        if i >= 0:
            self._incoming_alias(message, u16(self.rx, i))
        elif message.topic_end == 2:
            raise ProtocolError("PUBLISH with neither topic nor alias")
        if self.known_session:
            message.check_numbers(self.session.top_id)

    def _incoming_alias(self, message, ident):  # 3.3.2.3.4. Allocates when an alias gets a new topic.
        if ident > self.alias_maximum:
            raise ProtocolError("topic alias %d, topic_alias_maximum is %d" % (ident, self.alias_maximum), 0x94)
        if message.topic_end > 2:
            self.topics[ident] = message.topic
        elif self.topics[ident] is None:
            raise ProtocolError("a topic alias that was never given a topic")
        else:
            message.topic_buf = self.topics[ident]
            message.topic_start = 0
            message.topic_end = len(message.topic_buf)

    def _publish1(self, message, pid):  # 4.3.2
        if self.session.place(pid) >= 0:
            self._ack(0x40, 0x91, pid)  # 2.2.1: in use, by a message at QoS 2
            return 0
        h = self.head[0]
        self._owe(1)
        reason = _hand(self, self.to_handlers)
        if self.state == UP:  # the handler may have disconnected
            self.owed -= 1
            self._answer_with(0x40, reason, pid)
        return h

    def _must_fit(self, n):
        # Of a message that is too large the start must be there; with four bytes to spare, for a length.
        if n + 4 > len(self.rx):
            self.parting = 0x95
            raise ResourceError("a message with topic and properties needs rx_size=%d" % (n + 4), 0x95)

    def _props_must_fit(self, i, n):
        self._must_fit(i + vbi(self.rx, i, n))

    def _oversized(self, qos, pid):
        """Refuse a message larger than rx (QoS 1: PUBACK 0x97) and drain it. Announcing a Maximum Packet Size instead
        makes mosquitto 2.0.11 deaf after some of them, and so does a PUBREC 0x97: at QoS 2 it is accepted, and
        dropped."""
        if qos == 1:
            self._ack(0x40, 0x97, pid)
        elif qos:
            if self.session.place(pid) < 0:
                self._owe(1)
                self.session.receive(pid)
            self._ack(0x50, 0, pid)
        self.oversized += 1
        self._drain()
        self.tell("oversized", self.size)
        return 0

    def _owe(self, n):
        # 4.9: those that a handler refused by an exception count until the connection ends.
        self.owed += n
        if self.owed > self.session.size + self.grace:
            raise ProtocolError("more than receive_maximum=%d unacknowledged messages" % self.session.size, 0x93)

    def _publish2(self, message, pid):  # 4.3.3
        i = self.session.place(pid)
        if i >= 0:  # delivered before: only the acknowledgement is repeated
            if not self.session.counted[i]:
                self.session.counted[i] = 1
                self._owe(1)
            self._ack(0x50, 0, pid)
            return 0
        self._owe(1)
        i = self.head[0]
        message = _hand(self, self.to_handlers)  # from here on the reason
        if message < 0x80:
            self.session.receive(pid)
        else:
            self.owed -= 1
        if self.state == UP:
            self._answer_with(0x50, message, pid)
        return i

    def _answer_with(self, header, reason, pid):
        self._ack(header, reason, pid, self.reject_props if reason else b"")

    def _call_back(self, message):
        if self.callback:
            self.callback(message.topic, message.payload)

    def _rejected(self):
        reject = Reject.latest or Reject()
        Reject.latest = None
        self.reject_props = self.properties(reject.props, 4)
        return reject.reason

    def _dispatch(self, message):
        s = self.session
        # Not by number in a session that another life of this device has made: its numbers may be others.
        if self.known_session and message.props_start < message.start and message.by_number(s):
            return
        s.usual = None
        message.by_filter(s, not (self.known_session and self.identifiers), self.callback)

    def _answer(self, n, packet):
        """Parse PUBACK, PUBREC, PUBREL, PUBCOMP (3.4.2): the packet identifier. The reason is `self.said_reason`.
        Allocates where the broker sends properties."""
        rx = self.rx
        pid = self._pid(0, n)
        reason = rx[2] if n > 2 else 0
        if reason not in (_PUB_REASONS if packet < 6 else _REL_REASONS):
            raise ProtocolError("reason 0x%02X in a packet of type %d" % (reason, packet))
        self.said_reason = reason
        self.answer_props = b""
        if n > 3:
            if properties(rx, 3, n, packet) != n:
                raise MalformedPacket("a packet with something behind its properties")
            self._keep_props(3, n)
        return pid

    def _keep_props(self, i, end):
        at = i + vbi_size(vbi(self.rx, i, end))
        self.check_problem_information(at, end)
        if at < end:
            self.answer_props = bytes(self.rx[at:end])

    def _puback(self, n):  # 3.4
        if n == 2 or (n == 3 and self.rx[2] == 0x10):  # success, as nearly always; 0x10: that nobody gets
            s = self.session
            i = self.rx
            pid = i[0] << 8 | i[1]
            i = pid % len(s.state)
            if s.pid[i] == pid and s.state[i] == PUBACK:
                self.quota += s.flags[i] >> 4  # 4.9
                self.said_reason = n = 0 if n == 2 else 0x10
                self.answer_props = b""
                s.answered(i, n)
                return 0
        i = self.session.find(self._answer(n, 4), PUBACK)
        if i < 0:
            self.unmatched += 1
        else:
            self._sent(i)
        return 0

    def _sent(self, i):
        """Slot i is acknowledged for good, or refused."""
        s = self.session
        self.quota += s.flags[i] >> 4  # 4.9
        topic = s.topic[i]
        s.answered(i, self.said_reason)
        if self.said_reason >= 0x80 and s.state[i] != DONE:
            self.tell("refused", (topic, self.said_reason))  # nobody waits for it

    def _pubrec(self, n):  # 3.5
        n = self._answer(n, 5)  # from here on the packet identifier
        s = self.session
        i = s.find(n, PUBREC)
        if i < 0:
            # PUBREC again, after a reconnect: the same answer again. Or one for a packet that we know nothing of.
            i = 0 if s.find(n, PUBCOMP) >= 0 else 0x92
            self._ack(0x62, i, n)
        elif self.said_reason >= 0x80:
            self._sent(i)
        else:
            s.reached(i)
            self._ack(0x62, 0, n)
        return 0

    def _pubcomp(self, n):  # 3.7
        i = self.session.find(self._answer(n, 7), PUBCOMP)
        if i < 0:
            self.unmatched += 1
        else:
            self._sent(i)
        return 0

    def _pubrel(self, n):  # 3.6
        pid = self._answer(n, 6)
        s = self.session
        i = s.place(pid)
        if i >= 0:
            self.owed -= s.counted[i]
            s.forget(i)
        self._ack(0x70, 0 if i >= 0 else 0x92, pid)
        return 0

    def _suback(self, n):  # 3.9
        pid = self._pid(0, n)
        t = self.head[0] >> 4
        i = properties(self.rx, 2, n, t)
        if n - i != 1:  # we never ask for more than one filter in a packet
            raise ProtocolError("a SUBACK or UNSUBACK without exactly one reason")
        slot = self.session.find(pid, SUBACK if t == 9 else UNSUBACK)
        if slot < 0:
            raise ProtocolError("a SUBACK or UNSUBACK for a packet identifier not in use")
        if self.rx[i] not in (_SUB_REASONS if t == 9 else _UNSUB_REASONS):
            raise ProtocolError("reason 0x%02X in a packet of type %d" % (self.rx[i], t))
        self.answer_props = b""
        self._keep_props(2, i)
        self.session.answered(slot, self.rx[i])
        return 0

    # --- what the application does, through a driver

    def publish(self):
        """Build the PUBLISH that the driver has put into out_topic, out_msg (str or bytes), out_props (None, bytes,
        dict) and out_flags (qos << 1 | retain): the slot that waits for its acknowledgement, -1 at QoS 0. ValueError
        for what the broker's CONNACK does not allow. Allocates only to encode what is not bytes."""
        if self.state != UP:
            self._ready_for_use()
        if self.out_flags:
            if not 0 <= self.out_flags >> 1 <= self.max_qos:  # [MQTT-3.2.2-11]
                raise ValueError("qos=%d; the broker takes up to %d" % (self.out_flags >> 1, self.max_qos))
            if self.out_flags & 1 and not self.retain_available:  # [MQTT-3.2.2-14]
                raise ValueError("retain: the broker does not keep messages")
        # One that has an alias was checked when it got it.
        topic = self.out_topic
        if topic is not self.topic_ok and (type(topic) is not bytes or topic not in self.alias_topic):
            self.out_topic = self.topic(topic)
        if type(self.out_msg) is not bytes and isinstance(self.out_msg, str):
            self.out_msg = self.out_msg.encode()
        self.out_props = self.properties(self.out_props, 3) if self.out_props else b""
        self.out_alias = self._outgoing_alias() if self.alias_limit else -1
        if self.out_flags & 6:
            return self.start_publish()
        self.put_publish()
        return -1

    def subscribe(self, subscription):
        """Build a SUBSCRIBE: its slot."""
        self._ready_for_use()
        if self.in_handler:
            raise RuntimeError("not inside a message handler: it would wait")
        f = subscription.filter
        if not 0 <= subscription.id <= 268435455:
            raise ValueError("id: 1..268435455")
        if subscription.id and find(subscription.props, 0, len(subscription.props), 0x0B) >= 0:
            raise ValueError("props: a subscription identifier, beside id or a handler")
        if f.startswith(b"$share/") and not self.shared:
            raise ValueError("the broker has no shared subscriptions")
        if not self.wildcards and (b"+" in f or b"#" in f):
            raise ValueError("the broker has no wildcard subscriptions")
        if not self.identifiers:
            subscription.set_id(0)  # [MQTT-3.2.2.3.12]
        return self._request(SUBACK, subscription, None)

    def unsubscribe(self, filter, props):
        """Build an UNSUBSCRIBE: its slot."""
        self._ready_for_use()
        if self.in_handler:
            raise RuntimeError("not inside a message handler: it would wait")
        return self._request(UNSUBACK, filter, self.properties(props, 10))

    def _request(self, state, what, props):
        s = self.session
        i = s.take(state)
        if i < 0:
            raise ResourceError("too many packets in flight: receive_maximum=%d" % s.size)
        try:
            if state == SUBACK:
                self.put_subscribe(s.pid[i], what)
            else:
                self.put_unsubscribe(s.pid[i], what, props)
        except Exception:
            s.release(i)
            s.answered(i, 0)
            raise
        return i

    def answer(self, i):
        """None while slot i waits, else its reason code."""
        return self.session.reason[i] if self.session.state[i] == DONE else None

    def end(self, reason, props, session_expiry=None):
        """Build our DISCONNECT (3.14). Nothing else goes out after it [MQTT-3.14.4-2]. session_expiry: s, instead of
        CONNECT's. Allocates."""
        self._ready_for_use()
        if reason not in _OUR_DISCONNECTS:
            raise ValueError("disconnect: 0x%02X is not a client's to say" % reason)
        props = self.properties(props, 14)
        if find(props, 0, len(props), 0x1C) >= 0:
            raise ValueError("props: a server reference in a client's DISCONNECT")
        if session_expiry is not None:
            from .props import encode

            props = self.properties(props + encode(session_expiry_interval=session_expiry), 14)
        i = find(props, 0, len(props), 0x11)
        if i >= 0 and u32(props, i) and not self.expiry:  # [MQTT-3.1.2-23], 3.14.2.2.2
            raise ValueError("session_expiry: CONNECT said 0, and only 0 can follow it")
        self.ack_count = 0
        self.ping_due = False
        self.resend = -1
        self.put_disconnect(reason, props)


Engine.handlers = (
    None,
    None,
    Engine._connack,
    Engine._publish,
    Engine._puback,
    Engine._pubrec,
    Engine._pubrel,
    Engine._pubcomp,
    None,
    Engine._suback,
    None,
    Engine._suback,
    None,
    Engine._pingresp,
    Engine._disconnect,
    Engine._auth,
)
