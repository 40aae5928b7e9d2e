"""Compiles the broker's plugin when a source is newer than what is there. Never writes outside build/."""

import fcntl
import os
import shutil
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SOURCES = Path(__file__).resolve().parent / "plugin"
TARGET = ROOT / "build" / "devbroker" / "mosquitto_sasl.so"

FLAGS = ["-std=gnu11", "-O2", "-g", "-Wall", "-Wextra", "-Werror", "-fPIC", "-shared", "-fvisibility=hidden"]
LIBRARIES = ["-lsasl2", "-lgsasl"]


class BuildError(RuntimeError):
    """The plugin cannot be compiled; the text says why."""


def plugin():
    """-> path of the up-to-date plugin (.so), compiled now if need be. BuildError if that fails."""
    TARGET.parent.mkdir(parents=True, exist_ok=True)
    # Several test processes may ask at once: one compiles, the others wait for it.
    with open(TARGET.with_suffix(".lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not _is_current():
            _compile()
    return TARGET


def _is_current():
    if not TARGET.exists():
        return False
    built = TARGET.stat().st_mtime
    return all(path.stat().st_mtime <= built for path in [*SOURCES.iterdir(), Path(__file__)])


def _compile():
    compiler = shutil.which("gcc")
    if compiler is None:
        raise BuildError("gcc was not found: run `make setup`, or apt-get install gcc libc6-dev")
    # A running broker has the old file mapped: never write into it, put a new one in its place.
    fresh = TARGET.with_suffix(".new")
    sources = sorted(map(str, SOURCES.glob("*.c")))
    command = [compiler, *FLAGS, *sources, "-o", str(fresh), *LIBRARIES]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    if done.returncode:
        raise BuildError(
            "the broker's plugin does not compile (missing headers? run `make setup`, or apt-get install "
            f"mosquitto-dev libmosquitto-dev libsasl2-dev libgsasl-dev):\n{done.stderr}"
        )
    os.replace(fresh, TARGET)
