"""Flashing by real mpremote onto the virtual board: what is copied, what is removed, what can go wrong."""

import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import tty
from pathlib import Path

import pytest

from tools import board as boards
from tools import flash as tool
from tools import mpy
from tools.flash import FlashError, flash
from tools.vboard import VirtualBoard

SECRET = "vm3XWoJmOmf9TkkXyaFYUg"


@pytest.fixture
def secrets(tmp_path):
    folder = tmp_path / "secrets"
    folder.mkdir()
    mqtt = {"host": "localhost", "tls": {"ca": "ca.der"}}
    content = {"format": 1, "mqtt": mqtt, "auth": {"keys": [SECRET]}}
    for name in ("UNIX", "RPI_PICO_W"):
        (folder / f"{name}.json").write_text(json.dumps(content))
        (folder / f"{name}.ca.der").write_bytes(b"\x30\x82 not a certificate")
    return folder


@pytest.fixture
def lib(tmp_path):
    """A copy of lib, with two large modules so that there is a "half-way"."""
    lib = shutil.copytree(mpy.LIB, tmp_path / "lib", ignore=shutil.ignore_patterns("__pycache__"))
    for i in range(2):
        (lib / "usasl" / f"large{i}.py").write_text(f"DATA = {os.urandom(50_000)!r}\n")
    return lib


@pytest.fixture
def board(tmp_path):
    with VirtualBoard(tmp_path / "flash") as board:
        yield board


@pytest.fixture
def put(board, secrets, lib):
    return lambda **more: flash("UNIX", **{"port": board.port, "secrets_dir": secrets, "lib": lib, **more})


def command(board, secrets, lib=mpy.LIB, answer=15):
    """The command that flashes, as `python -m tools.flash` does it; with another lib, and less patience."""
    program = (
        "import sys, tools.flash as t; "
        f"t.flash.__kwdefaults__.update(lib={str(lib)!r}, answer={answer}); t._HASHING = 3; t._SLOWEST = 50_000; "
        "sys.exit(t.main(sys.argv[1:]))"
    )
    return [sys.executable, "-c", program, "UNIX", "--port", board.port, "--secrets", str(secrets)]


def digests(files):
    return {p: hashlib.sha256(Path(f).read_bytes()).hexdigest() for p, f in files.items()}


def on_flash(board):
    """Every file on the board's flash as {path: sha256}."""
    root = board.flash_dir
    return digests({"/" + f.relative_to(root).as_posix(): f for f in root.rglob("*") if f.is_file()})


def wanted(secrets, lib, name="UNIX"):
    with tempfile.TemporaryDirectory() as out:
        return digests(tool.plan(boards.load(name), out, secrets, lib))


def test_first_all_then_nothing_then_the_one_that_changed(put, board, secrets, lib):
    first = put()
    assert on_flash(board) == wanted(secrets, lib)
    assert set(first.copied) == set(wanted(secrets, lib)) and first.copied[-1] == "/main.py"
    assert "/lib/umqtt5/codec.mpy" in first.copied and "/secrets.json" in first.copied
    assert "/wifi.py" not in first.copied  # UNIX has none

    times = {f: f.stat().st_mtime_ns for f in board.flash_dir.rglob("*")}
    second = put()
    assert second.copied == [] and second.removed == [] and len(second.unchanged) == len(first.copied)
    assert {f: f.stat().st_mtime_ns for f in board.flash_dir.rglob("*")} == times

    with open(lib / "umqtt5" / "codec.py", "a") as f:
        f.write("\nCHANGED = 1\n")
    assert put().copied == ["/lib/umqtt5/codec.mpy"]
    assert on_flash(board) == wanted(secrets, lib)


def test_a_file_that_is_broken_on_the_board_is_seen_by_its_hash(put, board, secrets, lib):
    put()
    victim = board.flash_dir / "lib/umqtt5/session.mpy"
    data = bytearray(victim.read_bytes())
    data[len(data) // 2] ^= 1  # same length
    victim.write_bytes(data)
    assert put().copied == ["/lib/umqtt5/session.mpy"]
    assert on_flash(board) == wanted(secrets, lib)


def test_stale_files_of_ours_go_and_those_of_others_stay(put, board, secrets, lib):
    put()
    flash_dir = board.flash_dir
    stale = ["lib/umqtt5/codec.py", "lib/usasl/gone.mpy", "umqtt5.py", "umqtt5/simple.py", "main.py.new"]
    stale.append("lib/umqtt5/codec.mpy.new")
    others = ["lib/other.py", "notes.txt", "boot.py", "umqtt/simple.py"]
    for name in stale + others:
        (flash_dir / name).parent.mkdir(exist_ok=True)
        (flash_dir / name).write_text("print('stale')")
    done = put()
    assert done.removed == sorted("/" + name for name in stale) and done.copied == []
    left = on_flash(board)
    assert set(left) == set(wanted(secrets, lib)) | {"/" + name for name in others}


def test_main_runs_after_flashing(put, board, lib, monkeypatch, tmp_path):
    folder = tmp_path / "boards"
    shutil.copytree(boards.BOARDS, folder)
    (folder / "UNIX" / "main.py").write_text("print('the main of this board runs')")
    monkeypatch.setattr(boards, "BOARDS", folder)
    put()
    board.wait_for("the main of this board runs")


def test_a_running_main_is_stopped_first(put, board):
    (board.flash_dir / "main.py").write_text("import time\nwhile 1:\n    print('old'); time.sleep(0.05)\n")
    board.reset()
    board.wait_for("old")
    assert "/main.py" in put(reset=False).copied
    said = len(board.output())
    assert put(reset=False).copied == []
    assert "old" not in board.output()[said:]


def test_umqtt_true_puts_upstreams_beside_ours(put, board, monkeypatch, tmp_path):
    folder = tmp_path / "boards"
    shutil.copytree(boards.BOARDS, folder)
    toml = folder / "UNIX" / "board.toml"
    toml.write_text(toml.read_text().replace("umqtt = false", "umqtt = true"))
    monkeypatch.setattr(boards, "BOARDS", folder)
    done = put(reset=False)
    assert {"/lib/umqtt/simple.mpy", "/lib/umqtt/robust.mpy"} <= set(done.copied)
    import_it = "from umqtt.robust import MQTTClient; print(MQTTClient.__name__)"
    words = ["connect", board.port, "resume", "exec", import_it]
    done = subprocess.run([sys.executable, "-m", "mpremote", *words], capture_output=True, text=True, timeout=30)
    assert done.stdout.strip() == "MQTTClient"


# Interrupted ----------------------------------------------------------------------------------------------


def children(pid):
    return [int(c) for c in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def until(condition, timeout=20):
    end = time.monotonic() + timeout
    while not (value := condition()):
        assert time.monotonic() < end, "did not come"
        time.sleep(0.002)
    return value


@pytest.mark.parametrize("who", ["flash asked to end", "flash killed", "mpremote killed", "power cut"])
def test_interrupted_half_way_and_run_again_ends_right(put, board, secrets, lib, who):
    process = subprocess.Popen(
        command(board, secrets, lib, answer=3), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    try:
        half = board.flash_dir / "lib/usasl/large0.mpy.new"
        until(lambda: half.exists() and half.stat().st_size > 4000)
        (child,) = children(process.pid)
        if who == "flash asked to end":
            process.terminate()
        elif who == "flash killed":
            process.kill()
        elif who == "mpremote killed":
            os.kill(child, signal.SIGKILL)
        else:
            board.reset()
        output = process.communicate(timeout=90)[0]
    finally:
        process.kill()
    assert process.returncode != 0
    if who in ("mpremote killed", "power cut"):
        assert re.match(r"flash: .*\n", output.splitlines(keepends=True)[-1]), output
    until(lambda: not os.path.exists(f"/proc/{child}") or "Z" in Path(f"/proc/{child}/stat").read_text())
    there = on_flash(board)
    assert "/lib/umqtt5/codec.mpy" in there and "/main.py" not in there  # it was half-way indeed
    if who in ("mpremote killed", "power cut"):
        assert "/lib/usasl/large0.mpy.new" in there

    put()
    assert on_flash(board) == wanted(secrets, lib)


def test_power_cut_on_littlefs(tmp_path, secrets, lib):
    with VirtualBoard(tmp_path / "flash", flash_size=1024 * 1024) as board:
        process = subprocess.Popen(
            command(board, secrets, lib, answer=1), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        image = board.flash_dir / "littlefs.img"
        try:
            start = image.stat().st_mtime_ns if image.exists() else 0
            until(lambda: image.exists() and image.stat().st_mtime_ns > start and children(process.pid))
            until(lambda: image.read_bytes().count(b"umqtt5") > 3)
            board.reset()
            assert process.wait(90) == 1
        finally:
            process.kill()
        assert flash("UNIX", board.port, secrets_dir=secrets, lib=lib).copied
        done = flash("UNIX", board.port, secrets_dir=secrets, lib=lib)
        assert done.copied == [] and len(done.unchanged) > 10  # by the hashes on the board


# Errors ---------------------------------------------------------------------------------------------------


def test_surely_too_large_is_refused_before_anything_is_touched(tmp_path, secrets, lib):
    with VirtualBoard(tmp_path / "flash", flash_size=64 * 1024) as board:
        with pytest.raises(FlashError, match=r"file system is full: remove files.*KB are needed"):
            flash("UNIX", board.port, secrets_dir=secrets, lib=lib)
        assert "umqtt5" not in mpremote_ls(board)


def test_full_in_the_middle(tmp_path, secrets):
    lib = tmp_path / "many"
    (lib / "umqtt5").mkdir(parents=True)
    for i in range(16):  # a block of 4 KB each, though the bytes would fit
        (lib / "umqtt5" / f"m{i:02}.py").write_text(f"DATA = {os.urandom(1500)!r}\n")
    (lib / "usasl").mkdir()
    (lib / "usasl" / "a.py").write_text("")
    with VirtualBoard(tmp_path / "flash", flash_size=64 * 1024) as board:
        with pytest.raises(FlashError, match=r"^the board's file system is full: remove files .* leave modules out"):
            flash("UNIX", board.port, secrets_dir=secrets, lib=lib)
        for i in range(2, 16):
            (lib / "umqtt5" / f"m{i:02}.py").unlink()
        flash("UNIX", board.port, secrets_dir=secrets, lib=lib)  # once there is room it ends right


def mpremote_ls(board):
    words = ["connect", board.port, "resume", "fs", "ls", "/"]
    return subprocess.run([sys.executable, "-m", "mpremote", *words], capture_output=True, text=True).stdout


def test_errors_of_the_port(put, tmp_path, monkeypatch):
    with pytest.raises(FlashError, match=r"no such port: /dev/ttyNONE.*mpremote devs"):
        put(port="/dev/ttyNONE")
    with pytest.raises(FlashError, match="in use by another program, or is no serial port"):
        put(port="/dev/null")
    with pytest.raises(FlashError, match=r"PORT=.*tools.vboard"):
        put(port=None)


def test_a_port_that_is_in_use(put, board):
    import serial

    with (
        serial.Serial(board.port, exclusive=True),
        pytest.raises(FlashError, match="in use by another program"),
    ):
        put()
    put()


def test_a_port_where_nothing_answers(put):
    master, slave = os.openpty()
    tty.setraw(slave)
    start = time.monotonic()
    try:
        with pytest.raises(FlashError, match=r"no answer from /dev/pts/.* within 2 s: is it a board"):
            put(port=os.ttyname(slave), answer=2)
    finally:
        os.close(master)
        os.close(slave)
    assert time.monotonic() - start < 6


def test_a_board_that_is_unplugged_in_the_middle(put, board, secrets):
    process = subprocess.Popen(command(board, secrets), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        until(lambda: (board.flash_dir / "lib" / "umqtt5").exists())
        board.stop()
        _, err = process.communicate(timeout=30)
    finally:
        process.kill()
    assert process.returncode == 1
    assert re.fullmatch(r"flash: the board on /dev/pts/\d+ went away: .*\n", err), err


def test_which_usb_board(monkeypatch):
    from types import SimpleNamespace

    from serial.tools import list_ports

    attached = []
    monkeypatch.setattr(list_ports, "comports", lambda: attached)
    with pytest.raises(FlashError, match="no board is attached"):
        tool.find_port()
    attached.append(SimpleNamespace(device="/dev/ttyS0", vid=None))  # no USB: not a board
    attached.append(SimpleNamespace(device="/dev/ttyACM0", vid=0x2E8A))
    assert tool.find_port() == "/dev/ttyACM0"
    attached.append(SimpleNamespace(device="/dev/ttyUSB0", vid=0x10C4))
    with pytest.raises(FlashError, match=r"several boards .*ttyACM0, /dev/ttyUSB0.*PORT="):
        tool.find_port()


def test_the_wrong_kind_of_board_gets_nothing(board, secrets, lib):
    with pytest.raises(FlashError, match="'linux', but RPI_PICO_W is a 'rp2'"):
        flash("RPI_PICO_W", board.port, secrets_dir=secrets, lib=lib)
    assert on_flash(board) == {}


def test_firmware_of_another_mpy_version(put, board, monkeypatch):
    real = tool._mpremote

    def older(*arguments):
        word = real(*arguments)
        return word.replace('"mpy": 6', '"mpy": 5')

    monkeypatch.setattr(tool, "_mpremote", older)
    with pytest.raises(FlashError, match=r"reads .mpy version 5, ours are version 6: install"):
        put()
    assert on_flash(board) == {}


def test_what_arrived_wrong_is_seen_at_the_end(put, monkeypatch):
    real = tool._mpremote

    def damaged(port, commands, *arguments):
        word = real(port, commands, *arguments)
        return re.sub('"/lib/umqtt5/codec.mpy": "..', '"/lib/umqtt5/codec.mpy": "zz', word)

    monkeypatch.setattr(tool, "_mpremote", damaged)
    with pytest.raises(FlashError, match=r"/lib/umqtt5/codec.mpy is not on the board as it should be: flash again"):
        put()


def test_secrets_that_are_missing_or_broken(put, secrets):
    (secrets / "UNIX.ca.der").unlink()
    with pytest.raises(FlashError, match=r"UNIX.ca.der is missing: run `make provision BOARD=UNIX`"):
        put()
    (secrets / "UNIX.json").write_text('{"auth": "' + SECRET)
    with pytest.raises(FlashError, match="damaged: run `make provision BOARD=UNIX` again") as error:
        put()
    assert SECRET not in str(error.value)
    (secrets / "UNIX.json").unlink()
    with pytest.raises(FlashError, match=r"no secrets for UNIX .*: run `make provision BOARD=UNIX` first"):
        put()


def test_unknown_board_and_broken_source(put, lib, board):
    with pytest.raises(FlashError, match=r"no board 'PICO': boards/ has .*UNIX"):
        flash("PICO", board.port)
    (lib / "umqtt5" / "codec.py").write_text("def broken(:\n")
    with pytest.raises(FlashError, match=r"mpy-cross: umqtt5/codec.py: (?s:.*)SyntaxError"):
        put()


def test_the_command_ends_with_one_line_and_code_1_and_shows_no_secret(board, secrets):
    done = subprocess.run(command(board, secrets), capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done
    assert re.search(r"UNIX on /dev/pts/\d+: \d+ copied, 0 unchanged, 0 removed, reset", done.stdout)
    assert SECRET not in done.stdout + done.stderr
    (board.flash_dir / "secrets.json").unlink()
    (board.flash_dir / "secrets.json").mkdir()  # it cannot be replaced: mpremote fails in the middle
    (board.flash_dir / "secrets.json" / "x").write_text("")
    done = subprocess.run(command(board, secrets), capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert re.fullmatch(r"flash: .*\n", done.stderr)
    assert SECRET not in done.stdout + done.stderr


def test_a_folder_of_this_computer_that_cannot_be_written_to(tmp_path, secrets, monkeypatch, capsys):
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(tool, "_COMPILED", tmp_path / "file" / "flash")
    assert tool.main(["UNIX", "--port", "/dev/pts/x", "--secrets", str(secrets)]) == 1
    assert capsys.readouterr().err == f"flash: {tmp_path}/file/flash: Not a directory\n"
    denied = boards.no_access(PermissionError(13, "Permission denied", "build/flash"))
    assert denied.startswith("build/flash: Permission denied. ") and "sudo chown" in denied
