"""How many machine instructions a message takes, by valgrind's callgrind: a busy machine does not change them.

    python -m tools.bench.instructions         (make instructions)

The client alone is counted, not the kernel: MicroPython's unix port, all from .mpy, against a scripted server. Writes
build/instructions.json. A processor does not take the same time for each; times are `make bench`'s.
"""

import argparse
import json
import re
import shutil
import socket
import sys
import threading
from contextlib import suppress

from rich import box
from rich.console import Console
from rich.table import Table

from tools import mpy
from tools.bench import running
from tools.bench.running import BenchError

JSON = mpy.ROOT / "build" / "instructions.json"
_FEW, _MANY = 100, 500
# By measure: whether umqtt.simple is counted too. Not at QoS 1: its five small writes wait for each other.
MEASURES = {
    "publish QoS 0": True,
    "publisher() QoS 0": False,
    "publish QoS 0, two topics in turn": True,
    "publish QoS 1, pipelined": False,  # in turn: it looks as often as it likes until the answer is there
    "receive QoS 0": True,
    "receive QoS 0, two topics in turn": True,
    "receive QoS 0, two topics of a wildcard": True,
    "receive QoS 1": True,
    "publish QoS 0 by robust": True,
    "publish QoS 1, pipelined by robust": False,
    "receive QoS 0 by robust": True,
    "publish QoS 0 by asyncio": False,
    "publish QoS 1, pipelined by asyncio": False,
    "receive QoS 0 by asyncio": False,
    "receive QoS 1 by asyncio": False,
}
_TOPICS, _MESSAGE = (b"bench/house/kitchen", b"bench/house/cellar"), b'{"t": 21.5, "h": 48, "n": 123}'


def measure():
    """{measure: {"ours": instructions a message, "umqtt.simple": the same, where it can}}. BenchError."""
    if not shutil.which("valgrind"):
        raise BenchError("valgrind is missing: `make instructions` installs it")
    with running.library() as lib:
        found = {}
        for what, both in MEASURES.items():
            found[what] = {"ours": _each(lib, what, True)}
            if both:
                found[what]["umqtt.simple"] = _each(lib, what, False)
        return found


def _each(lib, what, ours):
    few, many = (_count(lib, what, ours, n) for n in (_FEW, _MANY))
    return round((many - few) / (_MANY - _FEW))


def _count(lib, what, ours, n):
    """Instructions of a program that connects and does it n times."""
    told = {"what": what, "ours": ours, "n": n}
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(60)
        thread = threading.Thread(target=_serve, args=(server, what, ours, n), daemon=True)
        thread.start()
        script = "instructions_aio" if what.endswith(" by asyncio") else "instructions"
        said = running.run_counted(script, lib, json.dumps(told | {"port": server.getsockname()[1]}))
        thread.join(10)
    return int(re.findall(r"Collected : (\d+)", said)[-1])


def _serve(server, what, ours, n):
    """A broker for this one connection."""
    with suppress(OSError):
        connection, _ = server.accept()
        with connection:
            connection.settimeout(60)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection.recv(4096)  # CONNECT; MQTT 5.0 wants a property length in the answer, 3.1.1 knows none
            connection.sendall(b"\x20\x03\0\0\0" if ours else b"\x20\x02\0\0")
            if what.startswith("receive"):
                topics = _TOPICS if "two" in what else _TOPICS[:1]
                filters = len(topics) if "in turn" in what else 1
                for _ in range(filters if ours else 0):
                    subscribe = connection.recv(4096)
                    connection.sendall(b"\x90\x04" + subscribe[2:4] + b"\0\x01")
                sent = [_publish(topic, "QoS 1" in what, i % filters + 1, ours) for i, topic in enumerate(topics)]
                connection.sendall(b"".join(sent) * (n // len(topics)))
            came = b""
            while data := connection.recv(65536):
                came += data
                while what.startswith("publish QoS 1") and len(came) > 1 and len(came) >= 2 + came[1]:
                    at = 4 + len(_TOPICS[0])
                    connection.sendall(b"\x40\x02" + came[at : at + 2])
                    came = came[2 + came[1] :]


def _publish(topic, qos, ident, ours):
    body = len(topic).to_bytes(2, "big") + topic + (b"\0\x05" if qos else b"")
    body += (bytes((2, 0x0B, ident)) if ours else b"") + _MESSAGE
    return bytes((0x30 | qos << 1, len(body))) + body


def markdown(found):
    """As it stands in the README."""
    lines = ["| Instructions a message | ours | umqtt |", "|---|---:|---:|"]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in _rows(found))])


def _rows(found):
    for what, one in found.items():
        theirs = one.get("umqtt.simple")
        yield what, f"{one['ours']:,}", f"{theirs:,}" if theirs else "-"


def main():
    about = __doc__.partition("\n")[0]
    argparse.ArgumentParser(prog="python -m tools.bench.instructions", description=about).parse_args()
    console = Console()
    try:
        with console.status("Counting: a minute"):
            found = measure()
    except (BenchError, mpy.CompileError) as e:
        print(f"instructions: {e}", file=sys.stderr)
        return 1
    JSON.write_text(json.dumps(found, indent=1) + "\n")
    table = Table("Instructions a message", "ours", "umqtt.simple", box=box.SIMPLE)
    for row in _rows(found):
        table.add_row(*row)
    console.print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
