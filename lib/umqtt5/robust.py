"""The blocking client that stays up: umqtt.robust's class, method for method, over simple.MQTTClient.

Whatever ends the connection, the call that noticed it reconnects and goes on where it was: a message in flight is
finished (4.4), not published twice; subscriptions are restored where the session is gone, and only there. Between
attempts it waits as retry.py says, longer each time.
It must never hide what only a person can cure at the very first login, nor an exception of a message handler's.
"""

from micropython import const

from errno import ENOTCONN
from time import sleep_ms, ticks_add, ticks_diff, ticks_ms

import umqtt5.ending  # noqa: F401  now, while there is memory for it: what ends a connection must not wait for some

from .codec import milliseconds
from .errors import AuthError, MQTTError, PeerError, Refused
from .retry import Backoff, brokers, made, verdict
from .simple import MQTTClient as Simple

_UP = const(2)  # as in reader.py
_PERMANENT = const(2)  # as in retry.py

_FREE = const(0)  # as in session.py
_PUBCOMP = const(3)  # as in session.py
_DONE = const(6)  # as in session.py

# The connection is gone, and a new one may do better. AuthError: of a re-authentication by the timer.
_ENDED = (OSError, PeerError, AuthError)
_SLICE = const(50)  # ms between two calls of on_wait()
_IN_HANDLER = const("not inside a message handler")


def _first_behind(last, s):
    """The slot that was taken first after the one with the packet identifier `last`; -1: none was."""
    pid = last
    while pid != s.last:
        pid = pid % 65535 + 1
        i = pid % len(s.pid)
        if s.pid[i] == pid:  # else it was skipped: see Session.take()
            return i
    return -1


class MQTTClient(Simple):
    """Takes simple.MQTTClient's arguments, and these. server: also a list of hosts and of (host, port), to be tried
    in turn. backoff: a retry.Backoff; None: from DELAY s to a minute, after a refusal from one minute to an hour.
    outbox: an outbox.Outbox; with it publish() and check_msg() never wait for a connection, but for one attempt when
    it is time for one. store: a store.Store, to survive a power cut.
    session_expiry: s that the broker keeps the session without a connection; default 3600, or for ever with a store.

    on_event(name, value), beside those of reader.Reader.tell(), named as aio's:
        "connected", "reconnected": session present (bool)
        "lost": the exception that ended a connection; "failed": the one that ended an attempt; it goes on trying
        "dropped": the topic of a message for which there was no room in the outbox"""

    DELAY = 2  # s: the first wait
    DEBUG = False

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
        backoff=None,
        outbox=None,
        **options,
    ):
        self._brokers = brokers(server, port, ssl, ssl_params)
        self._store = store = options.get("store")
        self._given_expiry = "session_expiry" in options
        options.setdefault("session_expiry", None if store else 3600)
        options.setdefault("republish", True)
        server = self._brokers[0][0]
        super().__init__(client_id, server, port, user, password, keepalive, ssl, ssl_params, **options)
        self.server, self.port, self._tls = self._brokers[0]
        self._backoff = made("backoff", backoff, "Backoff", "wait") or Backoff(self.DELAY)
        self._outbox = made("outbox", outbox, "Outbox", "on_drop")
        if outbox is not None:
            if store:
                store.attach(outbox)
            outbox.on_drop = self._dropped
        self._clean = True
        self._ever = False  # a login has succeeded
        self._filters = []  # the topic filters that were subscribed to
        self._missing = []  # those of them that the broker's session has not
        self._slot = -1  # the slot of the publish that waits for its answer over reconnects
        self._wait_ms = 0  # until the next attempt
        self._failed_at = 0  # ticks

    # --- umqtt.robust's methods

    def delay(self, i):
        """Wait before the attempt after i failed ones; calls on_wait(). To be replaced where that is not wanted."""
        until = ticks_add(self._failed_at, self._wait_ms)
        while self._wait_ms:
            ms = ticks_diff(until, ticks_ms())
            if not 0 < ms <= self._wait_ms:  # more: it was so long ago that the clock has wrapped
                return
            if self.on_wait:
                self.on_wait()
                ms = min(ms, _SLICE)
            sleep_ms(ms)

    def log(self, in_reconnect, e):
        """Prints `e` where DEBUG is set; on_event hears of it anyway."""
        if self.DEBUG:
            print("mqtt reconnect: %r" % e if in_reconnect else "mqtt: %r" % e)

    def reconnect(self):
        """Connect again, for as long as it takes: session present (bool)."""
        return self._up(False, None)

    def connect(self, clean_session=None, timeout=None):
        """Log in; tries for as long as it takes, or `timeout` s (then it raises the last attempt's OSError). Returns
        session present. clean_session: None: True without a store, False with one.

        Raises, where it never was connected: what no waiting cures (wrong password, banned, wrong method ...)."""
        self._clean = self._store is None if clean_session is None else clean_session
        return self._up(self._clean, timeout)

    def disconnect(self, reason=0, props=None, session_expiry=None):
        """As simple.MQTTClient's. After connect(clean_session=True) the session ends, unless session_expiry was
        given, here or to the client. With a store: all is on flash."""
        if session_expiry is None and self._clean and not self._given_expiry:
            session_expiry = 0
        try:
            super().disconnect(reason, props, session_expiry)
        finally:
            if self._store:
                self._store.flush()

    def publish(self, topic, msg, retain=False, qos=0, props=None, wait=True):
        """As simple.MQTTClient's, over any number of connections; in a message handler it does not reconnect, but
        raises OSError.

        With an outbox, and no connection: the message waits there, and publish() returns; ResourceError where the
        outbox is full and says so."""
        e = self._engine
        s = e.session
        while True:
            last = None
            try:
                if self._outbox is not None and self._put(topic, msg, qos << 1 | (1 if retain else 0), props):
                    return
                if self.sock is None:
                    raise OSError(ENOTCONN, "not connected")
                self._until = None
                while e.held or (qos and not (e.quota and e.may_publish())):
                    if e.in_handler or e.state != _UP:
                        break  # super().publish() knows why not
                    if e.held:
                        self._unheld()
                    else:
                        self._room()
                if e.prepared is None and (e.left or e.next()):
                    self._flush(None)
                last = s.last  # from here on nothing is read, and no handler called, before it has its slot
                super().publish(topic, msg, retain, qos, props, False)
            except _ENDED as x:
                i = _first_behind(last, s) if qos and last is not None else -1
                self._lost(x)
                if i >= 0 and wait:
                    self._finish(i, True)
                    return
                if self._outbox is None:
                    self.reconnect()
                if i >= 0:
                    return  # it is in flight: sent again by itself
                continue
            if qos and wait and not e.in_handler:
                i = _first_behind(last, s)
                s.waited[i] = 1
                if s.state[i] == _FREE:  # on_wait() has read, and the answer came
                    s.state[i] = _DONE
                self._finish(i)
            return

    def reauthenticate(self, auth=None):
        """As simple.MQTTClient's. What ends the connection (a refusal: AuthError, NotProven) is raised here; the next
        call connects anew, with what it has logged in with before: after a refusal as late as retry.py says."""
        try:
            super().reauthenticate(auth)
        except _ENDED as x:
            self._lost(x)
            raise

    def publisher(self, topic, qos=0, retain=False, props=None):
        """As simple.MQTTClient's; its publish(msg) works over any number of connections, and by the outbox."""
        from .publisher import Lasting

        return Lasting(self, super().publisher(topic, qos, retain, props), _ENDED)

    def wait_msg(self):
        """As simple.MQTTClient's, over any number of connections."""
        while True:
            try:
                if self.sock is not None:
                    if self._missing:
                        self._restore()  # a handler raised in the middle of it
                    if self._outbox and not self._engine.in_handler:
                        self._feed()  # as _receive() does, which is not called where a message is there
                    return super().wait_msg()
            except _ENDED as x:
                self._lost(x)
            self.reconnect()

    def check_msg(self):
        """As simple.MQTTClient's. Without a connection it reconnects; with an outbox only when it is time to, and
        returns None."""
        while True:
            try:
                if self.sock is not None:
                    if self._missing:
                        self._restore()
                    return super().check_msg()
            except _ENDED as x:
                self._lost(x)
            if self._outbox is not None:
                self._try()
                return None
            self.reconnect()

    # --- simple.MQTTClient's that have something to restore

    def subscribe(self, topic, qos=0, handler=None, **options):
        """As simple.MQTTClient's, over any number of connections; restored where the broker has forgotten the
        session. Where a session was resumed after a reboot, and the store says that it has this subscription, nothing
        is sent: returns `qos` then."""
        from .subscribe import add, check_filter, get

        filter = check_filter(topic)
        store = self._store
        while True:
            if store:
                new = self._subscription(filter, qos, handler, options)
                if not store.has(new):
                    store.unsubscribed(filter)
                elif self._engine.state == _UP and not self._engine.session.known:
                    add(self._engine.session, new)
                    self._remember(filter)
                    return qos
            try:
                granted = super().subscribe(topic, qos, handler, **options)
                break
            except _ENDED as x:
                self._lost(x)
            self.reconnect()
        self._remember(filter)
        if store:
            store.subscribed(get(self._engine.session, filter))
        return granted

    def unsubscribe(self, topic, props=None):
        from .subscribe import check_filter

        filter = check_filter(topic)
        if self._store:
            self._store.unsubscribed(filter)
        if filter in self._filters:
            self._filters.remove(filter)
        if filter in self._missing:
            self._missing.remove(filter)
        while True:
            try:
                return super().unsubscribe(topic, props)
            except _ENDED as x:
                self._lost(x)
            self.reconnect()

    def flush(self, timeout=None):
        """Wait until all that was published is acknowledged, and on flash where there is a store: before deep sleep.
        timeout: s; then OSError(ETIMEDOUT)."""
        if self._engine.in_handler:
            raise RuntimeError(_IN_HANDLER)
        deadline = None if timeout is None else ticks_add(ticks_ms(), milliseconds(timeout))
        while self._engine.session.in_flight() or self._outbox:
            try:
                if self.sock is not None:
                    self._doing = "flush"
                    self._turn(deadline)
                    continue
            except _ENDED as x:
                self._lost(x)
            left = None if deadline is None else ticks_diff(deadline, ticks_ms()) / 1000
            self._up(False, left)
        if self.sock is not None:
            self._flush(deadline)
        if self._store:
            self._store.flush()

    # --- small parts

    def _subscription(self, filter, qos, handler, options):
        from .subscribe import next_id, subscription

        e = self._engine
        ident = options.get("id")
        if ident is None:
            ident = next_id(e.session) if handler else 0
        flags = [options.get(name, 0) for name in ("no_local", "retain_as_published", "retain_handling")]
        return subscription(filter, qos, handler, ident, *flags, e.properties(options.get("props"), 8))

    def _remember(self, filter):
        if filter not in self._filters:
            self._filters.append(filter)
        if filter in self._missing:
            self._missing.remove(filter)

    def _lost(self, x):
        """The connection has ended with x; raises x where it has not: then it is a handler's, or a handler must not
        wait for a new one, or on_wait() in the middle of a login."""
        e = self._engine
        if e.in_handler or self.sock is not None:
            raise x
        self.log(False, x)
        if self._ever and self._backoff.since is not None:
            self._pause(x)
            e.tell("lost", x)

    def _pause(self, x):
        self._failed_at = ticks_ms()
        self._wait_ms = self._backoff.wait(x, self._failed_at)

    def _up(self, clean, timeout):
        """Connect, for as long as it takes or `timeout` s."""
        if self._engine.in_handler:
            raise RuntimeError(_IN_HANDLER)
        until = None if timeout is None else ticks_add(ticks_ms(), milliseconds(timeout))
        i = 0
        while True:
            if self._ever or i:
                if until is not None:
                    self._wait_ms = min(self._wait_ms, max(0, ticks_diff(until, self._failed_at)))
                self.delay(i)
            left = None if until is None else ticks_diff(until, ticks_ms()) / 1000
            try:
                return self._attempt(clean, left)
            except (OSError, MQTTError, MemoryError) as x:
                if self._hopeless(x) or (left is not None and ticks_diff(until, ticks_ms()) <= 0):
                    raise
                self.log(True, x)
            i += 1

    def _try(self):
        """One attempt, if it is time for it."""
        if not self._ever or self._engine.in_handler:
            return
        if not 0 <= ticks_diff(ticks_ms(), self._failed_at) < self._wait_ms:  # less than 0: the clock has wrapped
            try:
                self._attempt(False, None)
            except (OSError, MQTTError, MemoryError) as x:
                if self._hopeless(x):
                    raise
                self.log(True, x)

    def _hopeless(self, x):
        """True where x is to be raised: for a person, or for the application (its flash is full; its handler's)."""
        if self.sock is not None and self._engine.state == _UP:
            return True
        self._pause(x)
        self._engine.tell("failed", x)
        if len(self._brokers) > 1:
            self._brokers.append(self._brokers.pop(0))
            self.server, self.port, self._tls = self._brokers[0]
        return (verdict(x) == _PERMANENT and not self._ever) or bool(self._store and self._store.log.failed)

    def _attempt(self, clean, timeout):
        e = self._engine
        e.midway = True  # until CONNECT is out
        try:
            present = super().connect(clean, timeout)
        except Exception as x:
            if not e.midway and not isinstance(x, Refused):
                # The broker may have made a session, and its CONNACK not have come: the next one says that a session
                # is present, and it is empty.
                self._missing = list(self._filters)
                if self._store:
                    self._store.doubt()
            raise
        self._backoff.up(ticks_ms())
        self._wait_ms = 0
        first = not self._ever
        self._ever = True
        # The answer to a publish that waits may come while subscriptions are restored.
        i = self._slot
        if i >= 0 and _FREE < e.session.state[i] <= _PUBCOMP:
            e.session.waited[i] = 1
        if not present:
            self._missing = list(self._filters)
        self._restore()
        e.tell("connected" if first else "reconnected", present)
        if self._outbox:
            self._feed()
        return present

    def _restore(self):
        """Subscribe again to what the broker's session has not."""
        if not self._missing:
            return
        from .subscribe import add, get, not_granted, send_subscribe

        e = self._engine
        missing = self._missing
        self._missing = []  # on_wait() may read, which must not begin it anew
        try:
            while missing:
                s = get(e.session, missing[0])
                if s:
                    self._until = self._deadline()
                    self._flush(self._until)
                    self._doing = "SUBACK"
                    try:
                        i = send_subscribe(e, s)
                        add(e.session, s)  # anew: its number belongs to the new session now
                        super()._finish(i)
                        if self._store:
                            self._store.subscribed(s)
                    except Refused as x:
                        e.tell("refused", (s.filter, x.reason))
                    except ValueError:  # not of this broker; 0x95: larger than it takes
                        e.tell("refused", (s.filter, not_granted(e, s.filter) or 0x95))
                del missing[0]
        finally:
            self._missing = missing or self._missing

    def _finish(self, i, lost=False):
        """lost: the connection has ended already."""
        s = self._engine.session
        if s.state[i] > _PUBCOMP:  # SUBACK, UNSUBACK: these are repeated by their callers
            return super()._finish(i)
        pid = s.pid[i]
        while True:
            if not lost:
                self._doing = "PUBACK" if s.flags[i] & 2 else "PUBREC or PUBCOMP"
                try:
                    return super()._finish(i)
                except _ENDED as x:
                    self._lost(x)
            lost = False
            if self._outbox is not None:
                return 0  # it is in flight, and nobody waits for it
            self._slot = i
            try:
                self.reconnect()
            finally:
                self._slot = -1
            if s.pid[i] != pid or s.state[i] == _FREE:
                return 0  # answered meanwhile; a refusal was told to on_event
            self._until = self._deadline()

    # --- the outbox

    def _put(self, topic, msg, flags, props):
        """Let a message wait in the outbox where there is no connection, or where others wait before it. False: it
        may go out at once; or it must wait for room, and there is none."""
        e = self._engine
        o = self._outbox
        if self.sock is None:
            self._try()
        elif len(o):
            self._feed()
        if e.state == _UP and not len(o):
            return False
        topic = e.topic(topic)
        props = e.properties(props, 3)
        while o.put(topic, msg, flags, props) < 0:
            if e.in_handler or (self.sock is not None and e.state != _UP):  # on_wait() in a login
                raise OSError(ENOTCONN, "the outbox is full")
            if self.sock is None:
                self.reconnect()
            else:
                self._turn(None)
        return True

    def _feed(self):
        e = self._engine
        while e.state == _UP and len(self._outbox) and not e.held:
            if e.left:
                self._flush(None)
            elif not self._outbox.feed(e):
                return
        if e.left:
            self._flush(None)

    def _receive(self, deadline):
        if self._outbox and self._engine.state == _UP and not self._engine.in_handler:
            self._feed()
        return super()._receive(deadline)

    def _dropped(self, entry):
        self._engine.tell("dropped", entry[2])
