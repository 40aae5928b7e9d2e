# Stands in for `socket` in the WebAssembly build, which has none: it gives back what a real broker once answered
# (../recorded.json, by ../record.py), one answer for each write of the client's. `select` is the firmware's own.
#
# Also what MicroPython's asyncio has and this build lacks, whose own leaves waiting to JavaScript: a queue of
# streams.
#
# It is loaded, and its one socket is made, before anything is measured. It must never allocate what stays.
import io
import sys
from asyncio import core

SOCK_STREAM = 1
_POLL = 3  # the request of MicroPython's stream protocol
_IN = 1
_OUT = 4


class Socket(io.IOBase):
    def __init__(self):
        self.load(())

    def load(self, answers):
        """answers: a list of bytes, one for each write to come."""
        self.answers = answers
        self.writes = 0
        self.at = 0
        self.reader = None

    def setblocking(self, flag):
        pass

    def setsockopt(self, level, option, value):
        pass

    def connect(self, address):
        pass

    def write(self, buf, off=0, n=0):
        if self._left():
            raise RuntimeError(
                "replay: a write before the answer to the last one was read: python -m tools.size.record"
            )
        self.writes += 1
        self.at = 0
        if self.reader and self._left():
            core._task_queue.push(self.reader)
            self.reader = None
        return n

    def read(self, n):
        """umqtt's way. What it allocates is garbage soon."""
        out = bytearray(n)
        if self.readinto(out, n) != n:
            raise RuntimeError("replay: more is read than was recorded: python -m tools.size.record")
        return bytes(out)

    def _left(self):
        return len(self.answers[self.writes - 1]) - self.at if self.writes else 0

    def readinto(self, buf, n):
        n = min(n, self._left())
        if not n:
            return None
        answer = self.answers[self.writes - 1]
        at = self.at
        for i in range(n):
            buf[i] = answer[at + i]
        self.at = at + n
        return n

    def ioctl(self, request, argument):
        if request == _POLL:
            return argument & (_OUT | (_IN if self._left() else 0))
        return 0

    def close(self):
        pass


the_socket = Socket()
_address = [(2, SOCK_STREAM, 0, "", ("127.0.0.1", 1883))]


def getaddrinfo(*args):
    return _address


def socket(*args):
    return the_socket


def urandom(n):
    raise RuntimeError("replay: the nonce must be the recorded one")


def queue_read(stream):
    """asyncio's: the task that runs goes on when there is something to read."""
    if stream._left():
        core._task_queue.push(core.cur_task)
    else:
        stream.reader = core.cur_task


def queue_write(stream):
    core._task_queue.push(core.cur_task)


sys.modules["socket"] = sys.modules["usocket"] = sys.modules[__name__]
