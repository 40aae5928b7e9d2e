"""The texts of errors and their numbers: what lib/umqtt5 raises by number has a text in texts.py, which fits it.

The interpreter cannot see it: a wrong number shows only when that error is printed. So the sources are read.
"""

import ast
import re
import sys
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import pytest
from umqtt5 import texts
from umqtt5.errors import MalformedPacket, ProtocolError, Refused, ResourceError, wrong

LIB = Path(texts.__file__).parent
ERRORS = {"MQTTError", "PeerError", "MalformedPacket", "ProtocolError", "Refused", "AuthError", "NotProven"}
ERRORS |= {"ResourceError", "StoreError", "wrong"}
PYTHONS = {"ValueError", "RuntimeError", "TypeError"}
LONGEST_NAME = 10  # characters: a shorter constant is one of the interpreter's names, which others may use too
# Modules that raise texts of their own: robust.py has one, for which wrong() would be 32 bytes more, not less.
IN_THE_CLEAR = {"robust.py"}
PLACE = re.compile(r"%0?[0-9]*([dsX])")
SAMPLES = {"d": 7, "X": 0x1F, "s": "text"}


@dataclass(frozen=True)
class Raised:
    """An error's first argument: its name, its number, how many values go with it; where it is."""

    name: str
    number: int
    values: int
    where: str


def constants(tree, where):
    """{name: value} of a module's private integers."""
    found = {}
    for node in tree.body:
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call) and node.value.func.id == "const":
            name = node.targets[0].id
            assert name not in found, f"{where}: {name} twice"
            found[name] = node.value.args[0].value if isinstance(node.value.args[0], ast.Constant) else None
    return found


def first_arguments(tree, names):
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and node.args:
            name = getattr(node.func, "id", getattr(node.func, "attr", None))  # wrong(...) or errors.wrong(...)
            if name in names:
                yield name, node.args[0]


def literal(node):
    """Whether a text is written out there, a long one: alone, with values, or joined."""
    return any(isinstance(n, ast.Constant) and isinstance(n.value, str) and len(n.value) > LONGEST_NAME
               for n in ast.walk(node))  # fmt: skip


def raised():
    for path in sorted(LIB.glob("*.py")):
        tree = ast.parse(path.read_text())
        known = constants(tree, path.name)
        for function, node in first_arguments(tree, ERRORS):
            where = f"{path.name}:{node.lineno}"
            values = 0
            if isinstance(node, ast.Tuple):
                values = len(node.elts) - 1
                node = node.elts[0]
                assert values and isinstance(node, ast.Name), f"{where}: a number's name and its values"
            assert not isinstance(getattr(node, "value", None), int), f"{where}: {function}: a number without a name"
            if isinstance(node, ast.Name) and node.id in known:
                yield Raised(node.id, known[node.id], values, where)


RAISED = list(raised())


def test_every_number_has_one_text_and_every_text_is_raised():
    assert {r.number for r in RAISED} == set(texts._TEXTS), "on one side only"
    assert sorted(texts._TEXTS) == list(range(1, len(texts._TEXTS) + 1)), "a number is left out: used for what?"
    source = ast.parse((LIB / "texts.py").read_text())
    keys = next(n for n in ast.walk(source) if isinstance(n, ast.Dict)).keys
    assert len(keys) == len(texts._TEXTS), "a number twice"
    assert len(set(texts._TEXTS.values())) == len(texts._TEXTS), "a text twice"


def test_a_number_has_the_same_name_everywhere():
    names, numbers = defaultdict(set), defaultdict(set)
    for r in RAISED:
        names[r.number].add(r.name)
        numbers[r.name].add(r.number)
    assert not [found for table in (names, numbers) for found in table.items() if len(found[1]) > 1]


def test_no_name_is_left_of_an_error_that_is_gone():
    named = {(r.name, r.number) for r in RAISED}
    for path in LIB.glob("*.py"):
        tree = ast.parse(path.read_text())
        used = {n.id for n in ast.walk(tree) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load)}
        left = [
            name for name, value in constants(tree, path.name).items() if (name, value) in named and name not in used
        ]
        assert not left, f"{path.name}: {left}"


@pytest.mark.parametrize("raised", RAISED, ids=lambda r: r.where)
def test_a_texts_places_are_as_many_as_its_values(raised):
    text = texts._TEXTS[raised.number]
    places = PLACE.findall(text)
    assert len(places) == raised.values == text.count("%"), (raised, text)
    if places:
        shown = texts.text((raised.number, *[SAMPLES[place] for place in places]))
        assert "%" not in shown and all(sample in shown for sample in ["text"] * ("s" in places)), shown
    else:
        assert texts.text(raised.number) == text


def test_no_text_is_written_where_it_is_raised():
    for path in sorted(LIB.glob("*.py")):
        if path.name not in IN_THE_CLEAR:
            tree = ast.parse(path.read_text())
            found = [node.lineno for _, node in first_arguments(tree, ERRORS | PYTHONS) if literal(node)]
            assert not found, f"{path.name}: lines {found}: in texts.py"


def test_what_is_shown():
    assert str(MalformedPacket(1)) == f"the broker broke the protocol: {texts._TEXTS[1]} (0x81 Malformed Packet)"
    assert str(Refused("PUBACK", 0x87)) == "PUBACK 0x87 Not authorized"  # a packet's name; the others are sentences
    assert "property 0x1F twice" in str(ProtocolError((8, 0x1F)))
    assert str(ResourceError((52, 300))).endswith("tx_size=300") and str(ResourceError("as it is")) == "as it is"
    error = wrong((60, 0x21), ValueError, "here: ")
    assert type(error) is ValueError and str(error) == "here: props: property 0x21 has an argument of its own"
    assert type(wrong(62, RuntimeError)) is RuntimeError


def test_an_error_of_pythons_own_that_finds_no_memory_has_its_number(monkeypatch):
    def full(what):
        raise MemoryError

    monkeypatch.setitem(sys.modules, "umqtt5.texts", SimpleNamespace(text=full))
    assert wrong(62, RuntimeError).args == (62,) and str(wrong((60, 0x21))) == "(60, 33)"
