# The short ways of a message that looks like the one before, and of a publish that does: whatever comes, or is
# published, the outcome is that of the long way.
# runs under CPython too
from umqtt5.errors import ProtocolError
from umqtt5.message import Reject
from umqtt5.publisher import Publisher
from umqtt5.quick import push, readdress
from umqtt5.reader import FAILED, UP
from umqtt5.session import DONE
from umqtt5.subscribe import Subscription, add
from wire import Stream, Wire, packet, publish, raises

TOPICS = (b"house/kitchen", b"house/cellar", b"house/kitche", b"house/+", b"ho")
OUT = (b"house/kitchen", b"house/cellar", b"house/attic", b"ho", b"house/+")
OUT += (b"house/" + b"x" * 125, bytearray(b"house/attic"), "house/kitchen", "house/\xfc")
PUBLISHERS = ((OUT[0], b"\x01\x01"), (OUT[5], None))
PAYLOADS = (b"", b"1", b"\x02\x0b\x01", b'{"t": 21.5}', b"x" * 90, b"y" * 140)


def pick(rng, values):
    return values[rng % len(values)]


class Numbers:
    """Random numbers, the same ones with the same seed on every interpreter."""

    def __init__(self, seed):
        self.seed = seed

    def __call__(self, n):
        self.seed = (self.seed * 1103515245 + 12345) & 0x7FFFFFFF
        return (self.seed >> 12) % n


def one_message(rng):
    """A PUBLISH: mostly like others, sometimes with something wrong or unusual about it."""
    topic = pick(rng(100), TOPICS[:2]) if rng(6) else pick(rng(100), TOPICS)
    ident = TOPICS.index(topic) + 1
    if rng(4) == 0:  # more topics than are remembered
        topic = b"house/%d" % rng(12)
        ident = 4
    props = bytes((0x0B, ident)) if rng(3) else b""
    if not rng(8):
        props = pick(rng(100), (b"", b"\x01\x01", b"\x0b\x02", b"\x0b\x01\x0b\x02", b"\x23\0\x01"))
    qos = rng(3) if rng(4) == 0 else rng(2)
    flags = (1 if rng(5) == 0 else 0) | (8 if qos and rng(5) == 0 else 0)
    made = bytearray(publish(topic, pick(rng(100), PAYLOADS), qos, rng(50) and 1 + rng(4), flags, props))
    fault = rng(60)
    if fault == 0 and len(made) < 128:  # one byte is another
        made[2 + rng(len(made) - 2)] = rng(256)
    elif fault == 1 and len(made) < 128:  # cut off, whole as a packet
        n = 2 + rng(len(made) - 2)
        made = made[:n]
        made[1] = n - 2
    elif fault == 2:  # other flags
        made[0] = 0x30 | rng(16)
    elif fault == 3:
        made = bytearray(packet(0x62, b"\0" + bytes((1 + rng(4),))))  # PUBREL
    return bytes(made)


def received(seed, short):
    """All that comes of a random stream of messages, up to its end or the first error."""
    rng = Numbers(seed)
    w = Wire(receive_maximum=10, topic_alias_maximum=2).up()
    out = []
    s = w.e.session

    def handler(m):
        out.append((m.topic, m.payload, m.qos, m.retain, m.dup, bytes(m.buf[m.props_start : m.start])))
        if len(out) % 7 == 0:
            raise Reject(0x83)

    def other(m):
        out.append(m.topic)

    w.e.receiving()
    if rng(2):
        for i in range(2):
            add(s, Subscription(i + 1, TOPICS[i], handler, 2, b""))
        add(s, Subscription(4, TOPICS[3], handler, 2, b""))
        s.top_id = 4
    else:  # several for one message, and one for the callback
        s.known = 1
        for i in range(3):
            add(s, Subscription(i % 2, TOPICS[i], (handler, other, None)[i], 2, b""))
        add(s, Subscription(0, TOPICS[3], pick(rng(3), (handler, other, None)), 2, b""))
        s.top_id = 4
    for _ in range(20):
        data = one_message(rng)
        if not short:
            s.usual = None
        try:
            w.feed(data)
        except Exception as e:
            out.append((type(e).__name__, e.args))
            break
    return out, w.messages, w.sent, w.e.owed, w.e.quick


def test_a_message_like_the_last_one():
    taken = 0
    for seed in range(1500):
        ours = received(seed, True)
        assert ours == received(seed, False), (seed, ours, received(seed, False))
        taken += len(ours[0])
    assert taken > 9000, taken


def cut_short(qos, n, short):
    """What comes of the first n bytes of a message, where the end of the one before it still lies in rx."""
    w = Wire().up()
    out = []
    w.e.receiving()
    add(w.e.session, Subscription(1, b"t", lambda m: out.append((m.topic, m.payload)), 2, b""))
    w.e.session.top_id = 1
    whole = publish(b"t", b"m", qos, 1, 0, b"\x0b\x01")
    w.feed(whole)
    w.feed(whole)
    if not short:
        w.e.session.usual = None
    try:
        w.feed(bytes((whole[0], n - 2)) + whole[2:n])
    except Exception as e:
        out.append((type(e).__name__, e.args))
    return out, w.sent


def test_a_message_cut_short():
    for qos in (0, 1):
        for n in range(2, 14):
            assert cut_short(qos, n, True) == cut_short(qos, n, False), (qos, n)


def test_one_more_than_receive_maximum():
    # Those whose handler raised are owed an answer until the connection ends (4.9).
    w = Wire(receive_maximum=2).up()
    w.e.receiving()
    add(w.e.session, Subscription(0, b"t", lambda m: None, 2, b""))
    message = publish(b"t", b"m", 1)
    w.feed(message)
    w.feed(message)
    assert w.e.message.like
    w.e.owed = 2
    assert raises(ProtocolError, w.feed, message).reason == 0x93


def answers(rng, s):
    """One or two answers to what is in flight; sometimes with something wrong or unusual about them."""
    made = b""
    for _ in range(1 + rng(2)):
        i = rng(len(s.state))
        s.waited[i] = s.state[i] in (1, 2, 3) and rng(2)
        pid = s.pid[i] or 1 if rng(20) else rng(65536)
        kind = (0x40, 0x40, 0x50, 0x70)[s.state[i] if s.state[i] < 4 else 0] if rng(60) else 0x40
        reason = pick(rng(100), (b"", b"\0", b"\x10", b"\x87")) if kind == 0x40 else b""
        if rng(40) == 0:
            reason = pick(rng(100), (b"\0\0", b"\x10\4\x1f\0\1x", b"\x77"))
        made += packet(kind, bytes((pid >> 8, pid & 255)) + reason)
    return made


def published(seed, short):
    """What goes out of random publishes and answers: to topics in turn, more of them than there are aliases."""
    rng = Numbers(seed)
    w = Wire(receive_maximum=3, tx_size=pick(rng(4), (256, 256, 256, 48)))
    w.up(topic_alias_maximum=rng(2) * 2, receive_maximum=2 + rng(3))
    e = w.e
    e.on_event = lambda name, value: out.append((name, value))
    client = Client(w)
    publishers = [Publisher(client, topic, 0, False, props) for topic, props in PUBLISHERS]
    e.session.last = pick(rng(100), (0, 250, 65530))
    out = []
    for _ in range(20):
        if not short:
            e.prepared = None
        w.chunk = None if short else 1000  # by pull(), or by got()
        if rng(3) == 0:
            try:
                w.feed(answers(rng, e.session))
            except Exception as x:
                out.append((type(x).__name__, x.args))
                break
            out.append((bytes(e.session.reason), e.answer_props))
        e.driver = client  # feed() has taken its place
        topic = pick(rng(4) or rng(len(OUT)), OUT)
        qos, retain = (rng(2) if rng(4) else 2, rng(6) == 0)
        try:
            props = b"\x01\x01" if rng(10) == 0 else None
            msg = pick(rng(100), PAYLOADS + ("", "2\xb0"))
            if rng(4) == 0 and not e.alias_limit:  # a publisher's PUBLISH has its topic always
                if short:
                    publishers[qos & 1].publish(msg)
                else:
                    client.publish(PUBLISHERS[qos & 1][0], msg, False, 0, PUBLISHERS[qos & 1][1])
                continue
            i = client.publish(topic, msg, retain, qos, props)
            if i >= 0:
                e.session.release(i)
            out.append(i)
        except Exception as x:
            out.append((type(x).__name__, x.args))
            e.prepared = None  # the long way counts the topic as used: which alias gives way may differ
        w.flush()
    s = e.session
    slots = [
        (s.pid[i], s.state[i], s.topic[i], type(s.topic[i]), s.msg[i])
        for i in range(len(s.state))
        if s.state[i] not in (0, DONE)
    ]
    held = [m for m in s.msg + s.topic if m is not None]
    return out, w.sent, slots, held, e.quota, s.in_flight(), s.unmatched


class Client:
    """The blocking client, as far as the short ways need it; and a stream that takes all."""

    def __init__(self, wire):
        self._engine = wire.e
        self._wire = wire
        self.sock = self
        self._push = push(wire.e, self.write, lambda: 0).send
        self._push(None)

    def write(self, buf, n):
        self._wire.sent.append(bytes(buf[:n]))
        return n

    def _flush(self, deadline):
        self._wire.flush()

    def _abort(self):
        """As the driver's: the connection is closed."""
        self._engine.closed()

    def publish(self, topic, msg, retain=False, qos=0, props=None):
        """As MQTTClient.publish() does it."""
        e = self._engine
        if (
            e.prepared is not None
            and not props
            and e.prepared_flags == qos << 1 | (1 if retain else 0)
            and (topic is e.prepared or readdress(e, topic))
        ):
            i = self._push(msg)
            if i is not None:
                return i
        i = self._wire.publish(topic, msg, retain, qos, props)
        self._wire.flush()
        return i


def test_a_publish_like_the_last_one():
    sent = 0
    for seed in range(1500):
        ours = published(seed, True)
        assert ours == published(seed, False), (seed, ours, published(seed, False))
        sent += len(ours[1])
    assert sent > 15000, sent


def test_no_more_in_flight_than_the_table_is_for():
    # What a resumed session has left at PUBREL has its place there, though the broker's Receive Maximum is larger.
    w = Wire(receive_maximum=2).up()
    w.publish(OUT[0], b"1", False, 2)
    w.feed(packet(0x50, b"\0\1"))
    w.e.closed()
    w.up(clean=False, present=1, receive_maximum=9)
    client = w.e.driver = Client(w)
    client.publish(OUT[0], b"2", False, 1)
    assert w.e.prepared is OUT[0] and w.e.session.in_flight() == 2
    assert client._push(b"3") is None and not w.e.may_publish()
    w.feed(packet(0x70, b"\0\1"))
    assert w.e.may_publish() and client._push(b"3") is not None and w.e.session.in_flight() == 2


def test_wherever_the_stream_is_cut():
    # pull() takes a packet at once where all of it is there: however much is, nothing is lost.
    parts = [publish(TOPICS[0], b"1", 0), publish(TOPICS[1], b"22", 1, 7), packet(0xD0, b"")]
    parts += [
        publish(TOPICS[0], b"3" * 140),
        publish(TOPICS[0], b"4" * 300),
        packet(0x40, b"\0\1"),
        parts[0],
        parts[1],
    ]
    data = b"".join(parts)
    for cut in range(1, len(data)):
        for more in (1, len(data)):  # and then a byte at a time, or all the rest
            w = Wire(rx_size=256).up()
            w.e.pinging = True
            stream = Stream(w.e, lambda: 0, w.sent)
            stream.view = memoryview(data)[:cut]
            at = cut
            while True:
                w.flush()
                op = next(stream.turns)
                if op is None:
                    assert not len(stream.view)
                    if at >= len(data):
                        break
                    stream.view = memoryview(data[at : at + more])
                    at += more
            w.flush()
            assert w.messages == [
                (TOPICS[0], b"1"),
                (TOPICS[1], b"22"),
                (TOPICS[0], b"3" * 140),
                (TOPICS[0], b"1"),
                (TOPICS[1], b"22"),
            ], (cut, more, w.messages)
            assert w.sent == [b"\x40\2\0\7"] * 2, (cut, w.sent)
            assert w.e.session.oversized == 1 and w.e.pinged is None and w.e.session.unmatched == 1
            assert not w.e.part and not w.e.have


def test_handlers_that_raise_lose_nothing():
    # Whatever has been read ahead of an exception of a handler's, goes on in the next turn.
    parts = [publish(TOPICS[i % 2], b"%d" % i, i % 3, i + 1) for i in range(12)] + [packet(0xD0, b"")]
    data = b"".join(parts)
    for cut in range(len(data)):
        w = Wire().up()
        got, raised = [], 0

        def handler(topic, msg):
            got.append(int(msg))  # noqa: B023
            if int(msg) % 4 != 3:
                raise OSError("the handler's own")

        w.e.receiving()
        w.e.callback = handler
        w.e.pinged = 0
        stream = Stream(w.e, lambda: 0, w.sent)
        stream.view = memoryview(data)[:cut]
        rest = memoryview(data)[cut:]
        while True:
            w.flush()
            try:
                op = next(stream.turns)
            except OSError:
                assert w.e.state == UP and w.e.handler_raised
                raised += 1
                continue
            if op is None and not len(stream.view):
                if not len(rest):
                    break
                stream.view, rest = rest, b""
        assert got == list(range(12)) and raised == 9, (cut, got, raised)
        assert w.e.owed == 7, "six that raised at QoS 1 and 2, and one at QoS 2 before its PUBREL"
        assert [p[:2] for p in w.sent] == [b"\x40\2", b"\x50\2"] and w.e.pinged is None, (cut, w.sent)


def test_ctrl_c_between_two_turns():
    # It ends the connection, as inside a turn; it must not leave a generator that has ended.
    w = Wire().up()
    stream = Stream(w.e, lambda: 0, w.sent)
    stream.view = memoryview(publish(TOPICS[0], b"1", 0))
    assert next(stream.turns) == 0x30
    try:
        stream.turns.throw(KeyboardInterrupt())
    except KeyboardInterrupt:
        pass
    assert w.e.state == FAILED
    assert next(stream.turns) is None, "another one has taken over"


class Tx:
    """An engine's tx; Ctrl-C comes behind the n-th write to it."""

    def __init__(self, size):
        self.buf = bytearray(size)
        self.n = 0

    def __len__(self):
        return len(self.buf)

    def __getitem__(self, i):
        return self.buf[i]

    def __setitem__(self, i, value):
        self.buf[i] = value
        self.n -= 1
        if self.n == 0:
            raise KeyboardInterrupt


def arrived(packets):
    """(topic, payload) of each PUBLISH without other properties than an alias, as a broker understands them."""
    aliases = {}
    for p in packets:
        at = 4 + p[3]
        topic = p[4:at]
        if p[0] & 6:
            at += 2
        if p[at]:
            assert p[at : at + 3] == b"\x03\x23\0", p
            number = p[at + 3]
            assert number, "0 is none [MQTT-3.3.2-8]"
            if topic:
                aliases[number] = topic
            topic = aliases[number]  # KeyError: it does not know this one
        yield topic, p[at + 1 + p[at] :]


def test_ctrl_c_while_a_publish_is_built():
    # Whatever was in tx then, no later publish goes out under another topic, nor by an alias that was never sent.
    topics = (b"house/kitchen", b"house/cellar", "house/attic")
    ended = 0
    for aliases in (0, 2):
        for seed in range(60):
            for n in range(1, 12):
                rng = Numbers(seed)
                w = Wire(receive_maximum=9).up(topic_alias_maximum=aliases)
                e = w.e
                e.tx = e.out = Tx(64)
                client = e.driver = Client(w)
                publishers = [Publisher(client, topic, 0, False, None) for topic in topics]
                at = 3 + rng(6)
                for i in range(16):
                    k = rng(3)
                    own = rng(4) == 0
                    qos = rng(4) == 0
                    e.tx.n = n if i == at else 0
                    try:
                        if own:
                            publishers[k].publish(b"%d" % k)
                        else:
                            i = client.publish(topics[k], b"%d" % k, False, qos)
                            if i >= 0:
                                e.session.release(i)
                                e.session.answered(i, 0)
                                e.quota += 1
                    except KeyboardInterrupt:
                        ended += 1
                        if e.state != UP:
                            assert e.prepared is None
                            break
                for topic, payload in arrived(w.sent):
                    k = topics[int(payload)]
                    assert topic == (k if isinstance(k, bytes) else k.encode()), (aliases, seed, n, w.sent)
    assert ended > 500, ended


def test_topics_of_both_kinds_in_turn():
    # host_tests/test_uncaught.py looks whether the interpreter warned.
    w = Wire().up()
    client = w.e.driver = Client(w)
    for _ in range(2):
        for topic in [b"house/1", "house/2", bytearray(b"house/3")] + ["house/%d" % i for i in range(12)]:
            w.sent.clear()
            client.publish(topic, topic)
            name = topic.encode() if isinstance(topic, str) else bytes(topic)
            assert list(arrived(w.sent)) == [(name, name)]


def test_more_aliases_than_one_byte_has():
    w = Wire(topic_aliases=300).up(topic_alias_maximum=65535)
    for i in range(300):
        for payload in (b"%d" % i,) * 3:
            w.publish(b"house/%d" % i, payload)
            w.flush()
    for topic, payload in arrived(w.sent):
        assert topic == b"house/" + payload
