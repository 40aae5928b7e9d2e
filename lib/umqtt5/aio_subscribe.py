"""The asyncio client's subscriptions: made, made again where the broker has lost the session, undone."""

from micropython import const

from .aio_inbox import Handler
from .aio_link import Link
from .aio_wait import report
from .errors import Refused
from .subscribe import (
    add,
    check_filter,
    get,
    next_id,
    not_granted,
    remove,
    send_subscribe,
    send_unsubscribe,
    subscription,
)

_SLOT = const(2)  # as in aio_line.py


class Subscriber(Link):
    """See the top of the file."""

    async def subscribe(
        self,
        topic,
        qos=0,
        handler=None,
        *,
        id=None,
        no_local=False,
        retain_as_published=False,
        retain_handling=0,
        props=None,
        timeout=None,
    ):
        """Subscribe to a topic filter; returns the granted QoS. It is made again whenever the session is gone.

        handler(message): a function gets the message in place, and must not wait; an `async def` gets a copy, and is
        run in a task of the client's, one message after the other. Without: `async for`. Cancelled once it is sent,
        it stays. Raises Refused, ValueError, OSError."""
        new = self._subscription(topic, qos, handler, id, no_local, retain_as_published, retain_handling, props)
        if timeout is not None:
            return await self._within(timeout, self._subscribe(new), "subscribe")
        return await self._subscribe(new)

    def on(self, topic, handler=None, qos=0, *, id=None, no_local=False, retain_as_published=False, props=None):
        """Declare a subscription without sending anything: a session that the broker has kept has it already; where
        there is none, it is made after the login, beside what other tasks publish. Call it before connect()."""
        new = self._subscription(topic, qos, handler, id, no_local, retain_as_published, 0, props)
        self._engine.receiving()
        add(self._engine.session, new)

    def _subscription(self, topic, qos, handler, id, no_local, retain_as_published, retain_handling, props):
        e = self._engine
        props = e.properties(props, 8)
        new = subscription(topic, qos, handler, id or 0, no_local, retain_as_published, retain_handling, props)
        if id is None and handler:
            # The one that this filter has keeps its number: messages that carry it may be on their way.
            old = get(e.session, new.filter)
            new.id = (old and old.id) or next_id(e.session)
        if handler:
            new.handler = Handler(self, handler)
            new.handler.subscription = new
        return new

    async def _subscribe(self, new):
        e = self._engine
        s = e.session
        store = e.session.store
        old = get(s, new.filter)
        while True:
            if not self._at_once(_SLOT):
                await self._wait_turn(_SLOT)
            if store and not e.session.known and store.has(new):
                add(s, new)  # the session of this device's last life has it
                self._advance()
                return new.options & 3
            try:
                if store:
                    store.unsubscribed(new.filter)
                i = send_subscribe(e, new)
            except BaseException:
                self._advance()
                raise
            add(s, new)  # now: messages may come before the SUBACK (3.8.4)
            try:
                reason = await self._answer("SUBACK", self._sent(i))
            except Refused:
                if get(s, new.filter) is new:
                    remove(s, new.filter)
                    if old and old is not new:
                        add(s, old)
                raise
            if reason >= 0:
                if store:
                    store.subscribed(new)
                return reason

    async def _subscribe_again(self):
        """The session is gone: make every subscription anew."""
        e = self._engine
        epoch = self.epoch
        whole = True
        for s in list(e.session.subscriptions):
            if self.epoch != epoch:
                return  # the next connection begins again
            if get(e.session, s.filter) is not s:
                continue
            try:
                await self._subscribe(s)
            except Refused as x:
                add(e.session, s)  # wanted all the same: it is asked for again with the next session
                e.tell("refused", (s.filter, x.reason))
            except ValueError:  # not of this broker; 0x95: larger than it takes
                e.tell("refused", (s.filter, not_granted(e, s.filter) or 0x95))
            except OSError:
                return
            except Exception as x:  # the store's
                report(x, "subscribe")
                whole = False
        if whole and self.epoch == epoch:
            self._anew = False

    async def unsubscribe(self, topic, props=None, timeout=None):
        """Undo subscribe(); returns the reason code (0x11: there was no such subscription)."""
        if timeout is not None:
            return await self._within(timeout, self.unsubscribe(topic, props), "unsubscribe")
        filter = check_filter(topic)
        reason = -1
        while reason < 0:
            if not self._at_once(_SLOT):
                await self._wait_turn(_SLOT)
            try:
                if self._engine.session.store:
                    self._engine.session.store.unsubscribed(filter)
                i = send_unsubscribe(self._engine, filter, props)
            except BaseException:
                self._advance()
                raise
            reason = await self._answer("UNSUBACK", self._sent(i))
        remove(self._engine.session, filter)
        return reason
