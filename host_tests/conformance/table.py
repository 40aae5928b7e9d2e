"""The mapping from statements to tests, and whether it holds: every statement accounted for, nothing unknown, every
named test there. What became of the tests is report.py's business.
"""

import ast
import tomllib
from dataclasses import dataclass, field
from pathlib import Path

from host_tests.conformance import spec

HERE = Path(__file__).parent
TESTS = HERE.parent  # test ids in the mapping are relative to it
KINDS = ("tests", "server", "na")


@dataclass
class Entry:
    """How one statement (or one section's breaches) is accounted for. `kind`: "tests", "server" or "na"."""

    key: str
    section: str
    kind: str
    tests: list = field(default_factory=list)  # ["device/test_x.py::test_y", ...]
    reason: str = ""


def _read(paths):
    """{key: raw entry} of these TOML files, and complaints about keys that stand twice."""
    found, problems = {}, []
    for path in paths:
        for key, raw in tomllib.loads(path.read_text("utf-8")).items():
            if key in found:
                problems.append(f"{key} stands twice, the second time in {path.name}")
            found[key] = raw
    return found, problems


def _entry(key, section, raw):
    """Entry, or a complaint (str)."""
    if not isinstance(raw, dict) or len(raw) != 1 or next(iter(raw)) not in KINDS:
        return f"{key}: exactly one of {', '.join(KINDS)} is wanted"
    ((kind, value),) = raw.items()
    if kind == "tests":
        if not isinstance(value, list) or not value or not all(isinstance(v, str) for v in value):
            return f"{key}: tests must name at least one test"
        return Entry(key, section, kind, tests=value)
    if not isinstance(value, str) or len(value) < 10:
        return f"{key}: {kind} needs a reason"
    return Entry(key, section, kind, reason=value)


def account(raw, known):
    """Entries in the order of `known` ({key: section}), and all that is wrong with the mapping (a list of texts)."""
    problems = [f"{key}: the specification has no such statement" for key in raw if key not in known]
    entries = []
    for key, section in known.items():
        if key not in raw:
            problems.append(f"{key}: not accounted for")
            continue
        entry = _entry(key, section, raw[key])
        if isinstance(entry, str):
            problems.append(entry)
        else:
            entries.append(entry)
            problems += [f"{key}: there is no test {test}" for test in entry.tests if not exists(test)]
    return entries, problems


def statements():
    """The 252 numbered statements: (entries, problems)."""
    raw, problems = _read(sorted((HERE / "statements").glob("*.toml")))
    known = {label: r["section"] for label, r in spec.statements().items()}
    entries, more = account(raw, known)
    return entries, problems + more


def breaches():
    """The sections that speak of malformed packets and protocol errors: (entries, problems)."""
    raw, problems = _read([HERE / "breaches.toml"])
    entries, more = account(raw, {section: section for section in spec.breaches()})
    return entries, problems + more


_functions = {}


def exists(test):
    """Whether the file has a test function of this name. Parameters in brackets are seen by the run only."""
    file, _, name = test.partition("::")
    if file not in _functions:
        path = TESTS / file
        body = ast.parse(path.read_text("utf-8")).body if path.is_file() else []
        _functions[file] = {n.name for n in body if isinstance(n, ast.FunctionDef) and n.name.startswith("test_")}
    return name.partition("[")[0] in _functions[file]


def named(entries):
    """The tests that these entries name, each once, in order."""
    return list(dict.fromkeys(test for entry in entries for test in entry.tests))
