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
    how = draw(st.integers(0, 3))
    if how == 1:
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
    from umqtt5.session import Subscription

    w.publish(b"out", b"1", False, 1)
    w.publish(b"out", b"2", False, 2)
    w.e.subscribe(Subscription(1, b"in/#", None, 2, b""))
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
    return (w.messages, bytes(w.sent), w.told, w.e.state, type(w.error), str(w.error), w.e.oversized, w.e.unmatched)


@examples(250)
@given(streams, sizes, buffers)
def test_after_the_login(stream, cut, rx_size):
    """Only typed errors; and cut into pieces anyhow, the same comes out as from the whole."""
    whole = in_flight(rx_size).feed(stream)
    check(whole)
    pieces = in_flight(rx_size).feed(stream, cut)
    assert outcome(pieces) == outcome(whole)


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
    if not whole.e.quota_max:  # it never got there
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
