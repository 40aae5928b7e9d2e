"""A day's work in a small heap: a login by SCRAM with keys, 10,000 messages published at QoS 1 and 10,000 received,
from .mpy files and from a ROMFS, in the heaps that tools/bench/smallest.py states; and the heap is at its end what it
was after a hundred.

What it costs on a board's 32-bit heap: test_size.py.
"""

import pytest

from tools.bench import running, smallest


def test_a_day_in_the_stated_heap(quiet_broker, bench_lib):
    first, last = smallest.day(quiet_broker, bench_lib, smallest.HEAP, smallest.MESSAGES)
    assert last == first
    assert 0 < first.largest <= first.free < smallest.HEAP * 1024


def test_a_day_from_a_romfs(quiet_broker, bench_lib):
    rom = smallest.image(bench_lib)
    first, last = smallest.day(quiet_broker, bench_lib, smallest.HEAP_ROMFS, smallest.MESSAGES, rom)
    assert last == first
    assert 0 < first.largest <= first.free < smallest.HEAP_ROMFS * 1024
    # From there it came: in a heap of this size there is no room for it otherwise.
    with pytest.raises(running.BenchError, match="MemoryError"):
        smallest.day(quiet_broker, bench_lib, smallest.HEAP_ROMFS, 200)


def test_a_heap_too_small_is_noticed(quiet_broker, bench_lib):
    with pytest.raises(running.BenchError, match="MemoryError"):
        smallest.day(quiet_broker, bench_lib, 12, 200)


def test_a_leak_is_noticed(quiet_broker, bench_lib, tmp_path):
    """32 bytes kept of each message: the same script, with a handler that keeps something."""
    import shutil

    from tools import mpy

    leaky = tmp_path / "lib"
    shutil.copytree(bench_lib, leaky)
    text = (running.DEVICE / "day.py").read_text()
    source = tmp_path / "day.py"
    source.write_text(text.replace("    seen += 1\n", "    seen += 1\n    kept.append(bytearray(4))\n") + "")
    source.write_text(source.read_text().replace("seen = 0\n", "seen = 0\nkept = []\n", 1))
    made = mpy.compile_files({"day.py": source}, tmp_path / "made")
    shutil.copyfile(made["day.mpy"], leaky / "day.mpy")
    first, last = smallest.day(quiet_broker, leaky, 4 * smallest.HEAP, 200)
    assert last.free < first.free
