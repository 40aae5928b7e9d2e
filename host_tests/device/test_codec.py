# The codec: Variable Byte Integers, UTF-8, the property table, properties by name.
# runs under CPython too
from umqtt5.codec import check, properties, put_vbi, utf8, vbi, vbi_size
from umqtt5.errors import MalformedPacket, PeerError, ProtocolError
from umqtt5.props import decode, encode


def raises(kind, function, *args):
    try:
        function(*args)
    except kind as e:
        return e
    raise AssertionError("no %s from %r" % (kind.__name__, args))


def test_variable_byte_integers():
    # MQTT 5.0, table 1-1: the bounds of each size.
    for n, wire in (
        (0, b"\x00"),
        (127, b"\x7f"),
        (128, b"\x80\x01"),
        (16383, b"\xff\x7f"),
        (16384, b"\x80\x80\x01"),
        (2097151, b"\xff\xff\x7f"),
        (2097152, b"\x80\x80\x80\x01"),
        (268435455, b"\xff\xff\xff\x7f"),
    ):
        buf = bytearray(6)
        assert put_vbi(buf, 1, n) == 1 + len(wire)
        assert bytes(buf[1 : 1 + len(wire)]) == wire
        assert vbi(wire, 0, len(wire)) == n
        assert vbi_size(n) == len(wire)


def test_variable_byte_integers_that_are_wrong():
    for wire in (b"", b"\x80", b"\xff\xff\xff\xff\x7f", b"\x80\x00", b"\xff\x80\x00", b"\x80\x80\x80\x80\x01"):
        raises(MalformedPacket, vbi, wire, 0, len(wire))


def test_utf8():
    for good in (
        b"",
        b"abc",
        b"\x01\x7f",
        b"\xc2\x80\xdf\xbf",
        b"\xe0\xa0\x80\xed\x9f\xbf\xee\x80\x80\xef\xbf\xbf",
        b"\xf0\x90\x80\x80\xf4\x8f\xbf\xbf",
    ):
        assert utf8(good, 0, len(good)), good
    for bad in (
        b"\x00",
        b"a\x00b",
        b"\x80",
        b"\xc0\x80",
        b"\xc1\xbf",
        b"\xc3",
        b"\xe0\x9f\xbf",
        b"\xed\xa0\x80",  # a surrogate
        b"\xed\xbf\xbf",
        b"\xe2\x82",
        b"\xe2\x28\xa1",
        b"\xf0\x8f\xbf\xbf",
        b"\xf4\x90\x80\x80",
        b"\xf5\x80\x80\x80",
        b"\xff",
    ):
        assert not utf8(bad, 0, len(bad)), bad
        assert not utf8(b"a" + bad + b"b", 1, 1 + len(bad)), bad


def test_utf8_does_not_look_beyond_its_end():
    assert not utf8(b"\xc3\xa9", 0, 1)
    assert utf8(b"ab\x00", 0, 2)


def test_properties_round_trip():
    given = {
        "payload_format_indicator": 1,
        "message_expiry_interval": 0xFFFFFFFF,
        "content_type": "text/plain",
        "response_topic": "a/b",
        "correlation_data": b"\x00\xff",
        "topic_alias": 7,
        "user_property": [("k", "v"), ("k", "w"), ("", "")],
    }
    wire = encode(**given)
    assert decode(wire, 0, None, 3) == given


def test_properties_by_the_specification_s_bytes():
    # Written by hand from table 2-4, not made by encode().
    assert decode(b"\x11\x00\x00\x00\x3c\x21\x00\x14\x22\x00\x0a", 0, None, 1) == {
        "session_expiry_interval": 60,
        "receive_maximum": 20,
        "topic_alias_maximum": 10,
    }
    assert encode(session_expiry_interval=60) == b"\x11\x00\x00\x00\x3c"
    assert encode(user_property=[("a", "b")]) == b"\x26\x00\x01a\x00\x01b"
    assert encode(subscription_identifier=128) == b"\x0b\x80\x01"
    assert decode(b"\x0b\x01\x0b\x80\x01", 0, None, 3) == {"subscription_identifier": [1, 128]}


def test_properties_that_are_wrong():
    for kind, wire, packet in (
        (MalformedPacket, b"\x04\x00", 3),  # unknown
        (MalformedPacket, b"\xff", 3),
        (MalformedPacket, b"\x11\x00\x00\x00\x01", 3),  # not in a PUBLISH
        (ProtocolError, b"\x01\x01\x01\x01", 3),  # twice
        (ProtocolError, b"\x2a\x01\x2a\x01", 2),
        (ProtocolError, b"\x24\x02", 2),  # Maximum QoS 2
        (ProtocolError, b"\x21\x00\x00", 2),  # Receive Maximum 0
        (ProtocolError, b"\x27\x00\x00\x00\x00", 2),
        (ProtocolError, b"\x0b\x00", 3),
        (ProtocolError, b"\x23\x00\x00", 3),
        (MalformedPacket, b"\x02\x00\x00\x00", 3),  # cut off
        (MalformedPacket, b"\x03\x00\x05ab", 3),
        (MalformedPacket, b"\x03\x00", 3),
        (MalformedPacket, b"\x03\x00\x01\x00", 3),  # U+0000
        (MalformedPacket, b"\x26\x00\x01a\x00\x02b", 3),
        (MalformedPacket, b"\x0b\x80", 3),
    ):
        raises(kind, check, wire, 0, len(wire), packet)
    raises(MalformedPacket, properties, b"\x05\x01\x01", 0, 3, 3)


def test_user_properties_and_identifiers_may_come_twice():
    check(b"\x26\x00\x01a\x00\x01b\x26\x00\x01a\x00\x01b\x0b\x01\x0b\x01", 0, 18, 3)
    raises(ProtocolError, check, b"\x0b\x01\x0b\x01", 0, 4, 8)  # a SUBSCRIBE has one


def test_bad_bytes_of_the_caller_s_are_not_the_broker_s():
    """What the application decodes leaves no reason behind for a DISCONNECT of the connection's."""
    for props in (b"\x02\0", b"\x01\2", b"\x7f", b"\x02\0\0\0\1\x02\0\0\0\1"):
        raises(PeerError, decode, props, 0, len(props), 3)
        assert not PeerError.latest, props


def test_encode_refuses():
    raises(ValueError, lambda: encode(no_such=1))
    raises(ValueError, lambda: encode(topic_alias=65536))
    raises(ValueError, lambda: encode(topic_alias=-1))
    raises(ValueError, lambda: encode(content_type="a\0b"))
    raises(ValueError, lambda: encode(correlation_data=b"x" * 65536))
    raises(ValueError, lambda: encode(request_problem_information=2))
