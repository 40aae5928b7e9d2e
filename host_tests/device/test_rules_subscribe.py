# MQTT 5.0, 3.8 to 3.14, 4.7, 4.8: subscriptions, pings, the end.
import errno

from rules import (
    BAD_UTF8,
    Mechanism,
    breach,
    fine,
    malformed,
    names,
    opened,
    packet,
    protocol_error,
    pub,
    scene,
    sent,
    subscribe,
    u16,
    unsubscribe,
)
from umqtt5 import MQTTClient
from umqtt5.errors import Disconnected, PeerError
from umqtt5.reader import FAILED
from umqtt5.subscribe import Subscription, send_subscribe, send_unsubscribe
from wire import Wire, publish, raises


def refuses(*filters):
    """Each is a ValueError in every call that takes a filter, before anything else is looked at: the right ones get
    as far as "not connected"."""
    c = MQTTClient("c", "127.0.0.1", 1)
    for filter in filters:
        for call in (c.subscribe, c.unsubscribe, lambda f: c.on(f, None)):
            raises(ValueError, call, filter)
    assert c._engine.session.subscriptions == []


def takes(*filters):
    c = MQTTClient("c", "127.0.0.1", 1)
    for filter in filters:
        assert raises(OSError, c.subscribe, filter).errno == errno.ENOTCONN
        assert subscribe(Wire().up(), filter).topic == filter


def test_one_filter_with_its_options():
    w = Wire().up()
    for options in (0, 1, 2, 5, 9, 0x21):
        p = subscribe(w, b"a/#", 0, options)
        assert p.flags == 2 and p.body == u16(p.pid) + b"\x00\x00\x03a/#" + bytes((options,))
    p = unsubscribe(w, b"a/#")
    assert p.flags == 2 and p.body == u16(p.pid) + b"\x00\x00\x03a/#"


def test_where_wildcards_may_stand():
    takes(b"#", b"a/#", b"+", b"+/b/+", b"/+", b"a/+/#", b"$SYS/#", b"/", b"a//b", b" ")
    refuses(b"a#", b"#/a", b"a/#/b", b"a/b#", b"##", b"a/#/", b"a+", b"+a", b"a/+b/c", b"a/b+/c", b"++", "a/#/b")


def test_filters_are_strings_of_1_to_65535_bytes():
    refuses(b"", "", b"a\0", b"f" * 65536, "a\0b", *BAD_UTF8)


def test_shared_subscriptions():
    takes(b"$share/g/a", b"$share/g/#", b"$share/g/+/b", b"$share/g//", b"$shared/x", b"$SHARE/g", b"$share")
    refuses(b"$share/g", b"$share/", b"$share//a", b"$share/g/", b"$share/g+/a", b"$share/#/a", b"$share/g#/a")
    refuses(b"$share/g/a/#/b", b"$share/g/a#")


def test_no_local_is_not_for_shared_subscriptions():
    c = MQTTClient("c", "127.0.0.1", 1)
    raises(ValueError, lambda: c.subscribe("$share/g/a", no_local=True))
    raises(OSError, lambda: c.subscribe("a", no_local=True))


def test_options_out_of_bounds():
    c = MQTTClient("c", "127.0.0.1", 1)
    for options in ({"qos": 3}, {"qos": -1}, {"retain_handling": 3}, {"retain_handling": -1}):
        raises(ValueError, lambda: c.subscribe("a", **options))  # noqa: B023
    for ident in (-1, 268435456):
        raises(ValueError, lambda: c.subscribe("a", id=ident))  # noqa: B023
    w = Wire().up()
    raises(ValueError, send_subscribe, w.e, Subscription(6, b"a", None, 0, b"\x0b\x05"))
    assert sent(w) == []
    assert subscribe(w, ident=268435455).props == b"\x0b\xff\xff\xff\x7f"


def test_a_suback_with_a_wrong_number_of_reasons():
    for make, header in ((subscribe, 0x90), (unsubscribe, 0xB0)):
        for codes in (b"", b"\0\0", b"\0\x80\0"):
            w = Wire().up()
            breach(w, packet(header, u16(make(w).pid) + b"\0" + codes), PeerError, 0x81, 0x82)


def test_a_suback_that_nobody_waits_for():
    for header in (0x90, 0xB0):
        protocol_error(Wire().up(), packet(header, b"\x00\x05\x00\x00"))
    w = Wire().up()
    p = subscribe(w)
    data = packet(0x90, u16(p.pid) + b"\0\0")
    fine(w, data)
    w.e.session.release(p.pid % len(w.e.session.state))
    protocol_error(w, data)


def test_an_answer_is_what_the_server_said():
    w = Wire().up()
    i = send_subscribe(w.e, Subscription(0, b"a", None, 2, b""))
    p = sent(w)[0]
    assert w.answer(i) is None
    fine(w, packet(0x90, u16(p.pid) + b"\0\x01"))
    assert w.answer(i) == 1, "granted less than asked for"
    i = send_unsubscribe(w.e, b"a", None)
    p = sent(w)[0]
    fine(w, packet(0xB0, u16(p.pid) + b"\0\x11"))
    assert w.answer(i) == 0x11


# Ping ------------------------------------------------------------------------------------------------------


def test_a_ping_that_is_not_answered():
    w = Wire(keepalive=10, timeout=3).up()
    w.e.ping(w.now)
    assert [p.raw for p in sent(w)] == [b"\xc0\x00"]
    w.now += 2999
    w.e.timer(w.now)
    w.now += 1
    raises(OSError, w.e.timer, w.now)
    assert w.e.state == FAILED
    w = Wire(keepalive=10, timeout=3).up()
    w.e.ping(w.now)
    w.flush()
    w.feed(b"\xd0\x00")
    w.now += 3000
    w.e.timer(w.now)


# The end ---------------------------------------------------------------------------------------------------


def test_disconnect_before_connack():
    # A breach [MQTT-3.14.0-1], but its meaning is plain: taken as the refusal that it is, and answered by closing.
    for auth in (None, Mechanism(b"x", b"y")):
        w = Wire(auth=auth)
        opened(w)
        e = raises(Disconnected, w.feed, packet(0xE0, b"\x89"))
        assert e.reason == 0x89 and w.e.state == FAILED and not w.e.farewell() and sent(w) == []


def test_disconnect_ends_the_connection():
    for data, reason in ((b"\xe0\x00", 0), (b"\xe0\x01\x8b", 0x8B), (b"\xe0\x02\x8e\x00", 0x8E)):
        w = Wire(session_expiry=60).up()
        pub(w, qos=1)
        e = raises(Disconnected, w.feed, data)
        assert e.reason == reason and w.e.state == FAILED
        assert not w.e.farewell() and sent(w) == [], "nothing goes out after it"
        assert w.e.session.in_flight() == 1


def test_reserved_bits_of_disconnect():
    for flags in range(1, 16):
        malformed(Wire().up(), bytes((0xE0 | flags, 1, 0x8B)))


def test_session_expiry_in_a_server_s_disconnect():
    protocol_error(Wire().up(), packet(0xE0, b"\x8b\x05\x11\x00\x00\x00\x05"))


def test_the_reasons_of_our_disconnect(client_reasons):
    right = client_reasons["DISCONNECT"]
    for reason in range(256):
        w = Wire().up()
        if reason in right:
            w.e.end(reason, None)
            assert [(p.name, p.reason) for p in sent(w)] == [("DISCONNECT", reason)]
        else:
            raises(ValueError, w.e.end, reason, None)
            assert sent(w) == [], hex(reason)


def test_the_short_form_of_our_disconnect():
    w = Wire().up()
    w.e.end(0, None)
    assert w.flush() == [b"\xe0\x00"]
    w = Wire().up()
    w.e.end(0x80, {"reason_string": "x"})
    assert w.flush() == [b"\xe0\x06\x80\x04\x1f\x00\x01x"]


def test_nothing_after_our_disconnect():
    w = Wire(session_expiry=60, keepalive=10).up()
    pub(w, qos=1)
    flush = w.flush
    w.flush = lambda: None  # the answers wait when the application says goodbye
    w.feed(publish(b"t", b"", 1, 5) + publish(b"t", b"", 2, 6))
    w.flush = flush
    w.e.ping(w.now)
    w.e.end(0, None)
    assert names(sent(w)) == ["DISCONNECT"]
    assert not w.e.next()
    w.e.closed()
    assert not w.e.next() and sent(w) == []


def test_session_expiry_in_our_disconnect():
    w = Wire(session_expiry=0).up()
    raises(ValueError, w.e.end, 0, {"session_expiry_interval": 60})
    raises(ValueError, w.e.end, 0, b"\x11\x00\x00\x00\x3c")
    raises(ValueError, w.e.end, 0, None, 60)
    assert sent(w) == []
    w.e.end(0, {"session_expiry_interval": 0})
    assert sent(w)[0].props == b"\x11\x00\x00\x00\x00"
    # It is CONNECT's word that counts, whatever CONNACK made of it.
    w = Wire(session_expiry=0).up(session_expiry_interval=60)
    raises(ValueError, w.e.end, 0, None, 5)
    for value in (0, 5, 0xFFFFFFFF):
        w = Wire(session_expiry=60).up()
        w.e.end(0, {"session_expiry_interval": value})
        assert len(sent(w)[0].props) == 5


def test_no_server_reference_in_our_disconnect():
    # 3.14.2.2.5: it is the server that sends one.
    w = Wire().up()
    raises(ValueError, w.e.end, 0x80, {"server_reference": "elsewhere"})
    assert sent(w) == []


def test_every_breach_is_told_and_closes():
    # 4.13.1, once for each way in: the DISCONNECT with the reason is the last packet, then the driver closes.
    for kind in ("PUBLISH", "PUBACK", "PUBREC", "PUBREL", "PUBCOMP", "SUBACK", "UNSUBACK", "CONNACK", "AUTH"):
        w, make = scene(kind)
        malformed(w, make(b"\x00\x00"))
    for bad in BAD_UTF8:
        w, make = scene("DISCONNECT")
        malformed(w, make(b"\x1f" + u16(len(bad)) + bad))
