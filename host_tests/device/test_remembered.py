# Messages like one before are known by one comparison: which are remembered, who gets them, when they are forgotten.
# runs under CPython too
import umqtt5.receive as receive
from umqtt5.errors import MalformedPacket, ProtocolError
from umqtt5.message import Reject
from umqtt5.subscribe import Subscription, add, remove
from wire import Wire, packet, publish, raises

FILTER = b"house/+"


def wired(*subscriptions, **options):
    """A Wire that has these subscriptions: (Subscription Identifier or 0, filter, handler)."""
    w = Wire(**options).up()
    w.e.receiving()
    for ident, filter, handler in subscriptions:
        add(w.e.session, Subscription(ident, filter, handler, 2, b""))
    return w


def remembered(w):
    """The topics, the one used last first."""
    topics = []
    s = w.e.session.usual
    while s is not None:
        topics.append(s.head[2:])
        s = s.next
    return topics


class Long:
    """Within it no message may take the long way."""

    def __enter__(self):
        self.parse = receive.parse
        receive.parse = self

    def __exit__(self, *_):
        receive.parse = self.parse

    def __call__(self, e, n):
        raise AssertionError("the long way")


def test_each_of_several_topics_is_known_the_second_time():
    got = []
    w = wired((1, FILTER, lambda m: got.append((m.topic, m.payload, m.qos, m.retain, m.dup))))
    topics = [b"house/%d" % i for i in range(8)]
    for topic in topics:
        w.feed(publish(topic, b"a", 0, properties=b"\x0b\x01"))
    got.clear()
    with Long():
        for topic in topics + topics[::-1] + topics[:2] * 3:
            w.feed(publish(topic, b"b", 0, properties=b"\x0b\x01"))
            w.feed(publish(topic, b"c", 1, 7, 8, b"\x0b\x01"))
            assert got == [(topic, b"b", 0, False, False), (topic, b"c", 1, False, True)]
            assert remembered(w)[0] == topic and set(remembered(w)) == set(topics)
            got.clear()


def test_of_more_topics_the_first_few():
    got = []
    w = wired((0, FILTER, lambda m: got.append(m.topic)))
    topics = [b"house/%d" % i for i in range(20)]
    for _ in range(2):
        for topic in topics:
            w.feed(publish(topic, b""))
    assert got == topics * 2
    assert set(remembered(w)) == set(topics[:8])


def test_without_a_handler_the_callback():
    w = wired((0, b"a", None))
    w.feed(publish(b"a", b"1"))
    with Long():
        w.feed(publish(b"a", b"2"))
    assert w.messages == [(b"a", b"1"), (b"a", b"2")]


def test_what_is_not_remembered():
    got = []
    w = wired(
        (1, FILTER, lambda m: got.append(m.topic)), (2, b"garden", None), (3, b"garden", None), topic_alias_maximum=1
    )
    w.e.session.top_id = 3
    for data in (
        publish(b"house/1", b"", 0, flags=1, properties=b"\x0b\x01"),  # retained: it comes once
        publish(b"house/1", b"", 0, properties=b"\x0b\x01\x01\x00"),
        publish(b"house/1", b"", 0, properties=b"\x23\0\x01\x0b\x01"),
        publish(b"", b"", 0, properties=b"\x23\0\x01"),  # its topic does not lie in rx
        publish(b"nobody's", b""),
    ):
        w.feed(data)
        assert remembered(w) == [], data
    assert got == [b"house/1"] * 3 and len(w.messages) == 2  # without an identifier they are for the callback


def test_by_topic_and_identifier_both():
    # Two subscriptions match: mosquitto sends a copy for each, with its identifier.
    got = []
    w = wired((1, b"a/+", lambda m: got.append(1)), (2, b"a/b", lambda m: got.append(2)))
    w.e.session.top_id = 2
    for _ in range(3):
        for ident in (b"\1", b"\2"):
            w.feed(publish(b"a/b", b"", 0, properties=b"\x0b" + ident))
    assert got == [1, 2] * 3 and remembered(w) == [b"a/b"] * 2


def test_at_qos_2_once():
    w = wired((0, b"a", None))
    for pid in range(1, 4):
        w.feed(publish(b"a", b"", 2, pid))
        w.feed(packet(0x62, bytes((0, pid))))
    assert len(w.messages) == 3 and remembered(w) == [b"a"]


def test_another_subscription_makes_it_forget():
    got = []
    w = wired((0, b"a", lambda m: got.append("a")))
    for expected in (["a"], ["a", "+"], ["+"]):
        for _ in range(2):
            w.feed(publish(b"a", b""))
            assert got == expected, (got, expected)
            got.clear()
        if len(expected) == 1:
            add(w.e.session, Subscription(0, b"+", lambda m: got.append("+"), 0, b""))
        else:
            remove(w.e.session, b"a")


def test_several_get_it_each_time_though_the_first_raises():
    got = []

    def first(m):
        got.append(1)
        if len(got) == 1:
            raise ZeroDivisionError

    w = wired((0, b"a", first), (0, b"+", lambda m: got.append(2)))
    raises(ZeroDivisionError, w.feed, publish(b"a", b""))
    for _ in range(2):
        got[:] = [0]
        w.feed(publish(b"a", b""))
        assert got == [0, 1, 2] and remembered(w) == []


def test_a_handler_that_adds_another():
    got = []

    def first(m):
        got.append(1)
        add(w.e.session, Subscription(0, b"+", lambda m: got.append(2), 0, b""))

    w = wired((0, b"a", first))
    w.feed(publish(b"a", b""))
    got.clear()
    w.feed(publish(b"a", b""))
    assert got == [1, 2]


def test_without_memory_it_goes_without():
    class Full:
        def __init__(self, *_):
            raise MemoryError

    w = wired((0, b"a", None))
    usual = receive.Usual
    receive.Usual = Full
    try:
        w.feed(publish(b"a", b"1"))
    finally:
        receive.Usual = usual
    assert remembered(w) == []
    w.feed(publish(b"a", b"2"))
    assert remembered(w) == [b"a"] and len(w.messages) == 2


def test_no_check_is_left_out():
    for data, error in (
        (b"\x38\x04\0\1a\0", MalformedPacket),  # DUP at QoS 0 [MQTT-3.3.1-2]
        (b"\x36\x06\0\1a\0\1\0", MalformedPacket),  # QoS 3
        (b"\x30\x03\0\1a", MalformedPacket),  # what stands behind it in rx is of the message before
        (b"\x32\x06\0\1a\0\0\0", ProtocolError),  # packet identifier 0
        (b"\x32\x05\0\1a\0\1", MalformedPacket),
    ):
        w = wired((0, b"a", None))
        w.feed(publish(b"a", b"123"))
        assert remembered(w) == [b"a"]
        raises(error, w.feed, data)
        assert len(w.messages) == 1, data


def test_a_handler_that_puts_another_in_its_place():
    # Each of the others gets the message, once.
    got = []

    def first(m):
        got.append(1)
        add(w.e.session, Subscription(0, b"a", third, 0, b""))

    def third(m):
        got.append(3)

    w = wired((0, b"a", first), (0, b"+", lambda m: got.append(2)))
    w.feed(publish(b"a", b""))
    assert got == [1, 2]
    w.feed(publish(b"a", b""))
    assert got == [1, 2, 3, 2]


def test_above_the_maximum_qos_it_is_looked_at():
    # By number it is a handler's, by topic nobody has asked for it (3.3.4).
    got = []
    w = Wire().up(maximum_qos=0)
    w.e.receiving()
    add(w.e.session, Subscription(1, b"b", lambda m: got.append(1), 0, b""))
    w.feed(publish(b"a", b"", 0, properties=b"\x0b\x01"))
    assert remembered(w) == [b"a"]
    raises(ProtocolError, w.feed, publish(b"a", b"", 1, properties=b"\x0b\x01"))
    assert got == [1]


def test_a_reject_that_cannot_be_said_is_owed():
    def handler(m):
        if m.payload:
            raise Reject(0x83, {"nonsense": 1})

    w = wired((0, b"a", handler))
    w.feed(publish(b"a", b"", 1))
    for pid in (1, 2):
        raises(ValueError, w.feed, publish(b"a", b"1", 1, pid))
        assert w.e.owed == pid
