# MQTT 5.0, table 2-4, of what we send: every property goes out in every packet that may carry it, as it was given;
# misplaced, twice or cut off it is a ValueError, and nothing is sent. The table is the specification's own.
from rules import opened, prop, sent, subscribe
from umqtt5 import MQTTClient
from umqtt5.subscribe import Subscription, send_subscribe, send_unsubscribe
from wire import Wire, raises

# Right by the table, but not for the application to give: an argument has it, or the library, or only a server.
TAKEN = {
    "CONNECT": (0x11, 0x15, 0x16, 0x21, 0x22, 0x27),
    "PUBLISH": (0x0B, 0x23),
    "SUBSCRIBE": (0x0B,),
    "DISCONNECT": (0x11, 0x1C),
}


def connect(raw):
    return opened(Wire(props=raw)).props


def will(raw):
    w = Wire()
    w.e.set_will(b"w", b"", False, 0, raw)
    return opened(w).will[0]


def publish(raw):
    w = Wire(tx_size=512).up()
    try:
        w.publish(b"t", b"m", False, 1, raw)
    finally:
        out = sent(w)
    return out[0].props if out else None


def checked_subscribe(raw):
    # The check stands in the client's call; "not connected" comes behind it.
    raises(OSError, lambda: MQTTClient("c", "127.0.0.1", 1).subscribe("a", props=raw))
    w = Wire().up()
    send_subscribe(w.e, Subscription(0, b"a", None, 0, w.e.properties(raw, 8)))
    return sent(w)[0].props


def unsubscribe(raw):
    w = Wire().up()
    send_unsubscribe(w.e, b"a", raw)
    return sent(w)[0].props


def disconnect(raw):
    w = Wire().up()
    w.e.end(0, raw)
    return sent(w)[0].props


CALLS = {
    "CONNECT": connect,
    "Will Properties": will,
    "PUBLISH": publish,
    "SUBSCRIBE": checked_subscribe,
    "UNSUBSCRIBE": unsubscribe,
    "DISCONNECT": disconnect,
}


def test_every_property_goes_out_as_given(spec_properties):
    for p in spec_properties:
        raw = prop(p["id"], p["data_type"])
        for name, call in CALLS.items():
            if name in p["packets"] and p["id"] not in TAKEN.get(name, ()):
                assert call(raw).startswith(raw), (name, p["name"])
                if p["id"] == 0x26:
                    two = raw + prop(0x26, p["data_type"], b"\0\1a\0\1b")
                    assert call(two + raw).startswith(two + raw), "in the order they were given"


def test_a_property_of_ours_where_it_does_not_belong(spec_properties):
    for p in spec_properties:
        raw = prop(p["id"], p["data_type"])
        for name, call in CALLS.items():
            if name not in p["packets"]:
                raises(ValueError, call, raw)


def test_a_property_of_ours_twice(spec_properties):
    for p in spec_properties:
        raw = prop(p["id"], p["data_type"])
        for name, call in CALLS.items():
            if name in p["packets"] and p["id"] != 0x26:
                raises(ValueError, call, raw + raw)
                raises(ValueError, call, raw + b"\x26\x00\x01a\x00\x01b" + raw)


def test_a_property_of_ours_cut_off(spec_properties):
    for p in spec_properties:
        raw = prop(p["id"], p["data_type"])
        for name, call in CALLS.items():
            if name in p["packets"]:
                raises(ValueError, call, raw[:-1])


def test_values_of_ours_out_of_bounds():
    for name, raw in (
        ("CONNECT", b"\x17\x02"),
        ("CONNECT", b"\x19\x02"),
        ("PUBLISH", b"\x01\x02"),
        ("Will Properties", b"\x01\x02"),
    ):
        raises(ValueError, CALLS[name], raw)


def test_what_has_an_argument_stands_once():
    w = Wire(receive_maximum=5, topic_alias_maximum=6, max_packet=700, session_expiry=8)
    properties = opened(w).props
    for raw in (b"\x21\x00\x05", b"\x22\x00\x06", b"\x27\x00\x00\x02\xbc", b"\x11\x00\x00\x00\x08"):
        assert properties.count(raw) == 1
    assert len(properties) == 3 + 3 + 5 + 5
    for options in ({"receive_maximum": 0}, {"max_packet": 0}, {"topic_alias_maximum": -1}, {"session_expiry": -1}):
        raises(ValueError, lambda: opened(Wire(**options)))  # noqa: B023
    assert subscribe(Wire().up(), ident=3).props == b"\x0b\x03"
