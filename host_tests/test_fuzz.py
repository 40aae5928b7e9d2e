"""Arbitrary bytes into the engine, in arbitrary pieces: nothing but its typed errors comes out, it never asks for
nothing (a driver would hang), what it sends is MQTT to the last byte, and how the bytes were cut changes nothing.

Half of the bytes are almost right: packets of a server with something changed, left out or put in between. On
CPython; the same engine runs on MicroPython. UMQTT5_EXAMPLES=n: n times as many, other ones each time.
"""

import itertools

import pytest
from harness import wire
from harness.engine import Driven
from harness.examples import examples
from hypothesis import given
from hypothesis import strategies as st
from umqtt5.errors import AuthError, Disconnected, PeerError, Refused, ResourceError
from umqtt5.reader import FAILED, UP

NAMES = {0x01: "payload_format_indicator", 0x02: "message_expiry_interval", 0x03: "content_type"}
NAMES |= {0x08: "response_topic", 0x09: "correlation_data", 0x0B: "subscription_identifier", 0x23: "topic_alias"}
NAMES |= {0x26: "user_property"}
TYPED = (PeerError, Refused, AuthError, ResourceError, Disconnected)

short = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0"), max_size=8)
reasons = st.sampled_from([0, 1, 2, 0x10, 0x18, 0x19, 0x80, 0x82, 0x87, 0x8C, 0x92, 0x97, 0x9C, 0xFF])
# Identifiers of packets that are in flight, or near them.
pids = st.integers(0, 6) | st.just(65535)


def _value(ident):
    kind = wire.KINDS[ident]
    if kind in "124":
        return st.sampled_from([0, 1, 2, 5, 256 ** int(kind) - 1])
    return {"v": st.sampled_from([0, 1, 2, 127, 128, 268435455]), "p": st.tuples(short, short)}.get(kind, short)


_prop = st.sampled_from(sorted(wire.KINDS)).flatmap(lambda i: st.tuples(st.just(i), _value(i)))
pairs = st.lists(_prop | st.binary(min_size=1, max_size=3), max_size=3)
topics = st.sampled_from(["", "a", "a/b", "in/t", "#", "$SYS/x", "\u20ac"]) | short


def _publish(topic, payload, qos, pid, props, dup, retain):
    return wire.publish(topic, payload, qos, pid, *props, flags=qos << 1 | dup << 3 | retain)


payloads = st.binary(max_size=20) | st.sampled_from([50, 60, 100, 128, 300, 20000]).map(bytes)
publishes = st.builds(_publish, topics, payloads, st.integers(0, 3), pids, pairs, st.booleans(), st.booleans())
_acks = [wire.PUBACK, wire.PUBREC, wire.PUBREL, wire.PUBCOMP, wire.SUBACK, wire.UNSUBACK]
acks = st.builds(lambda k, p, r, props: wire.ack(k, p, r, *props), st.sampled_from(_acks), pids, reasons, pairs)
short_acks = st.builds(lambda k, p: wire.packet(k, p.to_bytes(2, "big"), 2 * (k == 6)), st.sampled_from(_acks), pids)
others = st.one_of(
    st.builds(lambda r, props, flag: wire.connack(r, *props, present=flag), reasons, pairs, st.integers(0, 2)),
    st.builds(lambda r, props: wire.auth(r, *props), reasons, pairs),
    st.builds(lambda r, props: wire.disconnect(r, *props), reasons, pairs),
    st.just(wire.packet(wire.PINGRESP)),
    st.builds(wire.packet, st.integers(1, 15), st.binary(max_size=12), st.integers(0, 15)),
)
# As a server may well send them: the run goes on behind them.
good = st.one_of(
    st.builds(
        lambda t, p, q, i: wire.publish(t, p, q, i),
        st.sampled_from(["a", "in/t"]),
        payloads,
        *[st.integers(0, 2)] * 2,
    ),
    st.builds(lambda p: wire.ack(wire.PUBREL, p), st.integers(1, 3)),
    st.builds(lambda p: wire.ack(wire.PUBACK, p), st.integers(1, 2)),
    st.just(wire.packet(wire.PINGRESP)),
).filter(lambda p: p[0] & 6 == 0 or p[0] >> 4 != 3 or b"\0\0" not in p[:8])


@st.composite
def _spoilt(draw, packets):
    """A packet with one byte changed, cut off, or put in."""
    data = bytearray(draw(packets))
    at = draw(st.integers(0, max(len(data) - 1, 0)))
    how = draw(st.integers(0, 4))
    if how == 0:  # a length, a flag, an identifier next to the right one
        data[at] = (data[at] + draw(st.sampled_from([1, -1, 2, 128]))) & 0xFF
    elif how == 1:
        data[at] = draw(st.integers(0, 255))
    elif how == 2:
        data.insert(at, draw(st.integers(0, 255)))
    elif how == 3:
        del data[at:]
    return bytes(data)


packets = st.one_of(good, good, publishes, acks, short_acks, others)
streams = st.lists(packets | _spoilt(packets) | st.binary(max_size=10), min_size=1, max_size=6).map(b"".join)
sizes = st.lists(st.sampled_from([0, 1, 2, 3, 7, 63, 64, 65, 1000]), max_size=5)
buffers = st.sampled_from([64, 100, 1024])


def in_flight(rx_size=1024):
    """An engine that is connected, with a SUBSCRIBE and messages at QoS 1 and 2 waiting for their answers."""
    w = Driven(rx_size=rx_size, receive_maximum=4).up()
    from umqtt5.subscribe import Subscription, send_subscribe

    w.publish(b"out", b"1", False, 1)
    w.publish(b"out", b"2", False, 2)
    send_subscribe(w.e, Subscription(1, b"in/#", None, 2, b""))
    w._flush()
    w.sent.clear()
    return w


def check(w):
    """What holds whatever came."""
    if w.error is not None:
        assert isinstance(w.error, TYPED), repr(w.error)
        assert w.e.state == FAILED
        assert str(w.error) and repr(w.error)
    packets = w.packets()  # a strict reader: anything but MQTT fails
    says = [i for i, p in enumerate(packets) if p.type == wire.DISCONNECT]
    assert says in ([], [len(packets) - 1]), "something was sent behind DISCONNECT"
    assert not says or packets[-1].reason >= 0x80
    assert not (says and isinstance(w.error, (Disconnected, Refused))), "the server had ended it"


def outcome(w):
    return (
        w.messages,
        bytes(w.sent),
        w.told,
        w.e.state,
        type(w.error),
        str(w.error),
        w.e.session.oversized,
        w.e.session.unmatched,
    )


@examples(250)
@given(streams, sizes, buffers)
def test_after_the_login(stream, cut, rx_size):
    """Only typed errors; and cut into pieces anyhow, the same comes out as from the whole."""
    whole = in_flight(rx_size).feed(stream)
    check(whole)
    pieces = in_flight(rx_size).feed(stream, cut)
    assert outcome(pieces) == outcome(whole)


def against_another_reader(data):
    """What is delivered is what wire.py reads in the same bytes; where it reads no packet, nothing is delivered."""
    w = Driven(rx_size=30000).up().feed(data)
    check(w)
    try:
        p, used = wire.split(data)
    except (wire.WireError, UnicodeError):
        assert w.messages == [] and w.error is not None
        return
    if w.messages:
        assert used
        flags = {"qos": p.qos, "dup": bool(p.flags & 8), "retain": bool(p.flags & 1)}
        assert w.messages[0] == {"topic": p.topic, "payload": p.payload, "props": by_name(p.props), **flags}


@examples(200)
@given(_spoilt(publishes) | publishes)
def test_a_publish_against_another_reader(data):
    against_another_reader(data)


# One of each kind that a server sends, as whole as can be.
_STRINGS = [(0x26, ("k", "v")), (0x1F, "why")]
SAMPLES = [
    wire.publish("in/t", b"payload", 0, 1, (0x26, ("k", "v")), (0x09, b"data")),
    wire.publish("in/t", b"payload", 1, 7, (0x01, 1), (0x02, 5), (0x08, "r/t"), (0x03, "x/y")),
    wire.publish("in/\u20ac\U0001d11e", b"", 2, 8, (0x23, 1), (0x0B, 1)),
    wire.publish("in", b"x" * 130, 1, 9, (0x0B, 1), (0x26, ("", ""))),
    *(wire.ack(kind, pid, 0, *_STRINGS) for kind, pid in ((4, 1), (5, 2), (6, 9), (7, 2), (9, 3), (11, 3))),
    *(wire.packet(kind, b"\0\1", 2 * (kind == 6)) for kind in (4, 5, 6, 7)),
    wire.disconnect(0x8B, *_STRINGS, (0x1C, "host")),
    wire.packet(wire.PINGRESP),
    wire.auth(0x18, (0x15, "m"), (0x16, b"data")),
]
CONNACKS = [
    wire.connack(0, (0x21, 5), (0x12, "id"), (0x24, 1), (0x27, 500), (0x13, 9), *_STRINGS, (0x2A, 0)),
    wire.connack(0x87, *_STRINGS, (0x1C, "host:1")),
    wire.packet(wire.CONNACK, b"\0\0"),
]


@pytest.mark.parametrize("change", [1, -1, 0x80, None], ids=["plus-1", "minus-1", "bit-7", "cut-there"])
def test_every_byte_changed(change):
    """Each byte of each sample, one at a time."""
    for sample in SAMPLES + CONNACKS:
        for at in range(len(sample)):
            data = bytearray(sample)
            if change is None:
                # Cut off, and the length of the whole made to fit: what ends too early must not read on.
                body = data[2 if data[1] < 0x80 else 3 :][: at + 1]
                data = wire.packet(data[0] >> 4, bytes(body), data[0] & 15)
            else:
                data[at] = (data[at] + change) & 0xFF
            whole, small = (Driven(), Driven()) if sample in CONNACKS else (in_flight(), in_flight())
            check(whole.feed(data + b"\xd0\0"))
            assert outcome(small.feed(data + b"\xd0\0", (1,))) == outcome(whole), (sample, at)
            if sample[0] >> 4 == wire.PUBLISH:
                against_another_reader(bytes(data))


def by_name(props):
    """wire.py's pairs as the library's dict."""
    found = {}
    for ident, value in props:
        if ident in (0x26, 0x0B):
            found.setdefault(NAMES[ident], []).append(value)
        else:
            assert NAMES[ident] not in found, "a property that may stand once stands twice"
            found[NAMES[ident]] = value
    if len(found.get(NAMES[0x0B], [])) == 1:
        found[NAMES[0x0B]] = found[NAMES[0x0B]][0]
    return found


@examples(100)
@given(st.binary(min_size=1, max_size=60), sizes, buffers)
def test_mere_bytes(stream, cut, rx_size):
    for make in (lambda: in_flight(rx_size), lambda: Driven(rx_size=rx_size)):
        whole = make().feed(stream)
        check(whole)
        assert outcome(make().feed(stream, cut)) == outcome(whole)


@examples(120)
@given(streams, sizes)
def test_before_the_login(stream, cut):
    """In answer to CONNECT: nothing is delivered or acknowledged unless a CONNACK made us connected."""
    whole = Driven().feed(stream)
    check(whole)
    if whole.e.max_qos < 0:  # it never got there
        assert whole.messages == [] and {p.name for p in whole.packets()} <= {"CONNECT", "DISCONNECT"}
    assert outcome(Driven().feed(stream, cut)) == outcome(whole)


@examples(60)
@given(st.binary(max_size=30), st.binary(max_size=30), sizes)
def test_a_connack_with_anything_in_it(head, properties, cut):
    for body in (head, b"\0\0" + wire.varint(len(properties)) + properties):
        whole = Driven().feed(wire.packet(wire.CONNACK, body))
        check(whole)
        assert outcome(Driven().feed(wire.packet(wire.CONNACK, body), cut)) == outcome(whole)


def test_every_one_byte_and_two_byte_start():
    """All first bytes with all second bytes, and some of what may follow: exhaustive, no luck."""
    for first, second in itertools.product(range(256), (0, 1, 2, 4, 5, 0x80, 0xFF)):
        for tail in (b"\0", b"\0\1", b"\0\1\0\0", b"\xff" * 5):
            check(in_flight(64).feed(bytes([first, second]) + tail))


@pytest.mark.parametrize("qos", [0, 1, 2])
def test_every_cut_of_one_stream(qos):
    """Two messages and what belongs to them, cut at pairs of places."""
    stream = wire.publish("in/t", b"x" * 70, qos, 3, (0x26, ("k", "v"))) + wire.publish("in/t", b"", qos, 4)
    stream += wire.ack(wire.PUBREL, 3) + wire.publish("in/t", bytes(200), qos, 5) + wire.packet(wire.PINGRESP)
    whole = outcome(in_flight(100).feed(stream))
    assert whole[3] == UP and len(whole[0]) == 2 and whole[6] == 1
    for i, j in itertools.combinations(range(0, len(stream), 7), 2):
        w = in_flight(100)
        for part in (stream[:i], stream[i:j], stream[j:]):
            w.feed(part)
        assert outcome(w) == whole, (i, j)
