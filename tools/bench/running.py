"""Runs the scripts of device/ in MicroPython's unix port: they and the libraries from .mpy, as on a board.

What a script is told goes in by standard input: arguments are shown to every user of the machine. It must never
connect to anything but a broker of our own.
"""

import hashlib
import hmac
import json
import os
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from tools import mpy
from tools.devbroker import Broker

DEVICE = Path(__file__).resolve().parent / "device"
UMQTT = mpy.ROOT / "build" / "vendor" / "umqtt"
USER, PASSWORD, SALT, ITERATIONS = "device1", "a-bench-marks-password", b"salt-of-16-bytes", 4096
_DEADLINE = 120  # s, for one script


class BenchError(Exception):
    """A script did not end as it should; the text is what it said."""


class QuietBroker(Broker):
    """The dev broker, but with little to log: else a line for each packet is what is measured. And it sends a client
    as many messages at QoS 1 as that wants: so they can wait in its socket, and the broker can sleep."""

    def __init__(self):
        super().__init__(tls=True)

    def _write_config(self, plugin):
        super()._write_config(plugin)
        path = self.state_dir / "mosquitto.conf"
        kinds = "".join(f"log_type {kind}\n" for kind in ("error", "warning", "notice", "information"))
        text = path.read_text()
        if "log_type all\n" not in text:
            raise BenchError("the dev broker's configuration has no line `log_type all` any more")
        path.write_text(text.replace("log_type all\n", kinds + "max_inflight_messages 1000\n"))


@contextmanager
def broker():
    """A broker with the user USER, who has these keys, and a password user `plain`."""
    with QuietBroker() as made:
        made.add_user(USER, PASSWORD, iterations=ITERATIONS, salt=SALT)
        made.add_password_user("plain", PASSWORD)
        yield made


@contextmanager
def apart(broker):
    """The broker has a core, and what is started here another one, as where a board is the client. Else the kernel
    puts two programs that answer each other onto one core, sometimes, and what a client does while the broker works
    counts. On a machine with one core that is so anyway."""
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(broker.pid, {max(cores)})
    os.sched_setaffinity(0, cores - {max(cores)} or cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, cores)
        os.sched_setaffinity(broker.pid, cores)


def scram_keys():
    """What the board would hold: (client_key, server_key) of USER (RFC 5802, 3)."""
    salted = hashlib.pbkdf2_hmac("sha256", PASSWORD.encode(), SALT, ITERATIONS)
    return tuple(hmac.digest(salted, name, "sha256") for name in (b"Client Key", b"Server Key"))


@contextmanager
def library():
    """A folder with everything that the scripts import, compiled: umqtt5, usasl, umqtt, the scripts."""
    with TemporaryDirectory(prefix="umqtt5-bench-") as folder:
        files = mpy.sources() | {path.name: path for path in sorted(DEVICE.glob("*.py"))}
        files |= {f"umqtt/{path.name}": path for path in UMQTT.glob("*.py")}
        mpy.compile_files(files, Path(folder, "lib"))
        yield Path(folder, "lib")


def run(script, lib, told, heap=None):
    """device/<script>.py -> all that it printed, as text.

    lib: the folder of library(). told: text for its standard input. heap: KB; None: MicroPython's default.
    BenchError."""
    return _run([*(["-X", f"heapsize={int(heap * 1024)}"] if heap else []), "-m", script], lib, told).stdout


def run_counted(script, lib, told):
    """device/<script>.py under callgrind -> what that said."""
    counted = ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null", sys.executable]
    return _run(["-m", script], lib, told, counted).stderr


def _run(arguments, lib, told, before=()):
    program = os.environ.get("MICROPYTHON") or str(mpy.ROOT / "build/venv/bin/micropython")
    env = {key: value for key, value in os.environ.items() if not key.startswith("MICROPY")}
    env["MICROPYPATH"] = f"{lib}:.frozen"
    script = arguments[-1]
    try:
        done = subprocess.run(
            [*before, program, *arguments], input=told, env=env, capture_output=True, text=True, timeout=_DEADLINE
        )
    except FileNotFoundError:
        raise BenchError(f"{program} is missing: run `make setup`, or name yours by MICROPYTHON=") from None
    except subprocess.TimeoutExpired:
        raise BenchError(f"{script} did not end within {_DEADLINE} s") from None
    if done.returncode or not done.stdout.strip() or "Traceback" in done.stderr + done.stdout:
        raise BenchError(f"{script}: {(done.stderr + done.stdout).strip()}")
    return done


def run_json(script, lib, told):
    """run(), with a JSON-able value told, and the JSON of the script's last line returned."""
    return json.loads(run(script, lib, json.dumps(told)).splitlines()[-1])
