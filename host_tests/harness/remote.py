"""A client in MicroPython that a test holds by the hand: it sends pieces of program, and sees what each gave.

    with Board(port=proxy.port) as board:
        board.run("c.connect(False)")
        board.start("c.publish('t', b'x', qos=2)")   # goes on by itself
        ... stop the traffic, kill the broker ...
        assert board.error().errno == 104

`c` is the MQTTClient, `log` a list that the handlers `note` and the on_event `told` write to, `until(condition)` and
`settle()` look for messages (device/client_remote.py). A piece gives back what it has put into `result`.
No wait is without a deadline. A secret may be among the `values`, never in the code: tracebacks show that.
"""

import json
import textwrap

from harness.micropython import Running

MARK = ">>> "
SECONDS = 15  # for one piece


class BoardError(AssertionError):
    """A piece raised; `type`, `text`, `reason`, `errno`, `said`, `server` are the exception's."""

    def __init__(self, error, output):
        super().__init__(f"{error['type']}: {error['text']}\n--- the board's output\n{output}")
        self.__dict__.update(error)


def _plain(value):
    if isinstance(value, (bytes, bytearray)):
        return {"hex": bytes(value).hex()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    if isinstance(value, dict):
        return {key: _plain(v) for key, v in value.items()}
    return value


def _given(value):
    """JSON to values; lists become tuples, as most were."""
    if isinstance(value, dict):
        return bytes.fromhex(value["hex"]) if list(value) == ["hex"] else {k: _given(v) for k, v in value.items()}
    return tuple(_given(v) for v in value) if isinstance(value, list) else value


class Board:
    """See the head of the file. `options`: keyword arguments of the MQTTClient `c`; without `port` none is made."""

    script = "client_remote.py"

    def __init__(self, port=None, client_id="board", **options):
        self._options = {"client_id": client_id, "port": port, "keepalive": 60, **options} if port else None
        self._busy = False

    def __enter__(self):
        self._running = Running(self.script)
        if self._options:
            self.make(**self._options)
        return self

    def __exit__(self, *_):
        self._running.kill()

    def make(self, port, client_id="board", **options):
        """A new MQTTClient `c`."""
        self.run(
            """
            options.setdefault("on_event", told)
            c = MQTTClient(client_id, "127.0.0.1", port, **options)
            c.set_callback(lambda topic, msg: log.append((topic, msg)))
            log.clear()
            """,
            port=port,
            client_id=client_id,
            options=options,
        )

    def start(self, code, **values):
        """Send a piece; it runs while the test goes on. `values`: names that it uses."""
        assert not self._busy, "the board still runs the last piece"
        self._running.tell({"code": textwrap.dedent(code), "values": _plain(values)})
        self._busy = True

    def wait(self, seconds=SECONDS):
        """What the piece that runs gave as `result`; raises BoardError for what it raised."""
        line = self._running.line(MARK, seconds)
        if line is None:
            raise AssertionError(f"the board died: {self._running.process.wait(5)}\n{self._text()}")
        self._busy = False
        answer = json.loads(line[len(MARK) :])
        if "error" in answer:
            raise BoardError(answer["error"], self._text())
        return _given(answer["result"])

    def run(self, code, seconds=SECONDS, **values):
        self.start(code, **values)
        return self.wait(seconds)

    def get(self, expression, **values):
        """The value of an expression."""
        return self.run("result = " + expression, **values)

    def error(self, code=None, **values):
        """The exception of this piece, or of the one that runs; fails where there was none."""
        if code is not None:
            self.start(code, **values)
        try:
            result = self.wait()
        except BoardError as e:
            return e
        raise AssertionError(f"no error, but {result!r}")

    def busy(self):
        """Whether the piece that was started still runs."""
        if self._busy and not self._running.lines.empty():
            with self._running.lines.mutex:
                return not any(line is None or line.startswith(MARK) for line in self._running.lines.queue)
        return self._busy

    def log(self):
        """What the handlers have noted, and forget it."""
        return self.run("result = list(log)\nlog.clear()")

    def _text(self):
        return self._running.text()


def described(packets):
    """Packets (wire.Packet) as short texts: "PUBLISH 1 dup", for an order of packets in an assertion."""
    out = []
    for p in packets:
        dup = " dup" if p.type == 3 and p.flags & 8 else ""
        out.append(f"{p.name} {p.pid}{dup}" if p.pid else p.name)
    return out
