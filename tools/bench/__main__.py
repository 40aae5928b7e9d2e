"""The benchmark, in MicroPython's unix port and against the real dev broker.

    python -m tools.bench                 (make bench)

Times are told as ratios to a limit that is measured in turn with ours, in one run: a single time says nothing on a
machine that does other things too. They are no tests. Bytes of heap are exact. Prints tables and writes
build/bench.json. It must never connect to anything but its own broker, nor leave it running.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table

from tools import mpy
from tools.devbroker import Broker
from tools.devbroker.broker import BrokerError

JSON = mpy.ROOT / "build" / "bench.json"
DEVICE = Path(__file__).resolve().parent / "device"
_DEADLINE = 120  # s, for one script
_ITERATIONS, _ROUNDS, _MESSAGES = 4096, 51, 100


class BenchError(Exception):
    """A script did not end as it should; the text is what it said."""


def run(script, lib, told):
    """One script of device/ with the library from `lib` (a folder of .mpy) -> the JSON of its last line.

    told: a JSON-able value for its standard input. BenchError."""
    program = os.environ.get("MICROPYTHON") or str(mpy.ROOT / "build/venv/bin/micropython")
    env = {key: value for key, value in os.environ.items() if not key.startswith("MICROPY")}
    env["MICROPYPATH"] = f".frozen:{lib}"
    try:
        done = subprocess.run(
            [program, str(DEVICE / script)],
            input=json.dumps(told),
            env=env,
            capture_output=True,
            text=True,
            timeout=_DEADLINE,
        )
    except FileNotFoundError:
        raise BenchError(f"{program} is missing: run `make setup`, or name yours by MICROPYTHON=")
    except subprocess.TimeoutExpired:
        raise BenchError(f"{script} did not end within {_DEADLINE} s")
    if done.returncode or not done.stdout.strip():
        raise BenchError(f"{script}: {(done.stderr or done.stdout).strip()}")
    return json.loads(done.stdout.splitlines()[-1])


def pbkdf2(lib):
    """The derivation of keys against the limit: ratios of the rounds, and both medians in ms."""
    rounds = run("pbkdf2.py", lib, {"iterations": _ITERATIONS, "rounds": _ROUNDS})
    ratios = sorted(ours / limit for ours, limit in rounds)
    quarter = len(ratios) // 4
    return {
        "iterations": _ITERATIONS,
        "rounds": _ROUNDS,
        "ratio": round(statistics.median(ratios), 3),
        "middle half": [round(ratios[quarter], 3), round(ratios[-1 - quarter], 3)],
        "ms": round(statistics.median(ours for ours, _ in rounds) / 1000, 2),
        "limit ms": round(statistics.median(limit for _, limit in rounds) / 1000, 2),
    }


def heap(lib):
    """Bytes of heap for each publish, by QoS."""
    with Broker(tls=False) as broker:
        taken = run("heap.py", lib, {"host": broker.host, "port": broker.plain_port, "messages": _MESSAGES})
    return {f"QoS {qos}": total / _MESSAGES for qos, total in sorted(taken.items())}


def table(found):
    """What was found beside what it should be."""
    made = Table(box=box.SIMPLE)
    for i, name in enumerate(("Measured", "here", "aim", "how")):
        made.add_column(name, justify="right" if i in (1, 2) else "left")
    p = found["pbkdf2"]
    low, high = p["middle half"]
    made.add_row(
        f"PBKDF2, {p['iterations']} iterations / {2 * p['iterations']} bare hashes",
        f"{p['ratio']:.2f}",
        "<= 1.25",
        f"median of {p['rounds']} ({low:.2f}-{high:.2f}), {p['ms']:.1f} / {p['limit ms']:.1f} ms",
    )
    for name, size in found["heap"].items():
        made.add_row(f"Heap of a publish, {name}", f"{size:g} B", "0 B", "exact")
    return made


def main():
    try:
        with tempfile.TemporaryDirectory() as lib:
            mpy.compile_files(mpy.sources(), Path(lib, "lib"))
            found = {"pbkdf2": pbkdf2(Path(lib, "lib")), "heap": heap(Path(lib, "lib"))}
    except (BenchError, BrokerError, mpy.CompileError) as e:
        print(f"bench: {e}", file=sys.stderr)
        return 1
    JSON.parent.mkdir(exist_ok=True)
    JSON.write_text(json.dumps(found, indent=1) + "\n")
    console = Console()
    console.print(table(found))
    console.print(f"MicroPython's unix port, from .mpy. Also in {JSON.relative_to(mpy.ROOT)}.", highlight=False)
    return 0


if __name__ == "__main__":
    sys.exit(main())
