"""The asyncio client's connection: opened, kept alive, and opened again whenever it breaks.

Three tasks. Two of them wait on the socket, one reading and one writing, and are ended only together: cancelling a
task that waits for a stream makes MicroPython's asyncio forget every other that waits for it. The third, the keeper,
opens them, keeps time and waits between attempts. Users' tasks write too, but never wait for the socket: what the
stream does not take at once is left to the writer.
"""

from micropython import const

from asyncio import core
from errno import ECONNABORTED, ECONNRESET, ETIMEDOUT
from time import ticks_add, ticks_diff, ticks_ms

from .aio_line import Line
from .aio_wait import pause, ready, report, wake
from .errors import Disconnected, MQTTError, PeerError, Refused
from .quick import pull, push
from .retry import Backoff, made, verdict
from .transport import addresses, connected, poller, start

_GONE = const(3)  # as in aio_line.py
_PARTING = const(2)  # as in aio_line.py
_ROOM = const(1)  # as in aio_line.py
_STAYING = const(0)  # as in aio_line.py
_WAY = const(0)  # as in aio_line.py
_CLOSED = const(0)  # as in reader.py
_FAILED = const(3)  # as in reader.py
_UP = const(2)  # as in reader.py
_PERMANENT = const(2)  # as in retry.py
_RETRY = const(0)  # as in retry.py

_SLICE = const(5)  # ms that the reader reads on while there is something, before other tasks run
_TLS = const("TLS handshake")  # as in tls.py
_POLLIN = const(1)  # as in driver.py
_POLLOUT = const(4)  # as in driver.py


class Link(Line):
    """Owns the engine, the stream and the tasks. `state`: "closed", "network" (the hook runs), "connecting", "up",
    "waiting" (for the next attempt). `error`: see Line."""

    def __init__(self, brokers, network, backoff, clean_session, engine):
        super().__init__(engine)
        self.state = "closed"
        engine.driver = self
        self._together = 0  # for quick.pull(): an acknowledgement may have to wait until its message is dealt with
        self._as_before = None  # see quick.push()
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
        self._sock = None
        self._doing = ""
        self._keeper = self._reader = self._writer = None  # the tasks
        self._renewer = None  # the one that makes subscriptions again: this connection's
        self._asleep = False  # the keeper sleeps, and may be woken
        self._alarm = 0  # ticks: when it wakes by itself
        self._pinging = False  # the deadline of a PINGRESP is why
        self._fatal = None
        self._stuck = False  # the stream takes nothing now: the writer waits for it
        self._was_up = False
        self._deadline = 0
        self._generous = False  # a message was put into a queue: let its task run
        self._due = []  # acknowledgements kept back, now due
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

    # --- the writer

    async def _write(self):
        """Opens the stream and says CONNECT; then waits whenever the stream takes nothing."""
        e = self._engine
        try:
            await self._open(self._where())
            e.open(ticks_ms(), self._clean and not self._ever)
            while e.auth_busy():
                await self._work()
            self._doing = _TLS if self._where()[2] else "login"
            while self._failure is None:
                self._push()
                if self._stuck:
                    await ready(core._io_queue.queue_write, self._sock)
                    self._stuck = False
                    continue
                if self._reader is None:
                    self._doing = "login: waiting for AUTH or CONNACK"
                    self._reader = core.create_task(self._read())
                await pause()
        except Exception as x:
            self._fail(x)

    async def _open(self, where):
        """TCP to the first address that answers, and TLS."""
        host, port, tls = where
        self._doing = "looking up %s" % host
        error = None
        for address in addresses(host, port):
            self._doing = "connecting to %s:%d" % (host, port)
            try:
                self._sock = start(address)
                poll = poller()
                poll.register(self._sock, _POLLOUT)
                while not connected(self._sock, poll):
                    await ready(core._io_queue.queue_write, self._sock)
                break
            except OSError as x:
                error = x
                if self._sock is not None:
                    self._sock.close()
                    self._sock = None
        else:
            raise error or OSError(ECONNRESET)
        if tls:
            from .tls import secure

            self._sock = secure(self._sock, tls)

    async def _work(self):
        """One slice of the mechanism's own work: it does not count against the deadline; waiting for a KDC does."""
        e = self._engine
        await core.sleep_ms(0)
        if not e.auth_busy():
            return
        began = ticks_ms()
        e.work(began)
        if e.auth_busy() and e.exchange.wait:
            stream, ms = e.exchange.wait
            poll = poller()
            poll.register(stream, _POLLIN)
            began = ticks_add(began, ms)
            while ticks_diff(began, ticks_ms()) > 0 and self._failure is None and not list(poll.ipoll(0)):
                await core.sleep_ms(20)
        else:
            self._deadline = ticks_add(self._deadline, ticks_diff(ticks_ms(), began))

    def _push(self):
        """Write what is due, as far as the stream takes it. Any task may call it: nothing waits here."""
        e = self._engine
        if self._stuck or self._sock is None or not 0 < e.state < _FAILED or self._leaving == _GONE:
            return
        try:
            while e.left or (e.pending and e.next()) or ((self._due or self._outbox) and self._more()):
                n = self._sock.write(e.out, e.off, e.left)
                if not n:
                    e.midway = True  # TLS may hold the bytes: only the same may follow
                    self._stuck = True
                    wake(self._writer)
                    return
                e.wrote(n, ticks_ms())
                if self._tail and not e.left:
                    self._written(True)
                if self._leaving == _PARTING and not e.left:  # [MQTT-3.14.4-2]
                    self._leaving = _GONE
                    break
        except Exception as x:
            self._last_words(x)
            return
        except:
            self._abort()
            raise
        if e.exchange and self._again():
            self._rouse()
        self._advance()

    def _more(self):
        """The engine has nothing to write: what the driver has kept. True where there is something now."""
        e = self._engine
        if e.held:  # by a re-authentication
            return False
        while self._due and not e.acks_full():
            kept, reason, props = self._due.pop(0)
            if kept.epoch == e.epoch:
                e.acknowledge(kept, reason, props)
        if e.next():
            return True
        # Not while a task has been told that it may build its packet.
        return self._outbox and self._turn is None and e.state == _UP and not self._leaving and self._outbox.feed()

    def _last_words(self, error):
        """A write failed. The broker may have said why before it closed, and that is the better error."""
        try:
            from .ending import last_words

            last_words(self._engine)
        except (Refused, Disconnected) as x:
            error = x
        except MemoryError:
            pass  # the write's error it is
        self._fail(error)

    def _take(self, buf, n):
        """Write a packet of quick.push()'s: how many bytes the stream took."""
        try:
            return self._sock.write(buf, n)
        except Exception as x:
            self._engine.prepared = None  # push() still runs, and a handler may publish
            self._last_words(x)

    # --- the reader

    async def _read(self):
        e = self._engine
        began = ticks_ms()
        try:
            self._listen()
            while self._failure is None:
                if e.state != _UP and e.auth_busy():
                    await self._work()
                    if not self._was_up and e.state == _UP:  # a proof that came late
                        self._up()
                    self._push()
                elif e.acks_full():
                    await self._watch()  # until the writer has got rid of them
                else:
                    op = self._got()
                    if op is None:
                        self._unfinished()
                        await ready(core._io_queue.queue_read, self._sock)
                        began = ticks_ms()
                        continue
                    if op is False:
                        raise OSError(ECONNRESET, "closed by the broker; " + self._doing)
                if self._generous or ticks_diff(ticks_ms(), began) >= _SLICE:
                    self._generous = False
                    e.flowing(ticks_ms())
                    self._push()
                    await core.sleep_ms(0)
                    began = ticks_ms()
        except Exception as x:
            self._fail(x)

    def _listen(self, *ahead):
        """Begin to read; or go on, behind an exception of a handler's. As driver.Driver's, for quick.py."""
        e = self._engine
        if self._sock is not None and e.state != _FAILED:
            try:
                e.turn = pull(e, self._sock.readinto, self._sock.write, ticks_ms, *ahead).send
                e.turn(None)
                if not ahead:
                    self._as_before = push(e, self._take, ticks_ms).send
                    self._as_before(None)
            except MemoryError:
                e.handler_raised = False  # the connection's error
                raise

    def _abort(self):
        """An exception is on its way: Ctrl-C in a write, and who knows how much of the packet is out; or one that
        quick.pull() has raised, which its caller deals with."""
        e = self._engine
        if e.state == _UP and not e.handler_raised:
            e.prepared = None  # push() has ended
            self._fail(OSError(ECONNRESET, "interrupted"))

    def _got(self):
        """One read, and what it has brought: what quick.pull() yields."""
        e = self._engine
        try:
            op = e.turn(None)
            if op is None or op is False:
                return op
        except Exception as x:
            op = 0
            e.kept = None
            if e.session.store:
                e.session.store.holding = False
            if not e.handler_raised:
                raise
            e.handler_raised = False
            report(x, "message handler")
            if e.state != _UP:
                self._undealt()
        if not self._was_up and e.state == _UP:
            self._up()
        e.session.waiters.took = False
        if self._pinging and e.pinged is None:
            self._answered()
        # A packet has come whole, and it may be that something is due, or somebody's turn.
        if e.into is e.head and (op & 0xF6 != 0x30 or e.left or e.pending or self._due):
            self._push()
        return op

    def _undealt(self):
        """See Reader.stuck(): in the next connection these messages come again."""
        self._fail(OSError(ECONNABORTED, "handlers raised: the messages that are not acknowledged come again"))

    def _unfinished(self):
        """Half a packet has come: the rest has a deadline, which the keeper may not know yet."""
        e = self._engine
        if (e.part or e.have) and ticks_diff(self._alarm, ticks_ms()) > e.timeout:
            self._rouse()

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
