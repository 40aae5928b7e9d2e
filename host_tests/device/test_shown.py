# What is shown of an error that nobody caught: its text, not its arguments. MicroPython prints a traceback's last
# line by __repr__, never by __str__.
# runs under CPython too
import sys

from rules import METHOD, Mechanism, connack, opened, protocol_error
from umqtt5.errors import (
    AuthError,
    Disconnected,
    MalformedPacket,
    MQTTError,
    NotProven,
    ProtocolError,
    Refused,
    ResourceError,
)
from usasl.crypto import SASLError, ServerNotProven
from wire import Wire, packet, raises

HERE = sys.implementation.name == "micropython"
ERRORS = (
    (MQTTError("it failed"), "it failed"),
    (MalformedPacket("PINGRESP"), "the broker broke the protocol: PINGRESP 0x81 Malformed Packet"),
    (ProtocolError("AUTH", 0x94), "the broker broke the protocol: AUTH 0x94 Topic Alias invalid"),
    (Refused("SUBACK", 0x8F, "no"), "SUBACK 0x8F Topic Filter invalid (the broker says: no)"),
    (Refused("SUBACK", 0x8F, "\x1b[2J\u20ac\r\n\x7f\x9b1m\xa0 m\xe9"),
     "SUBACK 0x8F Topic Filter invalid (the broker says: ?[2J\u20ac????1m\xa0 m\xe9)"),
    (Disconnected(0x8B, "\x1b]0;x\x07"), "DISCONNECT 0x8B Server shutting down (the broker says: ?]0;x?)"),
    (NotProven("it did not", None, None, "M"), "M: it did not"),
    (ResourceError("needs rx_size=9"), "needs rx_size=9"),
    (Disconnected(0x8B, "bye"), "DISCONNECT 0x8B Server shutting down (the broker says: bye)"),
    (SASLError("count_low", b"1", 2), "the server asks for 1 iterations; min_iterations is 2. Raise the count on the "
     "server: a low one makes the password cheap to guess"),
    (ServerNotProven("signature"), "the server's signature is wrong: it does not know this user's keys"),
)  # fmt: skip


def shown(error):
    """The last line of its traceback."""
    if not HERE:
        return repr(error)
    from io import StringIO

    out = StringIO()
    sys.print_exception(error, out)
    return out.getvalue().rstrip().split("\n")[-1]


def test_every_kind():
    for error, text in ERRORS:
        name = type(error).__name__
        assert shown(error) == repr(error) == name + ": " + text, shown(error)
        assert str(error) == text, str(error)


def test_one_that_was_raised_by_a_refused_login():
    w = Wire(auth=Mechanism(b"first"))
    opened(w)
    error = raises(AuthError, w.feed, connack(0, 0x87))
    head = "AuthError: M: CONNACK 0x87 Not authorized; usually: "
    assert shown(error).startswith(head) and len(shown(error)) > len(head) + 20, shown(error)


def test_one_that_was_raised_by_a_broken_rule():
    w = Wire(auth=Mechanism(b"first"))
    opened(w)
    error = protocol_error(w, packet(0xF0, b"\x19\x04" + METHOD))
    assert shown(error) == "ProtocolError: " + str(error) and "AUTH 0x19" in shown(error)


def test_what_a_server_says_cannot_draw_on_the_terminal():
    w = Wire(auth=Mechanism(b"first"))
    opened(w)
    said = b"\x1b[1A\xc2\x9b2K\nall is well"
    error = raises(AuthError, w.feed, connack(0, 0x87, b"\x1f" + bytes((0, len(said))) + said))
    assert error.said == str(said, "utf-8")  # as it came
    assert "(the broker says: ?[1A?2K?all is well)" in shown(error), shown(error)


def test_a_text_that_cannot_be_made():
    class Broken(MQTTError):
        def __str__(self):
            raise MemoryError

    class BrokenToo(SASLError):
        def __str__(self):
            raise MemoryError

    assert shown(Broken("text")) == repr(Broken("text")) == "Broken"
    assert shown(BrokenToo("salt")) == repr(BrokenToo("salt")) == "BrokenToo"


def test_the_public_names():
    """All that the documentation names, and nothing else."""
    import umqtt5

    for name in (
        "MQTTClient",
        "MQTTException",
        "MQTTError",
        "Refused",
        "AuthError",
        "NotProven",
        "Disconnected",
        "Reject",
    ):
        assert isinstance(getattr(umqtt5, name), type), name
    assert umqtt5.MQTTException is umqtt5.MQTTError
    for name in ("wrong", "nothing", "__all__"):
        try:
            getattr(umqtt5, name)
        except AttributeError:
            continue
        raise AssertionError(name)
