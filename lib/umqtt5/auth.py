"""The authentication exchange (MQTT 5.0, 4.12): drives a mechanism's generator, and is strict about AUTH and CONNACK.

A mechanism is any object with a `name` (the Authentication Method) and a generator `exchange()`. It yields bytes to
send and gets what the server answers; it yields None while it computes, to be called again. Only when the generator
has *returned* is the server proven: CONNACK 0x00 alone proves nothing; a listener without an authenticator sends it.
Loaded only where a mechanism is used. It must never let an unproven CONNACK take effect.
"""

from micropython import const

from time import ticks_diff

from .codec import data, find, properties, skip, text, vbi, vbi_size
from .errors import AuthError, MalformedPacket, NotProven, ProtocolError

# Texts of errors: see texts.py.
_AUTH_UNASKED = const(36)
_SLOW = const(40)
_NO_PROOF = const(41)
_NOTHING_TO_SEND = const(42)
_METHOD = const(43)
_AUTH_AFTER_END = const(44)
_AUTH_REASON = const(45)
_AUTH_BARE = const(46)
_AUTH_BEHIND = const(47)

# What the generator's next bytes are for.
_FIRST = const(0)  # CONNECT
_NEXT = const(1)  # AUTH 0x18
_LAST = const(2)  # nothing: the server has ended the login


def user_properties(buf, i, end):
    """The Reason String and User Properties among those in buf[i:end], a copy."""
    kept = b""
    while i < end:
        j = skip(buf, i)
        if buf[i] == 0x1F or buf[i] == 0x26:
            kept += bytes(buf[i:j])
        i = j
    return kept


class Exchange:
    """One login with one mechanism. `busy`: the generator computes, call work(); read nothing meanwhile."""

    again = False  # True: a re-authentication (reauth.py)
    quiet = True  # no PINGREQ may go out while it runs
    early = b""  # packet types that do not belong to a login, and are borne before its end

    def __init__(self, engine, mechanism):
        if hasattr(mechanism, "proof_due"):
            # Set by a mechanism that has forgiven a server its missing proof: it must come in one exchange more.
            mechanism.proof_due = False
        self.engine = engine
        self.mechanism = mechanism
        self.method = text(mechanism.name, "auth.name")
        # A mechanism may have `props`: a Reason String or User Properties for its AUTH packets.
        self.props = engine.properties(getattr(mechanism, "props", None), 15)
        self.generator = mechanism.exchange()
        self.phase = _FIRST
        self.step = 0  # what the server has of us, for the text of a refusal: reasons.cause()
        self.value = None  # what work() sends into the generator
        self.busy = True
        self.wait = None  # (stream, ms): call work() when the stream can be read, or after ms
        self.proven = False
        self.began = None

    def work(self, now):
        """Let the generator compute on: for at most as long as the mechanism's slices are (50 ms on a board)."""
        if self.began is None:
            self.began = now
        value = self.value
        self.value = None
        self._resume(value)
        done = getattr(self.mechanism, "progress", 0)
        keepalive = self.engine.keepalive
        # No PINGREQ may go out before CONNACK [MQTT-3.1.2-30], and the broker closes after 1.5 x keep alive.
        if self.quiet and self.busy and done and 0 < 1500 * keepalive < ticks_diff(now, self.began) * 100 // done:
            self._failed(AuthError((_SLOW, keepalive)))

    def _failed(self, error):
        self.generator = None
        error.method = self.mechanism.name
        raise error

    def _resume(self, value):
        self.busy = False
        self.wait = None
        try:
            out = self.generator.send(value)
        except StopIteration:
            self.proven = True
            self.generator = None
            out = b""
        except MemoryError:
            raise
        except Exception as e:
            # usasl's errors, and whatever else a mechanism may raise. It knows no MQTT, and we know no SASL: the
            # attribute says whether it was the server's proof that failed.
            error = NotProven if getattr(e, "not_proven", False) else AuthError
            self._failed(error(str(e) or type(e).__name__))
        if out is None or isinstance(out, tuple):
            self.wait = out
            self.busy = True
            return
        if self.phase == _LAST:
            if not self.proven:
                self._failed(NotProven(_NO_PROOF))
            self._finish()
        elif self.phase == _FIRST:
            if self.proven:
                self._failed(AuthError(_NOTHING_TO_SEND))
            # b"" is "the server speaks first": no Authentication Data then, not an empty one (3.1.2.11.10)
            self._first(out or None)
            self.phase = _NEXT
            self.step = 1 if out else 0
        else:
            self._next(out)
            self.step = 2

    def _first(self, out):
        self.engine.send_connect(self.method, out)

    def _next(self, out):
        self.engine.put_auth(0x18, self.method, out, self.props)

    def _props(self, i, end):
        """Check the method in the properties at rx[i]; the Authentication Data, b"" where there is none."""
        rx = self.engine.rx
        at = i + vbi_size(vbi(rx, i, end))
        m = find(rx, at, end, 0x15)
        if m < 0 or data(rx, m) != self.method:  # [MQTT-4.12.0-5]
            raise ProtocolError(_METHOD)
        d = find(rx, at, end, 0x16)
        return b"" if d < 0 else data(rx, d)

    def auth(self, n):
        """An AUTH packet (3.15), its variable header in rx[:n]."""
        if self.engine.left:
            raise ProtocolError(_AUTH_UNASKED)
        value = self._parse(n, 0x18)  # AUTH 0x00 ends a re-authentication only
        if self.proven:
            raise ProtocolError(_AUTH_AFTER_END)
        self._resume(value)

    def _parse(self, n, end):
        """The Authentication Data of an AUTH with reason 0x18, or with `end`."""
        e = self.engine
        rx = e.rx
        reason = rx[0] if n else 0
        if reason != 0x18 and reason != end:
            # 0x19 is the client's alone (table 3-12), others do not exist.
            raise ProtocolError((_AUTH_REASON, reason))
        if n < 2:
            raise ProtocolError(_AUTH_BARE)
        if properties(rx, 1, n, 15) != n:
            raise MalformedPacket(_AUTH_BEHIND)
        at = 1 + vbi_size(vbi(rx, 1, n))
        e.check_problem_information(at, n)
        e.answer_props = user_properties(rx, at, n)  # not the authentication data
        return self._props(1, n)

    def connack(self, n):
        """CONNACK 0x00 in rx[:n], parsed and found well-formed. It takes effect only through _finish()."""
        self.phase = _LAST
        self.held = n
        if self.proven:
            self._finish()
        else:
            rx = self.engine.rx
            at = 2 + vbi_size(vbi(rx, 2, n))
            d = find(rx, at, n, 0x16)
            # The proof first, whatever else is wrong with this CONNACK: "not our broker" is the graver news.
            self._resume(b"" if d < 0 else data(rx, d))

    def _finish(self):
        n = self.held
        self._props(2, n)
        e = self.engine
        if getattr(self.mechanism, "proof_due", False):
            from .reauth import Proof

            e.exchange = Proof(e, self.mechanism, n)
        else:
            e.accept(n)
