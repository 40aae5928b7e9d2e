# MQTT 5.0, tables 2-4 and 2-6: every property in, twice in, and misplaced in every packet that a server sends; every
# reason code in each. The tables are the specification's own (fixtures of conformance/plugin.py).
from rules import BAD_UTF8, INCOMING, METHOD, breach, fine, malformed, prop, protocol_error, scene, string
from umqtt5.errors import Disconnected, PeerError, Refused

# Right by the table, and still wrong: what the packet's state forbids, the test that shows it.
FORBIDDEN = (
    ("CONNACK", 0x15),  # test_rules_connack.py: nobody asked
    ("CONNACK", 0x16),
    ("DISCONNECT", 0x11),  # test_rules_subscribe.py: the client's alone
)
STRINGS = ("UTF-8 Encoded String", "UTF-8 String Pair")
OPTIONS = {"props": {"request_response_information": 1}}


def base(kind, ident):
    """What must stand beside a property: an AUTH always names its method."""
    return METHOD if kind == "AUTH" and ident != 0x15 else b""


def value(p):
    return b"M" if p["id"] == 0x15 else None


def at(kind):
    return scene(kind, **OPTIONS)


def taken(w, data):
    try:
        fine(w, data)
    except Disconnected:
        pass


def test_every_property_where_it_belongs(spec_properties):
    count = 0
    for p in spec_properties:
        for kind in INCOMING:
            if kind in p["packets"] and (kind, p["id"]) not in FORBIDDEN:
                w, make = at(kind)
                taken(w, make(base(kind, p["id"]) + prop(p["id"], p["data_type"], value(p))))
                count += 1
    assert count > 40


def test_every_property_where_it_does_not_belong(spec_properties):
    for p in spec_properties:
        for kind in INCOMING:
            if kind not in p["packets"]:
                w, make = at(kind)
                malformed(w, make(base(kind, p["id"]) + prop(p["id"], p["data_type"])))


def test_identifiers_that_do_not_exist(spec_properties):
    known = [p["id"] for p in spec_properties]
    for ident in range(256):
        if ident not in known:
            for kind in INCOMING if ident in (0, 4, 0x14, 0x2B, 0x7E, 0x80, 0xFF) else ("PUBLISH",):
                w, make = at(kind)
                malformed(w, make(base(kind, ident) + bytes((ident,)) + b"\x00\x01"))


def test_every_property_twice(spec_properties):
    for p in spec_properties:
        for kind in INCOMING:
            if kind not in p["packets"]:
                continue
            one = prop(p["id"], p["data_type"], value(p))
            w, make = at(kind)
            data = make(base(kind, p["id"]) + one + one)
            if p["id"] == 0x26 or (p["id"] == 0x0B and kind == "PUBLISH"):
                taken(w, data)
            else:
                protocol_error(w, data)
            if p["id"] not in (0x26, 0x0B, 0x15, 0x16):
                # Not side by side either.
                w, make = at(kind)
                protocol_error(w, make(base(kind, 0) + one + b"\x26" + string(b"a") + string(b"b") + one))


def test_every_property_cut_off(spec_properties):
    for p in spec_properties:
        whole = prop(p["id"], p["data_type"], value(p))
        for kind in INCOMING:
            if kind in p["packets"]:
                for n in range(1, len(whole)):
                    w, make = at(kind)
                    malformed(w, make(base(kind, p["id"]) + whole[:n]))


def test_every_string_that_is_not_utf8(spec_properties):
    for p in spec_properties:
        if p["data_type"] not in STRINGS:
            continue
        for kind in INCOMING:
            if kind not in p["packets"]:
                continue
            for bad in BAD_UTF8:
                raw = string(bad) + string(b"v") if p["data_type"] == STRINGS[1] else bad
                w, make = at(kind)
                malformed(w, make(base(kind, p["id"]) + prop(p["id"], p["data_type"], raw)))


def test_binary_data_may_be_anything():
    w, make = at("PUBLISH")
    taken(w, make(b"\x09" + string(b"\xff\x00\xc0")))
    w, make = at("AUTH")
    taken(w, make(METHOD + b"\x16" + string(b"\xff\x00\xc0")))


def test_values_of_0():
    for kind, raw, reason in (
        ("PUBLISH", b"\x0b\x00", 0x82),
        ("PUBLISH", b"\x23\x00\x00", 0x94),
        ("CONNACK", b"\x21\x00\x00", 0x82),
        ("CONNACK", b"\x27\x00\x00\x00\x00", 0x82),
    ):
        w, make = at(kind)
        protocol_error(w, make(raw), reason)


def test_every_reason_code(server_reasons):
    for kind in INCOMING:
        if kind == "PUBLISH":
            continue
        for reason in range(256):
            w, make = at(kind)
            data = make(base(kind, 0), reason)
            if reason not in server_reasons[kind] or (kind, reason) == ("AUTH", 0):
                breach_of_a_reason(w, data, kind, reason)
            else:
                try:
                    fine(w, data)
                except (Refused, Disconnected) as e:
                    assert kind in ("CONNACK", "DISCONNECT") and e.reason == reason, (kind, reason)
                    assert reason >= 0x80 or kind == "DISCONNECT"


def breach_of_a_reason(w, data, kind, reason):
    if kind == "DISCONNECT":
        # The server ends the connection with it: whether it hears a DISCONNECT of ours does not matter.
        try:
            w.feed(data)
        except PeerError as e:
            assert e.reason in (0x81, 0x82)
            return
        except Disconnected:
            pass
        raise AssertionError("DISCONNECT 0x%02X taken" % reason)
    breach(w, data, PeerError, 0x81, 0x82)
