"""The size table: what the library takes on a board.

    python -m tools.size [--markdown]         (make size)

Prints it, and writes build/size.json. --markdown: as the README has it. How it is measured, and what the figures
mean, stands in measure.py. It must never write anything outside build/.
"""

import argparse
import json
import sys

from rich import box
from rich.console import Console
from rich.table import Table

from tools import mpy
from tools.size import measure

JSON = measure.BUILD / "size.json"
_NOTES = (
    "From ROMFS: where the firmware runs the .mpy files in place, in flash. "
    "Used: with one subscription, after a message sent at QoS 0 and at QoS 1, and one received. "
    "Names: MicroPython's table of interned strings; it grows in leaps of up to 2 KB. umqtt: upstream's files, "
    "measured the same way, in MQTT 3.1.1."
)

_THUMB = {
    "mpy": "bytes of .mpy",
    "code": "of machine code",
    "buffer": "of heap while keys are derived",
    "stack": "of stack",
}


def tables(found):
    """[(title, head, rows)] of measure()'s dict; all cells are text."""
    marked = dict(zip("ABCDEFGHIJ", found["configurations"].items(), strict=False))
    rows = []
    for mark, (name, sizes) in marked.items():
        steps = ("import", "connected", "used")
        heap = [_number(where.get(step)) for where in (sizes, sizes["romfs"]) for step in steps]
        rows.append([f"{mark} {name}", _number(sizes["mpy"]), *heap, _number(sizes["names"])])
    head = ["Configuration", ".mpy loaded", "heap: imported", "connected", "used"]
    head += ["from ROMFS: imported", "connected", "used", "names"]
    modules = []
    for name, sizes in found["modules"].items():
        where = "".join(mark for mark, (_, c) in marked.items() if name in c["modules"])
        modules.append([name, *[_number(sizes[key]) for key in ("mpy", "heap", "romfs")], where])
    total = [_number(sum(sizes[key] for sizes in found["modules"].values())) for key in ("mpy", "heap", "romfs")]
    modules.append(["all", *total, ""])
    figures = found["thumb"]
    counted = [
        [what, *[_number(figures[kind][what]) for kind in ("instructions", "cycles")]]
        for what in ("compression", "iteration")
    ]
    sizes = ", ".join(f"{_number(figures[key])} {text}" for key, text in _THUMB.items())
    return [
        ("Bytes of .mpy, and of a 32-bit heap in all", head, rows),
        ("Bytes of each module", ["Module", ".mpy", "heap, less names", "from ROMFS", "loaded in"], modules),
        (f"usasl.thumb, SHA-256 and PBKDF2 on an RP2040: {sizes}", ["For each", "instructions", "cycles"], counted),
    ]


def _number(value):
    return "-" if value is None else f"{value:,}"


def markdown(found):
    """The tables as Markdown, as they stand in the README."""
    lines = []
    for title, head, rows in tables(found):
        rule = ["---"] + ["---:"] * (len(head) - 1)
        lines += [title + ":", "", *["| " + " | ".join(row) + " |" for row in [head, rule, *rows]], ""]
    return "\n".join([*lines, _notes(found)])


def _notes(found):
    versions = ", ".join(f"{name} {number}" for name, number in found["versions"].items())
    return f"{_NOTES} Measured with {versions}."


def main(arguments=None):
    parser = argparse.ArgumentParser(prog="python -m tools.size", description="What the library takes on a board.")
    parser.add_argument("--markdown", action="store_true", help="print the tables as the README has them")
    options = parser.parse_args(arguments)
    try:
        found = measure.measure()
    except (measure.SizeError, mpy.CompileError) as e:
        print(f"size: {e}", file=sys.stderr)
        return 1
    JSON.parent.mkdir(exist_ok=True)
    JSON.write_text(json.dumps(found, indent=1) + "\n")
    if options.markdown:
        print(markdown(found))
        return 0
    console = Console()
    console.width = max(console.width, 120)  # narrower, figures would be cut off
    for title, head, rows in tables(found):
        table = Table(title=title, box=box.SIMPLE, title_justify="left")
        for i, name in enumerate(head):
            table.add_column(name, justify="right" if i else "left", no_wrap=not i)
        for row in rows:
            table.add_row(*row)
        console.print(table)
    console.print(f"{_notes(found)} Also in {JSON.relative_to(measure.ROOT)}.", highlight=False)
    return 0


if __name__ == "__main__":
    sys.exit(main())
