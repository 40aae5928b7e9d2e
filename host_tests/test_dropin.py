"""umqtt.simple's users change one import: the same script, unchanged, with upstream's class and with ours."""

import json

import pytest
from harness.micropython import ROOT, run_device
from harness.observer import Subscriber

MODULES = {"upstream": "umqtt.simple", "ours": "umqtt5"}
OUT = [
    ("str", 0),
    ("bytes", 0),
    ("retained", 0),
    ("qos 1", 1),
    ("both by name", 1),
    ("", 0),
    ("large " + "x" * 3000, 1),
    ("second connection", 1),
    ("all in bytes", 1),
]


def run(broker, module, topic):
    """One run of the script: (what it reported, what mosquitto_sub saw on topic/out)."""
    vendor = ROOT / "build" / "vendor"
    if module == "umqtt.simple":
        from tools.vendor import vendor as fetch

        fetch()
    told = {
        "module": module,
        "host": broker.host,
        "port": broker.plain_port,
        "password_port": broker.password_port,
        "topic": topic,
    }
    with Subscriber(broker, topic + "/out") as witness:
        result = run_device("client_dropin.py", told, timeout=30, extra_path=[vendor])
        seen = witness.messages(len(OUT))
    with Subscriber(broker, topic + "/#") as late:
        kept = late.messages(1)
    return result.lines[-1], seen, kept


@pytest.mark.parametrize("which", MODULES)
def test_same_script(broker, which):
    topic = f"dropin/{which}"
    report, seen, kept = run(broker, MODULES[which], topic)
    bytes_pair = ["bytes", "bytes"]
    assert [[line[0], line[2]] for line in report["got"]] == [bytes_pair] * 3
    assert [line[3] for line in report["got"]] == ["to myself", "again", "after ping"]
    assert [line[1] for line in report["got"]] == [topic + "/in", topic + "/in1", topic + "/in"]
    assert report["present"] == [False, False]
    assert report["refused"] is True
    assert [(m["payload"], m["qos"]) for m in seen] == OUT
    assert {m["topic"] for m in seen} == {topic + "/out"}
    # An empty payload without retain does not clear what is retained: the last one with retain stands.
    assert [(m["payload"], m["retain"]) for m in kept] == [("both by name", 1)]


def test_same_messages(broker):
    """What the two leave behind differs in nothing but the topic that tells them apart."""
    results = []
    for which, module in MODULES.items():
        found = run(broker, module, f"same/{which}")
        results.append(json.loads(json.dumps(found).replace(f"same/{which}", "same")))
    assert results[0] == results[1]


def test_will(broker):
    """set_last_will with upstream's arguments: published when the board vanishes without a DISCONNECT."""
    wills = []
    for which, module in MODULES.items():
        topic = f"will/{which}"
        with Subscriber(broker, topic) as witness:
            run_device(
                "client_vanish.py",
                {"module": module, "host": broker.host, "port": broker.plain_port, "topic": topic},
                extra_path=[ROOT / "build" / "vendor"],
            )
            wills.append([(m["payload"], m["qos"], m["retain"]) for m in witness.messages(1)])
    assert wills == [[("gone", 1, 0)]] * 2
