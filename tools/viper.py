"""Runs the machine code that MicroPython's viper emitter made of lib/usasl/sha512_native.py for an RP2040, on the
host: in Unicorn, a CPU emulator, as a Cortex-M0. What it calls of MicroPython is stood in for here. For the tests,
and to reckon its time.

    build/venv/bin/python -m tools.viper          prints figures()

It must never be used to hash a real secret.
"""

import contextlib
import json
import tempfile
from pathlib import Path

import unicorn
from unicorn import arm_const as arm

from tools import mpy
from tools.thumb import ThumbError, counter

SOURCE = mpy.LIB / "usasl" / "sha512_native.py"
_CODE, _STUBS, _HEAP, _STACK = 0x10000000, 0x10010000, 0x20000000, 0x20020000
_PAGE, _CODE_SIZE, _HEAP_SIZE = 0x1000, 0x4000, 0x10000
# Places on the heap: the function object with what hangs on it, its arguments, and what they point to.
_OBJECT, _TABLE, _ARGUMENTS, _STATE, _DATA, _K = (_HEAP + at for at in (0, 0x100, 0x800, 0x900, 0x1000, 0x8000))
# The functions that it calls, by their places in MicroPython's table (py/nativeglue.h).
_CONVERT, _SWAP_GLOBALS = 3, 5
_BYTES = 192  # of the buffer that it makes: at the end of its memory, so that a step beyond is an error


def compiled(march="armv6m"):
    """The .mpy (bytes) that mpy-cross makes of sha512_native.py."""
    with tempfile.TemporaryDirectory() as folder:
        made = mpy.compile_files({"usasl/sha512_native.py": SOURCE}, Path(folder, "lib"), march)
        return made["usasl/sha512_native.mpy"].read_bytes()


def code(file):
    """The machine code of the one viper function in a .mpy: bytes."""
    for at in range(len(file) - 5):
        # Before the code stands its length, 7 bits a byte, above three bits for its kind: 2, native with a type.
        number = (file[at] & 127) << 14 | (file[at + 1] & 127) << 7 | file[at + 2]
        # push {r1-r7, lr}: MicroPython's own frame
        if file[at] > 127 < file[at + 1] and number & 3 == 2 and file[at + 3 : at + 5] == b"\xfe\xb5":
            return file[at + 3 :][: number >> 3]
    raise ThumbError("no function of viper's found in the .mpy")


class Machine:
    """A Cortex-M0 with compress() in it. shift: bytes by which its constants and its data miss a word's address."""

    def __init__(self, file, shift=0):
        self.code = code(file)
        self.shift = shift
        self.executed = self.cycles = self.trace = self.lowest = 0  # while counting
        self._problem = None
        self._cpu = cpu = unicorn.Uc(unicorn.UC_ARCH_ARM, unicorn.UC_MODE_THUMB | unicorn.UC_MODE_MCLASS)
        cpu.ctl_set_cpu_model(arm.UC_CPU_ARM_CORTEX_M0)
        for at, size, rights in (
            (_CODE, _CODE_SIZE, unicorn.UC_PROT_READ | unicorn.UC_PROT_EXEC),
            (_STUBS, _PAGE, unicorn.UC_PROT_READ | unicorn.UC_PROT_EXEC),
            (_HEAP, _HEAP_SIZE, unicorn.UC_PROT_READ | unicorn.UC_PROT_WRITE),
            (_STACK, _PAGE, unicorn.UC_PROT_READ | unicorn.UC_PROT_WRITE),
        ):
            cpu.mem_map(at, size, rights)
        cpu.mem_write(_CODE, self.code)
        cpu.mem_write(_STUBS, b"\x70\x47\x00\xbf" * (_PAGE // 4))  # bx lr
        # mp_obj_fun_bc_t: type, context; the context: type, globals, qstr table, table of objects; its first is the
        # table of functions.
        self._words(_OBJECT, [0, _OBJECT + 16, 0, 0, 0, 0, _OBJECT + 64, _OBJECT + 64])
        self._words(_OBJECT + 64, [_TABLE] + [0] * 15)
        self._words(_TABLE, [_STUBS + 4 * i | 1 for i in range(128)])
        self._words(_ARGUMENTS, [_STATE, _DATA + shift, 0, _K + shift])
        cpu.hook_add(unicorn.UC_HOOK_CODE, self._called, None, _STUBS, _STUBS + _PAGE - 1)
        cpu.hook_add(unicorn.UC_HOOK_MEM_READ | unicorn.UC_HOOK_MEM_WRITE, self._touched)

    def _words(self, at, words):
        self._cpu.mem_write(at, b"".join(word.to_bytes(4, "little") for word in words))

    def _called(self, cpu, address, size, _):
        which = (address - _STUBS) // 4
        if which == _SWAP_GLOBALS:
            cpu.reg_write(arm.UC_ARM_REG_R0, 0)  # they are its own already
        elif which != _CONVERT:  # what it is given is the thing itself; all else: it makes its buffer
            cpu.reg_write(arm.UC_ARM_REG_R0, _HEAP + _HEAP_SIZE - _BYTES)

    def _touched(self, cpu, kind, address, size, value, _):
        if address % size:
            self._problem = f"{size} bytes at the address {address:#x}"
            cpu.emu_stop()
        self.trace = hash((self.trace, kind, address, size))
        if address >= _STACK:
            self.lowest = min(self.lowest, address - _STACK - _PAGE)

    def compress(self, state, data, at, k):
        """As that of usasl/sha512_plain.py. ThumbError."""
        cpu = self._cpu
        kept = [0x4B455054 ^ i for i in range(8)]  # r4-r11 belong to the caller
        self._words(_ARGUMENTS + 8, [at])
        cpu.mem_write(_STATE, bytes(state))
        cpu.mem_write(_DATA + self.shift, bytes(data))
        cpu.mem_write(_K + self.shift, bytes(k))
        cpu.mem_write(_HEAP + _HEAP_SIZE - _BYTES, bytes(_BYTES))
        for i, value in enumerate([_OBJECT, 4, 0, _ARGUMENTS]):
            cpu.reg_write(arm.UC_ARM_REG_R0 + i, value)
        for i, value in enumerate(kept):
            cpu.reg_write(arm.UC_ARM_REG_R4 + i, value)
        cpu.reg_write(arm.UC_ARM_REG_SP, _STACK + _PAGE)
        back = _STUBS + _PAGE - 4
        cpu.reg_write(arm.UC_ARM_REG_LR, back | 1)
        self._problem = None
        try:
            cpu.emu_start(_CODE | 1, back, count=1_000_000)
        except unicorn.UcError as e:
            raise ThumbError(str(e)) from None
        if self._problem or cpu.reg_read(arm.UC_ARM_REG_PC) != back:
            raise ThumbError(self._problem or "it did not end in time")
        if [cpu.reg_read(arm.UC_ARM_REG_R4 + i) for i in range(8)] != kept:
            raise ThumbError("it did not leave r4-r11 as they were")
        state[:] = cpu.mem_read(_STATE, 64)

    @contextlib.contextmanager
    def counting(self):
        """While it lasts, executed, cycles, trace (a hash of all addresses touched) and lowest are kept."""
        step = counter(self, _CODE)
        hook = self._cpu.hook_add(unicorn.UC_HOOK_CODE, step, None, _CODE, _CODE + _CODE_SIZE - 1)
        self.executed = self.cycles = self.trace = self.lowest = 0
        try:
            yield self
        finally:
            self._cpu.hook_del(hook)


def figures():
    """{"mpy": bytes of the file, "code": of machine code, "stack": bytes, "instructions", "cycles" (added up, as
    tools/thumb.py does): of one block}."""
    file = compiled()
    machine = Machine(file)
    with machine.counting():
        machine.compress(bytearray(64), bytes(128), 0, bytes(640))
    return {
        "mpy": len(file),
        "code": len(machine.code),
        "stack": -machine.lowest,
        "instructions": machine.executed,
        "cycles": machine.cycles,
    }


if __name__ == "__main__":
    print(json.dumps(figures(), indent=1))
