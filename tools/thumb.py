"""Runs the machine code of lib/usasl/thumb.py on the host, as mpy-cross made it for an RP2040: in Unicorn, a CPU
emulator, as a Cortex-M0. Counts what it executes; for the tests and for the size table.

    build/venv/bin/python -m tools.thumb          prints figures()

Clock cycles are not measured but added up, from the table in Arm's manual of the Cortex-M0+ (memory without wait
states, as the RP2040's RAM is). It must never be used to derive a real password's keys: it is not constant in time.
"""

import micropython

import contextlib
import importlib.util
import json
import sys
import tempfile
from pathlib import Path
from unittest import mock

import unicorn
from unicorn import arm_const as arm

from tools import mpy

MARCH = "armv6m"
SOURCE = mpy.LIB / "usasl" / "thumb.py"
BUFFER = 608  # bytes of the buffer that thumb.start() makes
_CODE, _BACK, _DATA, _STACK, _PAGE = 0x10000000, 0x10001000, 0x20000000, 0x20010000, 0x1000
_R0, _R4 = arm.UC_ARM_REG_R0, arm.UC_ARM_REG_R4  # the numbers of the others follow


class ThumbError(BaseException):
    """The CPU faulted, the code broke the rules of a call, or did not end; the text says which. No Exception: Python
    on a board could not catch any of these."""


def compiled(march=MARCH, source=SOURCE):
    """The .mpy (bytes) that mpy-cross makes of lib/usasl/thumb.py."""
    with tempfile.TemporaryDirectory() as folder:
        made = mpy.compile_files({"usasl/thumb.py": source}, Path(folder, "lib"), march)
        return made["usasl/thumb.mpy"].read_bytes()


def code(file):
    """The machine code in a .mpy: bytes. There must be one function in assembler, and no other native code."""
    found = []
    for at in range(len(file) - 3):
        # Before the code stands its length, 7 bits a byte, above three bits for its kind: 3, inline assembler.
        number = (file[at] & 127) << 7 | file[at + 1]
        end = at + 2 + (number >> 3)
        # push {r1, r4-r7, lr} .. pop {r1, r4-r7, pc}: MicroPython's own frame
        if number & 7 == 3 and file[at + 2 : at + 4] == b"\xf2\xb5" and file[end - 2 : end] == b"\xf2\xbd":
            found.append(file[at + 2 : end])
    if len(found) != 1:
        raise ThumbError(f"{len(found)} functions in assembler found in the .mpy, not 1")
    return found[0]


class Machine:
    """A Cortex-M0 with the code in it. The buffer ends where its memory ends, so that a step beyond is an error."""

    def __init__(self, machine_code, limit=0):
        """limit: instructions after which a call is broken off (0: none)."""
        self.code = bytes(machine_code)
        self.limit = limit
        self.executed = 0  # instructions, while counting
        self.cycles = 0
        self.touched = set()  # (address from the buffer's begin, or from the stack pointer, size, is it a write)
        self._cpu = cpu = unicorn.Uc(unicorn.UC_ARCH_ARM, unicorn.UC_MODE_THUMB | unicorn.UC_MODE_MCLASS)
        cpu.ctl_set_cpu_model(arm.UC_CPU_ARM_CORTEX_M0)
        cpu.mem_map(_CODE, 2 * _PAGE, unicorn.UC_PROT_READ | unicorn.UC_PROT_EXEC)
        for page in (_DATA, _STACK):
            cpu.mem_map(page, _PAGE, unicorn.UC_PROT_READ | unicorn.UC_PROT_WRITE)
        cpu.mem_write(_CODE, self.code)
        self._work = _DATA + _PAGE - BUFFER
        self._top = _STACK + _PAGE

    def turn(self, work, n, start):
        """Calls the code as MicroPython does: work (bytearray) is changed in place -> what it returns. ThumbError."""
        cpu = self._cpu
        kept = [0x4B455054 ^ i for i in range(8)]  # r4-r11 belong to the caller
        for i, value in enumerate([self._work, n, start, 0]):
            cpu.reg_write(_R0 + i, value)
        for i, value in enumerate(kept):
            cpu.reg_write(_R4 + i, value)
        cpu.reg_write(arm.UC_ARM_REG_SP, self._top)
        cpu.reg_write(arm.UC_ARM_REG_LR, _BACK | 1)
        cpu.mem_write(self._work, bytes(work))
        try:
            cpu.emu_start(_CODE | 1, _BACK, count=self.limit)
        except unicorn.UcError as e:
            raise ThumbError(str(e)) from None
        work[:] = cpu.mem_read(self._work, BUFFER)
        if cpu.reg_read(arm.UC_ARM_REG_PC) != _BACK:
            raise ThumbError("it did not end in time")
        if [cpu.reg_read(_R4 + i) for i in range(8)] != kept or cpu.reg_read(arm.UC_ARM_REG_SP) != self._top:
            raise ThumbError("it did not leave r4-r11 and sp as they were")
        return cpu.reg_read(_R0)

    @contextlib.contextmanager
    def counting(self):
        """While it lasts, executed, cycles and touched are kept."""
        cpu = self._cpu

        def touch(_, kind, address, size, __, ___):
            at = address - self._work if address < _STACK else address - self._top
            self.touched.add((at, size, kind == unicorn.UC_MEM_WRITE))

        hooks = [
            cpu.hook_add(unicorn.UC_HOOK_CODE, counter(self, _CODE)),
            cpu.hook_add(unicorn.UC_HOOK_MEM_READ | unicorn.UC_HOOK_MEM_WRITE, touch),
        ]
        self.executed = self.cycles = 0
        self.touched.clear()
        try:
            yield self
        finally:
            for hook in hooks:
                cpu.hook_del(hook)


def counter(machine, begin):
    """A hook for each instruction of machine.code, which lies at `begin`: adds to machine.executed and .cycles."""
    taken = [None]

    def step(_, address, size, __):
        if size != 2:
            raise ThumbError("an instruction of 32 bits")
        op = int.from_bytes(machine.code[address - begin :][:2], "little")
        if taken[0] is not None and address != taken[0]:
            machine.cycles += 1  # the branch before was taken
        taken[0] = address + 2 if op >> 12 == 0xD else None
        machine.executed += 1
        machine.cycles += cycles(op)

    return step


def cycles(op):
    """Clock cycles of one 16-bit instruction on a Cortex-M0+, of a conditional branch if it is not taken."""
    if op >> 12 == 0xC or op & 0xF600 == 0xB400:  # ldmia, stmia; push, pop: one and one a register, 2 more into pc
        registers = (op & (0xFF if op >> 12 == 0xC else 0x1FF)).bit_count()
        return 1 + registers + 2 * (op & 0xFF00 == 0xBD00)
    if 5 <= op >> 12 <= 9 or op & 0xF800 == 0x4800:  # ldr, str in all their forms
        return 2
    return 2 if op >> 11 == 0x1C else 1  # b; all others


@contextlib.contextmanager
def installed(machine):
    """While it lasts, usasl.derive under CPython finds usasl.thumb as on an RP2040: the module itself, its function
    in assembler run by `machine`."""
    spec = importlib.util.spec_from_file_location("usasl.thumb", SOURCE)
    module = importlib.util.module_from_spec(spec)
    with mock.patch.object(micropython, "asm_thumb", lambda function: machine.turn, create=True):
        spec.loader.exec_module(module)
    import usasl

    pico = type(sys.implementation)(**{**vars(sys.implementation), "_mpy": 4 << 10})
    with (
        mock.patch.dict(sys.modules, {"usasl.thumb": module}),
        mock.patch.object(usasl, "thumb", module, create=True),
        mock.patch.object(sys, "implementation", pico),
    ):
        yield module


def figures():
    """What the size table tells, all exact: {"mpy": bytes of the file, "code": of machine code, "buffer": of heap
    while keys are derived, "stack": bytes, "instructions" and "cycles" (added up): {"compression": one of SHA-256,
    "iteration": one of PBKDF2}}."""
    file = compiled()
    machine = Machine(code(file))
    spent = {}
    with machine.counting():
        for name, n, start in (("one", 1, 0), ("two", 2, 0), ("half", 1, 32)):
            machine.executed = machine.cycles = 0
            machine.turn(bytearray(BUFFER), n, start)
            spent[name] = (machine.executed, machine.cycles)
        stack = -min(at for at, *_ in machine.touched)
    iteration = [b - a for a, b in zip(spent["one"], spent["two"], strict=True)]
    compression = [b - a for a, b in zip(spent["half"], spent["one"], strict=True)]
    return {
        "mpy": len(file),
        "code": len(machine.code),
        "buffer": BUFFER,
        "stack": stack,
        "instructions": {"compression": compression[0], "iteration": iteration[0]},
        "cycles": {"compression": compression[1], "iteration": iteration[1]},
    }


if __name__ == "__main__":
    print(json.dumps(figures(), indent=1))
