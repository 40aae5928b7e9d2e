"""The asyncio client's connection: opened, kept alive, and opened again whenever it breaks.

Its task, the keeper, starts the two tasks of aio_driver.py, keeps time, ends them, and waits between attempts.
"""

from micropython import const

from asyncio import core
from errno import ECONNABORTED, ETIMEDOUT
from time import ticks_add, ticks_diff, ticks_ms

from .aio_driver import Driver
from .aio_wait import wake
from .errors import MQTTError, PeerError, Refused
from .retry import Backoff, made, verdict

_ROOM = const(1)  # as in aio_line.py
_STAYING = const(0)  # as in aio_line.py
_WAY = const(0)  # as in aio_line.py
_CLOSED = const(0)  # as in reader.py
_FAILED = const(3)  # as in reader.py
_UP = const(2)  # as in reader.py
_PERMANENT = const(2)  # as in retry.py
_RETRY = const(0)  # as in retry.py


class Link(Driver):
    """Owns the tasks. `state`: "closed", "network" (the hook runs), "connecting", "up", "waiting" (for the next
    attempt). `error`: see Line."""

    def __init__(self, brokers, network, backoff, clean_session, engine):
        super().__init__(engine)
        self.state = "closed"
        self._brokers = brokers
        self._broker = 0
        self._redirects = self._hops = 0  # how many may be followed in a row, and have been
        self._place = None  # (host, port, tls) where a broker has sent us
        self._moved = None  # the same, where that is for good
        self._network = network
        self._backoff = made("backoff", backoff, "Backoff", "wait") or Backoff()
        self._clean = clean_session
        self._ever = False  # a login has succeeded
        self._patient = False  # one has since start(): nothing is permanent any more
        self._renewer = None  # the one that makes subscriptions again: this connection's
        self._asleep = False  # the keeper sleeps, and may be woken
        self._alarm = 0  # ticks: when it wakes by itself
        self._pinging = False  # the deadline of a PINGRESP is why
        self._fatal = None
        self._was_up = False
        self._anew = False  # subscriptions must be made again

    def healthy(self):
        """For a watchdog: True while the client is at work, connected or not. False where its tasks have died, or the
        loop keeps them from running."""
        keeper = self._keeper
        if keeper is None or keeper.done():
            return False
        # In the network hook it has no alarm: how long that takes is the hook's business.
        return self.state == "network" or ticks_diff(ticks_ms(), self._alarm) < self._engine.timeout

    # --- the keeper

    def start(self):
        """Start connecting; returns at once. Needs a running loop."""
        if self._keeper is None:
            self._fatal = self._failure = None
            self._leaving = _STAYING
            self._patient = False
            self._keeper = core.create_task(self._keep())

    async def _keep(self):
        while True:
            try:
                await self._attempt()
            except Exception as x:
                if core.cur_task is not self._keeper:
                    return
                self.error = x  # no local name: that would hold it as long as the next connection lasts
            if core.cur_task is not self._keeper:
                return
            if self._leaving:
                self._keeper = None
                self._end()
                return
            if self._was_up:
                self._engine.tell("lost", self.error)
            elif not self._patient and verdict(self.error) == _PERMANENT:
                self._fatal = self.error
                self._keeper = None
                self._end()
                return
            else:
                self._engine.tell("failed", self.error)
            ms = self._pace(self.error)
            self._state("waiting")
            self._engine.tell("waiting", ms)
            await self._sleep(ms)

    def _pace(self, error):
        """ms until the next attempt. The brokers of a list are tried one after the other without a pause."""
        redirect = self._engine.terms.redirect
        if redirect and self._hops < self._redirects:
            from .redirect import follow

            try:
                self._place, self._moved = follow(self._engine, self._where())
                self._hops += 1  # not cleared by a login: two brokers may send us to and fro
                return 0
            except PeerError:
                pass  # a reference that is none
        self._engine.terms.redirect = self._place = self._moved = None
        self._hops = 0
        if not self._was_up:
            self._broker = (self._broker + 1) % len(self._brokers)
            if self._broker and verdict(error) == _RETRY:
                return 0
        return self._backoff.wait(error, ticks_ms())

    def _where(self):
        return self._place or self._brokers[self._broker]

    async def _attempt(self):
        self._failure = None
        self._was_up = False
        if self._network:
            self._state("network")
            try:
                result = self._network()
                if hasattr(result, "send"):  # else: no `async def`, and it has waited by itself
                    await result
            except core.CancelledError:
                if core.cur_task is not self._keeper:
                    raise
                raise OSError(ECONNABORTED, "network= was cancelled")  # not we: what it waited for
            if core.cur_task is not self._keeper:
                return  # the hook has swallowed that it was cancelled
        self._state("connecting")
        self._deadline = ticks_add(ticks_ms(), self._engine.timeout)
        self._writer = core.create_task(self._write())
        try:
            while self._failure is None:
                ms = self._timer()
                if ms or not self._again():
                    await self._sleep(ms)
                else:
                    self._alarm = ticks_ms()
                    await self._work()
                    self._push()
            raise self._failure
        finally:
            if core.cur_task is self._keeper:  # else _end() has done it
                self._close()

    def _timer(self):
        """Do what is due; ms until something is."""
        e = self._engine
        now = ticks_ms()
        ms = e.timer(now) if e.state else e.timeout
        if e.state != _UP:
            left = ticks_diff(self._deadline, now)
            if left <= 0:
                raise OSError(ETIMEDOUT, self._doing)
            return min(ms, left)
        if not ms:
            self._push()
            ms = e.timer(now)
        self._pinging = e.pinged is not None
        return ms

    def _again(self):
        """Whether a re-authentication has something to compute: the keeper's business, who has no stream to read."""
        e = self._engine
        return e.state == _UP and e.auth_busy() and not e.left

    async def _sleep(self, ms):
        self._alarm = ticks_add(ticks_ms(), ms)
        self._asleep = True
        await core.sleep_ms(ms)
        self._asleep = False

    def _rouse(self):
        """End the keeper's sleep."""
        if self._asleep:
            self._asleep = False
            core._task_queue.remove(self._keeper)
            core._task_queue.push(self._keeper)

    def _answered(self):
        """PINGRESP has come: the keeper need not wake for its deadline. Its sleep is made longer, it does not run."""
        self._pinging = False
        now = ticks_ms()
        ms = self._engine.timer(now)
        if not ms:
            self._rouse()
        elif self._asleep:
            self._alarm = ticks_add(now, ms)
            core._task_queue.remove(self._keeper)
            core._task_queue.push(self._keeper, self._alarm)

    def _fail(self, error):
        if self._failure is None:
            self._failure = error
            try:
                from .ending import named

                self._failure = named(error, self._doing)
            except MemoryError:
                pass  # without the step, then: the keeper must hear of it
            self._rouse()

    def _state(self, state):
        self.state = state
        self._changed()

    def _close(self):
        """The connection is over: its tasks, and the stream."""
        for task in (self._reader, self._writer, self._renewer):
            if task is not None:
                task.cancel()  # a task that has ended does not mind
        self._reader = self._writer = self._renewer = None
        e = self._engine
        sock = self._sock
        if sock is not None:
            self._sock = e.turn = self._as_before = None
            if e.state == _FAILED and e.farewell():
                try:
                    sock.write(e.out, e.off, e.left)
                except OSError:
                    pass
            sock.close()
        if e.state != _CLOSED and not (self._was_up or e.midway or isinstance(self._failure, Refused)):
            # CONNECT is out. The broker may have made a session, and its CONNACK not have come: then the next one
            # says that a session is present, and it is empty.
            self._anew = True
            if e.session.store:
                e.session.store.doubt()
        e.closed()
        if e.session.waiters.forget_connection():
            self._anew = True
        try:
            e.session.forget_connection()
        except MQTTError:
            pass  # the store's: the next connection asks again
        self._stuck = False
        self._due.clear()
        self._written(False)
        if self._outbox:
            for need in (_ROOM, _WAY):
                for task in self._lines[need]:
                    wake(task)  # to the outbox

    def _end(self):
        """No further attempt. Who waits is told."""
        if self._keeper is not None:
            self._asleep = False
            self._keeper.cancel()
            self._keeper = None
        self._close()
        for line in self._lines:
            for task in line:
                wake(task)
        waiters = self._engine.session.waiters.table
        for i in range(len(waiters)):
            if waiters[i] is not None:
                wake(waiters[i][0])
        self._state("closed")

    def _up(self):
        """The login has succeeded."""
        e = self._engine
        e.kept = None
        again = self._ever
        self._was_up = self._ever = self._patient = True
        e.epoch += 1
        self.error = None
        if self._moved:  # only now: anybody could have said it
            self._brokers[self._broker] = self._moved
            self._moved = None
        self._doing = "waiting for the broker"
        self._backoff.up(ticks_ms())
        present = bool(e.terms.connack[0])
        self._resumed(present)
        self.state = "up"
        self._engine.tell("reconnected" if again else "connected", present)
        if self._anew:
            self._renewer = core.create_task(self._subscribe_again())
        self._changed()
        self._rouse()
