"""The codec under hypothesis, on CPython: there and back again, and against another implementation of MQTT 5, so that
two wrongs do not agree: paho-mqtt makes properties, PUBLISH and CONNECT packets that we read, and reads ours.

paho is spoken to through its public calls only, the packets over a socket; where it is wrong, a comment says so.
UMQTT5_EXAMPLES=n: n times as many examples, other ones each time (for a long night).
"""

import re
import socket

import paho.mqtt.client as paho
import pytest
from harness import wire
from harness.engine import Driven, length
from harness.examples import examples
from harness.proxy import body_of, packet_end
from hypothesis import given
from hypothesis import strategies as st
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties, VariableByteIntegers
from umqtt5.codec import check, vbi, vbi_size
from umqtt5.props import decode, encode

WILL = 0  # of ours; paho has a number of its own
PACKETS = {n: n for n in range(1, 16) if n not in (PacketTypes.PINGREQ, PacketTypes.PINGRESP)}
PACKETS[WILL] = PacketTypes.WILLMESSAGE
_TABLE = Properties(PacketTypes.CONNECT)
# Our name -> (paho's name, identifier, type), as paho has them.
PROPERTIES = {
    re.sub(r" ", "_", name).lower(): (name.replace(" ", ""), ident, _TABLE.types[_TABLE.properties[ident][0]])
    for name, ident in _TABLE.names.items()
}

# paho takes U+FEFF for malformed, against [MQTT-1.5.4-3]: it stays out where paho reads.
_characters = st.characters(exclude_categories=("Cs",), exclude_characters="\0\ufeff")
strings = st.text(_characters, max_size=12) | st.text(_characters, min_size=100, max_size=140)
ours_only = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0"), max_size=12)
topics = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0\ufeff+#"), min_size=1, max_size=20)
_VALUES = {
    "Byte": st.integers(0, 1),  # every property of one byte is 0 or 1 (2.2.2.2)
    "Two Byte Integer": st.integers(0, 65535),
    "Four Byte Integer": st.integers(0, 2**32 - 1),
    "Variable Byte Integer": st.sampled_from([1, 127, 128, 16383, 16384, 2097151, 2097152, 268435455]),
    "Binary Data": st.binary(max_size=200),
    "UTF-8 Encoded String": strings,
    "UTF-8 String Pair": st.lists(st.tuples(strings, strings), min_size=1, max_size=4),
}
_SPECIAL = {
    "response_topic": topics,
    "topic_alias": st.integers(1, 65535),
    "receive_maximum": st.integers(1, 65535),
    "maximum_packet_size": st.integers(1, 268435455),  # paho's bound; ours is that of four bytes
}


def names(packet):
    """Our names of what this packet may carry, as paho's table says."""
    return [n for n, (_, ident, _t) in PROPERTIES.items() if PACKETS[packet] in _TABLE.properties[ident][1]]


def properties_of(packet, without=()):
    """Dicts of properties that this packet may carry, in a drawn order."""
    values = {name: _SPECIAL.get(name, _VALUES[PROPERTIES[name][2]]) for name in names(packet) if name not in without}
    chosen = st.fixed_dictionaries({}, optional=values)
    return chosen.flatmap(lambda d: st.permutations(list(d.items()))).map(dict)


with_packet = st.sampled_from(sorted(PACKETS)).flatmap(lambda p: st.tuples(st.just(p), properties_of(p)))


def in_paho(packet, props):
    made = Properties(PACKETS[packet])
    for name, value in props.items():
        setattr(made, PROPERTIES[name][0], list(value) if name == "user_property" else value)
    return made


def out_of_paho(props):
    """paho's Properties -> a dict as ours."""
    found = {}
    for name, (theirs, _, _) in PROPERTIES.items():
        if hasattr(props, theirs):
            value = getattr(props, theirs)
            if name == "subscription_identifier" and len(value) == 1:
                value = value[0]
            found[name] = value
    return found


def in_paho_s_order(props):
    return {name: props[name] for name in PROPERTIES if name in props}


# Properties ------------------------------------------------------------------------------------------------


def test_the_same_names():
    """encode() knows what paho knows, by the specification's names, and no others."""
    for name, (_, ident, kind) in PROPERTIES.items():
        value = [("a", "b")] if kind == "UTF-8 String Pair" else "1" if "UTF" in kind or "Bin" in kind else 1
        assert encode(**{name: value})[0] == ident
    with pytest.raises(ValueError, match="no such property"):
        encode(payload_format=1)


@examples(70)
@given(with_packet)
def test_there_and_back_again(drawn):
    packet, props = drawn
    raw = encode(**props)
    check(raw, 0, len(raw), packet)
    assert decode(raw, packet=packet) == props
    around = b"\xff" + raw + b"\x26\0"  # in the middle of a buffer
    assert decode(around, 1, 1 + len(raw), packet) == props


@examples(70)
@given(with_packet)
def test_ours_is_theirs_byte_for_byte(drawn):
    packet, props = drawn
    raw = encode(**in_paho_s_order(props))
    assert in_paho(packet, props).pack() == length(len(raw)) + raw


@examples(70)
@given(with_packet)
def test_they_read_ours(drawn):
    packet, props = drawn
    raw = encode(**props)
    theirs, used = Properties(PACKETS[packet]).unpack(length(len(raw)) + raw)
    assert used == vbi_size(len(raw)) + len(raw)
    assert out_of_paho(theirs) == props


@examples(70)
@given(with_packet)
def test_we_read_theirs(drawn):
    packet, props = drawn
    packed = in_paho(packet, props).pack()
    start = vbi_size(vbi(packed, 0, len(packed)))
    assert decode(packed, start, packet=packet) == props


@examples(60)
@given(st.lists(st.tuples(ours_only, ours_only), max_size=5), st.lists(st.integers(1, 268435455), max_size=4))
def test_what_may_stand_several_times(pairs, numbers):
    """User properties in order; Subscription Identifiers of a PUBLISH, one as an int, several as a list."""
    raw = b"".join(wire.prop(0x26, p) for p in pairs) + b"".join(wire.prop(0x0B, n) for n in numbers)
    expected = {"user_property": pairs} if pairs else {}
    if numbers:
        expected["subscription_identifier"] = numbers[0] if len(numbers) == 1 else numbers
    assert decode(raw, packet=3) == expected


@examples(100)
@given(st.integers(0, 268435455))
def test_variable_byte_integers(n):
    assert length(n) == VariableByteIntegers.encode(n)
    assert vbi(length(n), 0, 4) == n and vbi_size(n) == len(length(n))


@examples(100)
@given(
    st.sampled_from(sorted(PROPERTIES)),
    st.one_of(st.integers(-5, 2**33), st.text(max_size=3), st.binary(max_size=3), st.just("x" * 65536), st.none()),
)
def test_values_that_do_not_fit(name, value):
    """encode() gives what can be read again, or ValueError (TypeError for what is no value at all)."""
    try:
        raw = encode(**{name: value})
    except (ValueError, TypeError):
        return
    again = decode(raw)
    assert list(again) == [name] or (name == "user_property" and not value)


@pytest.mark.parametrize(
    "value", ["ab", [("a",)], [("a", "b", "c")], ["ab"], {"ab": "c"}, [b"ab"], 5, [5], [("a", 5)]]
)
def test_user_properties_are_pairs(value):
    with pytest.raises((ValueError, TypeError)):
        encode(user_property=value)


# Packets ---------------------------------------------------------------------------------------------------


class Paho:
    """A real paho client, with the other end of its socket: it publishes, and receives what it is sent."""

    def __init__(self):
        self.client = paho.Client(paho.CallbackAPIVersion.VERSION2, "paho", protocol=paho.MQTTv5)
        self.messages = []
        self.client.on_message = lambda client, data, m: self.messages.append(m)

    def __enter__(self):
        with socket.create_server(("127.0.0.1", 0)) as listener:
            self.client.connect(*listener.getsockname()[:2])
            self.sock = listener.accept()[0]
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock.settimeout(5)
        self.hello = self.packet()
        self.say(wire.connack(0))
        return self

    def __exit__(self, *_):
        self.client.disconnect()
        self.sock.close()

    def packet(self):
        data = b""
        while not (end := packet_end(data)):
            data += self.sock.recv(65536) or pytest.fail("paho has closed")
        assert end == len(data)
        return data

    def say(self, data):
        self.sock.sendall(data)
        while data:  # loop_read() takes one packet
            assert self.client.loop_read() == paho.MQTT_ERR_SUCCESS
            data = data[packet_end(data) :]

    def published(self, topic, payload, qos, retain, props):
        """The bytes of paho's PUBLISH; its exchange is completed."""
        info = self.client.publish(topic, payload, qos, retain, props)
        data = self.packet()
        if qos == 1:
            self.say(wire.ack(wire.PUBACK, info.mid))
        elif qos == 2:
            self.say(wire.ack(wire.PUBREC, info.mid))
            self.packet()
            self.say(wire.ack(wire.PUBCOMP, info.mid))
        return data

    def received(self, data, qos, pid):
        """What paho's application gets of this PUBLISH."""
        self.say(data)
        if qos:
            self.packet()
        if qos == 2:
            self.say(wire.ack(wire.PUBREL, pid))
            self.packet()
        return self.messages.pop()


@pytest.fixture(scope="module")
def other():
    with Paho() as made:
        yield made


publishes = st.tuples(
    topics,
    st.binary(max_size=40) | st.binary(min_size=120, max_size=140) | st.just(bytes(20000)),
    st.integers(0, 2),
    st.booleans(),
    properties_of(PacketTypes.PUBLISH, without=("topic_alias", "subscription_identifier")),
)


@examples(60)
@given(data=publishes)
def test_publish_of_theirs(other, data):
    """What paho publishes is what our handler gets."""
    topic, payload, qos, retain, props = data
    packet = other.published(topic, payload, qos, retain, in_paho(PacketTypes.PUBLISH, props))
    w = Driven(rx_size=30000).up().feed(packet)
    assert w.error is None
    expected = {
        "topic": topic.encode(),
        "payload": payload,
        "qos": qos,
        "retain": retain,
        "dup": False,
        "props": props,
    }
    assert w.messages == [expected]


@examples(60)
@given(data=publishes)
def test_publish_of_ours(other, data):
    """What we publish is what paho's handler gets; and with the same packet identifier, the same bytes."""
    topic, payload, qos, retain, props = data
    w = Driven(tx_size=70000).up()
    w.publish(topic.encode(), payload, retain, qos, encode(**in_paho_s_order(props)))
    sent = bytes(w.sent)
    m = other.received(sent, qos, 1)
    assert (m.topic, m.payload, m.qos, m.retain, m.dup) == (topic, payload, qos, retain, False)
    assert out_of_paho(m.properties) == props
    theirs = bytearray(other.published(topic, payload, qos, retain, in_paho(PacketTypes.PUBLISH, props)))
    if qos:
        at = len(theirs) - len(body_of(theirs)) + 2 + len(topic.encode())
        theirs[at : at + 2] = b"\0\1"
    assert sent == theirs


def test_connect_of_theirs_and_ours():
    """The same CONNECT, with a will and every property that is the caller's, byte for byte."""
    will = {
        "payload_format_indicator": 1,
        "message_expiry_interval": 7,
        "content_type": "c",
        "response_topic": "r",
        "correlation_data": b"\0",
        "will_delay_interval": 9,
        "user_property": [("a", "b"), ("a", "b")],
    }
    theirs = Properties(PacketTypes.CONNECT)
    theirs.ReceiveMaximum = 20
    theirs.SessionExpiryInterval, theirs.TopicAliasMaximum, theirs.MaximumPacketSize = 77, 4, 9999
    theirs.RequestProblemInformation, theirs.RequestResponseInformation = 1, 1
    theirs.UserProperty = [("k", "v"), ("", "")]
    client = paho.Client(paho.CallbackAPIVersion.VERSION2, "me", protocol=paho.MQTTv5)
    client.username_pw_set("user", "word")
    client.will_set("w/t", b"gone", 2, True, in_paho(WILL, will))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client.connect(*listener.getsockname()[:2], keepalive=60, clean_start=False, properties=theirs)
        with listener.accept()[0] as sock:
            packet = wire.split(sock.recv(4096))[0]
            client.disconnect()
    props = {"request_problem_information": 1, "request_response_information": 1}
    props["user_property"] = [("k", "v"), ("", "")]
    w = Driven(session_expiry=77, max_packet=9999, props=props, opened=False)
    w.e.set_will("w/t", b"gone", True, 2, will)
    w.e.terms.user, w.e.terms.password = b"user", b"word"
    ours = w.open(clean=False).packets()[0]
    assert ours.connect.pop("will")["props"] == packet.connect.pop("will")["props"]
    assert ours.connect == packet.connect
    assert sorted(ours.props) == sorted(packet.props)
