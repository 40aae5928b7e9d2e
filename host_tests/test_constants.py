"""Numbers that two modules of lib/ share stand in both, as private constants: a name that is imported takes 8 bytes
of heap on a board, and each use of it a search. `_DONE = const(6)  # as in session.py` must say the truth."""

import re

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
