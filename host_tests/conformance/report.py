"""What became of the named tests, as a table in the terminal, as JSON and as Markdown."""

import json
from collections import Counter
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table

from host_tests.conformance import spec

PREFIX = "host_tests/"


@dataclass
class Outcome:
    """An entry of the mapping and whether it holds. `runs`: {test: how many of its cases passed}; `problem`: text."""

    entry: object
    runs: dict
    problem: str = ""


def judge(entries, results):
    """Outcomes. results: {pytest node id: outcome}. A test stands for all its parameters; each must have passed."""
    cases = {}
    for node, outcome in results.items():
        node = node.removeprefix(PREFIX)
        cases.setdefault(node.partition("[")[0], []).append(outcome)
        if "[" in node:
            cases.setdefault(node, []).append(outcome)
    judged = []
    for entry in entries:
        problems = []
        for test in entry.tests:
            outcomes = cases.get(test, [])
            if not outcomes:
                problems.append(f"{test} did not run")
            elif set(outcomes) != {"passed"}:
                wrong = ", ".join(f"{n} {o}" for o, n in sorted(Counter(outcomes).items()) if o != "passed")
                problems.append(f"{test}: {wrong}")
        runs = {test: len(cases.get(test, [])) for test in entry.tests}
        judged.append(Outcome(entry, runs, "; ".join(problems)))
    return judged


def _chapter(section):
    """The part of the specification that a section is shown under: 3.2.2.1 -> 3.2, but 1.5.4 -> 1.5, 6 -> 6."""
    return ".".join(section.split(".")[:2])


def _counts(judged):
    """{chapter: Counter of tests, server, na, failed}, in order."""
    chapters = {}
    for outcome in judged:
        count = chapters.setdefault(_chapter(outcome.entry.section), Counter())
        count[outcome.entry.kind] += 1
        count["failed"] += bool(outcome.problem)
    return chapters


def show(judged, console=None, details=False):
    """Print the table by section; details: every statement with its tests or its reason."""
    console = console or Console()
    titles = spec.titles()
    if details:
        table = Table("Statement", "Accounted for by", title="MQTT 5.0, statement by statement")
        for o in judged:
            how = o.problem or (
                "\n".join(f"{test} ({n})" for test, n in o.runs.items()) or f"{o.entry.kind}: {o.entry.reason}"
            )
            table.add_row(o.entry.key, how, style="red" if o.problem else None)
        console.print(table)
    table = Table("Section", "", title="MQTT 5.0: the client's conformance", show_footer=True)
    for name in ("tested", "server's", "not applicable", "failing"):
        table.add_column(name, justify="right")
    total = Counter()
    for chapter, count in _counts(judged).items():
        total += count
        style = "red" if count["failed"] else None
        figures = [str(count[k] or "") for k in ("tests", "server", "na", "failed")]
        table.add_row(chapter, titles.get(chapter, ""), *figures, style=style)
    for column, text in zip(
        table.columns, ["", "all", *(str(total[k]) for k in ("tests", "server", "na", "failed"))], strict=True
    ):
        column.footer = text
    console.print(table)


def as_json(judged, breaches, problems):
    """What build/conformance.json holds."""

    def one(o):
        line = {"section": o.entry.section, o.entry.kind: o.entry.tests or o.entry.reason}
        return {o.entry.key: {**line, "cases": sum(o.runs.values()), "problem": o.problem or None}}

    def all_of(outcomes):
        return {key: value for o in outcomes for key, value in one(o).items()}

    total = Counter(o.entry.kind for o in judged)
    data = {"counts": dict(total), "problems": problems, "statements": all_of(judged), "breaches": all_of(breaches)}
    return json.dumps(data, indent=1)


def as_markdown(judged):
    """The summary by section with counts, and what is not tested, with its reason."""
    titles = spec.titles()
    total = Counter(o.entry.kind for o in judged)
    lines = [
        "# MQTT 5.0: the client's conformance",
        "",
        f"{len(judged)} normative statements: {total['tests']} tested, {total['server']} the server's duty, "
        f"{total['na']} not applicable.",
        "",
        "| Section | | tested | server's | not applicable |",
        "|---|---|--:|--:|--:|",
    ]
    for chapter, count in _counts(judged).items():
        title = titles.get(chapter, "")
        lines.append(f"| {chapter} | {title} | {count['tests']} | {count['server']} | {count['na']} |")
    for kind, title in (("na", "Not applicable"), ("server", "The server's")):
        lines += ["", f"## {title}", ""]
        reasons = {}
        for o in judged:
            if o.entry.kind == kind:
                reasons.setdefault(o.entry.reason, []).append(o.entry.key)
        lines += [f"- {', '.join(keys)}: {reason}" for reason, keys in reasons.items()]
    return "\n".join(lines) + "\n"
