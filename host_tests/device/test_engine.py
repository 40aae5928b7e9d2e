# The engine without a socket and without a clock: framing, keep alive, packet identifiers, acknowledgements.
# runs under CPython too
import micropython  # noqa: F401  (first: under CPython it gives `time` its ticks)

from time import ticks_add

from umqtt5.errors import MalformedPacket, ProtocolError, ResourceError
from umqtt5.message import Reject, matches
from umqtt5.props import encode
from umqtt5.reader import FAILED
from umqtt5.subscribe import Subscription, add, send_subscribe
from wire import Wire, packet, publish, raises


def test_connect_byte_for_byte():
    # MQTT 5.0, 3.1, by hand: clean start, keep alive 60, receive maximum 20, client id "me".
    w = Wire()
    w.e.open(0, True)
    assert w.flush() == [b"\x10\x12\x00\x04MQTT\x05\x02\x00\x3c\x03\x21\x00\x14\x00\x02me"]


def test_connect_with_everything():
    w = Wire(
        keepalive=5,
        receive_maximum=3,
        topic_alias_maximum=4,
        max_packet=512,
        session_expiry=7,
        props={"user_property": [("a", "b")], "request_response_information": 1},
    )
    w.e.set_will("w/t", b"gone", True, 1, {"will_delay_interval": 9})
    w.e.terms.user, w.e.terms.password = b"u", b"p"
    w.e.open(0, False)
    body = w.flush()[0][2:]
    assert body[:10] == b"\x00\x04MQTT\x05" + bytes((0x80 | 0x40 | 0x20 | 0x08 | 0x04,)) + b"\x00\x05"
    n = body[10]
    from umqtt5.props import decode

    assert decode(body, 11, 11 + n, 1) == {
        "user_property": [("a", "b")],
        "request_response_information": 1,
        "receive_maximum": 3,
        "session_expiry_interval": 7,
        "maximum_packet_size": 512,
        "topic_alias_maximum": 4,
    }
    assert (
        body[11 + n :] == b"\x00\x02me" + b"\x05\x18\x00\x00\x00\x09" + b"\x00\x03w/t\x00\x04gone\x00\x01u\x00\x01p"
    )


def test_a_connect_larger_than_tx():
    w = Wire(client_id="c" * 300, tx_size=64)
    w.e.open(0, True)
    assert len(w.flush()[0]) == 3 + 16 + 300
    assert w.e.out is w.e.tx, "the temporary is dropped"


def test_every_chunk_size_gives_the_same():
    stream = b"".join([publish(b"t/%d" % i, b"x" * size, i % 3, i + 1) for i, size in enumerate(SIZES)])
    whole = Wire(rx_size=1024).up()
    whole.feed(stream)
    assert [len(m) for _, m in whole.messages] == SIZES
    for chunk in (1, 2, 3, 5, 50, 63, 64, 65, 127, 1000):
        w = Wire(rx_size=1024, chunk=chunk).up()
        w.feed(stream)
        assert w.messages == whole.messages, chunk
        assert w.sent == whole.sent, chunk


SIZES = [0, 1, 100, 127, 128, 250, 63, 64, 65, 900, 1000, 3]


def test_topic_and_payload_in_place():
    w = Wire().up()
    seen = []

    def handler(m):
        seen.append((bytes(m.buf[m.start : m.end]), m.topic, m.payload, m.qos, m.retain, m.dup, m.props))
        assert m.buf is w.e.rx

    add(w.e.session, Subscription(5, b"a/+", handler, 0, b""))
    w.feed(publish(b"a/b", b"hello", 1, 7, 0x09, b"\x0b\x05\x01\x01"))
    props = {"subscription_identifier": 5, "payload_format_indicator": 1}
    assert seen == [(b"hello", b"a/b", b"hello", 1, True, True, props)]
    assert w.sent == [b"\x40\x02\x00\x07"]
    assert w.messages == []


def test_several_identifiers_reach_each_handler_once():
    w = Wire().up()
    seen = []
    add(w.e.session, Subscription(1, b"a/#", lambda m: seen.append(1), 0, b""))
    add(w.e.session, Subscription(2, b"a/b", lambda m: seen.append(2), 0, b""))
    add(w.e.session, Subscription(3, b"a/+", lambda m: seen.append(3), 0, b""))
    w.feed(publish(b"a/b", b"", properties=b"\x0b\x01\x0b\x02"))
    assert seen == [1, 2]
    w.feed(publish(b"a/b", b""))  # no identifier: the callback
    assert seen == [1, 2] and w.messages == [(b"a/b", b"")]


def test_in_a_session_of_another_life_the_filter_decides():
    w = Wire().up(clean=False, present=1)
    seen = []
    add(w.e.session, Subscription(1, b"other", lambda m: seen.append("wrong"), 0, b""))
    add(w.e.session, Subscription(2, b"a/#", lambda m: seen.append("right"), 0, b""))
    w.feed(publish(b"a/b", b"", properties=b"\x0b\x01"))
    assert seen == ["right"]


def test_topic_filters():
    for filter, topic, expected in (
        # 4.7.1, the specification's own examples
        (b"sport/tennis/player1/#", b"sport/tennis/player1", True),
        (b"sport/tennis/player1/#", b"sport/tennis/player1/ranking", True),
        (b"sport/#", b"sport", True),
        (b"sport/#", b"sports", False),
        (b"#", b"any/thing", True),
        (b"sport/tennis/+", b"sport/tennis/player1", True),
        (b"sport/tennis/+", b"sport/tennis/player1/ranking", False),
        (b"sport/+", b"sport", False),
        (b"sport/+", b"sport/", True),
        (b"+/+", b"/finance", True),
        (b"/+", b"/finance", True),
        (b"+", b"/finance", False),
        (b"#", b"$SYS/x", False),
        (b"+/x", b"$SYS/x", False),
        (b"$SYS/#", b"$SYS/x", True),
        (b"a/+/c", b"a/b/c", True),
        (b"a/+/c", b"a//c", True),
        (b"a/+/c", b"a/b/d", False),
        (b"a/b", b"a/b", True),
        (b"a/b", b"a/bc", False),
        (b"a/bc", b"a/b", False),
        (b"+/#", b"a", True),
    ):
        assert matches(filter, b"xx" + topic + b"yy", 2, 2 + len(topic)) == expected, (filter, topic)


def test_shared_subscriptions_match_behind_their_name():
    assert Subscription(0, b"$share/group/a/+", None, 0, b"").match == b"a/+"


def test_keep_alive_pings_when_nothing_was_sent_or_nothing_received():
    for silent in ("tx", "rx"):
        w = Wire(now=ticks_add(0, -20000), keepalive=60).up()  # across the wrap of the ticks
        for _ in range(59):
            assert 0 <= w.e.timer(w.now) <= 60000
            w.flush()
            if w.sent:
                break
            w.now = ticks_add(w.now, 1000)
            if silent == "rx":
                w.publish(b"t", b"", False, 0, None)
                w.flush()
                w.sent.clear()
            else:
                w.feed(publish(b"t", b""))
        assert w.sent == [b"\xc0\x00"], silent
        w.feed(b"\xd0\x00")
        assert w.e.pinged is None


def test_a_missing_pingresp_ends_the_connection():
    w = Wire(keepalive=60, timeout=10).up()
    w.now += 60000
    w.e.timer(w.now)
    assert w.flush() == [b"\xc0\x00"]
    w.now += 5000
    w.feed(publish(b"t", b""))  # traffic is no PINGRESP
    w.now += 4999
    assert w.e.timer(w.now) == 1
    w.now += 1
    e = raises(OSError, w.e.timer, w.now)
    assert "PINGRESP" in str(e) and w.e.state == FAILED and not w.e.farewell()


def test_messages_without_a_pause():
    # Nobody waits, and asks timer(): it pings all the same, and PINGRESP may stand behind all that has come.
    w = Wire(keepalive=10, timeout=3).up()
    pings = [w.now]

    def take(topic, msg):
        w.now += 100
        if w.sent and w.sent[-1] == b"\xc0\x00":
            pings.append(w.now)
            w.sent.clear()

    w.e.callback = take
    w.feed(publish(b"t", b"m") * 400)
    pings.append(w.now)
    assert len(pings) == 1 + 4 + 1, pings
    assert max(pings[i + 1] - pings[i] for i in range(5)) < 12_000, pings
    assert w.e.timer(w.now) > 0, "its time began anew"
    w.now += 3000
    raises(OSError, w.e.timer, w.now)
    w = Wire(keepalive=0).up()
    w.e.callback = take
    w.feed(publish(b"t", b"m") * 400)
    assert w.sent == []


def test_keepalive_0_never_pings():
    w = Wire(keepalive=0).up()
    w.now += 500_000_000
    assert w.e.timer(w.now) > 0
    assert w.flush() == []


def test_server_keep_alive_counts():
    w = Wire(keepalive=60).up(server_keep_alive=10)
    assert 9000 < w.e.timer(w.now) < 10000
    w.up()  # and not in the next connection, where none was given
    assert w.e.timer(w.now) > 50000


def test_an_unfinished_packet_must_go_on():
    w = Wire(keepalive=0, timeout=10).up()
    w.feed(publish(b"t", b"abc")[:-1])
    w.now += 9999
    assert w.e.timer(w.now) == 1
    w.now += 1
    raises(OSError, w.e.timer, w.now)
    assert w.messages == []


def test_packet_identifiers_wrap_and_skip_those_in_use():
    w = Wire(receive_maximum=3).up()
    s = w.e.session
    stuck = w.publish(b"t", b"stuck", False, 1, None)
    w.flush()
    used = set()
    for _ in range(70000):
        i = w.publish(b"t", b"", False, 1, None)
        assert i != stuck and s.pid[i] != s.pid[stuck] and 1 <= s.pid[i] <= 65535
        used.add(s.pid[i] // 4096)
        while w.e.left:
            w.e.wrote(w.e.left, 0)
        s.answered(i, 0)
        s.release(i)
        w.e.quota += 1
    assert len(used) == 16


def test_receive_maximum_of_the_broker():
    w = Wire().up(receive_maximum=2)
    first = w.publish(b"t", b"1", False, 1, None)
    w.flush()
    w.publish(b"t", b"2", False, 1, None)
    w.flush()
    assert not w.e.may_publish()
    raises(ResourceError, w.publish, b"t", b"3", False, 1, None)
    w.publish(b"t", b"3", False, 0, None)  # QoS 0 is not counted
    w.flush()
    pid = w.e.session.pid[first]
    w.feed(bytes((0x40, 2, pid >> 8, pid & 255)))
    assert w.answer(first) == 0 and w.e.may_publish()


def test_what_the_broker_does_not_offer_is_refused_here():
    w = Wire().up(
        maximum_qos=1,
        retain_available=0,
        maximum_packet_size=20,
        wildcard_subscription_available=0,
        shared_subscription_available=0,
        subscription_identifier_available=0,
    )
    e = w.e
    for call in (
        lambda: w.publish(b"t", b"", False, 2, None),
        lambda: w.publish(b"t", b"", True, 0, None),
        lambda: w.publish(b"t", b"x" * 20, False, 0, None),
        lambda: w.publish(b"t", b"x" * 20, False, 1, None),
        lambda: send_subscribe(e, Subscription(0, b"a/#", None, 0, b"")),
        lambda: send_subscribe(e, Subscription(0, b"$share/g/a", None, 0, b"")),
        lambda: w.publish(b"a/#", b"", False, 0, None),
        lambda: w.publish(b"", b"", False, 0, None),
        lambda: w.publish(b"t", b"", False, 0, {"subscription_identifier": 1}),
        lambda: w.publish(b"t", b"", False, 0, {"reason_string": "x"}),
    ):
        raises(ValueError, call)
    assert w.flush() == [] and e.session.in_flight() == 0
    w.publish(b"t", b"x" * 12, False, 1, None)  # 20 bytes: fits
    assert len(w.flush()[0]) == 20
    i = send_subscribe(e, Subscription(9, b"a", None, 0, b""))
    assert w.flush()[1][4] == 0, "no Subscription Identifier is sent"
    assert i >= 0


def test_a_payload_larger_than_tx_follows_its_header():
    w = Wire(tx_size=32).up()
    msg = bytes(range(100))
    w.publish(b"t", msg, False, 0, None)
    assert w.e.out is w.e.tx
    w.e.wrote(w.e.left, 0)
    assert w.e.out is msg and w.e.left == 100, "from the caller's own bytes"
    w.e.wrote(100, 0)
    assert w.e.left == 0 and not w.e.midway
    e = raises(ResourceError, w.publish, b"t" * 40, b"", False, 0, None)
    assert "tx_size=" in str(e)


def test_a_handler_that_raises():
    w = Wire().up()

    def handler(m):
        raise KeyError("mine")

    add(w.e.session, Subscription(1, b"a", handler, 0, b""))
    raises(KeyError, w.feed, publish(b"a", b"", 1, 9, properties=b"\x0b\x01"))
    assert w.e.handler_raised and w.flush() == []  # not acknowledged
    w.e.handler_raised = False
    w.feed(publish(b"b", b"x", 1, 10))  # the reader is in step
    assert w.messages == [(b"b", b"x")] and w.sent == [b"\x40\x02\x00\x0a"]


def test_reject_acknowledges_with_its_reason():
    w = Wire().up()

    def handler(m):
        raise Reject(0x99)

    add(w.e.session, Subscription(1, b"a", handler, 0, b""))
    w.feed(publish(b"a", b"", 1, 9, properties=b"\x0b\x01"))
    w.feed(publish(b"a", b"", 2, 10, properties=b"\x0b\x01"))
    assert w.sent == [b"\x40\x03\x00\x09\x99", b"\x50\x03\x00\x0a\x99"]


def test_an_oversized_publish_is_drained_and_refused():
    events = []
    w = Wire(rx_size=64, on_event=lambda *event: events.append(event)).up()
    w.feed(publish(b"big", b"x" * 500, 1, 3))
    w.feed(publish(b"big", b"x" * 59, 0))  # one byte more than rx
    w.feed(publish(b"t", b"after"))
    assert w.messages == [(b"t", b"after")]
    assert w.sent == [b"\x40\x03\x00\x03\x97"]
    assert w.e.session.oversized == 2 and [n for n, _ in events] == ["oversized", "oversized"]


def test_other_packets_too_large_for_rx_end_the_connection():
    w = Wire(rx_size=64).up()
    e = raises(ResourceError, w.feed, packet(0x90, b"x" * 65))
    assert "rx_size=" in str(e) and e.reason == 0x95 and w.e.parting == 0x95


def test_a_topic_too_large_for_rx_ends_the_connection():
    for packet_ in (publish(b"t" * 70, b"x"), publish(b"t" * 50, b"x", properties=b"\x26\0\1a\0\x0f" + b"b" * 15)):
        for chunk in (None, 7):
            w = Wire(rx_size=64, chunk=chunk).up()
            e = raises(ResourceError, w.feed, packet_)
            assert "rx_size=" in str(e) and e.reason == 0x95 and w.e.parting == 0x95 and w.e.farewell()


def test_acknowledgements_for_unknown_identifiers():
    w = Wire().up()
    w.feed(b"\x40\x02\x00\x05\x70\x02\x00\x05")
    assert w.e.session.unmatched == 2 and w.flush() == []
    w.feed(b"\x50\x02\x00\x05\x62\x02\x00\x06")
    assert w.sent == [b"\x62\x03\x00\x05\x92", b"\x70\x03\x00\x06\x92"]


def test_packets_that_break_the_rules():
    for kind, data in (
        (ProtocolError, b"\x20\x03\x00\x00\x00"),  # a second CONNACK
        (ProtocolError, b"\x00\x00"),
        (ProtocolError, b"\x10\x00"),
        (ProtocolError, b"\x82\x00"),
        (ProtocolError, b"\xc0\x00"),
        (ProtocolError, b"\xf0\x00"),  # AUTH, and nobody asked
        (MalformedPacket, b"\x41\x02\x00\x01"),
        (MalformedPacket, b"\x60\x02\x00\x01"),
        (MalformedPacket, b"\xd1\x00"),
        (MalformedPacket, b"\xd0\x01\x00"),
        (MalformedPacket, b"\x30\xff\xff\xff\xff\x01"),
        (MalformedPacket, b"\x30\x80\x00"),
        (MalformedPacket, publish(b"t", b"", 3)),
        (MalformedPacket, publish(b"t", b"", 0, flags=8)),
        (MalformedPacket, b"\x30\x00"),
        (MalformedPacket, b"\x30\x03\x00\x09t"),
        (MalformedPacket, b"\x32\x04\x00\x01t\x00"),
        (MalformedPacket, publish(b"\xff", b"")),
        (MalformedPacket, publish(b"a\x00", b"")),
        (ProtocolError, publish(b"a/#", b"")),
        (ProtocolError, publish(b"", b"")),
        (ProtocolError, publish(b"t", b"", 1, 0)),
        (ProtocolError, publish(b"t", b"", properties=b"\x23\x00\x01")),
        (MalformedPacket, b"\x30\x05\x00\x01t\x09\x00"),
        (ProtocolError, b"\x90\x04\x00\x01\x00\x00"),  # SUBACK, and nobody asked
        (MalformedPacket, b"\x40\x01\x00"),
    ):
        for chunk in (None, 1):
            w = Wire(chunk=chunk).up()
            e = raises(kind, w.feed, data)
            assert w.e.state == FAILED and w.e.parting == e.reason and w.e.farewell()
            # 3.14, after whatever was to be sent
            assert w.flush()[-1] == bytes((0xE0, 1, e.reason)), data
            assert w.messages == []


def test_the_answer_of_a_3_1_1_broker():
    from umqtt5.errors import Refused

    # The second one does not look at the version in CONNECT, and says yes.
    for code, kind, reason in ((1, Refused, 0x84), (0, MalformedPacket, 0x81)):
        w = Wire()
        w.e.open(0, True)
        w.flush()
        e = raises(kind, w.feed, bytes((0x20, 2, 0, code)))
        assert e.reason == reason and "3.1.1" in str(e)


def test_assigned_client_identifier():
    w = Wire(client_id="").up(assigned_client_identifier="given")
    assert w.e.terms.client_id == b"given"


def test_session_present_only_where_it_may_be():
    w = Wire()
    w.e.open(0, True)
    w.flush()
    raises(ProtocolError, w.feed, b"\x20\x03\x01\x00\x00")


def test_arguments_that_do_not_go_together():
    class Mechanism:
        name = "X"

    for options in (
        {"keepalive": 65536},
        {"receive_maximum": 0},
        {"tx_size": 8},
        {"max_packet": 0},
        {"props": {"receive_maximum": 5}},
        {"props": {"topic_alias": 5}},
        {"client_id": "a\0"},
    ):
        raises(ValueError, lambda: Wire(**options))  # noqa: B023
    from umqtt5.protocol import Engine

    raises(ValueError, lambda: Engine("c", None, "password", 0, auth=Mechanism()))


def test_properties_right_for_a_publish_are_no_others():
    w = Wire().up()
    props = encode(message_expiry_interval=60)
    w.publish(b"t", b"m", False, 0, props)
    for packet_type in (0, 1, 4, 8, 10, 14):
        if packet_type:  # a will may have it
            assert "0x02" in str(raises(ValueError, w.e.properties, props, packet_type))
    assert w.e.properties(props, 0) == w.e.properties(props, 3) == props


def test_the_properties_of_a_refusal():
    from umqtt5.errors import Disconnected, Refused
    from umqtt5.props import decode, encode

    said = encode(reason_string="why", user_property=[("a", "b"), ("a", "c")])
    for kind, data in (
        (Refused, packet(0x20, b"\0\x88" + bytes((len(said),)) + said)),
        (Disconnected, packet(0xE0, b"\x8b" + bytes((len(said),)) + said)),
    ):
        w = Wire()
        w.e.open(0, True)
        w.flush()
        e = raises(kind, w.feed, data)
        assert decode(e.props) == {"reason_string": "why", "user_property": [("a", "b"), ("a", "c")]}
        assert "why" in str(e)


def test_properties_of_auth_both_ways():
    from umqtt5.props import decode, encode

    class Mechanism:
        name = "M"
        props = {"user_property": [("from", "us")]}

        def exchange(self):
            yield b"one"
            yield b"two"

    w = Wire(auth=Mechanism())
    w.e.open(0, True)
    w.e.work(0)
    w.flush()
    said = b"\x15\x00\x01M" + encode(authentication_data=b"secret", user_property=[("from", "them"), ("x", "y")])
    w.feed(packet(0xF0, b"\x18" + bytes((len(said),)) + said))
    assert w.sent[-1] == packet(0xF0, b"\x18\x15\x15\x00\x01M\x16\x00\x03two" + b"\x26\x00\x04from\x00\x02us")
    assert decode(w.e.answer_props) == {"user_property": [("from", "them"), ("x", "y")]}


def test_properties_of_every_acknowledgement():
    w = Wire(ack_props={"user_property": [("a", "b"), ("a", "c")]}).up()
    said = b"\x26\x00\x01a\x00\x01b\x26\x00\x01a\x00\x01c"
    w.feed(publish(b"t", b"", 1, 5) + publish(b"t", b"", 2, 6) + b"\x62\x02\x00\x06")
    i = w.publish(b"t", b"", False, 2, None)
    w.flush()
    pid = w.e.session.pid[i]
    w.sent.pop()
    w.feed(bytes((0x50, 2, pid >> 8, pid & 255)))
    for header, ident, raw in zip((0x40, 0x50, 0x70, 0x62), (5, 6, 6, pid), w.sent):  # noqa: B905  MicroPython has no strict=
        assert raw == packet(header, bytes((ident >> 8, ident & 255, 0, len(said))) + said), raw
    assert len(w.sent) == 4
    small = Wire(ack_props=said).up(maximum_packet_size=20)  # there they do not fit
    small.feed(publish(b"t", b"", 1, 5))
    assert small.sent == [b"\x40\x02\x00\x05"]
    raises(ValueError, lambda: Wire(ack_props={"topic_alias": 1}))


def test_on_event_is_told_inside_a_packet_as_a_handler_is_called():
    # It may publish, but nothing waits: a driver that reads would find itself reading already.
    inside = []
    w = Wire(rx_size=64, on_event=lambda *event: inside.append((event[0], w.e.in_handler))).up()
    w.feed(publish(b"t", b"x" * 100))
    w.e.session.release(w.publish(b"t", b"1", qos=1))
    w.feed(packet(0x40, bytes((w.e.session.last >> 8, w.e.session.last & 255)) + b"\x87"))
    assert inside == [("oversized", True), ("refused", True)] and not w.e.in_handler
    for qos in (1, 2):
        w.e.session.release(w.publish(b"t", b"1", qos=qos))
    w.feed(packet(0x50, bytes((w.e.session.last >> 8, w.e.session.last & 255))))
    w.e.closed()
    w.up(clean=False)  # the session is gone
    assert sorted(inside[2:]) == [("unconfirmed", True), ("unsent", True)]
