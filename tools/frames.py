"""How large the frames of lib/'s functions are, read from their .mpy files.

    python -m tools.frames [MODULE ...]

MicroPython keeps the frame of a bytecode function (locals and stack) on the C stack where it takes at most 11
words, and else allocates it from the heap for the call. That costs a search through the heap at each call,
and no other check shows it: it is freed at once, and a locked heap falls back to the C stack. Hot functions
stay below.
"""

import sys
import tempfile
from pathlib import Path

from tools import mpy

LIMIT = 11  # words: py/vm.c, VM_MAX_STATE_ON_STACK
_EXCEPTION = 3  # words of an entry on the exception stack: one for each level of try and with


class _Reader:
    def __init__(self, data):
        self.data, self.at = data, 4  # behind the header: 'M', version, flags, bits of a small int

    def uint(self):
        n = 0
        while True:
            b = self.data[self.at]
            self.at += 1
            n = n << 7 | b & 0x7F
            if not b & 0x80:
                return n

    def skip(self, n):
        self.at += n
        return self.data[self.at - n : self.at]


def frames(path):
    """{"Class.method" or "function": words} of one .mpy file (format version 6)."""
    r = _Reader(Path(path).read_bytes())
    assert r.data[:2] == b"M\x06", f"{path} is no .mpy of version 6"
    n_names, n_objects = r.uint(), r.uint()
    names = []
    for _ in range(n_names):
        n = r.uint()
        names.append(None if n & 1 else r.skip((n >> 1) + 1)[:-1].decode())  # odd: a name that the firmware has
    for _ in range(n_objects):
        _object(r)
    found = {}
    _code(r, names, found, "")
    return found


def _object(r):
    kind = r.skip(1)[0]
    if kind in (5, 6, 7, 8, 9):  # str, bytes, int, float, complex: length and text
        n = r.uint()
        r.skip(n + (kind in (5, 6)))
    elif kind == 10:  # tuple
        for _ in range(r.uint()):
            _object(r)


def _code(r, names, found, outer):
    head = r.uint()
    start = r.at
    assert not head & 3, "native code"
    words, name = _prelude(r, names)
    name = f"{outer}{name or '?'}"
    if name in found:
        name += f" #{len(found)}"
    found[name] = words
    r.at = start + (head >> 3)
    if head & 4:
        for _ in range(r.uint()):
            _code(r, names, found, "" if name == "<module>" else name + ".")


def _prelude(r, names):
    # py/bc.h, MP_BC_PRELUDE_SIG_DECODE and MP_BC_PRELUDE_SIZE_DECODE
    z = r.skip(1)[0]
    state, exceptions, n = z >> 3 & 0xF, z >> 2 & 1, 0
    while z & 0x80:
        z = r.skip(1)[0]
        state |= (z & 0x30) << (2 * n)
        exceptions |= (z & 0x02) << n
        n += 1
    while r.skip(1)[0] & 0x80:
        pass
    index = r.uint()
    return state + 1 + _EXCEPTION * exceptions, names[index] if index < len(names) else None


def main(modules):
    with tempfile.TemporaryDirectory() as out:
        for source, path in mpy.compile_files(mpy.sources(modules=modules or ("umqtt5", "usasl")), out).items():
            for name, words in frames(path).items():
                if words > LIMIT:
                    print(f"{words:3} words  {source}  {name}")


if __name__ == "__main__":
    main(sys.argv[1:])
