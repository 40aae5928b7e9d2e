"""Puts today's figures into README.md, between its marks.

    python -m tools.readme                (make readme)

Sizes come from tools.size, at once; what was timed and counted from the build/bench.json and build/instructions.json
that `make bench` and `make instructions` have left. A test holds the sizes against the code. It must never touch
anything outside of the marks.
"""

import argparse
import json
import re
import sys
from pathlib import Path

from tools.bench import instructions, table
from tools.size import measure
from tools.size.__main__ import markdown

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"


def bench(found):
    """What `make bench` measured, as Markdown; its chart is docs/bench.png, written by the same run."""
    chart = "![Messages a second against umqtt.simple and a bare socket](docs/bench.png)"
    return chart + "\n\n" + table.markdown(found)


def put(text, name, content):
    """`text` with what stands between the marks called `name` replaced."""
    marks = re.compile(rf"(<!-- {name}: [^>]* -->\n).*?(\n<!-- end of {name} -->)", re.DOTALL)
    if len(marks.findall(text)) != 1:
        raise SystemExit(f"readme: README.md has no marks for {name}")
    return marks.sub(lambda found: found[1] + content + found[2], text)


def section(text, name):
    """What stands between the marks called `name`."""
    return re.search(rf"<!-- {name}: [^>]* -->\n(.*?)\n<!-- end of {name} -->", text, re.DOTALL)[1]


def main():
    argparse.ArgumentParser(prog="python -m tools.readme", description=__doc__.partition("\n")[0]).parse_args()
    text = put(README.read_text(), "size", markdown(measure.measure()))
    for name, form in (("bench", bench), ("instructions", instructions.markdown)):
        left = ROOT / "build" / f"{name}.json"
        if left.exists():
            text = put(text, name, form(json.loads(left.read_text())))
        else:
            print(f"readme: no {left.name}, its figures stay as they are: run `make {name}` first", file=sys.stderr)
    README.write_text(text)


if __name__ == "__main__":
    main()
