"""The exceptions: whose fault it is, and what to do.

    ValueError             the caller's mistake (Python's own)
    MQTTError              everything below that is not an OSError; umqtt's name for it is MQTTException
      PeerError            the broker broke the rules
        MalformedPacket    bytes that cannot be parsed               (MQTT 5.0, 4.13)
        ProtocolError      a packet that must not come, or not now   (MQTT 5.0, 4.13)
      Refused              the broker said no: a reason code >= 0x80
        AuthError          it refused the login, or the mechanism failed
          NotProven        the server did not prove that it knows this user: not our broker
      ResourceError        a buffer or quota of ours is too small; the text says which argument to raise
    Disconnected(OSError)  the broker's DISCONNECT. An OSError, as is every other end of a connection, because
                           umqtt's users write `except OSError: reconnect`
    Reject                 raised by a message handler, never by this library: stands in message.py

After a PeerError, an AuthError from connect() or any OSError the connection is closed; connect() may be called again.
This file must never hold the names of reason codes (reasons.py) or texts (texts.py; both are loaded when an error is
printed), nor put a secret into a text.
"""


def wrong(what, kind=ValueError, packet=""):
    """An error of Python's own, to be raised: of this kind, with the text `what` (see texts.py), behind `packet`."""
    try:
        from .texts import text

        what = packet + text(what)
    except Exception:  # MemoryError, above all
        pass  # it shows the text's number, and its values
    return kind(what)


class MQTTError(Exception):
    """`reason`: the MQTT reason code (int), or None. `said`: the server's Reason String (str) as it came, or None; in
    str(error) it is printable. `props`: the properties (bytes; props.decode() makes a dict) of the CONNACK or
    DISCONNECT that said no. text: a str; or, as in this library, the number of one in texts.py, or a tuple of that
    and its values: str(error) looks it up."""

    server = None  # the Server Reference (str), where the broker sends us elsewhere (0x9C, 0x9D)
    props = b""

    def __init__(self, text, reason=None, said=None):
        super().__init__(text)
        self.reason = reason
        self.said = said

    def __str__(self):
        try:
            from .reasons import describe

            return describe(self)
        except MemoryError:  # the text's number at least, and the reason
            return "%s %s" % (self.args[-1], self.reason)

    def __repr__(self):
        # MicroPython prints an uncaught exception, and what sys.print_exception() is given, not by __str__ but by a
        # __repr__ of its class; where there is none, args alone: nothing of cause and cure. A traceback ends in this.
        try:
            return "%s: %s" % (type(self).__name__, self)
        except Exception:  # MemoryError, above all: raised in here it would end the program. A name takes no memory.
            return type(self).__name__


class PeerError(MQTTError):
    # What the client's DISCONNECT says of it; `reason` holds the same code.
    code = 0x82

    # The reason of the one made last: the engine parts with it. `except ... as e` would put its frame on the heap.
    # Whoever makes or catches one that is not the broker's in this connection clears it.
    latest = 0

    def __init__(self, text, reason=None, said=None):
        super().__init__(text, self.code if reason is None else reason, said)
        PeerError.latest = self.reason


class MalformedPacket(PeerError):
    code = 0x81


class ProtocolError(PeerError):
    pass


class Refused(MQTTError):
    pass


class AuthError(Refused):
    """`method`: the Authentication Method (str), or None for a login by user name and password."""

    step = 0  # how far it had come: see reasons.cause()

    def __init__(self, text, reason=None, said=None, method=None):
        super().__init__(text, reason, said)
        self.method = method


class NotProven(AuthError):
    pass


class ResourceError(MQTTError):
    pass


class Disconnected(OSError):
    """`reason`, `said`, `server`, `props`: as in MQTTError. errno is ECONNRESET."""

    server = None
    props = b""

    def __init__(self, reason, said=None):
        from errno import ECONNRESET

        super().__init__(ECONNRESET, "DISCONNECT")
        self.reason = reason
        self.said = said

    __str__ = MQTTError.__str__
    __repr__ = MQTTError.__repr__
