"""Puts the library, the program and the secrets onto a board, over its serial port, by mpremote.

    python -m tools.flash BOARD [--port PORT] [--no-reset]          (make flash BOARD=... PORT=...)

Copied is what differs: the board itself hashes its files. Each file goes over under a temporary name and is
renamed when it is whole, main.py last; so an interrupted run is put right by the next one. At the end every
hash is compared once more. It must never show what a secrets file holds, remove a file that is not ours, or
wait without a deadline.
"""

import argparse
import hashlib
import json
import os
import re
import select
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from tools import board as boards
from tools import mpy, romfs, vendor

ROOT = Path(__file__).resolve().parent.parent
SECRETS = ROOT / "build" / "secrets"
_COMPILED = ROOT / "build" / "flash"
_MARK = "UMQTT5 "  # what our scripts print begins with this; the rest is mpremote's own talk
_ROM = "/rom"  # stands for the whole of the ROMFS partition; MicroPython mounts it there
_HASHING = 30  # s: for the board to hash what it has
_SLOWEST = 2000  # bytes/s: a file over a real UART; what the wait for the next word is reckoned from

# Runs on the board: what is there. Only our files are looked at, and as much of the ROMFS partition as our image is
# long; the rest of it is listed.
_LOOK = """
import os, sys, json, hashlib
try: import vfs
except ImportError: vfs = None
print({mark!r} + "here")
def _sum(p):
 d, b = hashlib.sha256(), bytearray(512)
 m = memoryview(b)
 with open(p, "rb") as f:
  while True:
   n = f.readinto(b)
   if not n: break
   d.update(m[:n])
 return "".join("%02x" % c for c in d.digest())
def _walk(p, found):
 try: entries = list(os.ilistdir(p))
 except OSError: return
 for e in entries:
  q = p + "/" + e[0]
  if e[1] & 0x4000: _walk(q, found)
  else: found[q] = _sum(q)
_f = {{}}
for _p in {folders!r}: _walk(_p, _f)
for _p in {files!r}:
 try:
  if not os.stat(_p)[0] & 0x4000: _f[_p] = _sum(_p)
 except OSError: pass
_d = vfs.rom_ioctl(2, 0) if hasattr(vfs, "rom_ioctl") else -1
_r = 0 if isinstance(_d, int) else len(memoryview(_d))
if {rom} and {rom} <= _r: _f["/rom"] = "".join("%02x" % c for c in hashlib.sha256(memoryview(_d)[:{rom}]).digest())
try: _o = os.listdir("/rom")
except OSError: _o = []
_s = os.statvfs("/")
print({mark!r} + json.dumps({{"files": _f, "rom": _r, "in_rom": _o, "platform": sys.platform,
 "block": _s[1], "free": _s[1] * _s[3], "mpy": getattr(sys.implementation, "_mpy", 0) & 255}}))
"""
# Runs on the board before copying: what is to go, and the folders that are needed. Afterwards _mv() gives a
# whole file its name. littlefs replaces the old file at once; FAT refuses to, hence the second try.
_PREPARE = """
import os
for _p in {remove!r}: os.remove(_p)
for _p in {folders!r}:
 try: os.mkdir(_p)
 except OSError as e:
  if e.errno != 17: raise
def _mv(p):
 try: os.rename(p + {new!r}, p)
 except OSError:
  os.remove(p)
  os.rename(p + {new!r}, p)
 print({mark!r} + "wrote " + p)
print({mark!r} + "prepared")
"""
_NEW = ".new"
_FULL = (
    "the board's file system is full: remove files (mpremote ls, mpremote rm), or leave modules out "
    "(board.toml: exclude)"
)


class FlashError(Exception):
    """It could not be done; one line that says why and what to do about it."""


class _Silent(FlashError):
    """The board did not say a word."""


@dataclass
class Flashed:
    """What was done, as paths on the board."""

    copied: list = field(default_factory=list)
    removed: list = field(default_factory=list)
    unchanged: list = field(default_factory=list)


# What belongs onto the board ------------------------------------------------------------------------------


def plan(board, out, secrets_dir=SECRETS, lib=mpy.LIB):
    """{path on the board: Path here} for this Board, main.py last; compiles lib into the folder `out`. FlashError."""
    try:
        sources = mpy.sources(lib, board.modules, board.exclude)
        if board.umqtt:
            sources.update(vendor.vendor())
        compiled = mpy.compile_files(sources, out, board.march)
    except (mpy.CompileError, vendor.VendorError) as e:
        raise FlashError(str(e))
    if board.romfs:
        image = Path(out, "umqtt5.romfs")
        image.write_bytes(romfs.image({name: path.read_bytes() for name, path in compiled.items()}))
        files = {_ROM: image}
    else:
        files = {"/lib/" + name: path for name, path in compiled.items()}
    for name in ["wifi.py"] * board.wifi + ["main.py"]:
        own = boards.BOARDS / board.name / name  # a board may have its own
        files["/" + name] = own if own.is_file() else boards.BOARDS / "common" / name
    secrets = Path(secrets_dir) / f"{board.name}.json"
    if not secrets.is_file():
        raise FlashError(f"no secrets for {board.name} ({secrets}): run `make provision BOARD={board.name}` first")
    files["/secrets.json"] = secrets
    try:
        ca = json.loads(secrets.read_bytes())["mqtt"].get("tls", {}).get("ca")
    except (ValueError, KeyError, TypeError, AttributeError):
        raise FlashError(f"{secrets} is damaged: run `make provision BOARD={board.name}` again") from None
    if ca:
        files["/" + ca] = secrets.with_name(f"{board.name}.ca.der")
        if not files["/" + ca].is_file():
            raise FlashError(f"{files['/' + ca]} is missing: run `make provision BOARD={board.name}` again")
    files["/main.py"] = files.pop("/main.py")
    return files


def _ours(board):
    """Folders and single files on the board that are ours alone: what is in them and not in the plan is
    removed.

    A .py beside a .mpy, or a copy in the root, would be imported instead of what we put there.
    """
    packages = ["umqtt5", "usasl"] + ["umqtt"] * board.umqtt
    places = [f"{place}/{name}" for place in ("", "/lib") for name in packages]
    files = [p + suffix for p in places for suffix in (".py", ".mpy")]
    for name in ("/main.py", "/wifi.py", "/wifi.mpy", "/secrets.json", "/ca.der"):
        files += [name, name + _NEW]
    return places, files


# mpremote -------------------------------------------------------------------------------------------------


def _mpremote(port, commands, answer, step=0, on_word=lambda word: None):
    """Runs `mpremote connect PORT resume COMMANDS`; on_word gets each of our marked lines. -> the last one.

    answer: seconds until the board's first word; `step` more until each further one. Raises FlashError; ends
    mpremote in any case.
    """
    command = [sys.executable, "-m", "mpremote", "connect", port, "resume"]
    for i, words in enumerate(commands):
        command += ["+"] * (i > 0) + words
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
        start_new_session=True,
    )
    talk, rest, last = "", b"", ""
    deadline = time.monotonic() + answer
    try:
        while True:
            ready, _, _ = select.select([process.stdout], [], [], max(0, deadline - time.monotonic()))
            if not ready:
                raise _Silent(_silent(port, answer, last))
            data = os.read(process.stdout.fileno(), 65536)
            if not data:
                break
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                text = line.decode(errors="replace").strip()
                if text.startswith(_MARK):
                    last = text[len(_MARK) :]
                    deadline = time.monotonic() + answer + step
                    on_word(last)
                else:
                    talk = (talk + text + "\n")[-4000:]
        if process.wait(10):
            if "could not enter raw repl" in talk + rest.decode(errors="replace"):
                raise _Silent(_silent(port, answer, ""))
            raise FlashError(_cause(talk + rest.decode(errors="replace"), port, answer, last))
        return last
    finally:
        if process.poll() is None:
            process.kill()
            process.wait(10)
        process.stdout.close()


def _silent(port, answer, last):
    if last:
        return f"the board on {port} fell silent: press its reset button and flash again"
    return (
        f"no answer from {port} within {answer:g} s: is it a board with MicroPython, and the right port? "
        "Press its reset button and try again"
    )


def _cause(talk, port, answer, last):
    """mpremote's words, its traceback if need be -> one line with the cure; nothing of any file's content."""
    if re.search(r"No space left|ENOSPC|OSError: (\[Errno )?28\b", talk):
        return _FULL
    if "failed to access" in talk:
        if not os.path.exists(port):
            return f"no such port: {port}. `build/venv/bin/mpremote devs` lists those that there are"
        if not os.access(port, os.R_OK | os.W_OK):
            return f"{port}: permission denied. Add yourself to its group (often dialout) and log in anew"
        return f"{port} is in use by another program, or is no serial port: close the other one"
    if re.search(r"SerialException|Input/output error|device disconnected|multiple access", talk):
        return f"the board on {port} went away: look at its cable, and flash again"
    if re.search(r"Read-only|EROFS|OSError: (\[Errno )?(30|19)\b", talk):
        return "the board's file system cannot be written to (read-only, or not mounted)"
    lines = [line.strip() for line in talk.splitlines() if line.strip()]
    where = f" after {last!r}" if last else ""
    return f"mpremote failed{where}: {lines[-1][:200] if lines else 'no message'}"


def find_port():
    """The port of the one board that is attached; FlashError if there is none, or more than one."""
    from serial.tools import list_ports

    found = [p.device for p in list_ports.comports() if p.vid is not None]
    if len(found) == 1:
        return found[0]
    if found:
        raise FlashError(f"several boards are attached ({', '.join(sorted(found))}): name one with PORT=")
    raise FlashError("no board is attached by USB: plug it in, or name its port with PORT=")


# The work -------------------------------------------------------------------------------------------------


def flash(board, port=None, *, secrets_dir=SECRETS, lib=mpy.LIB, answer=15, reset=True, console=None):
    """Makes the board on `port` hold what `board` (its name) needs, and resets it -> Flashed.

    port: a serial port, or a virtual board's; None: the one board that is attached. secrets_dir: folder of
    <BOARD>.json. lib: folder of the library. answer: seconds that the board has for its first word.
    console: a rich Console for progress; None: silent. Raises FlashError. Blocks until the board has been
    reset.
    """
    try:
        board = boards.load(board)
    except boards.BoardError as e:
        raise FlashError(str(e))
    if port is None:
        if board.platform == "linux":
            raise FlashError("a virtual board needs PORT=: `build/venv/bin/python -m tools.vboard` prints it")
        port = find_port()
    _COMPILED.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=_COMPILED) as out:  # one each: two boards may be flashed at once
        files = plan(board, out, secrets_dir, lib)
        version = next((path.read_bytes()[1] for path in Path(out).rglob("*.mpy")), None)
        return _flash(board, port, files, version, answer, reset, console or Console(quiet=True))


def _flash(board, port, files, version, answer, reset, console):
    wanted = {path: hashlib.sha256(local.read_bytes()).hexdigest() for path, local in files.items()}
    folders, singles = _ours(board)
    singles += [path for path in files if path not in (*singles, _ROM)]
    rom = files[_ROM].stat().st_size if board.romfs else 0
    look = _LOOK.format(mark=_MARK, folders=folders, files=singles, rom=rom)

    try:
        there = _mpremote(port, [["exec", look]], answer, _HASHING)
    except _Silent:
        # mpremote's Ctrl-C may have met a board that was just starting, and been lost: once more.
        try:
            there = _mpremote(port, [["exec", look]], answer, _HASHING)
        except _Silent:
            raise FlashError(_silent(port, answer, ""))
    there = json.loads(there)
    _check_board(board, there, version)
    _check_rom(board, there, rom)
    done = Flashed(
        copied=[p for p in files if there["files"].get(p) != wanted[p]],
        removed=sorted(p for p in there["files"] if p not in wanted),
    )
    done.unchanged = [p for p in files if p not in done.copied]
    if done.copied or done.removed:
        _check_space(there, files, done)
        there = _copy(port, files, done, look, answer, console)
        if there["files"] != wanted:
            wrong = sorted(set(there["files"].items()) ^ set(wanted.items()))
            raise FlashError(f"{wrong[0][0]} is not on the board as it should be: flash again")
    if reset:
        _mpremote(port, [["reset"]], answer)
    console.print(
        f"{board.name} on {port}: {len(done.copied)} copied, {len(done.unchanged)} unchanged, "
        f"{len(done.removed)} removed" + (", reset" if reset else "")
    )
    return done


def _check_board(board, there, version):
    if there["platform"] != board.platform:
        raise FlashError(
            f"the board on the port is a {there['platform']!r}, but {board.name} is a {board.platform!r}: "
            "name the other one with BOARD= or PORT="
        )
    if version not in (None, there["mpy"]):
        raise FlashError(
            f"its MicroPython reads .mpy version {there['mpy']}, ours are version {version}: "
            "install the MicroPython that README names on the board"
        )


def _check_rom(board, there, size):
    """Refuses a ROMFS that is not there, or not ours alone: deploying replaces the whole of it."""
    ours = {"umqtt5", "usasl"} | ({"umqtt"} if board.umqtt else set())
    if not board.romfs:
        if ours & set(there["in_rom"]):
            raise FlashError(
                "the board's ROMFS holds the library, which would be imported instead of files: set romfs = true in "
                f"boards/{board.name}/board.toml, or empty it (mpremote romfs deploy of an empty folder)"
            )
    elif not there["rom"]:
        raise FlashError(
            f"the board's firmware has no ROMFS partition: set romfs = false in boards/{board.name}/board.toml, or "
            "install a firmware that has one"
        )
    elif size > there["rom"]:
        raise FlashError(
            f"the board's ROMFS partition is too small ({size // 1024} KB are needed, it has {there['rom'] // 1024} "
            "KB): leave modules out (board.toml: exclude)"
        )
    elif others := set(there["in_rom"]) - ours:
        raise FlashError(
            f"the board's ROMFS holds other files too ({', '.join(sorted(others))}), which would be lost: set "
            f"romfs = false in boards/{board.name}/board.toml, or empty it (mpremote romfs deploy of an empty folder)"
        )


def _check_space(there, files, done):
    """Refuses, before anything is touched, what cannot possibly fit; the file system knows the rest."""
    need = sum(files[p].stat().st_size for p in done.copied if p != _ROM and p not in there["files"])
    free = there["free"] + there["block"] * len(done.removed)
    if need > free:
        raise FlashError(f"{_FULL} ({need // 1024} KB are needed, {free // 1024} KB are free)")


def _copy(port, files, done, look, answer, console):
    """Removes, copies, and looks again; -> what is there then."""
    parents = {str(parent) for p in done.copied for parent in Path(p).parents} - {"/", _ROM}
    # `remove` names every file that is in the way; a folder left empty by it does no harm.
    prepare = _PREPARE.format(remove=done.removed, folders=sorted(parents), new=_NEW, mark=_MARK)
    commands = [["exec", prepare]]
    for path in done.copied:
        if path == _ROM:
            commands.append(["romfs", "deploy", str(files[path])])
            commands.append(["exec", f"print({_MARK + 'wrote ' + path!r})"])
        else:
            commands.append(["fs", "cp", "-f", str(files[path]), ":" + path + _NEW])
            commands.append(["exec", f"_mv({path!r})"])
    commands.append(["exec", look])
    bar = Progress(TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), console=console)
    with bar:
        task = bar.add_task("copying", total=len(done.copied), visible=bool(done.copied))

        def on_word(word):
            if word.startswith("wrote "):
                bar.update(task, advance=1, description=word[len("wrote ") :])

        step = _HASHING + max((files[p].stat().st_size for p in done.copied), default=0) / _SLOWEST
        return json.loads(_mpremote(port, commands, answer, step, on_word))


def main(argv=None):
    parser = argparse.ArgumentParser(prog="tools.flash", description=__doc__.splitlines()[0])
    parser.add_argument("board", help="one of boards/: " + ", ".join(boards.names()))
    parser.add_argument("--port", help="serial port; left out: the one board that is attached")
    parser.add_argument("--secrets", type=Path, default=SECRETS, help="folder of <BOARD>.json")
    parser.add_argument("--no-reset", action="store_true", help="leave the program stopped")
    args = parser.parse_args(argv)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # through `finally`: mpremote ends too
    try:
        flash(
            args.board,
            args.port or None,
            secrets_dir=args.secrets,
            reset=not args.no_reset,
            console=Console(),
        )
    except FlashError as e:
        print(f"flash: {e}", file=sys.stderr)
        return 1
    except OSError as e:  # the port's are FlashErrors
        print(f"flash: {boards.no_access(e)}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("flash: interrupted; the next run puts it right", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
