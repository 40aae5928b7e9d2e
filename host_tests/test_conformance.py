"""The accounting of the conformance table, in `make test`: every statement accounted for, every named test there; and
our tables of properties and reason codes against the specification's, all of them, both ways.

The named tests themselves run in the same `make test`; `make conformance` runs them alone and prints the table.
"""

import io

import pytest
from rich.console import Console
from umqtt5 import codec, props, reasons
from umqtt5.errors import PeerError

from host_tests.conformance import report, spec, table

# Our types of properties (codec._TABLE) by the specification's names of them; 8 is a byte that may only be 0 or 1.
TYPES = {
    "Byte": {1, 8},
    "Two Byte Integer": {2},
    "Four Byte Integer": {3},
    "Variable Byte Integer": {4},
    "UTF-8 Encoded String": {5},
    "Binary Data": {6},
    "UTF-8 String Pair": {7},
}
SAMPLES = {1: b"\1", 2: b"\0\1", 3: b"\0\0\0\1", 4: b"\1", 5: b"\0\1x", 6: b"\0\1\xff", 7: b"\0\1a\0\1b", 8: b"\1"}
PROPERTIES = {p["id"]: p for p in spec.properties()}
PACKETS = {**spec.packets(), "Will Properties": 0}


# The accounting --------------------------------------------------------------------------------------------


def test_every_statement_is_accounted_for():
    entries, problems = table.statements()
    assert not problems, "\n".join(problems)
    assert len(entries) == spec.STATEMENTS
    kinds = {entry.kind for entry in entries}
    assert kinds <= set(table.KINDS)


def test_every_section_on_breaches_is_accounted_for():
    entries, problems = table.breaches()
    assert not problems, "\n".join(problems)
    assert len(entries) == len(spec.breaches()) > 60


TEST = "test_conformance.py::test_every_statement_is_accounted_for"


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        pytest.param({}, "A-1: not accounted for", id="missing"),
        pytest.param({"A-1": {"tests": [TEST]}, "B-2": {"na": "no such thing here"}}, "B-2: the spec", id="unknown"),
        pytest.param({"A-1": {"tests": ["test_conformance.py::test_no_such"]}}, "there is no test", id="no-test"),
        pytest.param({"A-1": {"tests": ["test_no_such.py::test_x"]}}, "there is no test", id="no-file"),
        pytest.param({"A-1": {"tests": []}}, "at least one test", id="no-tests"),
        pytest.param({"A-1": {"server": ""}}, "needs a reason", id="no-reason"),
        pytest.param({"A-1": {"na": "a good reason", "tests": [TEST]}}, "exactly one", id="two-kinds"),
        pytest.param({"A-1": {"maybe": "a good reason"}}, "exactly one", id="other-kind"),
    ],
)
def test_what_is_wrong_is_found(raw, text):
    _, problems = table.account(raw, {"A-1": "1.1"})
    assert len(problems) == 1 and text in problems[0], problems


@pytest.mark.parametrize(
    ("results", "problem"),
    [
        ({}, "did not run"),
        ({f"host_tests/{TEST}": "passed"}, ""),
        ({f"host_tests/{TEST}": "skipped"}, "1 skipped"),
        ({f"host_tests/{TEST}": "xfailed"}, "1 xfailed"),
        ({f"host_tests/{TEST}[a]": "passed", f"host_tests/{TEST}[b]": "failed"}, "1 failed"),
        ({f"host_tests/{TEST}[a]": "passed", f"host_tests/{TEST}[b]": "passed"}, ""),
        ({f"host_tests/{TEST}_too": "passed"}, "did not run"),
    ],
)
def test_only_a_test_that_ran_and_passed_counts(results, problem):
    entries, _ = table.account({"A-1": {"tests": [TEST]}}, {"A-1": "1.1"})
    (outcome,) = report.judge(entries, results)
    assert problem in outcome.problem and bool(problem) == bool(outcome.problem)


def test_the_table_is_printed_and_written():
    entries, _ = table.statements()
    passed = {f"host_tests/{test}": "passed" for test in table.named(entries)}
    judged = report.judge(entries, passed)
    out = io.StringIO()
    report.show(judged, Console(file=out, width=160), details=True)
    text = out.getvalue()
    assert all(label in text for label in spec.statements())
    markdown = report.as_markdown(judged)
    assert f"{spec.STATEMENTS} normative statements" in markdown
    assert '"MQTT-1.5.4-1"' in report.as_json(judged, [], [])


def test_no_text_of_the_specification_is_copied_here():
    """The sentences are OASIS's: the mapping names statements, it does not quote them."""
    ours = "\n".join(p.read_text("utf-8") for p in table.HERE.rglob("*.toml"))
    for statement in spec.statements().values():
        for sentence in spec.SENTENCE.split(statement["excerpt"]):
            assert len(sentence) < 40 or sentence not in ours


# Our tables ------------------------------------------------------------------------------------------------


def test_property_identifiers_and_types():
    for ident in range(256):
        if ident in PROPERTIES:
            assert codec.kind(ident) in TYPES[PROPERTIES[ident]["data_type"]], hex(ident)
        else:
            assert codec.kind(ident) == 0, hex(ident)


@pytest.mark.parametrize("packet", PACKETS)
def test_properties_of_each_packet(packet):
    """check() takes a property where the specification's table has it, and nowhere else."""
    for ident, p in PROPERTIES.items():
        raw = bytes([ident]) + SAMPLES[codec.kind(ident)]
        if packet in p["packets"]:
            codec.check(raw, 0, len(raw), PACKETS[packet])
        else:
            with pytest.raises(PeerError) as e:
                codec.check(raw, 0, len(raw), PACKETS[packet])
            assert e.value.reason == 0x81, (packet, p["name"])


def test_the_packets_that_have_properties():
    """No other packet type has any."""
    allowed = {PACKETS[name] for p in PROPERTIES.values() for name in p["packets"]}
    for packet in range(16):
        if packet not in allowed:
            for ident in PROPERTIES:
                raw = bytes([ident]) + SAMPLES[codec.kind(ident)]
                with pytest.raises(PeerError):
                    codec.check(raw, 0, len(raw), packet)


def test_names_of_properties():
    """props.encode() and decode() call each property by the specification's name, in snake case."""
    names = {p["name"].lower().replace(" ", "_"): ident for ident, p in PROPERTIES.items()}
    assert names == props._NAMES


def test_names_of_reason_codes():
    """reasons.name() of each code; 0x00 is Success, whatever else DISCONNECT and SUBACK call it."""
    names = {}
    for reason in spec.reasons():
        names.setdefault(reason["value"], []).append(reason["name"])
    for code in range(256):
        if code in names:
            assert reasons.name(code) in names[code], hex(code)
        else:
            assert reasons.name(code) == "unknown reason code", hex(code)
    assert set(reasons._NAMES) == set(names)
