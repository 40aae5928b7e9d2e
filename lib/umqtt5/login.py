"""The beginning of a connection: CONNECT and its properties, AUTH, CONNACK and what it grants; and its end by the
server (MQTT 5.0, 3.1, 3.2, 3.14, 3.15, 4.12). Allocates; nothing of it runs between login and DISCONNECT.

It must never let a CONNACK take effect before the server is proven: a forged one could wipe a session.
"""

from micropython import const

from errno import ENOTCONN

from .codec import data, find, kind, properties, skip, text, u16, u32, vbi, vbi_size
from .errors import AuthError, Disconnected, MalformedPacket, ProtocolError, Refused, wrong
from .reader import CONNECTING, UP, Reader
from .session import PUBCOMP

# Texts of errors: see texts.py.
_LARGE_DATA = const(24)
_PASSWORD = const(25)
_QOS = const(26)
_CONNACK_AGAIN = const(27)
_MQTT_311 = const(28)
_CONNACK_BEHIND = const(29)
_CONNACK_REASON = const(30)
_CONNACK_EARLY = const(31)
_CONNACK_AUTH = const(32)
_SESSION_PRESENT = const(33)
_NO_CLIENT_ID = const(34)
_RESPONSE_INFORMATION = const(35)
_AUTH_UNASKED = const(36)
_DISCONNECT_EXPIRY = const(37)
_DISCONNECT_REASON = const(38)
_PROBLEM_INFORMATION = const(39)

# The reasons of 3.2.2.2, and those of 3.14.2.1 that are a server's. 0x8C is not among these, but EMQX ends a failed
# re-authentication with it.
_CONNACK_REASONS = b"\x80\x81\x82\x83\x84\x85\x86\x87\x88\x89\x8a\x8c\x90\x95\x97\x99\x9a\x9b\x9c\x9d\x9f"
_DISCONNECT_REASONS = (
    b"\x00\x80\x81\x82\x83\x87\x89\x8b\x8c\x8d\x8e\x8f\x90\x93\x94\x95\x96\x97\x98\x99\x9a\x9b\x9c\x9d\x9e\x9f"
    b"\xa0\xa1\xa2"
)

_LARGEST = 268435460  # bytes: no packet can be larger (2.1.4)


def _integer(ident, value):
    # Not by props.encode(): it would be loaded for this alone, 3.2 KB.
    return bytes((ident,)) + value.to_bytes(2 if kind(ident) == 2 else 4, "big")


def _data(ident, raw):
    if len(raw) > 65535:
        raise wrong(_LARGE_DATA)
    return bytes((ident, len(raw) >> 8, len(raw) & 0xFF)) + raw


class Login(Reader):
    """Owns what the CONNECT says, and what the CONNACK granted."""

    def __init__(self, client_id, user, password, keepalive, mechanism, session_expiry, alias_maximum, *buffers):
        super().__init__(*buffers)
        if mechanism:
            if password is not None:
                raise wrong(_PASSWORD)
            if user is None:
                # EMQX's rules look at the MQTT User Name, not at the mechanism's.
                user = getattr(mechanism, "user", None)
        self.client_id = text(client_id, "client_id")
        self.mechanism = mechanism
        self.user = None if user is None else text(user, "user")
        self.password = password.encode() if isinstance(password, str) else password
        self.own_keepalive = keepalive  # s; the broker's Server Keep Alive replaces it while connected
        self.session_expiry = session_expiry
        self.alias_maximum = alias_maximum
        self.connect_props = b""
        self.no_problems = False  # we said Request Problem Information 0
        self.wants_response_information = False
        self.republish = False
        self.store = None  # see store.py
        self.redirect = None  # (0x9C or 0x9D, Server Reference): where the broker has sent us
        self.will = None  # (flags, props, topic, msg)
        self.exchange = None
        self.authenticating = False  # True while a re-authentication runs
        self.held = False  # a re-authentication holds back what we send: build no packet, wait
        self.reauth_every = 0  # ms; 0: never by itself
        self.reauth_hold = True
        self.connack = b"\0"  # flags and properties, without the authentication data (see props.granted)
        self.known_session = False  # its Subscription Identifiers are ours: this object made the session

    def open(self, now, clean_session):
        """A stream is being opened: build CONNECT, or let the mechanism compute its first bytes (auth_busy())."""
        self.reset()
        self.clean = clean_session
        self.state = CONNECTING
        self.keepalive = self.own_keepalive
        self.max_out = _LARGEST  # as large as a packet can be, until CONNACK tells
        self.pinging = self.handler_raised = False
        self.parting = None
        self.owed = 0
        self.last_tx = self.last_rx = now
        self.topics = [None] * (self.alias_maximum + 1) if self.alias_maximum else None
        self.session.forget_connection()
        self._await()
        self.exchange = None
        if self.mechanism:
            from .auth import Exchange

            self.exchange = Exchange(self, self.mechanism)
        else:
            self.send_connect(None, None)

    def auth_busy(self):
        """True while the mechanism computes: call work(), read nothing."""
        return self.exchange is not None and self.exchange.busy

    def work(self, now):
        try:
            self.exchange.work(now)
        except BaseException:
            self.broke()
            raise

    def reauthenticate(self, mechanism, now):
        """Start a re-authentication (4.12.1); mechanism None: the one of the login. See reauth.py. ValueError: not
        the method of CONNECT, or it had none. RuntimeError: one runs already."""
        self._ready_for_use()
        from .reauth import start

        start(self, mechanism, now)

    def send_connect(self, method, auth_data):
        """CONNECT (3.1), with our arguments as properties. Allocates."""
        props = self.connect_props + _integer(0x21, self.session.size)
        expiry = self.session_expiry
        if expiry is None:
            # umqtt's users expect that clean_session=False keeps the session for ever.
            expiry = 0 if self.clean else 0xFFFFFFFF
        self.expiry = expiry
        if expiry:
            props += _integer(0x11, expiry)
        if self.max_packet:
            props += _integer(0x27, self.max_packet)
        if self.alias_maximum:
            props += _integer(0x22, self.alias_maximum)
        if method:
            props += _data(0x15, method)
            if auth_data is not None:
                props += _data(0x16, auth_data)
        flags = 0x02 if self.clean else 0
        will = None
        if self.will:
            flags |= self.will[0]
            will = self.will[1:]
        if self.user is not None:
            flags |= 0x80
        if self.password is not None:
            flags |= 0x40
        self.put_connect(self.client_id, flags, self.keepalive, props, will, self.user, self.password)

    def set_will(self, topic, msg, retain, qos, props):
        """The will of the next CONNECT (3.1.2.5)."""
        if not 0 <= qos <= 2:
            raise wrong(_QOS)
        msg = msg.encode() if isinstance(msg, str) else bytes(msg)
        flags = 0x04 | qos << 3 | (0x20 if retain else 0)
        self.will = (flags, self.properties(props, 0), self.topic(topic), msg)

    # --- the broker's answers

    def _connack(self, n):  # 3.2
        if self.state == UP and not self.exchange:
            raise ProtocolError(_CONNACK_AGAIN)
        rx = self.rx
        if n == 2 and rx[1]:
            # The answer of a broker that knows only MQTT 3.1.1
            self.parting = 0
            raise Refused(_MQTT_311, 0x84)
        if n < 3 or rx[0] > 1:
            raise MalformedPacket("CONNACK")
        if properties(rx, 2, n, 2) != n:
            raise MalformedPacket(_CONNACK_BEHIND)
        reason = rx[1]
        at = 2 + vbi_size(vbi(rx, 2, n))
        if reason and reason not in _CONNACK_REASONS:
            raise ProtocolError((_CONNACK_REASON, reason))
        if reason:
            raise self._refusal("CONNACK", reason, at, n)
        if self.left and self.state != UP:
            raise ProtocolError(_CONNACK_EARLY)
        if self.exchange:
            self.exchange.connack(n)
        else:
            if find(rx, at, n, 0x15) >= 0 or find(rx, at, n, 0x16) >= 0:  # [MQTT-4.12.0-6]
                raise ProtocolError(_CONNACK_AUTH)
            self.accept(n)
        return 0

    def accept(self, n):
        """CONNACK 0x00 in rx[:n]; the server is proven, where that was asked for: now it takes effect (3.2)."""
        rx = self.rx
        at = 2 + vbi_size(vbi(rx, 2, n))
        if rx[0] and self.clean:  # 3.2.2.1.1
            raise ProtocolError(_SESSION_PRESENT)
        if not rx[0]:
            self.known_session = True
            self._session_gone()
        self.quota_max = self._granted(at, n, 0x21, 65535)
        self.quota = min(self.quota_max, self.session.size)  # nor may more be in flight than our table holds
        self.max_qos = self._granted(at, n, 0x24, 2)
        self.retain_available = self._granted(at, n, 0x25, 1)
        self.max_out = self._granted(at, n, 0x27, _LARGEST)
        self.wildcards = self._granted(at, n, 0x28, 1)
        self.identifiers = self._granted(at, n, 0x29, 1)
        self.shared = self._granted(at, n, 0x2A, 1)
        self.keepalive = self._granted(at, n, 0x13, self.keepalive)
        self.alias_limit = min(len(self.alias_topic), self._granted(at, n, 0x22, 0))
        i = find(rx, at, n, 0x12)
        if i >= 0:
            self.client_id = data(rx, i)
        elif not self.client_id:
            raise ProtocolError(_NO_CLIENT_ID)  # [MQTT-3.2.2-16]
        if find(rx, at, n, 0x1A) >= 0 and not self.wants_response_information:
            raise ProtocolError(_RESPONSE_INFORMATION)  # [MQTT-3.1.2-28]
        if self.store:
            self.store.identify(self.client_id)
        self._keep_connack(at, n)
        if self.exchange or self.password is not None:
            self.wipe()
        self.exchange = None
        if self.reauth_every:
            from .reauth import arm

            arm(self, self.last_rx)
        if self.session.sending:
            self.resend = 65536  # from the oldest on (4.4)
            self.pending = True
        self.state = UP
        if not self.max_packet:
            self.quick = min(127, len(rx))
        # What tx holds for simple.repeat(): with one byte of remaining length.
        self.prepared_most = min(129, len(self.tx), self.max_out)

    def _session_gone(self):
        """The broker has no session of ours: what was in flight is sent anew, or told as "unsent"."""
        s = self.session
        s.forget_received()
        i = s.oldest(65536)
        while i >= 0:
            age = s.age(i)
            if s.state[i] == PUBCOMP:
                # The broker has it, and may have passed it on: never sent anew (4.3.3).
                self.tell("unconfirmed", s.topic[i])
                s.answered(i, 0)
            elif not self.republish:
                self.tell("unsent", (s.topic[i], s.msg[i]))
                s.answered(i, 0)
            i = s.oldest(age)
        self.anew = True

    def _granted(self, at, n, ident, value):
        i = find(self.rx, at, n, ident)
        if i < 0:
            return value
        return (
            self.rx[i]
            if 0x24 <= ident <= 0x25 or ident >= 0x28
            else u32(self.rx, i)
            if ident == 0x27
            else u16(self.rx, i)
        )

    def _keep_connack(self, at, n):
        rx = self.rx
        kept = bytes(rx[:1])
        while at < n:
            j = skip(rx, at)
            if rx[at] != 0x16:
                kept += bytes(rx[at:j])
            at = j
        self.connack = kept

    def _auth(self, n):  # 3.15
        if not self.exchange:
            raise ProtocolError(_AUTH_UNASKED)
        self.exchange.auth(n)
        return 0

    def _disconnect(self, n):  # 3.14
        reason = self.rx[0] if n else 0
        at = n
        if n > 1:
            if properties(self.rx, 1, n, 14) != n:
                raise MalformedPacket("DISCONNECT")
            at = 1 + vbi_size(vbi(self.rx, 1, n))
            if find(self.rx, at, n, 0x11) >= 0:  # [MQTT-3.14.2-2]
                raise ProtocolError(_DISCONNECT_EXPIRY)
        if reason not in _DISCONNECT_REASONS:
            raise ProtocolError((_DISCONNECT_REASON, reason))
        raise self._refusal("DISCONNECT", reason, at, n)

    def _refusal(self, packet, reason, at, n):
        """The error for a CONNACK or DISCONNECT with a reason >= 0x80."""
        said = self._said(at, n)
        self.parting = 0  # the server has spoken first
        x = self.exchange
        if reason == 0x86 or reason == 0x87 or reason == 0x8C or (x and x.again and x.refused(reason)):
            error = AuthError(packet, reason, said, self.mechanism and self.mechanism.name)
            error.step = (3 if x.again else x.step) if x else 0
        elif packet == "DISCONNECT":
            error = Disconnected(reason, said)
        else:
            error = Refused(packet, reason, said)
        error.props = bytes(self.rx[at:n])
        i = find(self.rx, at, n, 0x1C)
        if i >= 0:
            error.server = str(data(self.rx, i), "utf-8")
            if reason == 0x9C or reason == 0x9D:
                self.redirect = (reason, error.server)
        return error

    def _said(self, at, n):
        i = find(self.rx, at, n, 0x1F)
        return None if i < 0 else str(data(self.rx, i), "utf-8")

    def check_problem_information(self, at, n):
        """[MQTT-3.1.2-29]: asked for no problem information, the server sends none but in PUBLISH, CONNACK and
        DISCONNECT."""
        if self.no_problems and (find(self.rx, at, n, 0x1F) >= 0 or find(self.rx, at, n, 0x26) >= 0):
            raise ProtocolError(_PROBLEM_INFORMATION)

    def _ready_for_use(self):
        if self.state != UP:
            raise OSError(ENOTCONN, "not connected")
