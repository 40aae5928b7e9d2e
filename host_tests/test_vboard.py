"""The virtual board behaves as a board: real mpremote talks to it over its port."""

import os
import re
import subprocess
import sys
import time

import pytest

from tools.vboard import VirtualBoard

TICKS = """\
import sys, time
print("main.py runs, path", sys.path)
n = 0
while True:
    print("tick", n)
    n += 1
    time.sleep(0.1)
"""


def mpremote(board, *words, resume=True, timeout=30):
    command = [sys.executable, "-m", "mpremote", "connect", board.port, *["resume"] * resume, *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout)


@pytest.fixture
def board(tmp_path):
    with VirtualBoard(tmp_path / "flash") as board:
        yield board


@pytest.fixture
def ticking(tmp_path):
    flash = tmp_path / "flash"
    flash.mkdir()
    (flash / "main.py").write_text(TICKS)
    with VirtualBoard(flash) as board:
        board.wait_for("tick 2")
        yield board


def alive(pid):
    try:
        return "Z" not in re.sub(r".*\) ", "", open(f"/proc/{pid}/stat").read())[:1]
    except FileNotFoundError:
        return False


def test_what_it_prints_is_kept_while_nobody_is_attached(tmp_path):
    (tmp_path / "main.py").write_text(TICKS)
    lines = []
    with VirtualBoard(tmp_path, log=lines.append) as board:
        board.wait_for("tick 3")
        assert lines[:2] == ["main.py runs, path ['', '.frozen', '/lib']", "tick 0"]
        assert board.output().splitlines()[1:4] == ["tick 0", "tick 1", "tick 2"]


def test_flash_is_the_root_and_modules_come_from_it_only(board):
    (board.flash_dir / "lib").mkdir()
    (board.flash_dir / "lib" / "here.py").write_text("print('from the flash')")
    done = mpremote(board, "exec", "import os, here; print(os.getcwd(), os.listdir('/')); import umqtt5")
    assert "from the flash" in done.stdout
    assert "/ ['lib']" in done.stdout
    assert "no module named 'umqtt5'" in done.stdout  # the repository's lib is not in reach


def test_files_go_there_and_back_by_mpremote(board, tmp_path):
    data = bytes(range(256)) * 9
    (tmp_path / "data").write_bytes(data)
    assert mpremote(board, "fs", "cp", str(tmp_path / "data"), ":/data.new").returncode == 0
    assert mpremote(board, "exec", "import os; os.rename('/data.new', '/data')").returncode == 0
    assert (board.flash_dir / "data").read_bytes() == data
    assert mpremote(board, "fs", "cp", ":/data", str(tmp_path / "back")).returncode == 0
    assert (tmp_path / "back").read_bytes() == data


def test_ctrl_c_stops_main_and_its_names_are_there(ticking):
    done = mpremote(ticking, "exec", "print('n was', n)")
    assert re.match(r"n was \d+", done.stdout), done
    assert "KeyboardInterrupt" in ticking.output()
    said = ticking.output()
    assert mpremote(ticking, "exec", "print(1)").stdout.strip() == "1"
    assert ticking.output() == said  # main.py stays stopped; and mpremote's raw REPL is not in the output


def test_ctrl_c_while_it_boots_is_not_lost(tmp_path):
    (tmp_path / "main.py").write_text(TICKS)
    for _ in range(3):
        with VirtualBoard(tmp_path) as board:
            assert mpremote(board, "exec", "print('there')").stdout.strip() == "there"


@pytest.mark.parametrize("how", ["reset()", "mpremote reset", "soft-reset", "kill"])
def test_main_runs_after_a_reset(ticking, how):
    mpremote(ticking, "exec", "print('stopped')")
    since, boots = len(ticking.output()), ticking.boots
    if how == "reset()":
        ticking.reset()
    elif how == "mpremote reset":
        assert mpremote(ticking, "reset").returncode == 0
    elif how == "soft-reset":  # from the friendly REPL: Ctrl-B leaves the raw one, Ctrl-D resets
        with open(ticking.port, "wb", buffering=0) as port:
            port.write(b"\r\x02")
            port.write(b"\x04")
            ticking.wait_for("tick 1", since=since)
    else:
        os.kill(ticking.pid, 9)
    ticking.wait_for("main.py runs", since=since)
    ticking.wait_for("tick 1", since=since)
    assert ticking.boots == boots + 1


def test_soft_reset_in_the_raw_repl_runs_boot_but_not_main(ticking):
    (ticking.flash_dir / "boot.py").write_text("booted = 1\nprint('boot.py runs')")
    # Without `resume` mpremote begins with a soft reset, and expects the raw REPL behind it.
    done = mpremote(ticking, "exec", "print('booted', booted)", resume=False)
    assert done.stdout.strip().endswith("booted 1"), done
    assert ticking.output().count("main.py runs") == 1


def test_code_that_loops_in_the_raw_repl_does_not_lock_it(board):
    mpremote(board, "exec", "--no-follow", "while True: pass")
    assert mpremote(board, "exec", "print('free again')").stdout.strip() == "free again"
    assert board.boots == 2


def test_a_program_that_exits_is_started_later_and_later(tmp_path):
    (tmp_path / "main.py").write_text("import sys\nprint('exits')\nsys.exit()")
    with VirtualBoard(tmp_path) as board:
        board.wait_for("in 0.5 s")
        board.wait_for("in 1 s")
        starts = board.boots
        assert starts == 3
        assert mpremote(board, "exec", "print('in reach')").stdout.strip() == "in reach"


def test_a_ctrl_c_that_goes_down_with_the_process_is_not_lost(tmp_path):
    (tmp_path / "main.py").write_text(
        "import machine, time\nprint('waits')\ntry:\n time.sleep(60)\nexcept KeyboardInterrupt:\n machine.reset()"
    )
    with VirtualBoard(tmp_path) as board:
        board.wait_for("waits")
        assert mpremote(board, "exec", "print('in reach')").stdout.strip() == "in reach"
        assert board.boots == 2


def test_a_program_that_raises_ends_in_the_repl(tmp_path):
    (tmp_path / "boot.py").write_text("1 / 0")
    (tmp_path / "main.py").write_text("print('main.py all the same')\nraise ValueError('oh')")
    with VirtualBoard(tmp_path) as board:
        board.wait_for("ZeroDivisionError")
        board.wait_for("main.py all the same")
        board.wait_for("ValueError: oh")
        assert mpremote(board, "exec", "print(7)").stdout.strip() == "7"
        assert board.boots == 1


def test_a_small_flash_is_a_littlefs_that_keeps_files_and_gets_full(tmp_path):
    with VirtualBoard(tmp_path, flash_size=64 * 1024) as board:
        mpremote(board, "exec", "f = open('kept', 'w'); f.write('x' * 5000); f.close()")
        done = mpremote(board, "exec", "f = open('much', 'w'); f.write('x' * 70000); f.close()")
        assert "OSError: 28" in done.stdout
        board.reset()
        assert mpremote(board, "exec", "print(len(open('kept').read()))").stdout.strip() == "5000"


def test_it_does_not_see_the_hosts_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("UMQTT5_PASSWORD", "s3cret-of-device1")
    with VirtualBoard(tmp_path) as board:
        done = mpremote(board, "exec", "import os; print(os.getenv('UMQTT5_PASSWORD'))")
        assert done.stdout.strip() == "None"


def test_the_end_of_the_block_ends_its_process_and_port(tmp_path):
    with VirtualBoard(tmp_path) as board:
        pid, port = board.pid, board.port
        assert alive(pid)
    assert not alive(pid)
    assert not os.path.exists(port)


def test_no_interpreter_is_one_clear_error(tmp_path):
    with pytest.raises(FileNotFoundError, match="make setup"):
        VirtualBoard(tmp_path, "/no/such/micropython").start()


def test_waiting_in_vain_shows_what_the_board_said(ticking):
    with pytest.raises(TimeoutError, match=r"(?s)never said.*tick 1"):
        ticking.wait_for("never said", timeout=0.1)


def test_the_command_prints_the_port_and_ends_on_sigterm(tmp_path):
    (tmp_path / "main.py").write_text("print('hello from main')")
    command = [sys.executable, "-m", "tools.vboard", "--flash", str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert re.match(r"virtual board on /dev/pts/\d+, ", process.stdout.readline())
            assert process.stdout.readline() == "hello from main\n"
            process.terminate()
            start = time.monotonic()
            assert process.wait(10) == 0
            assert time.monotonic() - start < 5
        finally:
            process.kill()
