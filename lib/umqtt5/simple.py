"""The blocking client: umqtt.simple's class, method for method, over the MQTT 5.0 engine of protocol.py.

A driver: it opens a stream, moves bytes, waits and keeps time. No rule of MQTT's stands here, and the socket never
blocks: every wait is a poll with a deadline. After any OSError, and after any error of connect(), the connection is
closed, and connect() may be called again.
"""

from micropython import const

import errno
from time import ticks_add, ticks_diff, ticks_ms

from .errors import Disconnected, Refused, wrong
from .errors import MQTTError as MQTTException  # noqa: F401  umqtt's name for it, at umqtt's place
from .packets import again, may_publish
from .protocol import Engine
from .reader import UP
from .transport import POLLIN, POLLOUT, addresses, at_once, connected, named, poller, start

# Texts of errors: see texts.py.
_IN_HANDLER = const(102)
_NO_SSL = const(103)

_FAILED = const(3)  # as in reader.py
_DONE = const(6)  # as in session.py
_TLS = const("TLS handshake")
_LOGIN = const("login: waiting for AUTH or CONNACK")
_SLICE = const(50)  # ms between two calls of on_wait()

_OFTEN = const(b"\x40\x50\x62\x70\xd0")  # PUBACK, PUBREC, PUBREL, PUBCOMP, PINGRESP; and every PUBLISH


# What runs for each message are functions: a method is searched behind all that its object has.


def pull(e, read, clock, ahead=-1, more=-1):
    """A generator: each next() reads what the engine needs, and deals with it: one packet at most. It yields the
    first byte of a PUBLISH dealt with, 0 after anything else, None where nothing more has come (and at first), False
    where the stream has ended.

    read(buf, n): the stream's readinto(). clock(): ticks, ms. ahead, more: the two bytes of the next header, -1 where
    they have not been read yet.

    As Engine.got(), but what it needs each time stands in a frame that is made once, and is not searched for; and
    with a body the next header comes, so that of a stream of messages each takes one read: 11 k instructions, not
    15 k. Raises what is wrong with the packet, or what a handler raised: broke() and _abort() have been called then,
    and another generator takes over."""
    head = e.head
    rx = e.rx
    m = None
    op = None
    while True:
        yield op
        try:
            if ahead < 0:
                n = read(e.into, e.need)
                if not n:
                    op = None if n is None else False
                    continue
                e.last_rx = clock()
                if n != 2 or e.part:
                    op = e._got(n)
                    continue
                op = head[0]
                n = head[1]
            else:
                e.last_rx = clock()
                op = head[0] = ahead
                n = more
                ahead = -1
                if n < 0:
                    op = e._got(1)
                    continue
                head[1] = n
            # Of what comes often, the body in the same turn.
            if n > e.quick or (op & 0xF0 != 0x30 and op not in _OFTEN):
                op = e._got(2)
                continue
            if n:
                i = read(rx, n + 2)
                if i != n:
                    if not i or i < n:
                        e._body(n)
                        op = e._got(i) if i else None  # its end shows at the next read
                        continue
                    ahead = rx[n]
                    more = rx[n + 1] if i > n + 1 else -1
            # As the last message but for its payload? Then the rest of `m` holds already. pid: -1: not so; 0: QoS 0.
            pid = -1
            if (
                m is not None
                and op == m.header
                and e.session.usual is m.like
                and n >= m.start
                and rx.startswith(m.same)
            ):
                if not m.qos:
                    pid = 0
                elif not e.session.receiving and e.owed < e.session.size:
                    i = m.topic_end
                    if rx.startswith(m.like.tail, i + 2):
                        pid = rx[i] << 8 | rx[i + 1] or -1
            if pid < 0:
                op = e.handlers[op >> 4](e, n)
                if m is None:
                    m = e.message
                continue
            m.end = n
            n = 0
            e.in_handler = True  # broke() finds it set when anything but Reject leaves the handler
            try:
                (m.like.handler or e.to_callback)(m)
            except m.Reject:
                n = m.rejected(e)
            except:
                if pid:
                    e.owed += 1
                raise
            e.in_handler = False
            if pid and e.state == UP:  # the handler may have disconnected
                e._ack(0x40, n, pid, e.reject_props if n else b"")
        except:  # not around the yield: CPython ends a generator there, by an exception
            e.broke()
            e.driver._abort()
            e.driver._listen(ahead, more)
            raise


def repeat(e, msg):
    """Publish what stands in tx (Packets.prepared) with another payload: its slot, -1 at QoS 0. None, and nothing is
    done, where that cannot be."""
    n = len(msg) + e.prepared_at
    if n > e.prepared_most or type(msg) is not bytes or (e.prepared_flags & 6 and again(e, msg) < 0):
        return None
    e.tx[1] = n - 2
    e.tx[e.prepared_at : n] = msg
    try:
        msg = e.driver.sock.write(e.tx, n)
    except:  # two words of frame less than with a name
        e.driver._last_words()
        raise
    if msg != n:
        e.driver._send_rest(n, msg)
    elif e.keepalive:  # else nobody asks when
        e.last_tx = ticks_ms()
    return e.session.last % len(e.session.state) if e.prepared_flags & 6 else -1


def _write(e):
    """One write of what is due. False where the stream took nothing."""
    try:
        n = e.driver.sock.write(e.out, e.off, e.left)
    except:  # a name would put the frame on the heap
        e.driver._last_words()
        raise
    if n:
        e.wrote(n, ticks_ms())
        return True
    e.midway = True  # TLS may hold the bytes: only the same may follow
    return False


class MQTTClient:
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
        self.server = server
        self.port = port or (8883 if ssl else 1883)
        if redirects:
            self.redirects = redirects
        self.sock = None
        self.on_wait = on_wait
        self._together = 0  # 1: acknowledgements may wait for others, in the TCP stack; -1: not below TLS
        if ssl:
            from .tls import context

            self._tls = context(ssl, ssl_params, server)
        elif ssl_params:
            raise wrong(_NO_SSL)
        import gc

        gc.collect()  # before the large buffers: see Engine.receiving()
        self._engine = Engine(client_id, user, password, keepalive, **options)
        self._engine.driver = self
        self._poll = None
        self._events = 0
        self._doing = ""  # the step that an OSError names
        self._until = 0
        self._spent = 0  # ms that a mechanism has computed since connect(): deadlines do not count them

    # --- umqtt's methods

    def set_callback(self, f):
        """f(topic, msg), bytes: for messages that no handler takes."""
        self._engine.receiving()
        self._engine.callback = f

    def set_last_will(self, topic, msg, retain=False, qos=0, props=None):
        """The will that connect() will leave with the broker. props: Will Delay Interval and others (3.1.3.2)."""
        self._engine.set_will(topic, msg, retain, qos, props)

    def connect(self, clean_session=True, timeout=None):
        """Open the stream and log in. timeout: s, instead of the client's.

        Returns session present (bool); `connack` has what the broker granted. Raises OSError (the network; a
        deadline: ETIMEDOUT), Refused, AuthError, NotProven, PeerError."""
        e = self._engine
        if e.in_handler:
            raise wrong(_IN_HANDLER, RuntimeError)
        self._close()
        if self._requests:
            self._requests.subscribed = None
        self._spent = 0
        deadline = self._deadline(timeout)
        where = self.server, self.port, self._tls
        hops = self.redirects
        moved = None  # where the broker has moved to for good
        while True:
            if hops and e.terms.redirect:
                from .redirect import follow

                where, moved = follow(e, where)
                hops -= 1
            try:
                present = self._login(where, deadline, clean_session)
            except Refused:
                if not hops or not e.terms.redirect:
                    raise
            else:
                if moved:  # only now: anybody could have said it
                    self.server, self.port, self._tls = moved
                return present

    def _login(self, where, deadline, clean_session):
        e = self._engine
        try:
            self._open(where, deadline)
            e.open(ticks_ms(), clean_session)
            while e.state != UP:
                if e.auth_busy():
                    self._work(deadline)
                elif self._receive(deadline) is None:
                    self._doing = _LOGIN
                    self._wait(POLLIN, deadline)
            self._flush(deadline)  # what a resumed session resends
        except BaseException as x:
            self._abort()
            raise named(x, self._doing)
        self._doing = "after the login"
        return bool(e.terms.connack[0])

    def publish(self, topic, msg, retain=False, qos=0, props=None, wait=True):
        """Publish `msg`; returns when it is acknowledged (QoS 1: PUBACK, QoS 2: PUBCOMP). Allocates nothing where
        topic, msg and props are bytes; QoS > 0: they must not change until acknowledged, even if this raised.

        wait=False returns when it is sent; it waits only where the broker's Receive Maximum, or our table, is used
        up. Inside a handler it never waits. A refusal that nobody waits for is told to on_event: "refused".
        Raises ValueError, Refused, ResourceError, OSError."""
        # No name for the engine: the frame would go to the heap (tools/frames.py).
        i = None
        if qos:
            self._until = None  # counted from its first wait
            if not self._engine.quota:
                self._room()
        if (
            topic is self._engine.prepared
            and topic  # None is neither
            and not props
            and self._engine.prepared_flags == qos << 1 | (1 if retain else 0)
        ):
            i = repeat(self._engine, msg)  # as the publish before
        if i is None:
            if self._engine.left or self._engine.pending:
                self._flush(None)
            if self._engine.held:
                self._unheld()
            if qos and not may_publish(self._engine):
                self._room()
            self._engine.out_topic = topic
            self._engine.out_msg = msg
            self._engine.out_props = props
            self._engine.out_flags = qos << 1 | (1 if retain else 0)
            i = self._engine.publish()
            self._flush(self._until if qos else None)
            if i < 0:
                return
            self._engine.session.release(i)
        if qos and wait and not self._engine.in_handler:
            self._answer(i)

    def _room(self):
        """Wait while the broker's Receive Maximum, or our table, is used up."""
        e = self._engine
        self._doing = "waiting for room in flight"
        while not e.in_handler and e.state == UP:
            if self._receive(self._until) is None:
                if self._until is None:
                    self._until = self._deadline()
                self._wait_or_abort(POLLIN, self._until)
            elif may_publish(e):
                return

    def _answer(self, i):
        """Wait for the answer to the PUBLISH in slot i."""
        self._engine.session.waited[i] = 1
        self._doing = "PUBACK" if self._engine.session.flags[i] & 2 else "PUBREC or PUBCOMP"
        self._wait_or_abort(POLLIN, False)  # before the first read: it cannot be there yet
        self._finish(i)

    def _send_rest(self, n, sent):
        """Of the n bytes of tx so many have gone out, or None."""
        e = self._engine
        e.prepared = None
        e.off = 0
        e.left = n
        e.midway = True
        if sent:
            e.wrote(sent, ticks_ms())
        self._flush(None)

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
        from .subscribe import Subscription, add, check_filter

        self._engine.receiving()
        add(self._engine.session, Subscription(id or 0, check_filter(filter), handler, 0, b""))

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
            if op is None:
                if e.left or e.pending:
                    self._flush(None)
                self._wait_or_abort(POLLIN, None)
            op = self._receive(None)
        if e.left or e.pending:
            if e.left:
                # An acknowledgement. It may wait for others, in the TCP stack: those of a burst take a third of the
                # packets. What else is written sends them on their way.
                if not self._together:
                    self._together = 1
                    at_once(self.sock, 0)
                _write(e)
            if e.left or e.pending:
                self._flush(None)
        return op

    def check_msg(self):
        """Deal with what has come, at most one message, without waiting for more. Allocates nothing.

        Returns the first byte of the PUBLISH, or None. Raises as wait_msg()."""
        e = self._engine
        if e.in_handler:
            self._outside()
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
        self._flush(None)

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
        e = self._engine
        e.reauthenticate(auth, ticks_ms())
        while e.authenticating:
            self._doing = "re-authentication: waiting for AUTH"
            self._due()
            self._flush(None)
            if e.authenticating:
                self._turn(None)

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

    def request(self, topic, msg, timeout=None, *, qos=0, props=None):
        """Publish a request and wait for its response (4.10): a Message of its own. timeout: s, instead of the
        client's. props: a dict. OSError(ETIMEDOUT) where no response came; the connection stays. Allocates."""
        from .request import request

        self._outside()
        return request(self, topic, msg, timeout, qos, props)

    # --- the driver

    def _deadline(self, timeout=None):
        """When an operation ends that begins now. Without what has been spent: _wait() adds that, as it is then."""
        timeout = self._engine.timeout if timeout is None else int(timeout * 1000)
        return ticks_add(ticks_ms(), timeout - self._spent)

    def _outside(self):
        if self._engine.in_handler:
            raise wrong(_IN_HANDLER, RuntimeError)
        self._engine._ready_for_use()

    def _open(self, where, deadline):
        """TCP to the first address that answers, and TLS."""
        host, port, tls = where
        self._doing = "looking up " + host
        error = None
        for address in addresses(host, port):
            self._doing = "connecting to %s:%d" % (host, port)
            try:
                self.sock = start(address)
                self._register()
                while not connected(self.sock, self._poll):
                    self._wait(POLLOUT, deadline)
                break
            except OSError as x:
                if x.args[0] == errno.ETIMEDOUT:
                    raise
                error = x
                self._close()
        else:
            raise error or OSError(errno.ECONNRESET)
        self._doing = _LOGIN
        if tls:
            from .tls import secure

            self._doing = _TLS
            self._together = -1
            self._poll.unregister(self.sock)
            self.sock = secure(self.sock, tls)
            self._register()
        self._listen()

    def _register(self):
        self._poll = poller()
        self._poll.register(self.sock, POLLOUT)
        self._events = POLLOUT

    def _listen(self, *ahead):
        """Begin to read; or go on, behind an exception of a handler's."""
        if self.sock is not None:
            try:
                self._engine.turn = pull(self._engine, self.sock.readinto, ticks_ms, *ahead).send
                self._engine.turn(None)
            except MemoryError:
                self._close()

    def _work(self, deadline):
        """One slice of the mechanism's own work. It does not count against the deadline; waiting for a KDC does."""
        e = self._engine
        if self.on_wait:
            self.on_wait()  # before: the first slice has run when the challenge came
        began = ticks_ms()
        e.work(began)
        if e.auth_busy() and e.exchange.wait:
            stream, ms = e.exchange.wait
            poll = poller()
            poll.register(stream, POLLIN)
            poll.ipoll(min(ms, _SLICE))
            if deadline is not None and ticks_diff(deadline, ticks_ms()) + self._spent <= 0:
                raise OSError(errno.ETIMEDOUT, "login: the mechanism waits for " + str(stream))
        else:
            self._spent += ticks_diff(ticks_ms(), began)

    def _due(self):
        """What it is time for: a ping, a slice of a re-authentication. The engine has the deadlines."""
        e = self._engine
        try:
            if not e.timer(ticks_ms()) and e.auth_busy():
                self._work(None)
        except:  # a name would put the frame on the heap
            self._abort()
            raise

    def _unheld(self):
        """Wait while a re-authentication holds our packets back. Not in a handler: there the engine keeps them."""
        e = self._engine
        while e.held and not e.in_handler:
            self._turn(None)

    def _flush(self, deadline):
        """Write all that is due. Whatever interrupts it closes the connection: no half packet stays behind."""
        e = self._engine
        if self._together > 0:
            self._together = 0
            at_once(self.sock, 1)
        while e.left or (e.pending and e.next()):
            if not _write(e):
                if deadline is None:
                    deadline = self._deadline()
                self._wait_or_abort(POLLOUT, deadline)

    def _wait_or_abort(self, events, deadline):
        """deadline: False: for what comes soon, mostly. One slice then, and no clock is read."""
        try:
            if deadline is False:
                self._sleep(events, _SLICE)
            else:
                self._wait(events, deadline)
        except:  # a name would put the frame on the heap
            self._abort()
            raise

    def _last_words(self):
        """A write failed. The broker may have said why before it closed, and that is the better error."""
        e = self._engine
        try:
            while not e.in_handler and not e.acks_full() and e.state != _FAILED:
                op = e.turn(None)
                if op is None or op is False:
                    return
        except (Refused, Disconnected):
            raise
        except Exception:
            pass  # the write's error it is
        finally:
            self._abort()

    def _receive(self, deadline):
        """Write what is due, then one read. Returns what pull() does."""
        e = self._engine
        if e.left or e.pending:
            self._flush(deadline)
        if self.sock is None:  # a handler has disconnected
            e._ready_for_use()
        deadline = e.turn(None)
        if deadline is False:
            self._abort()
            raise OSError(errno.ECONNRESET, "closed by the broker; " + self._doing)
        return deadline

    def _turn(self, deadline):
        """One read, or a wait. Returns what pull() does, None after a wait."""
        op = self._receive(deadline)
        if op is None:
            self._wait_or_abort(POLLIN, deadline)
        return op

    def _wait(self, events, deadline):
        """Until the stream is ready, or something else is due. OSError(ETIMEDOUT) when `deadline` has passed."""
        now = ticks_ms()
        ms = self._engine.timer(now)
        if deadline is not None:
            left = ticks_diff(deadline, now) + self._spent
            if left <= 0:
                raise OSError(errno.ETIMEDOUT, self._doing)
            if left < ms:
                ms = left
        if not ms and self._engine.auth_busy():
            self._work(None)
            return
        self._sleep(events, ms)

    def _sleep(self, events, ms):
        if self.on_wait:
            self.on_wait()
            ms = min(ms, _SLICE)
        if events != self._events:
            self._poll.modify(self.sock, events)
            self._events = events
        self._poll.ipoll(ms)

    def _finish(self, i):
        """Write, and wait until `_until` for the answer to slot i: its reason code. Refused where it is >= 0x80."""
        try:
            if self._engine.left:
                self._flush(self._until)
            while self._engine.session.state[i] != _DONE:
                if self._receive(self._until) is None:
                    if self._until is None:
                        self._until = self._deadline()
                    self._wait_or_abort(POLLIN, self._until)
        except:  # a name would put the frame on the heap
            self._engine.session.release(i)
            raise
        self._engine.session.release(i)
        if self._engine.left or self._engine.pending:
            self._flush(None)
        i = self._engine.session.reason[i]
        if i >= 0x80:
            self._refused(i)
        return i

    def _refused(self, reason):
        raise Refused(self._doing, reason, self.answer.get("reason_string"))

    def _abort(self):
        """An exception is on its way. Close, but where it is a handler's own: then the connection is whole."""
        e = self._engine
        if e.state == UP and e.handler_raised:
            e.handler_raised = False
            return
        if self.sock is not None:
            if e.state == _FAILED and e.farewell():
                try:
                    self.sock.write(e.out, e.off, e.left)
                except OSError:
                    pass
            self._close()

    def _close(self):
        if self.sock is not None:
            sock = self.sock
            self.sock = self._engine.turn = None
            self._together = 0
            self._poll.unregister(sock)
            self._poll = None
            sock.close()
        self._engine.closed()
