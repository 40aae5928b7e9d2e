"""lib/usasl/thumb.py: PBKDF2-HMAC-SHA-256 in an RP2040's machine code, run as mpy-cross made it in a CPU emulator (a
Cortex-M0, tools/thumb.py), against CPython's hashlib; and that nothing wrong in it can become a key."""

import collections
import hashlib
import itertools
import json
import random
import shutil
import subprocess

import pytest
from harness.micropython import interpreter
from usasl import derive

from tools import board as boards
from tools import mpy, thumb
from tools.size import measure

THUMBS = ["armv6m", "armv7m", "armv7em", "armv7emsp", "armv7emdp"]
CLOCK = 125_000_000  # Hz, an RP2040's
COUNTS = [1, 2, 3, 63, 64, 65]


@pytest.fixture(scope="module")
def file():
    return thumb.compiled()


@pytest.fixture(scope="module")
def machine(file):
    return thumb.Machine(thumb.code(file))


@pytest.fixture(scope="module")
def module(machine):
    """usasl.thumb, found by usasl.derive as on an RP2040."""
    with thumb.installed(machine) as module:
        yield module


class Counting:
    """hashlib.sha256, or another one, that counts its calls."""

    def __init__(self, hash=hashlib.sha256):
        self.hash, self.calls = hash, 0

    def __call__(self, data=b""):
        self.calls += 1
        return self.hash(data)


def key(password, salt, count, hash=hashlib.sha256, block=64):
    """What usasl derives."""
    return list(derive.pbkdf2(hash, password, salt, count, block))[-1]


def states(module, password, salt):
    """The buffer as derive.py has it made."""
    inner, outer = derive.pads(hashlib.sha256, password, 64, 32)
    inner[64:] = hashlib.pbkdf2_hmac("sha256", password, salt, 1)
    work = module.start(hashlib.sha256, inner, outer)
    assert work, "it does not do what hashlib does"
    return work


# What MicroPython's compiler makes of it ------------------------------------------------------------------


def test_sizes_and_counts_are_these(file):
    # Exact. The cycles are 4096 iterations in 0.29 s at 125 MHz, where hashlib needs 1.6 to 1.7 s.
    assert thumb.figures() == {
        "mpy": 1239,
        "code": 296,
        "buffer": 608,
        "stack": 44,
        "instructions": {"compression": 3842, "iteration": 7747},
        "cycles": {"compression": 4345, "iteration": 8786},
    }


def test_the_same_code_for_every_arm_with_thumb(file):
    assert {thumb.code(thumb.compiled(march)) for march in THUMBS} == {thumb.code(file)}


@pytest.mark.parametrize("name", boards.names())
def test_a_board_gets_it_only_where_it_runs(name, tmp_path):
    board = boards.load(name)
    made = mpy.compile_files(mpy.sources(modules=board.modules), tmp_path, board.march)
    assert "usasl/derive.mpy" in made
    assert ("usasl/thumb.mpy" in made) == (board.march in THUMBS) == (name == "RPI_PICO_W")


@pytest.mark.parametrize("march", ["", "xtensawin", "rv32imc", "x64"])
def test_elsewhere_it_is_left_out(march):
    assert not mpy.fits(thumb.SOURCE, march)


def test_package_json_has_it():
    # `mip install` asks for no architecture; derive.py does, before it imports.
    assert ["usasl/thumb.py", "usasl/thumb.py"] in json.loads(mpy.package_json())["urls"]


# Right --------------------------------------------------------------------------------------------------------


def test_vectors_by_the_machine_code_alone(module):
    """Every length of a password up to 200 (above 64 HMAC hashes it), salts of odd lengths, one call for all."""
    rand = random.Random(1)
    for length, count in zip(range(201), itertools.cycle([2, 3, 64, 65]), strict=False):
        password, salt = rand.randbytes(length), rand.randbytes(1 + length * 7 % 97)
        work = states(module, password, salt)
        module.turn(work, count - 1, 0)
        assert module.result(work) == hashlib.pbkdf2_hmac("sha256", password, salt, count), (length, count)


def test_vectors_through_derive(module):
    rand = random.Random(2)
    for length, count in zip(range(201), itertools.cycle(COUNTS), strict=False):
        password, salt = rand.randbytes(length), rand.randbytes(length * 13 % 41)
        hash = Counting()
        assert key(password, salt, count, hash) == hashlib.pbkdf2_hmac("sha256", password, salt, count)
        # By hashlib: U1, the 4 iterations that are done both ways, and a long password's hash: in hmac(), in pads().
        assert hash.calls == 2 + 2 * 4 + 2 * (length > 64)


@pytest.mark.parametrize("count", [4096, 4097, 10000])
def test_long_derivations(module, count):
    salt = bytes.fromhex("5b6d99689d12358eeca04b141236fa81")  # RFC 7677's example, with its 4096 iterations
    assert key(b"pencil", salt, count) == hashlib.pbkdf2_hmac("sha256", b"pencil", salt, count)


def test_it_works_in_slices(module):
    for count in (2, 5, 6, 69, 70, 200, 4096):
        *done, _ = derive.pbkdf2(hashlib.sha256, b"p", b"s", count, 64)
        assert done[-1] == count
        assert all(0 < b - a <= 64 for a, b in itertools.pairwise([1, *done]))
    slice = 64 * thumb.figures()["cycles"]["iteration"] / CLOCK
    assert slice < 0.005  # seconds; 0.05 is the limit


def test_a_call_may_be_cut_into_any_pieces(module):
    work, pieces = states(module, b"p", b"s"), states(module, b"p", b"s")
    module.turn(work, 300, 0)
    for n in (1, 2, 255, 1, 41):
        module.turn(pieces, n, 0)
    assert work == pieces


# Harmless -----------------------------------------------------------------------------------------------------


def test_it_touches_nothing_but_its_buffer_and_44_bytes_of_stack(module, machine):
    work = states(module, b"p", b"s")
    with machine.counting():
        assert machine.turn(work, 3, 0) == 0  # what MicroPython makes an int of: 0 takes no heap
        touched = set(machine.touched)
    written = {at for at, size, is_write in touched for at in range(at, at + size) if is_write}
    read = {at for at, size, is_write in touched for at in range(at, at + size) if not is_write}
    # Neither the constants between the words of the schedule, nor the padding in them, nor the states.
    words = {8 * i + 4 + j for i in [*range(8), *range(16, 64)] for j in range(4)}
    assert written == words | set(range(576, 608)) | set(range(-44, 0))
    assert read <= set(range(608)) | set(range(-44, 0))
    assert all(at % size == 0 for at, size, _ in touched), "a Cortex-M0 faults there"


def test_its_time_tells_nothing_of_what_it_works_on(module, machine):
    rand = random.Random(3)
    seen = set()
    for length in (0, 1, 64, 65, 200):
        work = states(module, rand.randbytes(length), b"s")
        with machine.counting():
            module.turn(work, 2, 0)
            seen.add((machine.executed, machine.cycles, frozenset(machine.touched)))
    assert len(seen) == 1


# A wrong result cannot be used --------------------------------------------------------------------------------


def test_any_one_bit_of_the_code_may_be_wrong(machine):
    """All 2368 of them: what a CPU would not fault at is found out, and hashlib's key comes out, or does the same."""
    password, salt, count = b"pencil", b"salty", 20
    expected = hashlib.pbkdf2_hmac("sha256", password, salt, count)
    outcomes = collections.Counter()
    with thumb.installed(machine) as module:
        for bit in range(8 * len(machine.code)):
            code = bytearray(machine.code)
            code[bit // 8] ^= 1 << bit % 8
            module.turn = thumb.Machine(code, limit=150_000).turn
            hash = Counting()
            try:
                derived = key(password, salt, count, hash)
            except thumb.ThumbError:
                outcomes["fault"] += 1  # or it hangs: no key either
                continue
            assert derived == expected, f"bit {bit}: a wrong key"
            outcomes["found out" if hash.calls == 2 * count + 2 * 4 else "as before"] += 1
    assert outcomes["found out"] > 1000
    # Counts of rotation are taken modulo 32; "branch if not equal" as "if lower"; what is returned.
    assert outcomes["as before"] < 60


def test_any_one_constant_may_be_wrong(module, monkeypatch):
    rand = random.Random(4)
    places = [("_K", i) for i in range(64)] + [("_START", i) for i in range(8)]
    for name, i in places:
        table = bytearray(getattr(module, name))
        table[4 * i + rand.randrange(4)] ^= 1 << rand.randrange(8)
        monkeypatch.setattr(module, name, bytes(table))
        hash = Counting()
        assert key(b"pencil", b"s", 70, hash) == hashlib.pbkdf2_hmac("sha256", b"pencil", b"s", 70)
        assert hash.calls == 140 + 2 * 4, f"{name}[{i}] was not found out"
        monkeypatch.undo()


def test_another_hash_of_the_same_sizes_is_found_out(module):
    hash = Counting(hashlib.blake2s)
    assert key(b"pencil", b"s", 70, hash) == hashlib.pbkdf2_hmac("blake2s", b"pencil", b"s", 70)
    assert hash.calls == 140 + 2 * 4


@pytest.mark.parametrize(("name", "block"), [("sha1", 64), ("sha512", 128)])
def test_other_sizes_stay_with_hashlib(module, name, block):
    hash = Counting(getattr(hashlib, name))
    assert key(b"pencil", b"s", 70, hash, block) == hashlib.pbkdf2_hmac(name, b"pencil", b"s", 70)
    assert hash.calls == 140


# In MicroPython itself ----------------------------------------------------------------------------------------


def talk(script, path, answer=None):
    """Runs a script in MicroPython, path before lib/; answer(line) answers each line that begins with "?". -> the
    other lines."""
    command, env = interpreter()
    env["MICROPYPATH"] = f".frozen:{path}:" + env["MICROPYPATH"].removeprefix(".frozen:")
    command = ["timeout", "30", *command, "-c", script]
    pipe = subprocess.PIPE
    process = subprocess.Popen(command, env=env, stdin=pipe, stdout=pipe, stderr=subprocess.STDOUT, text=True)
    lines = []
    with process:
        for line in process.stdout:
            if line.startswith("?"):
                process.stdin.write(answer(line[1:].strip()) + "\n")
                process.stdin.flush()
            else:
                lines.append(line.strip())
    assert process.returncode == 0, lines
    return lines


_DERIVE = """
import sys
from hashlib import sha256
from usasl import derive
class sys_of_a_pico:
    class implementation:
        _mpy = 4 << 10
%s
for _ in range(2):  # a second login must not meet what a failed import left behind
    *slices, key = derive.pbkdf2(sha256, b"pencil", b"salty", 140, 64)
    print(slices, "usasl.thumb" in sys.modules, "".join("%%02x" %% i for i in key))
"""
_SLICES = "[65, 129, 140]"


def expected(slices, loaded):
    return 2 * [f"{slices} {loaded} {hashlib.pbkdf2_hmac('sha256', b'pencil', b'salty', 140).hex()}"]


def copy(folder):
    """What a derivation imports, but for usasl.thumb -> its package's folder."""
    lib = folder / "usasl"
    lib.mkdir()
    for name in ("__init__.py", "crypto.py", "derive.py"):
        shutil.copy(mpy.LIB / "usasl" / name, lib)
    return lib


def test_no_other_cpu_looks_at_it(tmp_path):
    (copy(tmp_path) / "thumb.py").write_text("print('looked at')\n")
    assert talk(_DERIVE % "", tmp_path) == expected(_SLICES, False)


@pytest.mark.parametrize("suffix", ["mpy for Arm", "py", "nothing", "no room"])
def test_what_does_not_load_is_done_without(suffix, file, tmp_path):
    """MicroPython, told that it is on an RP2040, meets what the unix port cannot load."""
    lib = copy(tmp_path)
    if suffix == "mpy for Arm":
        (lib / "thumb.mpy").write_bytes(file)
        why = "ValueError: incompatible .mpy"
    elif suffix == "py":
        (lib / "thumb.py").write_bytes(thumb.SOURCE.read_bytes())
        why = "SyntaxError: invalid micropython decorator"
    elif suffix == "nothing":
        why = "ImportError: "
    else:
        (lib / "thumb.py").write_text("raise MemoryError('no room')")
        why = "MemoryError: no room"
    tried = """
try: import usasl.thumb
except Exception as e: print(type(e).__name__ + ": " + str(e))
"""
    assert why in talk(tried, tmp_path)[0]
    assert talk(_DERIVE % "derive.sys = sys_of_a_pico", tmp_path) == expected(_SLICES, False)


def test_derive_and_load_in_micropython_with_the_code_in_the_emulator(machine, tmp_path):
    """The module's Python part in MicroPython, its machine code in the emulator, the buffer going to and fro."""
    python = thumb.SOURCE.read_text().partition("@micropython.asm_thumb")[0]
    turn = """
def turn(work, n, start):
    print("?" + str(n), start, "".join("%02x" % i for i in work))
    work[:] = unhexlify(sys.stdin.readline().strip())
"""
    lib = copy(tmp_path)
    (lib / "thumb.py").write_text(python + "import sys\nfrom binascii import unhexlify\n" + turn)
    calls = []

    def answer(line):
        n, start, work = line.split()
        calls.append((int(n), int(start)))
        work = bytearray.fromhex(work)
        machine.turn(work, *calls[-1])
        return work.hex()

    script = _DERIVE % "derive.sys = sys_of_a_pico"
    assert talk(script, tmp_path, answer) == expected(_SLICES, True)
    assert calls == 2 * [(1, 32), (1, 32), (4, 0), (64, 0), (64, 0), (11, 0)]


def test_start_and_result_on_a_32_bit_heap(machine, tmp_path):
    """In MicroPython's WebAssembly build, where a word of 32 bits is a long integer, as on a board. What the machine
    code did to the buffer before is played back, if the buffer is then as it was."""
    played = []

    class Recorder:
        def turn(self, work, n, start):
            before = work.hex()
            machine.turn(work, n, start)
            played.append((before, n, start, work.hex()))

    with thumb.installed(Recorder()):
        derived = key(b"pencil", b"salty", 140)
    python = thumb.SOURCE.read_text().partition("@micropython.asm_thumb")[0]
    turn = f"""
from binascii import hexlify, unhexlify
PLAYED = {played!r}
def turn(work, n, start):
    before, *same, after = PLAYED.pop(0)
    assert (before, same) == (hexlify(work).decode(), [n, start])
    work[:] = unhexlify(after)
"""
    files = {f"/lib/usasl/{path.name}": path.read_bytes() for path in copy(tmp_path).iterdir()}
    files["/lib/usasl/thumb.py"] = (python + turn).encode()
    before = "import gc, micropython, os, sys\nsys.path[:] = ['/lib', '.frozen']\nos.urandom = bytes  # it has none"
    after = "from usasl.thumb import PLAYED\nassert sys.maxsize == 2**31 - 1 and not PLAYED"
    script = _DERIVE.replace("range(2)", "range(1)") % "derive.sys = sys_of_a_pico"
    _, _, out = measure._run(files, [before, script, after])
    assert out.split()[-1] == derived.hex()
