"""The asyncio client: stays up, reconnects by itself, loses nothing. For MicroPython's asyncio.

    async with MQTTClient("device1", "broker", keepalive=60, auth=ScramSHA256(...)) as client:
        await client.subscribe("command/#", 1)
        await client.publish("status", "online", retain=True, qos=1)
        async for message in client:
            ...

This file is what the application calls; the connection is aio_link.py's, its bytes are aio_driver.py's, and every
rule of MQTT is the engine's. Any await here may be cancelled at any point (asyncio.wait_for does that): no half
packet stays on the wire.
"""

from micropython import const

from asyncio import core
from errno import ECONNRESET
from time import ticks_ms

from .aio_inbox import Inbox, Messages, work
from .aio_subscribe import Subscriber
from .aio_wait import Done, WaitEngine
from .errors import wrong
from .quick import readdress
from .retry import brokers, made

_LEAVING = const(1)  # as in aio_line.py
_PARTING = const(2)  # as in aio_line.py
_ROOM = const(1)  # as in aio_line.py
_STAYING = const(0)  # as in aio_line.py
_WAY = const(0)  # as in aio_line.py
_UP = const(2)  # as in reader.py

# Texts of errors: see texts.py.
_QOS = const(26)
_FUNCTION = const(125)


class Publisher:
    """Made by client.publisher(); it stays good over reconnects."""

    def __init__(self, client, topic, qos, retain, props):
        if qos not in (0, 1, 2):
            raise wrong(_QOS)
        self._client = client
        self._topic = client._engine.topic(topic)
        self._props = client._engine.properties(props, 3)
        self._qos = qos
        self._retain = retain

    def publish(self, msg, timeout=None, wait=True):
        """As client.publish(): await it."""
        return self._client.publish(self._topic, msg, self._retain, self._qos, self._props, timeout, wait)


_ANSWERS = ("", "PUBACK", "PUBREC or PUBCOMP")
_DONE = Done()


class MQTTClient(Subscriber):
    """An MQTT 5.0 client for asyncio. The arguments up to `ssl_params` are simple.MQTTClient's, and so are the
    options that are not named here.

    server: a host, or a list of hosts and of (host, port), to be tried in turn. network: a function, or an
    `async def`, that brings the network up, called before each attempt; OSError where it cannot. backoff: a
    retry.Backoff, None: 1 s to 60 s, after a refusal 60 s to an hour. clean_session: True: the first login starts a
    new session; each further one resumes it. False: the first one resumes it too; its messages may come at once:
    declare handlers by on() before.
    session_expiry: s that the broker keeps the session without a connection; default 3600, or for ever with
    clean_session=False. queue: how many messages at QoS 0 wait for `async for`, and for handlers that are coroutines.
    outbox: an outbox.Outbox, where publishes wait while there is no connection; without one their callers do.
    store: a store.Store, to survive a power cut. redirects: how often in a row it follows a broker to another one
    (0x9C, 0x9D); TLS and authentication stay. Else, and then, these are refusals like others: it tries again.
    timeout: s for a login as a whole, the rest of a packet, PINGRESP. A call without timeout= takes as long as it
    takes, over any number of connections; with it: OSError(ETIMEDOUT), and what was sent stays in flight.
    on_event(name, value), beside those of reader.Reader.tell():
        "connected", "reconnected": session present (bool)
        "lost": the exception that ended a connection; "failed": the one that ended an attempt; it goes on trying
        "waiting": ms until the next attempt
        "dropped": the topic of a message for which there was no room: at QoS 0 in the queue; any in the outbox"""

    def __init__(
        self,
        client_id,
        server,
        port=0,
        user=None,
        password=None,
        keepalive=60,
        ssl=None,
        ssl_params={},  # noqa: B006  umqtt's signature; never changed
        *,
        network=None,
        backoff=None,
        clean_session=True,
        queue=20,
        outbox=None,
        store=None,
        redirects=0,
        on_event=None,
        **options,
    ):
        if network and not callable(network):
            raise wrong((_FUNCTION, "network"), TypeError)
        options.setdefault("session_expiry", 3600 if clean_session else None)
        options.setdefault("republish", True)
        engine = WaitEngine(client_id, user, password, keepalive, on_event=on_event, store=store, **options)
        super().__init__(brokers(server, port, ssl, ssl_params), network, backoff, clean_session, engine)
        self._redirects = redirects
        self._inbox = Inbox(self, queue)
        self._jobs = Inbox(self, queue)
        self._naps = 0
        self._worker = None  # the task that runs handlers
        self._requests = None
        self._last = []  # [task, message that it is dealing with] of each `async for`
        engine.keep = self._inbox.put
        if made("outbox", outbox, "Outbox", "on_drop") is not None:
            from .aio_outbox import Waiting

            if store:
                store.attach(outbox)
            self._outbox = Waiting(self, outbox)

    # --- the connection

    async def __aenter__(self):
        await self.connect()
        return self

    async def __aexit__(self, kind, *_):
        # 0x04: a program that fails leaves its will.
        await self.disconnect(4 if kind else 0)

    async def connect(self, timeout=None):
        """Start, and wait for the first login; returns session present. It tries for ever; what no waiting cures
        (wrong password, banned, wrong method ...) is raised. Cancelled, it stops. start() does not wait."""
        if timeout is not None:
            return await self._within(timeout, self.connect(), "connect")
        self.start()
        try:
            while self.state != "up":
                if self._keeper is None:
                    self._check()
                await self._watch()
        except BaseException:
            self._end()
            raise
        return bool(self._engine.terms.connack[0])

    async def disconnect(self, reason=0, props=None, session_expiry=None):
        """Send DISCONNECT and close; what waits is told so by OSError(ENOTCONN), and `async for` ends. At most
        `timeout` s. reason 0x04: publish the will. session_expiry: s, instead of what CONNECT said."""
        if self._keeper is None:
            return
        e = self._engine
        try:
            await self._within(e.timeout / 1000, self._leave(reason, props, session_expiry), "DISCONNECT")
        except OSError:
            pass  # too slow, or gone
        except ValueError:
            self._leaving = _STAYING
            self._push()
            raise
        except BaseException:
            self._end()
            raise
        self._end()

    async def _leave(self, reason, props, session_expiry):
        e = self._engine
        self._leaving = self._leaving or _LEAVING
        while e.state == _UP and self._leaving < _PARTING and (e.left or e.held):
            await self._watch()
        if e.state == _UP and self._leaving < _PARTING:
            e.end(reason, props, session_expiry)
            self._leaving = _PARTING
            self._push()
        while e.state == _UP and self._leaving == _PARTING:
            await self._watch()

    async def flush(self, timeout=None):
        """Wait until all that was published is out, and acknowledged."""
        if timeout is not None:
            await self._within(timeout, self.flush(), "flush")
            return
        e = self._engine
        while e.session.in_flight() or e.left or e.held or self._lines[_ROOM] or self._lines[_WAY] or self._waits():
            self._check()
            await self._watch()
        if e.session.store:
            e.session.store.flush()

    def _waits(self):
        return self._outbox is not None and self._outbox.pending()

    def _end(self):
        super()._end()
        self._inbox.close()
        self._jobs.close()
        if self._requests:
            self._requests.close()
        if self._outbox:
            self._outbox.close()
        if self._worker is not None and self._worker is not core.cur_task:
            self._worker.cancel()

    # --- publishing

    def set_last_will(self, topic, msg, retain=False, qos=0, props=None):
        """The will of the next login."""
        self._engine.set_will(topic, msg, retain, qos, props)

    def publish(self, topic, msg, retain=False, qos=0, props=None, timeout=None, wait=True):
        """await it. Publish `msg`: returns when it is acknowledged (QoS 1: PUBACK, QoS 2: PUBCOMP), at QoS 0 when it
        is with the stream. Waits while there is no connection. wait=False returns when it is sent, or in the outbox.

        topic, msg and props (bytes) must not change until then, even where the task is cancelled: what is on its way
        stays on its way, over reconnects. Raises ValueError, Refused, ResourceError, OSError (closed, or timeout).
        Not a coroutine itself: what can go out at once does, and at QoS 0 nothing is allocated."""
        if timeout is not None:
            return self._within(timeout, self._publish(topic, msg, retain, qos, props, wait), "publish")
        if not self._at_once(_ROOM if qos else _WAY):
            return self._publish(topic, msg, retain, qos, props, wait)
        e = self._engine
        i = None
        if (
            e.prepared is not None
            and not props
            and e.prepared_flags == qos << 1 | (1 if retain else 0)
            and (topic is e.prepared or readdress(e, topic))
        ):
            i = self._as_before(msg)  # as the publish before
        if i is None:
            i = self._build(topic, msg, retain, qos, props)
            if i < 0 and e.tail is not None:
                return self._payload(topic, msg, retain, props)
            if i >= 0:
                e.session.release(i)
        if i >= 0 and wait:
            return self._answer(_ANSWERS[qos], self._sent(i))
        if e.left:
            self._push()
        self._naps = (self._naps + 1) & 15
        return _DONE if self._naps else Done(True)  # a task that publishes without end must let others run

    def publisher(self, topic, qos=0, retain=False, props=None):
        """An object whose publish(msg) publishes to `topic`: topic and properties are checked and encoded once."""
        return Publisher(self, topic, qos, retain, props)

    def _build(self, topic, msg, retain, qos, props):
        e = self._engine
        try:
            if qos not in (0, 1, 2):
                raise wrong(_QOS)
            e.out_flags = qos << 1 | (1 if retain else 0)
            e.out_topic = topic
            e.out_msg = msg
            e.out_props = props
            return e.publish()
        except BaseException:
            self._advance()  # the next one's turn
            raise

    async def _publish(self, topic, msg, retain, qos, props, wait):
        """publish(), where it has to wait."""
        need = _ROOM if qos else _WAY
        if not self._at_once(need) and not await self._wait_turn(need):
            # No connection, but an outbox.
            await self._outbox.publish(topic, msg, qos << 1 | (1 if retain else 0), props, wait)
            return
        i = self._build(topic, msg, retain, qos, props)
        if i < 0 and self._engine.tail is not None:
            await self._payload(topic, msg, retain, props)
        elif i >= 0 and wait:
            await self._answer(_ANSWERS[qos], self._sent(i))
        else:
            if i >= 0:
                self._engine.session.release(i)
            self._push()

    def _payload(self, topic, msg, retain, props):
        """A PUBLISH at QoS 0 was built whose payload goes out from the caller's own bytes."""
        w = self._tail = [None, None]
        self._push()
        return self._until_out(w, topic, msg, retain, props)

    async def _until_out(self, w, topic, msg, retain, props):
        if not await self._whole(w):
            # The connection broke: it never was a message.
            await self._publish(topic, msg, retain, 0, props, True)

    # --- messages

    def set_callback(self, f):
        """f(topic, msg): for messages that no handler takes, instead of `async for`; None: that again. An `async def`
        runs in a task of its own each time, when the message is acknowledged already."""
        self._engine.set_callback(f)

    def __aiter__(self):
        return Messages(self)

    def _through(self, kept, reason, props):
        """A message that was kept has been dealt with: acknowledge it, where its connection still is."""
        e = self._engine
        if reason >= 0x80:
            self._forget(kept, True)
        elif kept in e.undealt:
            e.undealt.remove(kept)
            if e.session.store:
                e.session.store.dealt(kept.ack & 0xFFFF)
        if kept.ack and kept.epoch == e.epoch and e.state == _UP:
            self._due.append((kept, reason, props))
            self._push()

    def _forget(self, kept, refused):
        """A message that was kept has been refused, or its handler has failed: at QoS 2 its identifier is not among
        those received any more, and what comes with it next is delivered."""
        e = self._engine
        if kept in e.undealt:
            from .receive import place

            e.undealt.remove(kept)
            s = e.session
            i = place(s, kept.ack & 0xFFFF)
            if i >= 0:
                if refused:
                    e.owed -= s.counted[i]  # else it counts until the connection ends: there is no acknowledgement
                s.received[i] = 0  # it is on no flash yet
                s.receiving -= 1
            if s.store:
                s.store.undealt(kept.ack & 0xFFFF)
        elif kept.ack and not refused and kept.epoch == e.epoch and e.state == _UP:
            e.owed += 1
        if not refused and kept.epoch == e.epoch and e.state == _UP and e.stuck():
            self._undealt()

    def _resumed(self, present):
        """A new connection, before anything else is done with it."""
        e = self._engine
        if self._jobs.items and self._worker is None:  # left there by disconnect()
            self._worker = core.create_task(work(self))
        if present:
            self._inbox.resumed()
            self._jobs.resumed()
            if e.session.store and not self._anew:
                for s in e.session.subscriptions:
                    if not e.session.store.has(s):
                        self._anew = True
            return
        for kept in e.undealt:
            kept.ack = 0  # nobody will ask for it
        e.undealt.clear()
        self._anew = len(e.session.subscriptions) > 0
        if self._requests:
            self._requests.subscribed = None

    @property
    def epoch(self):
        """Counts the connections."""
        return self._engine.epoch

    async def request(self, topic, msg, timeout=None, *, qos=0, props=None):
        """Publish a request and wait for its response (4.10): a Message of its own. Any number at a time."""
        from .aio_request import Requests

        if self._requests is None:
            self._requests = Requests(self)
        coro = self._requests.ask(topic, msg, qos, props)
        return await (coro if timeout is None else self._within(timeout, coro, "waiting for a response"))

    async def reauthenticate(self, auth=None):
        """Authenticate again on this connection (4.12.1), or on the next where there is none; returns when it is
        done. Arguments and errors as simple.MQTTClient's. What ends the connection (a refusal: AuthError, NotProven)
        is raised here, and the client connects anew, with what it has logged in with before: after a refusal as late
        as retry.py says. Cancelled, it goes on by itself."""
        e = self._engine
        while e.state != _UP:
            self._check()
            await self._watch()
        self._check()
        epoch = e.epoch
        e.reauthenticate(auth, ticks_ms())
        self._rouse()
        while e.authenticating and e.epoch == epoch:
            await self._watch()
        if e.state != _UP or e.epoch != epoch:
            error = self._failure or self.error
            if error is None:
                self._check()
            raise error or OSError(ECONNRESET, "re-authentication")

    # --- what the broker said

    @property
    def connected(self):
        return self.state == "up"

    @property
    def connack(self):
        """What the broker granted in its last CONNACK: a new dict, see props.granted()."""
        from .props import granted

        return granted(self._engine.terms.connack)

    @property
    def client_id(self):
        """bytes; the Assigned Client Identifier where the broker gave one."""
        return self._engine.terms.client_id

    @property
    def oversized(self):
        """How many messages were too large for rx_size, and not delivered."""
        return self._engine.session.oversized

    @property
    def dropped(self):
        """How many messages at QoS 0 found no room in the queue."""
        return self._inbox.dropped + self._jobs.dropped
