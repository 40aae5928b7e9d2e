"""Packets going out: each is built in the engine's own `tx`, or, where CONNECT, AUTH or SUBSCRIBE do not fit, in a
temporary that is dropped once written.

The driver writes out[off : off + left] and tells wrote(n). As long as `left` is not 0, these three do not change but
through wrote(): a TLS stream that took nothing must be offered the same bytes again.
Nothing here knows sockets, nor what the broker answers.
"""

from micropython import const

import umqtt5.errors as errors

from .codec import check, find, put_vbi, text, topic, vbi_size

# Texts of errors: see texts.py.
_TOO_LARGE = const(48)
_NOT_IN_PUBLISH = const(49)
_TOPIC = const(50)
_LARGE_PUBLISH = const(51)
_NEEDS_TX = const(52)
_IN_FLIGHT = const(53)
_PAYLOAD = const(126)
_PROPS = const(128)

_ACKS = const(8)  # acknowledgements that wait to be written; while the queue is full the engine takes no packet in
# Behind them in Packets.acks: where the first is, how many there are, and 1 where PINGREQ waits.
_AT = const(32)
_COUNT = const(33)
_PING = const(34)

_PUBACK = const(1)  # as in session.py
_PUBREC = const(2)  # as in session.py
_NO_RESEND = const(-1)
_CHARGED = const(0x80)  # as in resume.py


def payload(msg):
    """TypeError where `msg`, which is no str, is no bytes either, nor anything like them."""
    try:
        memoryview(msg)
    except TypeError:
        raise errors.wrong(_PAYLOAD, TypeError)


class Packets:
    """The outgoing half of the engine. Owns `tx`; refers to the session. Its attributes: see make.py."""

    def reset(self):
        """Before a new connection: nothing to write."""
        errors.PeerError.latest = 0  # of a Server Reference that was none
        self.out = self.tx
        self.off = self.left = 0
        self.tail = None  # the payload that did not fit: written after `out`, from the caller's own bytes
        self.midway = True  # part of a packet is out, or may be; or CONNECT is not: no DISCONNECT may follow
        self.prepared = None
        self.pending = False  # next() may have something: an acknowledgement, a message to be resent, a ping
        self._drop()
        self.alias_limit = 0  # how many aliases the broker takes; an alias lives as long as a connection
        topics, used, known = self.aliases
        for i in range(len(topics)):
            topics[i] = None
            used[i] = known[i] = 0
        self.quota = 0  # 4.9: how many more PUBLISH with QoS > 0 the broker takes now

    def _drop(self):
        """Nothing waits any more."""
        self.acks[_AT] = self.acks[_COUNT] = self.acks[_PING] = 0
        self.resend = _NO_RESEND  # the identifier of the packet resent last; 65536: none yet

    # --- what the driver calls

    def wrote(self, n, now):
        """The driver has written n bytes of `out` at time `now` (ticks, ms)."""
        self.last_tx = now
        self.left -= n
        if self.left:
            self.off += n
            self.midway = True
        elif self.tail is not None:
            self.out = self.tail
            self.tail = None
            self.off = 0
            self.left = len(self.out)
            self.midway = True
        elif self.midway or self.out is not self.tx:
            self.out = self.tx
            self.midway = False

    def next(self):
        """Build the next packet that waits to go out: an acknowledgement, a message to be resent, a ping. True where
        there is something to write now."""
        if self.left:
            return True
        if not self.pending:
            return False
        if self.acks[_COUNT]:
            self._next_ack()
            return True
        if self.resend != _NO_RESEND and self._resend():  # see Login.accept()
            return True
        if self.acks[_PING]:
            self.acks[_PING] = 0
            self.tx[0] = 0xC0
            self.tx[1] = 0
            self._ready(2)
            return True
        self.pending = self.resend != _NO_RESEND  # it waits for quota
        return False

    # --- small parts

    def _ready(self, n):
        self.prepared = None
        self.off = 0
        self.left = n

    def _begin(self, header, n):
        """Start a packet of remaining length n: the index where its variable header goes."""
        size = 1 + vbi_size(n) + n
        if size > self.max_out:
            raise errors.wrong((_TOO_LARGE, size, self.max_out))
        self.out = self.tx if size <= len(self.tx) else bytearray(size)
        self.out[0] = header
        self._ready(size)
        return put_vbi(self.out, 1, n)

    def _ack(self, header, reason, pid, props=b""):
        """PUBACK, PUBREC, PUBREL or PUBCOMP (3.4 to 3.7): built at once, or queued behind what waits."""
        if reason or props or self.left or self.pending or self.ack_props:
            self._queue_ack(header, reason, pid, props)
        else:
            self.prepared = None
            self.tx[0] = header
            self.tx[1] = 2
            self.tx[2] = pid >> 8
            self.tx[3] = pid & 0xFF
            self.off = 0
            self.left = 4

    def _queue_ack(self, header, reason, pid, props):
        self.prepared = None
        self.pending = True
        acks = self.acks
        i = (acks[_AT] + acks[_COUNT]) % _ACKS
        acks[_COUNT] += 1
        if props and not self.ack_props:
            self.ack_props = [b""] * (_ACKS + 1)
        if self.ack_props:
            self.ack_props[i] = props or self.ack_props[_ACKS]
        i *= 4
        acks[i] = header
        acks[i + 1] = reason
        acks[i + 2] = pid >> 8
        acks[i + 3] = pid & 0xFF

    def _next_ack(self):
        acks = self.acks
        i = acks[_AT]
        acks[_AT] = (i + 1) % _ACKS
        acks[_COUNT] -= 1
        props = self.ack_props[i] if self.ack_props else b""
        a = 4 * i
        reason = acks[a + 1]
        # Properties only where they fit [MQTT-3.4.2-2], [MQTT-3.4.2-3]
        n = len(props)
        if n and 7 + n <= min(self.max_out, 127, len(self.tx)):
            i = self._begin(acks[a], 4 + n)
            self._props(self.tx, i + 3, props)
        else:
            i = self._begin(acks[a], 3 if reason else 2)
        tx = self.tx
        tx[i] = acks[a + 2]
        tx[i + 1] = acks[a + 3]
        if reason or n:
            tx[i + 2] = reason

    def acks_full(self):
        """True: the driver must write before it reads on."""
        return self.acks[_COUNT] >= _ACKS - 1

    def properties(self, props, packet):
        """The caller's properties (None, bytes from props.encode(), or a dict) as checked bytes. A dict allocates."""
        if not props:
            return b""
        if props is self.props_ok and packet == 3:
            return props
        if isinstance(props, dict):
            from .props import encode

            props = encode(**props)
        elif type(props) is not bytes and not isinstance(props, bytearray):  # a tuple of both would take memory
            raise errors.wrong(_PROPS, TypeError)
        try:
            check(props, 0, len(props), packet)
        except errors.PeerError as e:
            errors.PeerError.latest = 0  # the caller's mistake
            raise errors.wrong(e.args[0], ValueError, "props: ")
        if packet == 3:
            # [MQTT-3.3.4-6]; aliases are given by themselves, and two hands would mix them up
            for ident in (0x0B, 0x23):
                if find(props, 0, len(props), ident) >= 0:
                    raise errors.wrong((_NOT_IN_PUBLISH, ident))
        if type(props) is bytes and packet == 3:
            self.props_ok = props
        return props

    def topic(self, name):
        """The topic name of a PUBLISH as checked bytes (4.7.3, 3.3.2.1). Allocates the first time that it comes."""
        known, texts = self.topics_ok
        if type(name) is str:
            if name in texts:
                return texts[name]
        elif name and name in known:
            return known[known.index(name)]  # a bytearray may change
        checked = text(name, "topic")
        if not topic(checked, 0, len(checked)):
            raise errors.wrong(_TOPIC)
        if checked not in known:
            known.pop()
            known.insert(0, checked)
        if type(name) is str:
            if len(texts) >= len(known):
                texts.clear()
            texts[name] = checked
        return checked

    # --- the packets

    def _props(self, out, i, props):
        i = put_vbi(out, i, len(props))
        j = i + len(props)
        out[i:j] = props
        return j

    def _outgoing_alias(self):
        """Which alias may stand for `out_topic`: its entry, or -1. A topic gets one when it is used again."""
        topic = self.out_topic
        topics, used, known = self.aliases
        used[-1] = (used[-1] + 1) & 0x3FFFFFF
        if topic in topics:
            i = topics.index(topic)
            used[i] = used[-1]
            return i
        if len(topic) < 4:  # the property takes three bytes
            return -1
        i = oldest = 0
        while i < self.alias_limit:
            if used[i] < used[oldest]:
                oldest = i
            i += 1
        topics[oldest] = topic
        used[oldest] = used[-1]
        known[oldest] = 0
        return -1

    def put_publish(self):
        """The PUBLISH (3.3) of out_topic and the others. One write where the whole fits tx; else the payload goes out
        from out_msg itself."""
        tx = self.tx
        topic = self.out_topic
        n = len(self.out_props)
        if self.out_alias >= 0:
            n += 3
            if self.aliases[2][self.out_alias]:
                topic = b""
        i = 3 + len(topic) + n  # the variable header
        if n > 127:
            i += vbi_size(n) - 1
        if self.out_flags & 6:
            i += 2
        n = i + len(self.out_msg)
        at = 2 if n < 128 else 1 + vbi_size(n)
        if at + n > self.max_out:
            raise errors.wrong((_LARGE_PUBLISH, at + n, self.max_out))
        if at + i > len(tx):
            raise errors.ResourceError((_NEEDS_TX, at + i))
        self.prepared = None  # now: Ctrl-C may come before it is whole
        tx[0] = 0x30 | self.out_flags
        if n < 128:
            tx[1] = n
        else:
            put_vbi(tx, 1, n)
        n += at
        i = len(topic)
        tx[at] = i >> 8
        tx[at + 1] = i & 0xFF
        at += 2
        if i:
            i += at
            tx[at:i] = topic
            at = i
        if self.out_flags & 6:
            tx[at] = self.out_pid >> 8
            tx[at + 1] = self.out_pid & 0xFF
            at += 2
        if self.out_props or self.out_alias >= 0:
            at = self._put_props(at)
        else:
            tx[at] = 0
            at += 1
        self.off = 0
        if n > len(tx):
            self.tail = self.out_msg
            self.left = at
        else:
            tx[at:n] = self.out_msg
            self.left = n
        if self.out_alias >= 0:  # not before it is sure to go out
            self.aliases[2][self.out_alias] = 1
        # Will the next one to this topic look the same? Not before its alias stands for it; and at QoS > 0 a store
        # must know of it first.
        if self.out_props or self.pending or n > self.prepared_most or (self.out_flags & 6 and self.session.store):
            return
        if not topic or not self.alias_limit or len(topic) < 4:
            self.prepared = self.out_topic
            self.prepared_flags = self.out_flags
            self.prepared_at = at

    def _put_props(self, i):
        """The properties of the PUBLISH, which has some: the index behind them."""
        tx = self.tx
        n = len(self.out_props)
        if self.out_alias >= 0:
            i = put_vbi(tx, i, n + 3)
            tx[i] = 0x23
            tx[i + 1] = 0
            tx[i + 2] = self.out_alias + 1
            i += 3
        else:
            i = put_vbi(tx, i, n)
        n += i
        tx[i:n] = self.out_props
        return n

    def start_publish(self):
        """A PUBLISH with QoS > 0: the slot that waits for its answer. ResourceError where the table, or the broker's
        Receive Maximum, has no room now."""
        i = -1
        if self.may_publish():
            i = self.session.take(_PUBACK if self.out_flags & 2 else _PUBREC)
        if i < 0:
            self._no_room()
        self.out_pid = self.session.pid[i]
        try:
            self.session.hold(i, self)
            self.put_publish()
        except:  # a name would put the frame on the heap
            self._give_back(i)
            raise
        self.quota -= 1
        self.session.flags[i] |= _CHARGED
        return i

    def _no_room(self):
        raise errors.ResourceError((_IN_FLIGHT, self.session.size, self.granted(0x21, 65535)))

    def put_disconnect(self, reason):
        """DISCONNECT (3.14). Nothing else goes out after it [MQTT-3.14.4-2]."""
        if reason:
            self.out[self._begin(0xE0, 1)] = reason
        else:
            self._begin(0xE0, 0)
        self._drop()  # here: where it is larger than the broker takes, nothing has changed
        self.keepalive = 0  # no PINGREQ either, if it has to wait
