"""Flashing the library into a board's ROMFS partition, by real mpremote onto the virtual board."""

import json
import shutil
import subprocess
import sys

import pytest

from tools import board as boards
from tools import mpy, romfs
from tools.flash import FlashError, flash
from tools.vboard import VirtualBoard

_PARTITION = 256 * 1024


@pytest.fixture
def secrets(tmp_path):
    folder = tmp_path / "secrets"
    folder.mkdir()
    (folder / "UNIX.json").write_text(json.dumps({"format": 1, "mqtt": {"host": "localhost"}}))
    return folder


@pytest.fixture
def put(secrets, tmp_path, monkeypatch):
    """Flashes a board as boards/UNIX says, but with this `romfs`."""
    folder = shutil.copytree(boards.BOARDS, tmp_path / "boards")
    toml = folder / "UNIX" / "board.toml"
    said = toml.read_text()
    assert "romfs = false" in said
    monkeypatch.setattr(boards, "BOARDS", folder)

    def put(board, romfs=True, **more):
        toml.write_text(said.replace("romfs = false", "romfs = " + str(romfs).lower()))
        return flash("UNIX", board.port, **{"secrets_dir": secrets, **more})

    return put


@pytest.fixture
def board(tmp_path):
    with VirtualBoard(tmp_path / "flash", rom_size=_PARTITION) as board:
        yield board


def mpremote(board, *words):
    command = [sys.executable, "-m", "mpremote", "connect", board.port, "resume", *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    assert not done.returncode, done.stdout + done.stderr
    return done.stdout.strip()


def test_the_library_runs_from_there(put, board):
    (board.flash_dir / "lib" / "umqtt5").mkdir(parents=True)
    (board.flash_dir / "lib" / "umqtt5" / "codec.mpy").write_bytes(b"of an earlier run")
    first = put(board, reset=False)
    assert first.copied == ["/rom", "/secrets.json", "/main.py"] and first.removed == ["/lib/umqtt5/codec.mpy"]
    board.reset()
    shown = "import umqtt5.simple, usasl.scram; print(umqtt5.__file__, umqtt5.simple.__file__, usasl.scram.__file__)"
    assert mpremote(board, "exec", shown) == "/rom/umqtt5/__init__.mpy /rom/umqtt5/simple.mpy /rom/usasl/scram.mpy"

    second = put(board, reset=False)
    assert second.copied == [] and second.removed == [] and len(second.unchanged) == 3


def test_main_runs_with_it(put, board, tmp_path):
    main = "import umqtt5.codec\nprint('from', umqtt5.codec.__file__)"
    (tmp_path / "boards" / "UNIX" / "main.py").write_text(main)
    put(board)
    board.wait_for("from /rom/umqtt5/codec.mpy")


def test_what_has_changed_goes_over_again(put, board, tmp_path):
    lib = shutil.copytree(mpy.LIB, tmp_path / "lib", ignore=shutil.ignore_patterns("__pycache__"))
    put(board, lib=lib, reset=False)
    with open(lib / "umqtt5" / "codec.py", "a") as f:
        f.write("\nCHANGED = 1\n")
    assert put(board, lib=lib, reset=False).copied == ["/rom"]
    board.reset()
    assert mpremote(board, "exec", "import umqtt5.codec as c; print(c.CHANGED)") == "1"


def test_cut_off_half_way_and_run_again_ends_right(put, board):
    put(board, reset=False)
    image = board.flash_dir.with_name("flash.rom")
    whole = image.read_bytes()
    # As a power cut leaves it: the partition is erased from its start on, and has been written up to here.
    image.write_bytes(whole[:8192] + b"\xff" * (_PARTITION - 8192))
    board.reset()
    assert put(board, reset=False).copied == ["/rom"]
    assert image.read_bytes()[: len(whole)].rstrip(b"\xff\0") == whole.rstrip(b"\xff\0")
    board.reset()
    assert mpremote(board, "exec", "import umqtt5; print(umqtt5.__file__)") == "/rom/umqtt5/__init__.mpy"


def test_a_firmware_without_a_partition(put, tmp_path):
    with VirtualBoard(tmp_path / "plain") as plain:
        with pytest.raises(FlashError, match=r"no ROMFS partition: set romfs = false in boards/UNIX/board\.toml"):
            put(plain)
        assert not list(plain.flash_dir.iterdir())


def test_a_partition_that_is_too_small(put, tmp_path):
    with VirtualBoard(tmp_path / "small", rom_size=64 * 1024) as small:
        with pytest.raises(FlashError, match=r"partition is too small .* it has 64 KB\): leave modules out"):
            put(small)
        assert not list(small.flash_dir.iterdir())


def test_files_of_others_are_not_overwritten(put, board, tmp_path):
    image = tmp_path / "theirs.romfs"
    image.write_bytes(romfs.image({"font.bin": b"1234", "umqtt5/__init__.mpy": b"", "app/main.py": b"print(1)\n"}))
    mpremote(board, "romfs", "deploy", str(image))
    board.reset()
    with pytest.raises(FlashError, match=r"other files too \(app, font\.bin\), which would be lost"):
        put(board)
    assert mpremote(board, "exec", "print(open('/rom/font.bin').read())") == "1234"


def test_the_library_there_would_hide_the_one_in_files(put, board, tmp_path):
    put(board, reset=False)
    board.reset()
    with pytest.raises(FlashError, match="would be imported instead of files: set romfs = true"):
        put(board, romfs=False)
    # The cure that it names.
    (tmp_path / "empty").mkdir()
    mpremote(board, "romfs", "deploy", str(tmp_path / "empty"))
    board.reset()
    assert "/lib/umqtt5/codec.mpy" in put(board, romfs=False, reset=False).copied
    board.reset()
    assert mpremote(board, "exec", "import umqtt5; print(umqtt5.__file__)") == "/lib/umqtt5/__init__.mpy"
