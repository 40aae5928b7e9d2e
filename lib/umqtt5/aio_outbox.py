"""Publishes that wait in an outbox (outbox.py) while the asyncio client has no connection. Loaded with outbox=.

What was accepted goes out when there is a connection again, before anything that was published later, whether the
task that published it still waits or not.
"""

from micropython import const

from asyncio import core

from .aio_wait import pause, wake
from .errors import ResourceError, wrong

# Texts of errors: see texts.py.
_QOS = const(26)
_DROPPED_LATER = const(105)
_DROPPED_ITSELF = const(106)


class Waiting:
    """An outbox and who waits for what is in it. An entry's token: a list as in aio_wait.Waiters, or None."""

    def __init__(self, client, outbox):
        self.client = client
        self.outbox = outbox
        self.line = []  # tasks that wait for room ("wait")
        outbox.on_drop = self.dropped

    def pending(self):
        """True while what is in it, or wants to be, has to go first."""
        return len(self.outbox) > 0 or len(self.line) > 0

    def feed(self):
        """Build the oldest message in the engine. The way is free. True where there is something to write now."""
        outbox = self.outbox
        n = len(outbox)
        e = self.client._engine
        entry = outbox.feed(e)
        if len(outbox) < n and self.line:
            wake(self.line[0])
        if entry is None:
            return False
        w = entry[5]
        if w is not None:
            if outbox.slot < 0:
                w[1] = 0
                wake(w[0])
            else:
                e.session.waiters.wait(outbox.slot, w)
        return True

    def dropped(self, entry):
        w = entry[5]
        self.client._engine.tell("dropped", entry[2])
        if w is not None and w[0] is not None:
            w[1] = -1
            wake(w[0])

    async def publish(self, topic, msg, flags, props, wait):
        """Let a message wait; then, where the caller wants that, for its acknowledgement."""
        client = self.client
        e = client._engine
        if not 0 <= flags >> 1 <= 2:
            raise wrong(_QOS)
        w = [core.cur_task, None, b""] if wait else None
        if not await self._put((e.topic(topic), msg, flags, e.properties(props, 3), w)) or not wait:
            return
        try:
            while w[1] is None:
                client._check()
                await pause()
        finally:
            w[0] = None  # cancelled, it goes out all the same
        if w[1] < 0:
            raise ResourceError(_DROPPED_LATER)
        client._refused("PUBLISH", w)

    async def _put(self, entry):
        """True when it is in the outbox, False where it was dropped itself (full="newest")."""
        me = core.cur_task
        line = self.line
        client = self.client
        queued = False
        try:
            while True:
                client._check()
                if not line or line[0] is me:
                    number = self.outbox.put(*entry)
                    if number >= 0:
                        break
                if not queued:
                    line.append(me)
                    queued = True
                await pause()
        finally:
            if queued:
                line.remove(me)
                if line:
                    wake(line[0])
                else:
                    client._advance()  # who came after it
        client._push()  # the connection may have come meanwhile
        if not number and entry[4]:
            raise ResourceError(_DROPPED_ITSELF)
        return number > 0

    def close(self):
        for task in self.line:
            wake(task)
        for entry in self.outbox.entries():
            if entry[5] is not None:
                wake(entry[5][0])
