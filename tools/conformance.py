"""`make conformance`: the client's conformance to MQTT 5.0, statement by statement.

Runs the tests that the mapping in host_tests/conformance names, prints the table, writes build/conformance.json and
build/conformance.md, and fails where a statement is unaccounted for, or a named test does not exist, did not run, or
did not pass. `--last` takes the results of the last test run instead, if nothing has changed since.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path

from rich.console import Console

from host_tests.conformance import report, table
from host_tests.conformance.plugin import RESULTS

ROOT = Path(__file__).resolve().parents[1]
BUILD = ROOT / "build"
DEADLINE = 540  # s, for all named tests


def run(tests, workers):
    """Run these tests. Returns {node id: outcome}; raises SystemExit where pytest itself fails."""
    results = ROOT / RESULTS
    results.unlink(missing_ok=True)
    plugin = [] if _loaded_by_conftest() else ["-p", "host_tests.conformance.plugin"]
    command = [sys.executable, "-m", "pytest", *plugin, "-q", "-n", str(workers), "--tb=short", "--no-header"]
    try:
        done = subprocess.run(
            [*command, *[report.PREFIX + t for t in tests]], cwd=ROOT, timeout=DEADLINE, check=False
        )
    except subprocess.TimeoutExpired:
        sys.exit(f"conformance: the tests took longer than {DEADLINE} s")
    if not results.is_file() or done.returncode > 1:
        sys.exit(f"conformance: pytest ended with {done.returncode} and without results; its words are above")
    return json.loads(results.read_text())["tests"]


def _loaded_by_conftest():
    return "host_tests.conformance.plugin" in (ROOT / "host_tests" / "conftest.py").read_text()


def last():
    """The results of the last run; SystemExit where there are none, or lib/ or host_tests/ have changed since."""
    path = ROOT / RESULTS
    if not path.is_file():
        sys.exit("conformance: no results of a test run; leave --last out")
    data = json.loads(path.read_text())
    for folder in ("lib", "host_tests"):
        for file in (ROOT / folder).rglob("*.py"):
            if file.stat().st_mtime > data["started"]:
                sys.exit(f"conformance: {file.relative_to(ROOT)} has changed since the last run; leave --last out")
    return data["tests"]


def main():
    parser = argparse.ArgumentParser(prog="make conformance", description="MQTT 5.0, statement by statement")
    parser.add_argument("--last", action="store_true", help="take the results of the last test run")
    parser.add_argument("--details", action="store_true", help="every statement with its tests or its reason")
    parser.add_argument("-n", type=int, default=2, metavar="N", help="processes (2)")
    options = parser.parse_args()
    statements, problems = table.statements()
    sections, more = table.breaches()
    problems += more
    tests = [t for t in table.named(statements + sections) if table.exists(t)]
    results = last() if options.last else run(tests, options.n)
    judged, breaches = report.judge(statements, results), report.judge(sections, results)
    problems += [f"{o.entry.key}: {o.problem}" for o in judged + breaches if o.problem]
    console = Console() if sys.stdout.isatty() else Console(width=118)
    report.show(judged, console, options.details)
    BUILD.mkdir(exist_ok=True)
    (BUILD / "conformance.json").write_text(report.as_json(judged, breaches, problems))
    (BUILD / "conformance.md").write_text(report.as_markdown(judged))
    console.print(f"{len(judged)} statements, {len(breaches)} sections on breaches, {len(tests)} named tests")
    console.print("Written: build/conformance.json, build/conformance.md")
    for problem in problems:
        console.print(f"  {problem}", style="red", markup=False, highlight=False, soft_wrap=True)
    if problems:
        sys.exit(f"conformance: {len(problems)} problems")


if __name__ == "__main__":
    main()
