"""Numbers that two modules of lib/ share stand in both, as private constants: a name that is imported takes 8 bytes
of heap on a board, and each use of it a search. `_DONE = const(6)  # as in session.py` must say the truth."""

import os
import re
import subprocess

from tools import mpy

CONST = re.compile(r"^_?(\w+) = const\((.+)\)", re.MULTILINE)
SAME = re.compile(r"^_(\w+) = const\((.+)\)  # as in (\w+\.py)$", re.MULTILINE)


def test_they_agree():
    checked = 0
    for path in mpy.sources().values():
        for name, value, other in SAME.findall(path.read_text()):
            theirs = dict(CONST.findall(path.with_name(other).read_text()))
            assert theirs[name] == value, f"{path.name}: _{name} is {theirs[name]} in {other}"
            checked += 1
    assert checked > 8


def test_none_is_left_for_the_board(tmp_path):
    """The compiler puts their values in: const() itself is not among a module's names, where it would take 8 bytes
    (tools/mpy.py leaves its import out)."""
    mpy.compile_files(mpy.sources(), tmp_path / "lib")
    program = "import sys; sys.path[:] = [%r]; import umqtt5.simple, umqtt5.receive, umqtt5.reauth; "
    program += "there = [n for n in sys.modules if n[:6] == 'umqtt5']; "
    program += "print([n for n in there if hasattr(sys.modules[n], 'const')], len(there))"
    command = [os.environ["MICROPYTHON"], "-c", program % str(tmp_path / "lib")]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=20)
    there, modules = done.stdout.rsplit(" ", 1)
    assert there == "[]" and int(modules) > 14
