"""A virtual board: MicroPython's unix port behind a pty, with a folder of its own as flash.

`mpremote connect /dev/pts/N resume ...` talks to it as to a real board: Ctrl-C stops main.py, a soft reset
runs boot.py and main.py again, `mpremote reset` works. What it prints is kept, also while nobody is attached.

    python -m tools.vboard [--flash DIR]          prints the port, runs in the foreground

It must never give the board the host's environment (passwords may stand in it), nor end any process but its
own. How it works: two ptys and a thread that carries bytes between them. The outer one is the board's "USB
port" and stays while the process behind it comes and goes; each process gets an inner one of its own as
controlling terminal.
"""

import argparse
import contextlib
import os
import re
import select
import signal
import subprocess
import sys
import termios
import threading
import time
import tty
from pathlib import Path

_ROOT = Path(__file__).resolve().parent.parent
_BOOT = _ROOT / "tools" / "vboard_boot.py"
_UP = b"\x02up\n"  # vboard_boot.py's first word: from now on Ctrl-C reaches MicroPython
_RAW = b"raw REPL; CTRL-B to exit\r\n"
_TICK = 0.05  # s: how often an unattached port is looked at
# A board answers Ctrl-C at once. On the unix port, code that the raw REPL started cannot be stopped by it
# (its terminal is raw then); so after this many seconds the process is started again without main.py.
_DEAF = 2.0
_STABLE = 3.0  # s: a process that ends sooner is started again later and later ...
_BACKOFF = (0, 0.1, 0.5, 1, 2, 5)  # ... by how many times in a row it did
_KEPT = 1_000_000  # characters of output that are kept
_QUEUE = 262_144  # bytes kept for a host that is attached and does not read


def micropython_path():
    """The interpreter's path: $MICROPYTHON, else the one in build/venv."""
    return os.environ.get("MICROPYTHON") or str(_ROOT / "build" / "venv" / "bin" / "micropython")


class _Talk:
    """Bytes from the board -> the lines that it says on its own, without the raw REPL's talk with a tool."""

    def __init__(self):
        self.raw = False
        self._line = b""

    def feed(self, data):
        lines = (self._line + data).split(b"\n")
        self._line = lines.pop()
        for line in lines:
            if (line + b"\n").endswith(_RAW):
                self.raw = True
                continue
            text = line.rstrip(b"\r").decode(errors="replace")
            if text.startswith(("MicroPython ", "Use Ctrl-D to exit", 'Type "help()"')):  # the REPL's greeting
                self.raw = False
                continue
            if not self.raw and text not in ("", ">>> "):
                yield text


class _Process:
    """One run of the interpreter, on a pty of its own."""

    def __init__(self, command, folder):
        self.fd, slave = os.openpty()
        tty.setraw(slave)  # no echo, and no \n -> \r\n: mpremote would see \r\r\n and wait for ever
        attributes = termios.tcgetattr(slave)
        attributes[3] |= termios.ISIG | termios.NOFLSH
        for key in (termios.VQUIT, termios.VSUSP):
            attributes[6][key] = b"\0"
        termios.tcsetattr(slave, termios.TCSANOW, attributes)
        self._popen = subprocess.Popen(
            # The pty must be the controlling terminal, or Ctrl-C is no signal. setsid keeps the pid here.
            ["setsid", "--ctty", *command],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env={"PATH": os.defpath, "LANG": "C.UTF-8", "TERM": "dumb"},
            cwd=folder,
        )
        os.close(slave)
        os.set_blocking(self.fd, False)
        self.pid = self._popen.pid
        self.born = time.monotonic()
        self.up = False

    def runs_code(self):
        """True while Ctrl-C makes a signal: code runs, and the next prompt throws away what is typed now."""
        return bool(termios.tcgetattr(self.fd)[3] & termios.ISIG)

    def end(self):
        """Kills what is left of it; returns its exit code."""
        with contextlib.suppress(ProcessLookupError):  # setsid has not made the group yet: only itself is there
            os.killpg(self.pid, signal.SIGKILL)
        self._popen.kill()
        code = self._popen.wait(10)
        os.close(self.fd)
        return code

    def exit_code(self, timeout=1):
        """The code with which it ended by itself, or None."""
        try:
            return self._popen.wait(timeout)
        except subprocess.TimeoutExpired:
            return None


class VirtualBoard:
    """`with VirtualBoard(folder) as board:` powers a board on; the end of the block powers it off.

    flash_dir: folder that is the board's flash (made if missing). micropython: the interpreter's path.
    log: called with each line (str) that the board says on its own, from another thread.
    flash_size: bytes; then the flash is a littlefs of that size in flash_dir/littlefs.img, so it can be full.
    rom_size: bytes (n * 4096); then it has a partition for a ROMFS, in the file flash_dir.rom beside its flash.
    Attributes: port (str), flash_dir (Path), pid (int; None while it waits to be started again), boots (int).
    Raises FileNotFoundError where there is no interpreter.
    """

    def __init__(self, flash_dir, micropython=None, log=None, flash_size=0, rom_size=0):
        self.flash_dir = Path(flash_dir).resolve()
        self.flash_size = flash_size
        self.rom_size = rom_size
        self.port = self.pid = None
        self.boots = 0
        self._micropython = micropython or micropython_path()
        self._log = log
        self._changed = threading.Condition()
        self._text = ""
        self._wish = None  # what the thread is asked for: "reset" or "stop"
        self._process = None
        self._to_board = self._to_host = b""
        self._asked = b""  # what the board must react to: Ctrl-C, or Ctrl-A (the raw REPL) ...
        self._deadline = None  # ... by this time
        self._start_at = None  # (time, mode) of the next start
        self._quick = 0  # times in a row that the process ended soon

    def start(self):
        """Makes the port and powers the board on."""
        if not os.access(self._micropython, os.X_OK):
            raise FileNotFoundError(
                f"no MicroPython at {self._micropython}: run `make setup`, or name yours: MICROPYTHON=/path"
            )
        self.flash_dir.mkdir(parents=True, exist_ok=True)
        self._outer, slave = os.openpty()
        tty.setraw(slave)
        self.port = os.ttyname(slave)
        os.close(slave)  # the outer side "hangs up" until a host opens the port: so we know whether one is attached
        os.set_blocking(self._outer, False)
        self._wake_r, self._wake_w = os.pipe()
        self._spawn("main")
        self._thread = threading.Thread(target=self._run, name="vboard", daemon=True)
        self._thread.start()
        return self

    def stop(self):
        """Powers it off; the port is gone afterwards."""
        if self.port is None:
            return
        self._ask("stop")
        self._thread.join(10)
        for fd in (self._outer, self._wake_r, self._wake_w):
            os.close(fd)
        self.port = self.pid = None

    __enter__ = start

    def __exit__(self, *_):
        self.stop()

    def reset(self):
        """Hard reset: the process is killed and started again. Returns once it is; main.py runs then."""
        boots = self.boots
        self._ask("reset")
        self._wait(lambda: self.boots > boots, 10, "the reset")

    def output(self):
        """What the board has said on its own so far (str, whole lines)."""
        return self._text

    def wait_for(self, text, timeout=10, since=0):
        """Waits until `text` stands in output()[since:]; returns the index behind it. Else TimeoutError."""
        self._wait(lambda: text in self._text[since:], timeout, repr(text))
        return self._text.index(text, since) + len(text)

    def _ask(self, wish):
        self._wish = wish
        os.write(self._wake_w, b".")

    def _wait(self, condition, timeout, what):
        with self._changed:
            if not self._changed.wait_for(condition, timeout):
                raise TimeoutError(
                    f"{what} did not come within {timeout} s. The board said: ...{self._text[-800:]!r}"
                )

    # From here on: the thread.

    def _spawn(self, mode):
        self._process = _Process(
            [
                self._micropython,
                "-i",
                str(_BOOT),
                str(self.flash_dir),
                *map(str, (self.flash_size, self.rom_size)),
                mode,
            ],
            self.flash_dir,
        )
        self._talk = _Talk()
        self._tail = b""
        self._start_at = None
        with self._changed:
            self.pid = self._process.pid
            self.boots += 1
            self._changed.notify_all()

    def _end(self):
        code = self._process.end()
        self._process = self._deadline = None
        self.pid = None
        return code

    def _run(self):
        while self._wish != "stop":
            if self._wish:
                self._wish, self._quick, self._to_board = None, 0, b""
                if self._process:
                    self._end()
                self._spawn("main")
            if self._start_at and time.monotonic() >= self._start_at[0]:
                self._spawn(self._start_at[1])
            self._turn()
            if self._deadline and time.monotonic() > self._deadline:
                self._say("vboard: deaf to Ctrl-C, started again without main.py")
                self._end()
                self._to_board = b"\r\x01" if b"\x01" in self._asked else b""
                self._spawn("bare")
        if self._process:
            self._end()

    def _turn(self):
        """Waits for bytes on either side and carries them over."""
        look = select.poll()
        look.register(self._outer, select.POLLIN)
        now = look.poll(0)
        state = now[0][1] if now else 0
        attached = not state & select.POLLHUP
        if not attached:
            self._to_host = b""
        poll = select.poll()
        poll.register(self._wake_r, select.POLLIN)
        if attached or state & select.POLLIN:
            poll.register(self._outer, select.POLLIN | (select.POLLOUT if self._to_host else 0))
        if self._process:
            poll.register(self._process.fd, select.POLLIN | (select.POLLOUT if self._may_hear() else 0))
        held = self._to_board or self._deadline or self._start_at
        ready = dict(poll.poll(1000 * (_TICK if held or not attached else 10 * _TICK)))
        if self._wake_r in ready:
            os.read(self._wake_r, 100)
        if ready.get(self._outer, 0) & select.POLLIN:
            with contextlib.suppress(OSError):  # EIO: detached meanwhile
                self._to_board += os.read(self._outer, 4096)
        if ready.get(self._outer, 0) & select.POLLOUT:
            with contextlib.suppress(OSError):
                self._to_host = self._to_host[os.write(self._outer, self._to_host) :]
        if self._process:
            self._inner(ready.get(self._process.fd, 0), attached)

    def _may_hear(self):
        """True if there is something for the board to hear and it would not be lost."""
        if not self._to_board or not self._process.up:
            return False
        return not (self._deadline and self._asked == b"\x03" and self._process.runs_code())

    def _inner(self, state, attached):
        if state & select.POLLIN:
            try:
                data = os.read(self._process.fd, 4096)
            except OSError:  # EIO: it has ended
                data = b""
            if data:
                self._heard(data, attached)
        elif state & (select.POLLHUP | select.POLLERR):
            self._gone()
            return
        if self._deadline and self._asked == b"\x03" and not self._process.runs_code():
            self._deadline = None  # the prompt is there
        if state & select.POLLOUT and self._may_hear():
            self._tell()

    def _tell(self):
        data, interrupt, _ = self._to_board.partition(b"\x03")
        data += interrupt
        running = interrupt and self._process.runs_code()
        if not running:
            data = self._to_board
        try:
            sent = os.write(self._process.fd, data)
        except OSError:
            return
        if running and b"\x03" in data[:sent]:  # until the code has stopped, nothing more is said
            self._asked, self._deadline = b"\x03", time.monotonic() + _DEAF
        if b"\x01" in data[:sent] and data[:sent].strip(b"\r\n\x01\x03") == b"":  # wants the raw REPL
            self._asked, self._deadline = b"\x01", time.monotonic() + _DEAF
        self._to_board = self._to_board[sent:]

    def _heard(self, data, attached):
        if not self._process.up:
            data = self._tail + data
            before, up, after = data.partition(_UP)
            if not up:
                self._tail = data
                return
            self._process.up, self._tail, data = True, b"", before + after
        if self._deadline and self._asked == b"\x01" and _RAW in self._tail + data:
            self._deadline = None
        last = b"\r" if self._tail.endswith(b"\r") else b""
        self._tail = (self._tail + data)[-len(_RAW) :]
        for line in self._talk.feed(data):
            self._say(line)
        if attached:
            # A board's print() ends lines with \r\n, the unix port's with \n.
            cooked = re.sub(rb"(?<!\r)\n", b"\r\n", last + data)[len(last) :]
            self._to_host = (self._to_host + cooked)[-_QUEUE:]

    def _gone(self):
        """The process has ended by itself: soft reset, reset(), sys.exit() or a crash."""
        raw, lived = self._talk.raw, time.monotonic() - self._process.born
        if not self._process.up and self._tail:
            self._say("vboard: " + self._tail.decode(errors="replace"))
        code, interrupted = self._process.exit_code(), self._deadline
        self._end()
        mode = "main"
        if interrupted:  # a Ctrl-C went down with it: it shall not be lost
            mode, self._to_board = "bare", (b"\r\x01" if self._asked == b"\x01" else b"") + self._to_board
        elif code == 0:
            self._to_host += b"OK\r\nMPY: soft reboot\r\n" if raw else b"\r\nMPY: soft reboot\r\n"
            if raw:  # a board runs boot.py only, and stays in the raw REPL
                mode, self._to_board = "boot", b"\r\x01" + self._to_board
        self._quick = self._quick + 1 if code and lived < _STABLE else 0
        wait = 0 if interrupted else _BACKOFF[min(self._quick, len(_BACKOFF) - 1)]
        self._say(f"vboard: ended with {code}, starting again" + (f" in {wait} s" if wait else ""))
        self._start_at = (time.monotonic() + wait, mode)

    def _say(self, line):
        with self._changed:
            self._text = (self._text + line + "\n")[-_KEPT:]
            self._changed.notify_all()
        if self._log:
            self._log(line)


def main(argv=None):
    parser = argparse.ArgumentParser(prog="tools.vboard", description=__doc__.splitlines()[0])
    parser.add_argument("--flash", type=Path, default=_ROOT / "build" / "vboard", help="the folder that is its flash")
    args = parser.parse_args(argv)
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    try:
        with VirtualBoard(args.flash, log=lambda line: print(line, flush=True)) as board:
            print(f"virtual board on {board.port}, flash in {board.flash_dir}; Ctrl-C ends it", flush=True)
            stop.wait()
    except FileNotFoundError as e:
        print(f"vboard: {e}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
