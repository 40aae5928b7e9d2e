"""Run a script inside MicroPython's unix port, as a board would: own process, own deadline, output as JSON
lines.

What a script is told goes in by standard input: arguments are shown to every user of the machine, and may
be secrets.
"""

import contextlib
import json
import os
import queue
import signal
import subprocess
import threading
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DEVICE = ROOT / "host_tests" / "device"


class DeviceError(AssertionError):
    """The script crashed, hung, or left a traceback; the text holds all of its output."""


@dataclass
class Result:
    """What a script left: exit code (negative: the signal that ended it), both outputs, and its JSON
    lines."""

    code: int
    out: str
    err: str
    hung: bool

    @property
    def lines(self):
        return [json.loads(line) for line in self.out.splitlines() if line.startswith(("{", "["))]

    def show(self):
        end = "ran into its deadline" if self.hung else f"exit code {self.code}"
        return f"{end}\n--- stdout\n{self.out}\n--- stderr\n{self.err}"


def interpreter(name="micropython"):
    """(command, environment) of "micropython" ($MICROPYTHON, else the one in build/venv) or "cpython" with
    the shims."""
    paths = [ROOT / "lib", DEVICE]
    env = {key: value for key, value in os.environ.items() if not key.startswith(("MICROPY", "PYTHON", "UMQTT5_"))}
    if name == "cpython":
        env["PYTHONPATH"] = os.pathsep.join(map(str, [ROOT / "tools" / "shims", *paths]))
        return [str(ROOT / "build/venv/bin/python"), "-B"], env
    env["MICROPYPATH"] = ":".join(map(str, [".frozen", *paths]))
    return [os.environ.get("MICROPYTHON") or str(ROOT / "build/venv/bin/micropython")], env


def execute(command, env, told, timeout):
    """Run a command in a process group of its own, which is killed at the deadline (seconds). Returns a
    Result."""
    process = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=env,
        cwd=ROOT,
        text=True,
        errors="backslashreplace",
        start_new_session=True,
    )
    hung = False
    try:
        out, err = process.communicate(told, timeout)
    except subprocess.TimeoutExpired:
        hung = True
        os.killpg(process.pid, signal.SIGKILL)
        out, err = process.communicate(timeout=10)
    return Result(process.returncode, out, err, hung)


def run_device(script, told=None, *args, timeout=20, heap=None, name="micropython", check=True, extra_path=()):
    """Run host_tests/device/<script> and return its Result.

    told: a JSON-able value for its standard input; args: plain, never secret; heap: size of MicroPython's
    heap in bytes; check: raise DeviceError unless it ends with exit code 0, in time and without a
    traceback.
    """
    command, env = interpreter(name)
    key = "PYTHONPATH" if name == "cpython" else "MICROPYPATH"
    env[key] = ":".join([*map(str, extra_path), env[key]]) if extra_path else env[key]
    if heap and name == "micropython":
        command = [*command, "-X", f"heapsize={heap}"]
    result = execute([*command, str(DEVICE / script), *map(str, args)], env, json.dumps(told), timeout)
    if check and (result.hung or result.code or "Traceback" in result.out + result.err):
        raise DeviceError(f"{script} in {name}: {result.show()}")
    return result


class Running:
    """A device script that runs while the test goes on: JSON lines to it, and lines from it, none waited for without
    a deadline. options: the interpreter's."""

    def __init__(self, script, *options):
        command, env = interpreter()
        self.process = subprocess.Popen(
            [*command, *options, str(DEVICE / script)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=env,
            cwd=ROOT,
            encoding="utf-8",
            errors="backslashreplace",
        )
        self.lines, self._passed = queue.Queue(), []
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        with contextlib.suppress(ValueError):  # closed
            for line in self.process.stdout:
                self.lines.put(line)
        self.lines.put(None)

    def tell(self, value):
        self.process.stdin.write(json.dumps(value, ensure_ascii=False) + "\n")
        self.process.stdin.flush()

    def line(self, begin, seconds):
        """The next line that begins so; None at the script's end. The others are kept for text()."""
        while True:
            try:
                line = self.lines.get(timeout=seconds)
            except queue.Empty:
                raise AssertionError(f"no answer in {seconds} s; before:\n{self.text()}") from None
            if line is None or line.startswith(begin):
                return line
            self._passed.append(line)

    def text(self):
        """The last of its other lines."""
        return "".join(self._passed[-60:])

    def kill(self):
        self.process.kill()
        self.process.communicate(timeout=10)
