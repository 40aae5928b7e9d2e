"""The blocking client's driver: it opens a stream, moves bytes, waits and keeps time.

The socket never blocks: every wait is a poll with a deadline. MQTT's rules are the engine's, with one exception for
speed: pull() itself deals with a message that differs from one before in its payload only. Everything else goes to
the engine. What a program calls is in simple.py.
"""

from micropython import const

import errno
from time import ticks_add, ticks_diff, ticks_ms

import umqtt5.transport as transport

from .packets import again

_POLLIN = const(1)  # select's, on every port
_POLLOUT = const(4)
_UP = const(2)  # as in reader.py
_FAILED = const(3)  # as in reader.py
_DONE = const(6)  # as in session.py
_LOGIN = const("login: waiting for AUTH or CONNACK")
_SLICE = const(50)  # ms between two calls of on_wait()

_OFTEN = const(b"\x40\x50\x62\x70\xd0")  # PUBACK, PUBREC, PUBREL, PUBCOMP, PINGRESP; and every PUBLISH


# A builtin is found only behind a search through all of the module's names: up to 400 instructions more.
_len = len
_type = type
_bytes = bytes

# What runs for each message are functions: a method is searched behind all that its object has.


def pull(e, read, clock, ahead=-1, more=-1):
    """A generator: each next() reads what the engine needs, and deals with it: one packet at most. It yields the
    first byte of a PUBLISH dealt with, 0 after anything else, None where nothing more has come (and at first), False
    where the stream has ended.

    read(buf, n): the stream's readinto(). clock(): ticks, ms. ahead, more: the two bytes of the next header, -1 where
    they have not been read yet.

    As Engine.got(), but what it needs each time stands in a frame that is made once, and is not searched for; and
    with a body the next header comes, so that of a stream of messages each takes one read: 11 k instructions, not
    15 k. Raises what is wrong with the packet, or what a handler raised (StopIteration as a RuntimeError, PEP 479):
    broke() and _abort() have been called then, and where the connection is whole another generator takes over."""
    head = e.head
    rx = e.rx
    m = None
    try:
        op = None  # in here, or CPython regards its jump back to the `yield` as outside
        while True:
            yield op
            if ahead < 0:
                n = read(e.into, e.need)
                if not n:
                    op = None if n is None else False
                    continue
                e.last_rx = clock()
                if n != 2 or e.part:
                    op = e._got(n)
                    continue
                op = head[0]
                n = head[1]
            else:
                e.last_rx = clock()
                op = head[0] = ahead
                n = more
                ahead = -1
                if n < 0:
                    op = e._got(1)
                    continue
                head[1] = n
            # Of what comes often, the body in the same turn.
            if n > e.quick or (op & 0xF0 != 0x30 and op not in _OFTEN):
                op = e._got(2)
                continue
            if n:
                i = read(rx, n + 2)
                if i != n:
                    if not i or i < n:
                        e._body(n)
                        op = e._got(i) if i else None  # its end shows at the next read
                        continue
                    ahead = rx[n]
                    more = rx[n + 1] if i > n + 1 else -1
            # As the last message, or another that is remembered, but for its payload? pid: -1: not so; 0: QoS 0.
            pid = -1
            if m is not None and (
                (op == m.header and e.session.usual is m.like and n >= m.start and rx.startswith(m.same))
                or (op & 0xF0 == 0x30 and m.is_usual(e, n))
            ):
                if not m.qos:
                    pid = 0
                elif not e.session.receiving and e.owed < e.session.size:
                    i = m.topic_end
                    if rx.startswith(m.like.tail, i + 2):
                        pid = rx[i] << 8 | rx[i + 1] or -1
            if pid < 0:
                op = e.handlers[op >> 4](e, n)
                if m is None:
                    m = e.message
                continue
            m.end = n
            n = 0
            e.in_handler = True  # broke() finds it set when anything but Reject leaves the handler
            try:
                (m.like.handler or e.to_callback)(m)
            except m.Reject:
                if pid:
                    e.owed += 1  # its properties may be wrong
                n = m.rejected(e)
                if pid:
                    e.owed -= 1
            except:
                if pid:
                    e.owed += 1
                raise
            e.in_handler = False
            if pid and e.state == _UP:  # the handler may have disconnected
                e._ack(0x40, n, pid, e.reject_props if n else b"")
    except GeneratorExit:  # CPython's way to end one that nobody asks any more
        raise
    except:  # around the yield too: Ctrl-C comes between two turns as well
        e.broke()
        e.driver._abort()
        e.driver._listen(ahead, more)
        raise


def repeat(e, msg):
    """Publish what stands in tx (Packets.prepared) with another payload: its slot, -1 at QoS 0. None, and nothing is
    done, where that cannot be."""
    if _type(msg) is not _bytes:
        if _type(msg) is not str:
            return None
        msg = msg.encode()
    n = _len(msg) + e.prepared_at
    if n > e.prepared_most or (e.prepared_flags & 6 and again(e, msg) < 0):
        return None
    e.tx[1] = n - 2
    e.tx[e.prepared_at : n] = msg
    try:
        msg = e.driver.sock.write(e.tx, n)
    except:  # two words of frame less than with a name
        e.driver._last_words()
        raise
    if msg != n:
        e.driver._send_rest(n, msg)
    elif e.keepalive:  # else nobody asks when
        e.last_tx = ticks_ms()
    return e.session.last % _len(e.session.state) if e.prepared_flags & 6 else -1


def readdress(e, topic):
    """Give the PUBLISH that stands in tx (Packets.prepared) another topic, one that was published to before. False,
    and nothing is done, where that cannot be."""
    if _type(e.prepared) is not _bytes:
        return False
    if _type(topic) is not _bytes:
        if _type(topic) is not str or topic not in e.topics_ok[1]:
            return False
        topic = e.topics_ok[1][topic]
        if topic is e.prepared:
            return True
    n = e.tx[3]
    if e.alias_limit:
        topics, used, known = e.aliases
        if n or topic not in topics:  # a topic stands there, and no alias for it
            return False
        n = topics.index(topic)
        if not known[n]:
            return False
        used[-1] = used[n] = (used[-1] + 1) & 0x3FFFFFF
        e.prepared = None  # where Ctrl-C comes before the end
        e.tx[e.prepared_at - 1] = n + 1
    elif topic not in e.topics_ok[0]:
        return False
    else:
        n = e.prepared_at + _len(topic) - n
        if n > e.prepared_most:
            return False
        e.prepared = None
        e.prepared_at = n
        e.tx[n - 1] = 0  # no properties
        e.tx[3] = n = _len(topic)
        e.tx[4 : n + 4] = topic
    e.prepared = topic
    return True


def write_out(e):
    """One write of what is due. False where the stream took nothing."""
    try:
        n = e.driver.sock.write(e.out, e.off, e.left)
        if n:  # in here: after a Ctrl-C in write() the same bytes would go out again
            e.wrote(n, ticks_ms())
            return True
    except:  # a name would put the frame on the heap
        e.driver._last_words()
        raise
    e.midway = True  # TLS may hold the bytes: only the same may follow
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
            try:
                self._engine.turn = pull(self._engine, self.sock.readinto, ticks_ms, *ahead).send
                self._engine.turn(None)
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
        timeout = self._engine.timeout if timeout is None else int(timeout * 1000)
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
        self._doing = "waiting for room in flight"
        while not e.in_handler and e.state == _UP:
            if self._receive(self._until) is None:
                if self._until is None:
                    self._until = self._deadline()
                self._wait_or_abort(_POLLIN, self._until)
            elif e.may_publish():
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
            if not write_out(e):
                if deadline is None:
                    deadline = self._deadline()
                self._wait_or_abort(_POLLOUT, deadline)

    def _last_words(self):
        """A write failed. The broker may have said why before it closed, and that is the better error."""
        try:
            from .ending import last_words

            last_words(self._engine)
        except MemoryError:
            pass  # the write's error it is
        finally:
            self._abort()

    def _send_rest(self, n, sent):
        """Of the n bytes of tx so many have gone out, or None."""
        e = self._engine
        e._ready(n)
        e.midway = True
        if sent:
            e.wrote(sent, ticks_ms())
        self._flush(None)

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

    def _answer(self, i):
        """Wait for the answer to the PUBLISH in slot i."""
        s = self._engine.session
        s.waited[i] = 1
        self._doing = "PUBACK" if s.flags[i] & 2 else "PUBREC or PUBCOMP"
        try:
            self._sleep(_POLLIN, _SLICE)  # before the first read: it cannot be there yet. And without a clock
        except:  # a name would put the frame on the heap
            self._abort()
            raise
        self._finish(i)

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
            self.sock = self._engine.turn = None
            self._together = 0
            self._poll.unregister(sock)
            self._poll = None
            sock.close()
        self._engine.closed()
