"""How tasks of the asyncio client wait: without allocating, and so that cancelling one at any point harms no other.

A task that waits is put down by its name (core.cur_task) where it will be found, and awaits pause(); wake(task) lets
it go on. Nothing here touches the socket: only the client's own two tasks wait for it, with ready().
This file alone (and aio_driver.py, for IOQueue, and aio_link.py, for a sleep that can be ended) knows the inside of
MicroPython's asyncio.
"""

from micropython import const

from asyncio import core

from .protocol import Engine

_PUBCOMP = const(3)  # as in session.py
_SUBACK = const(4)  # as in session.py
_UNSUBACK = const(5)  # as in session.py


class _Pause:
    """Yields once. One object serves all tasks: between arming it and the yield nothing else runs."""

    def __init__(self):
        self.armed = False
        self.over = StopIteration()

    def __iter__(self):
        return self

    def __next__(self):
        if self.armed:
            self.armed = False
            return
        self.over.__traceback__ = None
        raise self.over

    def remove(self, task):
        """Task.cancel() calls this: the task is on no queue of asyncio's."""


_pause = _Pause()


def pause():
    """await pause(): until wake(task), or for ever."""
    core.cur_task.data = _pause
    _pause.armed = True
    return _pause


def ready(queue, stream):
    """await ready(core._io_queue.queue_read, stream): until the stream can be read (or written)."""
    queue(stream)
    _pause.armed = True
    return _pause


def wake(task):
    """Let a task go on that awaits pause(). One that was cancelled, or woken before, runs anyway."""
    if task is not None and task.data is _pause:
        core._task_queue.push(task)


def report(error, text):
    """Something that no call can raise: to asyncio's exception handler."""
    core.Loop.call_exception_handler({"message": text, "exception": error, "future": core.cur_task})


class Done:
    """What a call returns that has done its work without waiting: `await` goes on at once; or, with nap=True, lets
    other tasks run before. create_task() takes it too."""

    over = StopIteration()  # raised again and again: making one each time would allocate

    def __init__(self, nap=False):
        self.nap = nap

    def __iter__(self):
        return self

    def __next__(self):
        if not self.nap:
            self.over.__traceback__ = None
            raise self.over
        self.nap = False
        core._task_queue.push(core.cur_task)

    def send(self, value):
        self.__next__()

    def throw(self, error):
        raise error


class Waiters:
    """Who waits for the answer to which slot. table[slot]: None, or a list [task, reason, properties]; task: None
    while nobody waits; reason: None: not yet; -1: the connection went first (SUBSCRIBE, UNSUBSCRIBE)."""

    def __init__(self, engine):
        self.engine = engine
        self.session = engine.session
        self.table = [None] * len(engine.session.state)
        self.took = False  # a refusal that just came has found somebody who waits

    def answered(self, i, reason):
        w = self.table[i]
        if w is not None:
            self.table[i] = None
            w[1] = reason
            if reason >= 0x80:
                w[2] = self.engine.answer_props
                self.took = w[0] is not None
            wake(w[0])

    def wait(self, i, w):
        """From now on the answer to slot i goes to w."""
        self.table[i] = w
        self.session.release(i)  # the answer frees the slot, whether anybody waits or not

    def forget_connection(self):
        """Nobody answers SUBSCRIBE and UNSUBSCRIBE any more. True where nobody waits for the answer either."""
        left = False
        for i in range(len(self.table)):
            w = self.table[i]
            if w is not None and self.session.state[i] > _PUBCOMP:
                self.table[i] = None
                w[1] = -1
                wake(w[0])
                left = left or w[0] is None
        return left

    def requests(self):
        """How many SUBSCRIBE and UNSUBSCRIBE wait for their answers."""
        n = 0
        for state in self.session.state:
            if _SUBACK <= state <= _UNSUBACK:
                n += 1
        return n


class WaitEngine(Engine):
    """The engine, for a driver whose messages may be kept for a while: those for `async for` and for coroutines are
    copied, and acknowledged when they are dealt with."""

    def __init__(self, *args, **options):
        super().__init__(*args, **options)
        self.session.waiters = Waiters(self)
        self.keep = None  # keep(message): takes those that no handler takes, as long as there is no callback
        self.kept = None  # what was kept of the message just handed out: its acknowledgement goes into it
        self.epoch = 0  # counts connections
        self.undealt = []  # those at QoS 2 that are not dealt with yet

    def _call_back(self, m):
        if not self.callback:
            self.keep(m)
            return
        result = self.callback(m.topic, m.payload)
        if hasattr(result, "send"):  # an `async def`
            core.create_task(result)

    def _ack(self, header, reason, pid, props=b""):
        if not self.keeps(header, pid):
            Engine._ack(self, header, reason, pid, props)

    def keeps(self, header, pid):
        """True where this acknowledgement waits until its message is dealt with. For reauth.py too."""
        kept = self.kept
        self.kept = None
        if kept is None:
            if header == 0x50 and self.undealt:
                for kept in self.undealt:
                    if kept.ack & 0xFFFF == pid:  # sent again, and still not dealt with
                        kept.epoch = self.epoch
                        return True
            return False
        if self.session.store:
            self.session.store.holding = False
        kept.ack = header << 16 | pid
        if header == 0x50:
            self.undealt.append(kept)
        return True

    def tell(self, event, value):
        if event == "refused" and self.session.waiters.took:
            self.session.waiters.took = False  # the one who waits is told, by an exception
        else:
            try:
                Engine.tell(self, event, value)
            except Exception as x:  # not the connection's error: the login that told it would fail again and again
                report(x, "on_event")

    def acknowledge(self, kept, reason, props):
        """Queue the acknowledgement that was kept back."""
        Engine._ack(self, kept.ack >> 16, reason, kept.ack & 0xFFFF, self.properties(props, 4))
