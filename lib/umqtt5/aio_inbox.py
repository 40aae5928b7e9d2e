"""Messages that the asyncio client keeps for a while: for `async for`, and for handlers that are coroutines.

A handler that is a plain function gets its message in place. These get a copy, and their acknowledgement goes out
when they are through with it; so the broker's own flow control (our Receive Maximum) bounds the queue at QoS 1 and 2,
and nothing is lost that was not dealt with. At QoS 0 what does not fit is dropped, and counted.
"""

from micropython import const

from asyncio import core

from .aio_wait import pause, report, wake
from .errors import ProtocolError
from .message import Reject

# Texts of errors: see texts.py.
_TOO_MANY = const(84)


class Kept:
    """A message, its handler or None, and the acknowledgement kept back (0: none): header << 16 | identifier."""

    def __init__(self, message, handler, epoch):
        self.message = message
        self.handler = handler
        self.epoch = epoch  # the connection that it came in
        self.ack = 0


class Inbox:
    """A queue of messages; `dropped` counts those at QoS 0 that found it full."""

    def __init__(self, client, size):
        self.client = client
        self.size = size
        self.items = []
        self.tasks = []  # that wait for one
        self.dropped = 0

    def put(self, m, handler=None):
        """Called in place of a handler."""
        client = self.client
        e = client._engine
        n = len(self.items)
        if not m.qos and n >= self.size:
            self.dropped += 1
            e.tell("dropped", m.topic)
            return
        # At QoS 0 size, then our Receive Maximum; twice, for what a session that is gone may have left here.
        if n >= self.size + 2 * e.session.size:
            e._failed(0x93)  # the connection's error: broke() would take it for the handler's
            raise ProtocolError((_TOO_MANY, e.session.size), 0x93)
        kept = Kept(m.copy(), handler, client.epoch)
        self.items.append(kept)
        if m.qos:
            e.kept = kept
            if m.qos == 2 and e.session.store:
                e.session.store.holding = True  # not dealt with yet: its identifier must not be on flash before it is
        if self.tasks:
            wake(self.tasks.pop(0))
        client._generous = True

    async def get(self):
        """The oldest; None when the client is closed."""
        while not self.items:
            if self.client._keeper is None:
                return None
            me = core.cur_task
            self.tasks.append(me)
            try:
                await pause()
            except BaseException:
                if me not in self.tasks and self.items and self.tasks:
                    wake(self.tasks.pop(0))  # it was woken, and cancelled before it could go on
                raise
            finally:
                if me in self.tasks:
                    self.tasks.remove(me)
        return self.items.pop(0)

    def resumed(self):
        """The session is there, the connection a new one: the broker sends again what is not acknowledged at QoS 1.
        At QoS 2 it does too, but the session knows those."""
        self.items = [k for k in self.items if k.ack >> 16 != 0x40]

    def close(self):
        while self.tasks:
            wake(self.tasks.pop())


class Messages:
    """What `async for message in client` iterates over. A message is dealt with when its task asks for the next one,
    or has ended."""

    def __init__(self, client):
        self.client = client

    def __aiter__(self):
        return self

    async def __anext__(self):
        client = self.client
        me = core.cur_task
        last = client._last
        for i in range(len(last) - 1, -1, -1):
            if last[i][0] is me or last[i][0].done():
                client._through(last.pop(i)[1], 0, None)
        kept = await client._inbox.get()
        if kept is None:
            if client._fatal:
                raise client._fatal
            raise StopAsyncIteration
        if kept.ack:
            last.append((me, kept))
        return kept.message


class Handler:
    """A message handler of which it is not yet known whether it is a coroutine: its first call tells."""

    def __init__(self, client, function):
        self.client = client
        self.function = function
        self.subscription = None

    def __call__(self, m):
        try:
            copy = m.copy()  # for a coroutine, which outlives what is in the buffer
        except MemoryError:
            copy = None
        result = self.function(m if copy is None else copy)
        if hasattr(result, "send"):
            # Not called again: it may be what client.publish() returned, to a lambda, when the packet was out.
            self.subscription.handler = Later(self.client, self.function)
            self.subscription.handler(m, copy and (lambda _: result))
        elif self.subscription.handler is self:
            self.subscription.handler = self.function
        self.client._engine.session.usual = None  # it knows this object


class Later:
    """The handler is a coroutine: it runs in a task of the client's, one message after the other."""

    def __init__(self, client, function):
        self.client = client
        self.function = function

    def __call__(self, m, function=None):
        client = self.client
        if client._worker is None:
            client._worker = core.create_task(work(client))
        client._jobs.put(m, function or self.function)


async def work(client):
    """Runs the handlers that are coroutines."""
    try:
        while True:
            kept = await client._jobs.get()
            if kept is None:
                return
            reason = 0
            props = None
            try:
                try:
                    try:
                        result = kept.handler(kept.message)
                        if hasattr(result, "send"):
                            await result
                    except Reject as x:
                        reason = x.reason
                        props = client._engine.properties(x.props, 4)
                except BaseException:  # not acknowledged: the broker sends it again in the next connection
                    client._forget(kept, False)
                    raise
                client._through(kept, reason, props)
            except Exception as x:
                report(x, "message handler")
    finally:
        client._worker = None
        if client._jobs.items and client._keeper is not None:  # they came while this task was being ended
            client._worker = core.create_task(work(client))
