"""The asyncio client's driver: it opens a stream and moves bytes, as driver.py does for the blocking client.

Two tasks wait on the socket, one reading and one writing, and are ended only together: cancelling a task that waits
for a stream makes MicroPython's asyncio forget every other that waits for it. Users' tasks write too, but never wait
for the socket: what the stream does not take at once is left to the writer. Who starts these tasks, and what is done
when they end, is aio_link.py's.
"""

from micropython import const

from asyncio import core
from errno import ECONNABORTED, ECONNRESET
from time import ticks_add, ticks_diff, ticks_ms

from .aio_line import Line
from .aio_wait import pause, ready, report, wake
from .errors import Disconnected, Refused
from .quick import pull, push
from .transport import addresses, connected, poller, start

_GONE = const(3)  # as in aio_line.py
_PARTING = const(2)  # as in aio_line.py
_FAILED = const(3)  # as in reader.py
_UP = const(2)  # as in reader.py

_SLICE = const(5)  # ms that the reader reads on while there is something, before other tasks run
_TLS = const("TLS handshake")  # as in tls.py
_POLLIN = const(1)  # as in driver.py
_POLLOUT = const(4)  # as in driver.py


class Driver(Line):
    """aio_link.Link's lower half: owns the engine and the stream. Of Link it calls _where(), _again(), _rouse(),
    _answered(), _up() and _fail()."""

    def __init__(self, engine):
        super().__init__(engine)
        engine.driver = self
        self._together = 0  # for quick.pull(): an acknowledgement may have to wait until its message is dealt with
        self._as_before = None  # see quick.push()
        self._sock = None
        self._doing = ""  # the step that an OSError names
        self._deadline = 0  # ticks: of the login
        self._reader = self._writer = None  # the tasks
        self._stuck = False  # the stream takes nothing now: the writer waits for it
        self._generous = False  # a message was put into a queue: let its task run
        self._due = []  # acknowledgements kept back, now due

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
        text = "handlers raised: their messages come again (catch it there, or raise Reject)"
        self._fail(OSError(ECONNABORTED, text))

    def _unfinished(self):
        """Half a packet has come: the rest has a deadline, which the keeper may not know yet."""
        e = self._engine
        if (e.part or e.have) and ticks_diff(self._alarm, ticks_ms()) > e.timeout:
            self._rouse()
