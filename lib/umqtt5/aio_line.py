"""The asyncio client's queues of tasks: who builds the next packet, who waits for what.

The engine has one buffer for what goes out: one task at a time builds a packet in it, when what was there before is
written. First come, first served, so that messages keep their order; but a message at QoS 0 does not wait for the
broker's Receive Maximum. Nothing here writes, or knows the stream.
"""

from micropython import const

import asyncio
from asyncio import core
from errno import ENOTCONN, ETIMEDOUT

from .aio_wait import pause, wake
from .codec import milliseconds
from .errors import Refused

_UP = const(2)  # as in reader.py

# What a task needs (its line among Line._lines): the way to the stream free; and room in flight; or a slot for
# SUBSCRIBE or UNSUBSCRIBE.
_WAY = const(0)
_ROOM = const(1)
_SLOT = const(2)

# Line._leaving: our DISCONNECT is about to be built; it is being written; it is out.
_STAYING = const(0)
_LEAVING = const(1)
_PARTING = const(2)
_GONE = const(3)

_REQUESTS = const(2)  # session.py has so many slots beside those for PUBLISH


class Line:
    """See the top of the file."""

    def __init__(self, engine):
        self._engine = engine
        self._keeper = None  # the task without which nothing would ever come
        self._fatal = None  # why there is none
        self._failure = None  # why this connection is about to end
        self.error = None  # why the last connection or attempt ended; None while one is up
        self._leaving = _STAYING
        self._lines = ([], [], [])  # by need: tasks that wait
        self._turn = None  # the one among them whose turn it is
        self._tail = None  # [task, done] that waits until its payload is out
        self._outbox = None  # an aio_outbox.Waiting
        self._watchers = []  # tasks that wait for anything to change

    def _free(self, need):
        """Whether a packet can be built now."""
        e = self._engine
        if e.state != _UP or e.left or self._leaving or e.held or self._failure:
            return False
        if need == _ROOM:
            return e.may_publish()
        return need == _WAY or e.session.waiters.requests() < _REQUESTS

    def _advance(self):
        """The way is free, or the connection up, or an answer has come: who is next?"""
        if self._watchers:
            self._changed()
        if self._turn is None and self._engine.state == _UP:
            for need in (_ROOM, _SLOT, _WAY):
                if not self._lines[need] or (need != _SLOT and self._outbox and self._outbox.pending()):
                    continue  # what is in the outbox was there first
                if self._free(need):
                    self._turn = self._lines[need].pop(0)
                    wake(self._turn)
                    return

    async def _wait_turn(self, need):
        """Wait until a packet can be built, behind those who waited before: True. False where the connection has gone
        and the message can wait in the outbox."""
        me = core.cur_task
        line = self._lines[need]
        line.append(me)
        try:
            while True:
                self._check()
                if self._outbox and self._engine.state != _UP and need != _SLOT:
                    if self._turn is me:
                        self._turn = None
                    else:
                        line.remove(me)
                    return False
                self._advance()
                if self._turn is not me:
                    await pause()
                    self._check()
                if self._turn is me:
                    self._turn = None
                    if self._free(need):
                        return True
                    line.insert(0, me)  # the connection has gone, or another was quicker
        except BaseException:
            if self._turn is me:
                self._turn = None
                self._advance()
            elif me in line:
                line.remove(me)
            raise

    def _at_once(self, need):
        """True where nobody waits, and the packet can be built without waiting."""
        if self._turn is not None or self._lines[need] or not self._free(need):
            return False
        return need == _SLOT or not self._outbox or not self._outbox.pending()

    def _sent(self, i):
        """A packet has been built that slot i has to be answered for: what _answer() waits with."""
        w = [None, None, b""]
        self._engine.session.waiters.wait(i, w)
        if self._engine.left:
            self._push()
        return w

    async def _answer(self, what, w):
        """Wait for an answer: its reason; -1 where the connection went first (SUBSCRIBE, UNSUBSCRIBE)."""
        w[0] = core.cur_task
        try:
            while w[1] is None:
                self._check()
                await pause()
        finally:
            w[0] = None  # cancelled, it stays in flight
        return self._refused(what, w)

    def _refused(self, what, w):
        """The reason of an answer; Refused where it is one."""
        if w[1] >= 0x80:
            from .props import decode

            raise Refused(what, w[1], decode(w[2]).get("reason_string") if w[2] else None)
        return w[1]

    async def _whole(self, w):
        """The payload goes out from the caller's own bytes: wait until it has. False where the connection broke."""
        w[0] = core.cur_task
        try:
            while w[1] is None:
                self._check()
                await pause()
        finally:
            w[0] = None
        return w[1]

    def _changed(self):
        while self._watchers:
            wake(self._watchers.pop())

    async def _watch(self):
        """Until anything changes."""
        me = core.cur_task
        self._watchers.append(me)
        try:
            await pause()
        finally:
            if me in self._watchers:
                self._watchers.remove(me)

    async def _within(self, timeout, coro, what):
        """timeout: s."""
        milliseconds(timeout)
        try:
            return await asyncio.wait_for(coro, timeout)
        except asyncio.TimeoutError:
            if self.error:  # no connection: why
                what = "%s: %s" % (what, self.error)
            raise OSError(ETIMEDOUT, what)

    def _check(self):
        """Raises where there is no keeper, so that nothing would ever come."""
        if self._keeper is None or self._leaving:
            if self._fatal:
                raise self._fatal
            raise OSError(ENOTCONN, "the client is closed")

    def _written(self, done):
        """The payload of a PUBLISH is out, or will never be."""
        w = self._tail
        if w is not None:
            self._tail = None
            w[1] = done
            wake(w[0])
