"""The beginning of a connection: CONNECT and its properties, AUTH, CONNACK and what it grants; and its end by the
server (MQTT 5.0, 3.1, 3.2, 3.14, 3.15, 4.12). Allocates; nothing of it runs between login and DISCONNECT.

It must never let a CONNACK take effect before the server is proven: a forged one could wipe a session.
"""

from micropython import const

from errno import ENOTCONN

import umqtt5.errors as errors

from .codec import data, find, kind, properties, put_data, put_vbi, skip, u16, u32, vbi, vbi_size
from .reader import Reader

# Texts of errors: see texts.py.
_LARGE_DATA = const(24)
_CONNACK_AGAIN = const(27)
_MQTT_311 = const(28)
_CONNACK_BEHIND = const(29)
_CONNACK_EARLY = const(31)
_CONNACK_AUTH = const(32)
_SESSION_PRESENT = const(33)
_NO_CLIENT_ID = const(34)
_RESPONSE_INFORMATION = const(35)
_AUTH_UNASKED = const(36)
_PROBLEM_INFORMATION = const(39)

_CONNECTING = const(1)  # as in reader.py
_UP = const(2)  # as in reader.py

_LARGEST = const(268435460)  # bytes: no packet can be larger (2.1.4)


def _property(ident, value):
    # Not by props.encode(): it would be loaded for this alone, 3.2 KB.
    if isinstance(value, int):
        return bytes((ident,)) + value.to_bytes(2 if kind(ident) == 2 else 4, "big")
    if len(value) > 65535:
        raise errors.wrong(_LARGE_DATA)
    return bytes((ident, len(value) >> 8, len(value) & 0xFF)) + value


class Terms:
    """What CONNECT asks for (3.1) and CONNACK has granted (3.2), as far as no other packet needs it: in a table of
    its own, because each attribute of the engine makes all others slower to find, and its table grows in leaps. Its
    attributes: see make.py."""

    def said(self, ident):
        """The value of a CONNECT property of one byte that the caller has given, or -1."""
        i = find(self.props, 0, len(self.props), ident)
        return -1 if i < 0 else self.props[i]


class Login(Reader):
    """The engine from CONNECT to CONNACK."""

    def open(self, now, clean_session):
        """A stream is being opened: build CONNECT, or let the mechanism compute its first bytes (auth_busy())."""
        terms = self.terms
        self.reset()
        terms.clean = clean_session
        self.state = _CONNECTING
        self.keepalive = terms.keepalive
        self.max_out = _LARGEST  # as large as a packet can be, until CONNACK tells
        self.pinged = None
        self.handler_raised = False
        self.parting = None
        self.owed = 0
        self.last_tx = self.last_rx = now
        for i in range(len(terms.topics)):
            terms.topics[i] = None
        self.session.forget_connection()
        self._await()
        self.size = 0
        self.exchange = None
        if terms.mechanism:
            from .auth import Exchange

            self.exchange = Exchange(self, terms.mechanism)
        else:
            self.send_connect(None, None)

    def auth_busy(self):
        """True while the mechanism computes: call work(), read nothing."""
        return self.exchange and self.exchange.busy

    def work(self, now):
        try:
            self.exchange.work(now)
        except:
            self.broke()
            raise

    def reauthenticate(self, mechanism, now):
        """Start a re-authentication (4.12.1); mechanism None: the one of the login. See reauth.py. ValueError: not
        the method of CONNECT, or it had none. RuntimeError: one runs already."""
        self._ready_for_use()
        from .reauth import start

        start(self, mechanism, now)

    def send_connect(self, method, value):
        """CONNECT (3.1), with our arguments as properties; value: the Authentication Data, or None. Allocates."""
        terms = self.terms
        props = terms.props + _property(0x21, self.session.size)
        expiry = terms.session_expiry
        if expiry is None:
            # umqtt's users expect that clean_session=False keeps the session for ever.
            expiry = 0 if terms.clean else 0xFFFFFFFF
        terms.expiry = expiry
        if expiry:
            props += _property(0x11, expiry)
        if terms.max_packet:
            props += _property(0x27, terms.max_packet)
        if terms.topics:
            props += _property(0x22, len(terms.topics) - 1)
        if method:
            props += _property(0x15, method)
            if value is not None:
                props += _property(0x16, value)
        n = 12 + vbi_size(len(props)) + len(props) + len(terms.client_id)
        flags = 0x02 if terms.clean else 0
        will = terms.will
        if will:
            flags |= will[0]
            n += len(will[1])
        user = terms.user
        if user is not None:
            flags |= 0x80
            n += 2 + len(user)
        password = terms.password
        if password is not None:
            flags |= 0x40
            n += 2 + len(password)
        i = self._begin(0x10, n)
        out = self.out
        i = put_data(out, i, b"MQTT")
        out[i] = 5
        out[i + 1] = flags
        out[i + 2] = terms.keepalive >> 8
        out[i + 3] = terms.keepalive & 0xFF
        i = self._props(out, i + 4, props)
        i = put_data(out, i, terms.client_id)
        if will:
            n = i + len(will[1])
            out[i:n] = will[1]
            i = n
        if user is not None:
            i = put_data(out, i, user)
        if password is not None:
            put_data(out, i, password)

    def put_auth(self, reason, method, data, props):
        """AUTH (3.15), always with its method; data=None leaves the property out, b"" sends it empty. props: a Reason
        String, User Properties."""
        n = 3 + len(method) + len(props)
        if data is not None:
            n += 3 + len(data)
        i = self._begin(0xF0, 1 + vbi_size(n) + n)
        out = self.out
        out[i] = reason
        i = put_vbi(out, i + 1, n)
        out[i] = 0x15
        i = put_data(out, i + 1, method)
        if data is not None:
            out[i] = 0x16
            i = put_data(out, i + 1, data)
        out[i : i + len(props)] = props

    def set_will(self, topic, msg, retain, qos, props):
        """The will of the next CONNECT (3.1.2.5)."""
        from .make import will

        return will(self, topic, msg, retain, qos, props)

    # --- the broker's answers

    def _connack(self, n):  # 3.2
        if self.state == _UP and not self.exchange:
            raise errors.ProtocolError(_CONNACK_AGAIN)
        rx = self.rx
        if n == 2:
            # The answer of a broker that knows only MQTT 3.1.1
            if not rx[1]:
                raise errors.MalformedPacket(_MQTT_311)
            self.parting = 0
            raise errors.Refused(_MQTT_311, 0x84)
        if n < 3 or rx[0] > 1:
            raise errors.MalformedPacket("CONNACK")
        if properties(rx, 2, n, 2) != n:
            raise errors.MalformedPacket(_CONNACK_BEHIND)
        if rx[1]:
            from .ending import connack

            raise connack(self, n)
        if self.left and self.state != _UP:
            raise errors.ProtocolError(_CONNACK_EARLY)
        if self.exchange:
            self.exchange.connack(n)
        else:
            at = 2 + vbi_size(vbi(rx, 2, n))
            if find(rx, at, n, 0x15) >= 0 or find(rx, at, n, 0x16) >= 0:  # [MQTT-4.12.0-6]
                raise errors.ProtocolError(_CONNACK_AUTH)
            self.accept(n)
        return 0

    def accept(self, n):
        """CONNACK 0x00 in rx[:n]; the server is proven, where that was asked for: now it takes effect (3.2)."""
        rx = self.rx
        at = 2 + vbi_size(vbi(rx, 2, n))
        terms = self.terms
        s = self.session
        if rx[0] and terms.clean:  # 3.2.2.1.1
            raise errors.ProtocolError(_SESSION_PRESENT)
        i = find(rx, at, n, 0x12)
        if i < 0 and not terms.client_id:
            raise errors.ProtocolError(_NO_CLIENT_ID)  # [MQTT-3.2.2-16]
        if find(rx, at, n, 0x1A) >= 0 and terms.said(0x19) != 1:
            raise errors.ProtocolError(_RESPONSE_INFORMATION)  # [MQTT-3.1.2-28]
        if not rx[0]:
            s.known = 1
            s.forget_received()
            if s.in_flight():
                from .resume import lost

                lost(self)
        if i >= 0:
            terms.client_id = data(rx, i)
        if s.store:
            s.store.identify(terms.client_id)
        terms.connack = bytes(rx[:1])
        while at < n:
            i = skip(rx, at)
            if rx[at] != 0x16:
                terms.connack += bytes(rx[at:i])
            at = i
        self.quota = min(self.granted(0x21, 65535), s.size)  # no more in flight than our table holds
        self.max_qos = self.granted(0x24, 2)
        self.retain_available = self.granted(0x25, 1)
        if s.known:
            s.known = 1 + self.granted(0x29, 1)
        self.max_out = self.granted(0x27, _LARGEST)
        self.keepalive = self.granted(0x13, self.keepalive)
        self.alias_limit = min(len(self.aliases[0]), self.granted(0x22, 0), 255)  # _put_props() has one byte for it
        if self.exchange or terms.password is not None:
            self.wipe()
        self.exchange = None
        if terms.reauth_every:
            from .reauth import arm

            arm(self, self.last_rx)
        if s.in_flight():
            from .resume import resend

            type(self)._resend = resend  # for next(): an import there would allocate each time
            self.resend = 65536  # from the oldest on (4.4)
            self.pending = True
        self.state = _UP
        if not terms.max_packet:
            self.quick = min(127, len(rx) - 2)  # with the next header
        # What tx holds for quick.push(): with one byte of remaining length.
        self.prepared_most = min(129, len(self.tx), self.max_out)

    def granted(self, ident, value):
        """A number in the last CONNACK's properties; `value` where it is not there."""
        buf = self.terms.connack
        i = find(buf, 1, len(buf), ident)
        if i < 0:
            return value
        ident = kind(ident)
        return u32(buf, i) if ident == 3 else u16(buf, i) if ident == 2 else buf[i]

    def _auth(self, n):  # 3.15
        if not self.exchange:
            raise errors.ProtocolError(_AUTH_UNASKED)
        self.exchange.auth(n)
        return 0

    def _disconnect(self, n):  # 3.14
        from .ending import disconnect

        raise disconnect(self, n)

    def check_problem_information(self, i, n):
        """[MQTT-3.1.2-29]: asked for no problem information, the server sends none but in PUBLISH, CONNACK and
        DISCONNECT."""
        if self.terms.said(0x17) == 0 and (find(self.rx, i, n, 0x1F) >= 0 or find(self.rx, i, n, 0x26) >= 0):
            raise errors.ProtocolError(_PROBLEM_INFORMATION)

    def _ready_for_use(self):
        if self.state != _UP:
            raise OSError(ENOTCONN, "not connected")
