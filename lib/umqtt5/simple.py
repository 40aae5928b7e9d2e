"""The blocking client: umqtt.simple's class, method for method, over the engine of protocol.py and driver.py.

After any OSError, and after any error of connect(), the connection is closed, and connect() may be called again.
"""

from micropython import const

from time import ticks_ms

import umqtt5.errors as errors
import umqtt5.transport as transport

from .driver import Driver
from .protocol import Engine
from .quick import readdress

_POLLIN = const(1)  # as in driver.py
_WAITING = const("waiting for a message")

# Texts of errors: see texts.py.
_IN_HANDLER = const(102)
_NO_SSL = const(103)

MQTTException = errors.MQTTError  # umqtt's name for it, at umqtt's place


class MQTTClient(Driver):
    """An MQTT 5.0 client (blocking). The arguments up to `ssl_params` are umqtt.simple's.

    client_id, user: str or bytes. server: name or address. port: 0 means 1883, or 8883 with TLS. keepalive: s, 0 for
    none (then a dead link is found only by the timeout of an operation). ssl, ssl_params: see transport.context().
    auth: a SASL mechanism (see auth.py), instead of password.
    tx_size, rx_size: bytes of the two buffers, made here and kept. receive_maximum: how many messages with QoS > 0
    may be in flight, each way. max_packet: the Maximum Packet Size to announce, bytes; None: none.
    timeout: s, for each operation as a whole. session_expiry: s; None: 0 with clean_session=True, else for ever.
    on_wait: called at least every 50 ms in every wait, but for the name look-up: feed the watchdog there.
    redirects: how often a connect() follows the broker to another one (0x9C, 0x9D); TLS and authentication stay.
    republish: what was not acknowledged in a session that is gone is sent anew (True), or told to on_event.
    topic_aliases: how many the client may give to topics that it uses again; topic_alias_maximum: how many the
    broker may. props: more CONNECT properties (a dict, or bytes from props.encode()). ack_props: User Properties of
    every PUBACK, PUBREC, PUBREL and PUBCOMP (left out where they do not fit tx, or the broker's Maximum Packet Size).
    reauth_every: s; the client re-authenticates by itself when so much time has passed since it did last, from within
    any wait (0: never). reauth_hold: our packets wait meanwhile, since mosquitto 2.0 can take none; False: they flow.
    on_event: called with (name, value), what no call can report: see reader.Reader.tell().
    Raises ValueError for arguments that do not go together.

    To be read at any time: `connack`: what the broker granted in its last CONNACK, a new dict, see props.granted().
    `answer`: the properties of the last PUBACK, PUBREC, PUBREL, PUBCOMP, SUBACK or UNSUBACK, or last AUTH (all but
    method and data), a new dict, see props.decode(); those of a refusal are in the error's `props`. `client_id`:
    bytes; the Assigned Client Identifier where the broker gave one. `oversized`: how many messages were too large for
    rx_size, and not delivered."""

    redirects = 0
    _requests = None  # see request.py
    _tls = None

    def __init__(
        self,
        client_id,
        server,
        port=0,
        user=None,
        password=None,
        keepalive=0,
        ssl=None,
        ssl_params={},  # noqa: B006  umqtt's signature; never changed
        *,
        on_wait=None,
        redirects=0,
        **options,
    ):
        self.server, self.port = transport.place(server, port or (8883 if ssl else 1883))
        if redirects:
            self.redirects = redirects
        self.sock = None
        self.on_wait = on_wait
        self._push = None  # see quick.push()
        self._together = 0  # 1: acknowledgements may wait for others, in the TCP stack; -1: not below TLS
        if ssl:
            from .tls import context

            self._tls = context(ssl, ssl_params, server)
        elif ssl_params:
            raise errors.wrong(_NO_SSL)
        import gc

        gc.collect()  # before the large buffers: see Engine.receiving()
        self._engine = Engine(client_id, user, password, keepalive, **options)
        self._engine.driver = self
        self._poll = None
        self._events = 0
        self._doing = ""  # the step that an OSError names
        self._until = 0
        self._spent = 0  # ms that a mechanism has computed since connect(): deadlines do not count them

    def set_callback(self, f):
        """f(topic, msg), bytes: for messages that no handler takes."""
        self._engine.set_callback(f)

    def set_last_will(self, topic, msg, retain=False, qos=0, props=None):
        """The will that connect() will leave with the broker. props: Will Delay Interval and others (3.1.3.2)."""
        self._engine.set_will(topic, msg, retain, qos, props)

    def connect(self, clean_session=True, timeout=None):
        """Open the stream and log in. timeout: s, instead of the client's.

        Returns session present (bool); `connack` has what the broker granted. Raises OSError (the network; a
        deadline: ETIMEDOUT), Refused, AuthError, NotProven, PeerError."""
        if self._engine.in_handler:
            raise errors.wrong(_IN_HANDLER, RuntimeError)
        self._close()
        if self._requests:
            self._requests.subscribed = None
        self._spent = 0
        if self.redirects:
            from .redirect import login

            return login(self, timeout, clean_session)
        return self._login((self.server, self.port, self._tls), self._deadline(timeout), clean_session)

    def publish(self, topic, msg, retain=False, qos=0, props=None, wait=True):
        """Publish `msg`; returns when it is acknowledged (QoS 1: PUBACK, QoS 2: PUBCOMP). Allocates nothing where
        topic, msg and props are bytes; QoS > 0: they must not change until acknowledged, even if this raised.

        wait=False returns when it is sent; it waits only where the broker's Receive Maximum, or our table, is used
        up. Inside a handler it never waits. A refusal that nobody waits for is told to on_event: "refused".
        Raises ValueError, Refused, ResourceError, OSError."""
        # No more names: the frame would go to the heap (tools/frames.py).
        e = self._engine
        if qos:
            self._until = None  # counted from its first wait
            # While pipelining there is room as soon as one acknowledgement has come. Where it was none: see below.
            if not e.quota and (e.prepared is None or e.in_handler or e.turn(None) != 0):
                self._room()
        if (
            topic
            and not props
            and e.prepared_flags == qos << 1 | (1 if retain else 0)
            and (topic is e.prepared or readdress(e, topic))
            and self._push(msg) is not None  # as the publish before
        ):
            if qos and wait and not e.in_handler:
                self._answer(e.session.last)
            elif e.left:
                self._flush(None)
            return
        if e.left or e.pending:
            self._flush(None)
        if e.held:
            self._unheld()
        if qos and not e.may_publish():
            self._room()
        e.out_topic = topic
        e.out_msg = msg
        e.out_props = props
        e.out_flags = qos << 1 | (1 if retain else 0)
        e.publish()
        self._sent(wait)

    def _sent(self, wait):
        """A PUBLISH has been built: write it, and wait for its answer."""
        e = self._engine
        if e.out_flags < 2:
            self._flush(None)
            return
        pid = e.session.last  # behind _flush() it may be another: on_wait() may publish
        self._flush(self._until)
        e.session.release(pid % len(e.session.state))
        if wait and not e.in_handler:
            self._answer(pid)

    def publisher(self, topic, qos=0, retain=False, props=None):
        """An object whose publish(msg) publishes to `topic` with everything but the payload encoded once."""
        from .publisher import Publisher

        return Publisher(self, topic, qos, retain, props)

    def subscribe(self, topic, qos=0, handler=None, **options):
        """Subscribe to a topic filter; returns the granted QoS when the broker has acknowledged it.

        handler(message): see message.Message; without one the callback gets the messages. Options: id: the
        Subscription Identifier (1..268435455; None: one is chosen where there is a handler). no_local=False,
        retain_as_published=False, retain_handling=0: see 3.8.3.1. props: more properties (a dict or bytes). Raises
        Refused (SUBACK >= 0x80), ValueError, OSError."""
        self._engine.receiving()
        from .subscribe import subscribe

        return subscribe(self, topic, qos, handler, **options)

    def on(self, filter, handler, id=None):
        """Give messages whose topic matches `filter` (or that carry the Subscription Identifier `id`) to `handler`;
        sends nothing: for subscriptions that a resumed session already has."""
        from .subscribe import on

        on(self, filter, handler, id)

    def unsubscribe(self, topic, props=None):
        """Undo subscribe(); returns the reason code (0x11: there was no such subscription)."""
        from .subscribe import unsubscribe

        return unsubscribe(self, topic, props)

    def wait_msg(self):
        """Wait for a message, without limit, and deal with it. A dead link is noticed where keepalive is not 0.

        Returns the first byte of the PUBLISH. Raises OSError, PeerError, and what a handler raises."""
        e = self._engine
        if e.in_handler or self.sock is None:
            self._outside()
        op = e.turn(None)
        while not op:
            self._doing = _WAITING
            if e.left or e.pending:
                self._flush(None, 1)
            if op is None:
                self._wait_or_abort(_POLLIN, None)
            op = self._receive(None)
        if e.left or e.pending:
            self._flush(None, 1)
        return op

    def check_msg(self):
        """Deal with what has come, at most one message, without waiting for more. Allocates nothing.

        Returns the first byte of the PUBLISH, or None. Raises as wait_msg()."""
        e = self._engine
        if e.in_handler:
            self._outside()
        self._doing = _WAITING
        while True:
            op = self._receive(None)
            if op is None:
                self._due()
            if op != 0:
                if e.left or e.pending:
                    self._flush(None)
                return op

    def ping(self):
        """Send PINGREQ; that its answer comes in time is seen to by wait_msg(), check_msg() and every other wait."""
        e = self._engine
        e._ready_for_use()
        e.ping(ticks_ms())
        return self._flush(None)

    def disconnect(self, reason=0, props=None, session_expiry=None):
        """Send DISCONNECT with `reason` (0x04: publish the will) and close. Without a connection it does nothing.
        session_expiry: s, instead of what CONNECT said; after 0 there only 0 is possible (ValueError)."""
        if self.sock is None:
            return
        self._unheld()
        self._flush(None)
        self._engine.end(reason, props, session_expiry)  # a ValueError leaves the connection as it was
        try:
            self._flush(None)
        finally:
            self._close()

    # --- what umqtt does not have

    def reauthenticate(self, auth=None):
        """Authenticate again on this connection (4.12.1); returns when it is done. auth: another mechanism of the
        same name (new credentials, which the next connect() then uses), None: the same.

        A server that refuses, or does not prove itself, ends the connection: AuthError, NotProven. ValueError:
        another method than the login's, or that had none. RuntimeError: one is running (reauth_every). Allocates."""
        self._outside()
        from .reauth import reauthenticate

        reauthenticate(self, auth)

    def __getattr__(self, name):
        # Not properties, for the time that each attribute set would take: see message.Message.
        e = self._engine
        if name == "connack":
            from .props import granted

            return granted(e.terms.connack)
        if name == "answer":
            from .props import decode

            return decode(e.answer_props)
        if name == "client_id":
            return e.terms.client_id
        if name == "oversized":
            return e.session.oversized
        raise AttributeError(name)

    def request(self, topic, msg, timeout=None, **options):
        """Publish a request and wait for its response (4.10): a Message of its own. timeout: s, instead of the
        client's. Options: qos=0, props=None (a dict). OSError(ETIMEDOUT) where no response came; the connection
        stays. Allocates."""
        from .request import request

        self._outside()
        return request(self, topic, msg, timeout, **options)

    def _outside(self):
        if self._engine.in_handler:
            raise errors.wrong(_IN_HANDLER, RuntimeError)
        return self._engine._ready_for_use()

    def _refused(self, reason):
        raise errors.Refused(self._doing, reason, self.answer.get("reason_string"))
