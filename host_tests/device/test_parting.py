# The reason in our DISCONNECT is that of the error which ended the connection (0x80 where it has none), not that of a
# PeerError made before: by a caller's mistake, in a handler, or for a Server Reference.
# runs under CPython too
from rules import METHOD, packet, props
from umqtt5.errors import MalformedPacket, ProtocolError
from umqtt5.props import decode
from umqtt5.reader import FAILED, UP
from umqtt5.redirect import follow
from umqtt5.subscribe import Subscription, add
from wire import Wire, publish, raises

BAD = (b"\x7e", b"\x08\0\1a\x08\0\1a", b"\x01\x02", b"\x23\0\0")  # 0x81, 0x82, 0x82, 0x94


def fails(name, value):
    raise KeyError(name)  # not the broker's fault, and in no handler


def ends_with_0x80(w):
    """Something of another kind ends the connection: what our DISCONNECT says."""
    error = raises(KeyError, w.feed, publish(b"t", b"x" * 100))
    assert error.args[0] == "oversized" and w.e.state == FAILED and w.e.farewell()
    assert w.flush()[-1] == b"\xe0\x01\x80", w.sent[-1]


def test_a_callers_bad_properties():
    for bad in BAD:
        w = Wire(rx_size=64, on_event=fails).up()
        raises(ValueError, w.publish, b"t", b"m", False, 0, bad)
        raises(ValueError, w.e.end, 0, bad)
        ends_with_0x80(w)


def test_what_a_handler_let_out():
    def handler(message):
        decode(message.payload, packet=3)

    for bad in BAD:
        w = Wire(rx_size=64, on_event=fails).up()
        add(w.e.session, Subscription(0, b"h", handler, 0, b""))
        raises((MalformedPacket, ProtocolError), w.feed, publish(b"h", bad))
        assert w.e.state == UP and w.e.handler_raised
        w.e.handler_raised = False
        ends_with_0x80(w)


class Full:
    """A mechanism that finds no memory at its second step."""

    name = "M"

    def exchange(self):
        yield b"first"
        raise MemoryError


def test_a_server_reference_that_was_none():
    w = Wire(auth=Full())
    w.e.terms.redirect = (0x9C, ":x")
    raises(ProtocolError, follow, w.e, ("old", 1, None))
    w.e.open(w.now, True)
    while w.e.auth_busy():
        w.e.work(w.now)
    w.flush()
    raises(MemoryError, w.feed, packet(0xF0, b"\x18" + props(METHOD)))
    assert w.e.state == FAILED and w.e.farewell()
    assert w.flush()[-1] == b"\xe0\x01\x80", w.sent[-1]


def test_a_breach_after_a_callers_mistake_has_its_own():
    w = Wire().up()
    raises(ValueError, w.publish, b"t", b"m", False, 0, BAD[0])
    raises(ProtocolError, w.feed, b"\x10\x00")
    assert w.e.farewell() and w.flush()[-1] == b"\xe0\x01\x82"
