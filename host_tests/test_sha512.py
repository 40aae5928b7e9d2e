"""usasl/sha512.py against CPython's hashlib: in machine code on this machine and, emulated, on a 32-bit one; in plain
Python, on 64 bits and on 32, where it must make no big integers; and which of the two is taken."""

import hashlib
import random
import struct
import sys

import pytest
from harness.micropython import run_device
from usasl import sha512, sha512_plain

from tools import mpy, viper
from tools.size import measure

ALL = [*range(301), 1000, 1023, 1024, 4096, 10000]
SOME = [0, 1, 111, 112, 127, 128, 129, 239, 240, 1000]


def expected(lengths, seed):
    return [[hashlib.sha512(bytes((i * i + 31 * i + seed) & 255 for i in range(n))).hexdigest()] for n in lengths]


def taken(lib, which="any"):
    """Which compress() MicroPython takes with this folder before lib/. The digests must be right."""
    told = {"which": which, "lengths": SOME, "seed": 3}
    (taken,), *digests = run_device("sha512_run.py", told, extra_path=[lib]).lines
    assert digests == expected(SOME, 3)
    return taken


def lib_with(tmp_path, **files):
    """A library of these modules of usasl: a name without a text is ours."""
    (tmp_path / "usasl").mkdir()
    for name in ("__init__", "sha512", "sha512_native", "sha512_plain"):
        text = files.get(name, (mpy.LIB / "usasl" / f"{name}.py").read_text())
        if text is not None:
            (tmp_path / "usasl" / f"{name}.py").write_text(text)
    return tmp_path


@pytest.mark.parametrize(
    ("which", "name"), [("native", "micropython"), ("plain", "micropython"), ("plain", "cpython")]
)
def test_all_lengths(which, name):
    lengths = ALL if which == "native" or name == "cpython" else ALL[:-2]
    seed = random.randrange(256)
    told = {"which": which, "lengths": lengths, "seed": seed}
    (taken,), *digests = run_device("sha512_run.py", told, name=name).lines
    # The unix port has the viper emitter; CPython has none.
    assert taken == ("native" if name == "micropython" else "plain")
    wrong = [n for n, a, b in zip(lengths, digests, expected(lengths, seed), strict=True) if a != b]
    assert not wrong, f"seed {seed}"


@pytest.mark.parametrize(
    "native",
    [
        pytest.param(None, id="not-installed"),
        pytest.param("import micropython\n@micropython.viper_is_not_here\ndef compress(): pass\n", id="no-emitter"),
        pytest.param("raise ValueError('incompatible .mpy arch')\n", id="another-architecture"),
        pytest.param("raise MemoryError\n", id="no-room"),
        pytest.param("def compress(state, data, at, k): state[0] ^= 1\n", id="wrong"),
    ],
)
def test_without_machine_code_it_is_the_plain_one(native, tmp_path):
    assert taken(lib_with(tmp_path, sha512_native=native)) == "plain"


def test_with_machine_code_the_plain_one_is_not_loaded(tmp_path):
    assert taken(lib_with(tmp_path, sha512_plain="raise AssertionError\n")) == "native"


def test_the_constants_are_those_of_the_standard():
    """FIPS 180-4 4.2.3, 5.3.5: the fractions of the cube roots of the first 80 primes, of the square roots of 8."""
    primes = [n for n in range(2, 410) if all(n % d for d in range(2, n))]
    assert len(primes) == 80

    def fraction(n, power):
        low, high = 0, n << 64
        while low + 1 < high:  # the largest whole number whose power is not above n * 2 ** (64 * power)
            middle = (low + high) // 2
            low, high = (middle, high) if middle**power <= n << 64 * power else (low, middle)
        return low & 2**64 - 1

    assert struct.pack(">80Q", *(fraction(n, 3) for n in primes)) == sha512._K
    assert struct.pack(">8Q", *(fraction(n, 2) for n in primes[:8])) == sha512._START


# 32 bits ------------------------------------------------------------------------------------------------------


def test_plain_python_on_32_bits_makes_no_big_integers(tmp_path):
    """MicroPython's WebAssembly build: small integers have 31 bits there. Only the words' lists are allocated."""
    names = ("usasl/__init__.py", "usasl/sha512.py", "usasl/sha512_plain.py")
    made = mpy.compile_files({name: mpy.LIB / name for name in names}, tmp_path)
    files = {f"/lib/{name}": path.read_bytes() for name, path in made.items()}
    steps = [
        "import sys, gc, micropython, binascii\nsys.path[:] = ['/lib']\nheap = None\nfrom usasl import sha512",
        "state = bytearray(sha512._START)\nblock = b'\\xff' * 128\ngc.collect()\ngc.disable()\nn = gc.mem_alloc()",
        "sha512._compress(state, block, 0, sha512._K)\nprint(gc.mem_alloc() - n)",
        "print(binascii.hexlify(state).decode())",
        "print(sha512._compress.__name__, max(state), 'usasl.sha512_plain' in sys.modules, sys.maxsize)",
    ]
    _, _, out = measure._run(files, steps)
    allocated, digest, rest = out.strip().split("\n")
    state = bytearray(sha512._START)
    sha512_plain.compress(state, b"\xff" * 128, 0, sha512._K)
    assert digest == state.hex()
    assert rest.endswith(f"True {2**31 - 1}")
    # 24 lists of four, with what makes them: about 250 bytes each. A round has some 30 operations: if only one of
    # them made big integers, these were 80 objects of 32 bytes more.
    assert int(allocated) < 24 * 250 + 80 * 32 // 2


@pytest.mark.parametrize("march", ["armv6m"])
def test_machine_code_on_32_bits(march, monkeypatch):
    """What mpy-cross makes for an RP2040, on an emulated Cortex-M0: all of the 64-bit sums carry rightly there."""
    machine = viper.Machine(viper.compiled(march))
    monkeypatch.setattr(sha512, "_compress", machine.compress)
    for n in [*SOME, *range(130, 230, 7)]:
        data = random.randbytes(n)
        assert sha512.sha512(data).digest() == hashlib.sha512(data).digest(), data.hex()
    for byte in (0, 255, 0x7F, 0x80):
        data = bytes([byte]) * 240
        assert sha512.sha512(data).digest() == hashlib.sha512(data).digest(), byte


def test_nothing_branches_by_data():
    """The same number of instructions whatever is hashed, and no address that depends on it."""
    machine = viper.Machine(viper.compiled())
    seen = set()
    for data in (bytes(128), b"\xff" * 128, random.randbytes(128), random.randbytes(128)):
        with machine.counting():
            machine.compress(bytearray(random.randbytes(64)), data, 0, sha512._K)
            seen.add((machine.executed, machine.trace))
    assert len(seen) == 1, seen


def test_it_needs_no_aligned_constants():
    """Frozen code's bytes stand at any address, and an RP2040 faults at a word that is not aligned."""
    machine = viper.Machine(viper.compiled(), shift=1)
    state, plain = bytearray(sha512._START), bytearray(sha512._START)
    data = random.randbytes(131)
    machine.compress(state, data, 3, sha512._K)
    sha512_plain.compress(plain, data, 3, sha512._K)
    assert state == plain


@pytest.mark.parametrize("march", [*mpy._THUMB, "xtensa", "xtensawin", "rv32imc", "x86", "x64", "armv6"])
def test_it_compiles_for_every_architecture(march, tmp_path):
    files = {name: path for name, path in mpy.sources().items() if "sha512" in name}
    made = mpy.compile_files(files, tmp_path, march)
    assert "usasl/sha512_native.mpy" in made


def test_it_is_left_out_where_there_is_only_bytecode(tmp_path):
    made = mpy.compile_files(mpy.sources(), tmp_path)
    assert "usasl/sha512_plain.mpy" in made and "usasl/sha512_native.mpy" not in made


def test_it_is_not_loaded_where_hashlib_has_it():
    from usasl.scram import ScramSHA512

    assert ScramSHA512._hash is hashlib.sha512 and sys.modules["usasl.scram_sha512"].sha512 is hashlib.sha512
