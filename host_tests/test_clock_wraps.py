"""A board's ticks wrap at 2^30 ms: asyncio's queue, as a board has it, still knows who is late. In MicroPython's
build with 32-bit objects."""

from tools import mpy
from tools.size import measure

CODE = """
from _asyncio import Task, TaskQueue
from time import ticks_add, ticks_ms
from umqtt5.protocol import Engine

e = Engine("d", None, None, 0)
now = ticks_ms()
queue = TaskQueue()
late, keeper = Task((i for i in ())), Task((i for i in ()))
queue.push(late, ticks_add(now, -5000))
queue.push(keeper, ticks_add(now, e.timer(now)))  # keepalive=0: it has nothing to do
print(queue.peek() is late)
"""


def test_a_keeper_without_a_deadline_stops_nobody(tmp_path):
    made = mpy.compile_files(mpy.sources(modules=("umqtt5",)), tmp_path)
    files = {f"/lib/{name}": path.read_bytes() for name, path in made.items()}
    _, _, out = measure._run(files, ["import sys\nimport gc\nimport micropython\nsys.path.append('/lib')", CODE])
    assert out.strip() == "True"
