"""The benchmark, in MicroPython's unix port and against the real dev broker.

    python -m tools.bench                 (make bench)

Times are told as ratios to a limit that is measured in turn with ours, in one run: a single time says nothing on a
machine that does other things too. They are no tests. Calls and bytes are exact. Prints tables, writes
build/bench.json and build/bench.png, and a copy of the chart for the README. It must never connect to anything but
its own broker, nor leave it running.
"""

import argparse
import json
import shutil
import sys

from rich import box
from rich.console import Console
from rich.table import Table

from tools import mpy
from tools.bench import table
from tools.bench.measures import measure
from tools.bench.running import BenchError
from tools.devbroker.broker import BrokerError

JSON = mpy.ROOT / "build" / "bench.json"
CHART = mpy.ROOT / "build" / "bench.png"
README_CHART = mpy.ROOT / "docs" / "bench.png"


def show(console, found):
    """Print the tables."""
    for title, head, rows in table.tables(found):
        made = Table(title=title, box=box.SIMPLE, title_justify="left")
        for i, name in enumerate(head):
            made.add_column(name, justify="left" if table.text_column(head, i) else "right")
        for row in rows:
            made.add_row(*row)
        console.print(made)


def main():
    argparse.ArgumentParser(prog="python -m tools.bench", description=__doc__.partition("\n")[0]).parse_args()
    console = Console()
    console.width = max(console.width, 120)
    try:
        with console.status("Measuring: half a minute"):
            found = measure()
    except (BenchError, BrokerError, mpy.CompileError) as e:
        print(f"bench: {e}", file=sys.stderr)
        return 1
    from tools.bench import chart  # matplotlib takes a second to load

    JSON.parent.mkdir(exist_ok=True)
    JSON.write_text(json.dumps(found, indent=1) + "\n")
    chart.draw(found, CHART)
    README_CHART.parent.mkdir(exist_ok=True)
    shutil.copyfile(CHART, README_CHART)
    show(console, found)
    made = ", ".join(str(path.relative_to(mpy.ROOT)) for path in (JSON, CHART, README_CHART))
    console.print(f"MicroPython's unix port, all from .mpy. Also in {made}.", highlight=False)
    return 0


if __name__ == "__main__":
    sys.exit(main())
