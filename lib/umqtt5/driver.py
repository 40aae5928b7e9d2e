"""The blocking client's driver: it opens a stream, moves bytes, waits and keeps time.

The socket never blocks: every wait is a poll with a deadline. MQTT's rules are the engine's; what it reads and writes
most often goes the short ways of quick.py. What a program calls is in simple.py.
"""

from micropython import const

import errno
from time import ticks_add, ticks_diff, ticks_ms

import umqtt5.transport as transport

from .codec import milliseconds
from .quick import pull, push

_POLLIN = const(1)  # select's, on every port
_POLLOUT = const(4)
_UP = const(2)  # as in reader.py
_FAILED = const(3)  # as in reader.py
_DONE = const(6)  # as in session.py
_LOGIN = const("login: waiting for AUTH or CONNACK")
_SLICE = const(50)  # ms between two calls of on_wait()
_LOOKS = const(20)  # before a wait


def _write(e):
    """One write of what is due. False where the stream took nothing."""
    try:
        n = e.driver.sock.write(e.out, e.off, e.left)
        if n:  # in here: after a Ctrl-C in write() the same bytes would go out again
            e.wrote(n, ticks_ms())
            return True
    except OSError:
        e.driver._last_words()
        raise
    except:  # a name would put the frame on the heap
        e.driver._abort()
        raise
    e.midway = True  # TLS may hold the bytes: only the same may follow
    e.prepared = None  # on_wait() may publish
    return False


class Driver:
    """simple.MQTTClient's lower half; its attributes are made there."""

    def _open(self, where, deadline):
        """TCP to the first address that answers, and TLS."""
        host, port, tls = where
        self._doing = "looking up %s" % host
        error = None
        for address in transport.addresses(host, port):
            self._doing = "connecting to %s:%d" % (host, port)
            try:
                self._poll = transport.poller()  # first: _close() takes both to be there
                self.sock = transport.start(address)
                self._poll.register(self.sock, _POLLOUT)
                self._events = _POLLOUT
                while not transport.connected(self.sock, self._poll):
                    self._wait(_POLLOUT, deadline)
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
            from .tls import start

            start(self, tls)
        self._listen()

    def _listen(self, *ahead):
        """Begin to read; or go on, behind an exception of a handler's."""
        if self.sock is not None:
            e = self._engine
            try:
                e.turn = pull(e, self.sock.readinto, self.sock.write, ticks_ms, *ahead).send
                e.turn(None)
                if not ahead:
                    self._push = push(e, self.sock.write, ticks_ms).send
                    self._push(None)
            except MemoryError:
                self._close()
                if not ahead:  # connect()'s error; behind a handler's own exception that is what counts
                    raise

    def _login(self, where, deadline, clean_session):
        e = self._engine
        try:
            self._open(where, deadline)
            e.open(ticks_ms(), clean_session)
            while e.state != _UP:
                if e.auth_busy():
                    self._work(deadline)
                elif self._receive(deadline) is None:
                    self._doing = _LOGIN
                    self._wait(_POLLIN, deadline)
            self._flush(deadline)  # what a resumed session resends
        except BaseException as x:
            self._abort()
            try:
                from .ending import named

                x = named(x, self._doing)
            except MemoryError:
                pass  # without the step, then
            raise x
        self._doing = "after the login"
        return bool(e.terms.connack[0])

    def _deadline(self, timeout=None):
        """When an operation ends that begins now. Without what has been spent: _wait() adds that, as it is then."""
        timeout = self._engine.timeout if timeout is None else milliseconds(timeout)
        return ticks_add(ticks_ms(), timeout - self._spent)

    def _work(self, deadline):
        """One slice of the mechanism's own work. It does not count against the deadline; waiting for a KDC does."""
        e = self._engine
        if self.on_wait:
            self.on_wait()  # before: the first slice has run when the challenge came
        began = ticks_ms()
        e.work(began)
        if e.auth_busy() and e.exchange.wait:
            stream, ms = e.exchange.wait
            poll = transport.poller()
            poll.register(stream, _POLLIN)
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

    def _room(self):
        """Wait while the broker's Receive Maximum, or our table, is used up."""
        e = self._engine
        if e.in_handler:
            return
        op = 0
        if e.prepared is not None and not e.quota:  # prepared: so nothing is to be written first
            op = self._look(None)
            if op == 0 and e.quota:
                return  # as nearly always when pipelining
        self._doing = "waiting for room in flight"
        while e.state == _UP:
            if op is None:
                if self._until is None:
                    self._until = self._deadline()
                self._wait_or_abort(_POLLIN, self._until)
            op = self._receive(self._until)
            if op is not None and e.may_publish():
                # Not to read on for more room, though pipelining would take a sixth less time then: such bursts of
                # publishes mosquitto 2.0.11 passes on out of order, to a subscriber whose Receive Maximum is used up.
                return

    def _flush(self, deadline, together=0):
        """Write all that is due. Whatever interrupts it closes the connection: no half packet stays behind.
        together=1: it may wait for others, in the TCP stack; so acknowledgements of a burst take a third of the
        packets. What is written with 0 sends them on their way."""
        e = self._engine
        if 0 <= self._together != together:
            self._together = together
            transport.may_wait(self.sock, together)
        while e.left or (e.pending and e.next()):
            if not _write(e):
                if deadline is None:
                    deadline = self._deadline()
                self._wait_or_abort(_POLLOUT, deadline)

    def _last_words(self):
        """A write has failed. The broker may have said why before it closed, and that is the better error."""
        try:
            from .ending import last_words

            last_words(self._engine)
        except MemoryError:
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
            self._wait_or_abort(_POLLIN, deadline)
        return op

    def _look(self, slot):
        """Read, some times over, until something has come. Returns what pull() does.

        Where the broker is near, to fall asleep and be woken takes longer: publishing at QoS 1 in turn takes a sixth
        less time so. Where it is far, its answer takes longer than these reads (1 or 2 ms on a Cortex-M0+)."""
        op = None
        for _ in range(_LOOKS):
            op = self._engine.turn(slot)
            if op is not None:
                break
        return op

    def _answer(self, i):
        """Wait for the answer to the PUBLISH with packet identifier i."""
        i %= len(self._engine.session.state)  # its slot
        if self._engine.left:
            self._flush(None)
        if self.on_wait:
            self._engine.session.waited[i] = 1  # on_wait() may read
            try:
                self._sleep(_POLLIN, _SLICE)
            except:  # a name would put the frame on the heap
                self._abort()
                raise
        try:
            if self.sock is not None:
                self._look(i)
            if self._engine.session.state[i]:  # else: acknowledged, as nearly always
                self._engine.session.waited[i] = 1
                self._doing = "PUBACK" if self._engine.session.flags[i] & 2 else "PUBREC or PUBCOMP"
                self._finish(i)
        except:
            self._engine.session.release(i)  # nobody waits any more
            raise

    def _finish(self, i):
        """Write, and wait until `_until` for the answer to slot i: its reason code. Refused where it is >= 0x80."""
        try:
            if self._engine.left:
                self._flush(self._until)
            while self._engine.session.state[i] != _DONE:
                if self._receive(self._until) is None:
                    if self._until is None:
                        self._until = self._deadline()
                    self._wait_or_abort(_POLLIN, self._until)
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

    def _wait_or_abort(self, events, deadline):
        try:
            self._wait(events, deadline)
        except:  # a name would put the frame on the heap
            self._abort()
            raise

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
            if self.sock is None:  # it has read that the connection is gone, or disconnected
                raise OSError(errno.ENOTCONN, self._doing)
            ms = min(ms, _SLICE)
        if events != self._events:
            self._poll.modify(self.sock, events)
            self._events = events
        self._poll.ipoll(ms)

    def _abort(self):
        """An exception is on its way. Close, but where it is a handler's own: then the connection is whole."""
        e = self._engine
        if e.state == _UP and e.handler_raised:
            e.handler_raised = False
            return
        if self.sock is not None:
            try:
                if e.state == _FAILED and e.farewell():
                    self.sock.write(e.out, e.off, e.left)
            except Exception:
                pass  # the stream's end; or our DISCONNECT is larger than the broker takes
            finally:  # Ctrl-C
                self._close()

    def _close(self):
        if self.sock is not None:
            sock = self.sock
            self.sock = self._engine.turn = self._push = None
            self._together = 0
            self._poll.unregister(sock)
            self._poll = None
            sock.close()
        self._engine.closed()
