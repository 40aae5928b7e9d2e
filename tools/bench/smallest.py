"""How small a heap may be for a day's work: log in by SCRAM with keys, publish N messages at QoS 1, receive N.

    python -m tools.bench.smallest        finds the smallest, in KB, and prints it

From .mpy files, and from the same in a ROMFS (tools/romfs.py), where they take no heap; in MicroPython's unix port,
whose words have 8 bytes: a board, with 4, needs little more than half of it. host_tests/test_small_heap.py holds
HEAP and HEAP_ROMFS. It must never call a heap large enough that ends another way than it
began: what is free, and the largest piece of it, are the same after a hundred messages and at the end.
"""

import re
import sys
from dataclasses import dataclass

from tools import mpy, romfs
from tools.bench import running
from tools.bench.running import BenchError
from tools.devbroker.broker import BrokerError

# KB: the smallest and a little, for the next change. `python -m tools.bench.smallest` finds the smallest.
HEAP = 82
HEAP_ROMFS = 55
MESSAGES = 10_000
_WORD = 8  # bytes, on the unix port
_BLOCK = 4 * _WORD  # MicroPython's heap is given out in blocks of four words
_TABLES = 3 / 8 / _BLOCK  # of a heap's size: what its tables take of it, three bits a block


@dataclass
class State:
    """The heap after a garbage collection, in bytes: all that is free, and the largest piece."""

    free: int
    largest: int


def image(lib):
    """The ROMFS image of the folder running.library() as a file beside it."""
    made = lib.with_suffix(".romfs")
    made.write_bytes(romfs.image({p.relative_to(lib).as_posix(): p.read_bytes() for p in lib.rglob("*.mpy")}))
    return made


def day(broker, lib, heap=HEAP, messages=MESSAGES, rom=None):
    """(State after 100 messages, State after all of them). rom: image(lib), to run it from there. BenchError where
    the heap, in KB, is too small."""
    keys = [key.hex() for key in running.scram_keys()]
    told = [broker.port, messages, running.USER, running.SALT.hex(), running.ITERATIONS, *keys]
    script, told = "day", " ".join(map(str, told)) + "\n"
    if rom:
        size = rom.stat().st_size
        script, told = "day_in_rom", f"{rom} {size}\n{told}"
        heap += size * (1 + _TABLES) / 1024
    said = running.run(script, lib, told, heap)
    free = [int(n) for n in re.findall(r"^free (\d+)$", said, re.MULTILINE)]
    largest = [int(n) * _BLOCK for n in re.findall(r"max free sz: (\d+)$", said, re.MULTILINE)]
    if len(free) != 2 or len(largest) != 2 or f"\nseen {messages}\n" not in said:
        raise BenchError(f"day: it said something else than expected:\n{said}")
    return tuple(State(*pair) for pair in zip(free, largest, strict=True))


def fits(broker, lib, heap, messages, rom=None):
    """Whether a day works in `heap` KB, and leaves it as it was."""
    try:
        first, last = day(broker, lib, heap, messages, rom)
    except BenchError as e:
        if "MemoryError" not in str(e):
            raise
        return False
    return first == last


def smallest(broker, lib, rom=None, low=8, high=128):
    """The smallest heap in KB. Messages: few, but for the last proof."""
    while low < high:
        middle = (low + high) // 2
        if fits(broker, lib, middle, 200, rom):
            high = middle
        else:
            low = middle + 1
    while not fits(broker, lib, low, MESSAGES, rom):
        low += 1
    return low


def main():
    try:
        with running.library() as lib, running.broker() as broker:
            for where, rom, held in ((".mpy files", None, HEAP), ("a ROMFS", image(lib), HEAP_ROMFS)):
                found = smallest(broker, lib, rom)
                first, last = day(broker, lib, found, rom=rom)
                print(f"from {where}: {found} KB (a test holds {held})")
                print(f"    after 100 messages {first}, after {MESSAGES} {last}")
    except (BenchError, BrokerError, mpy.CompileError) as e:
        print(f"smallest: {e}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
