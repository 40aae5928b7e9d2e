"""What runs for each message has a frame that fits the C stack: a larger one would be taken from the heap at each
call, which no other test sees (tools/frames.py)."""

import pytest

from tools import frames, mpy

HOT = {
    "driver": (
        "_write",
        "Driver._room",
        "Driver._look",
        "Driver._answer",
        "Driver._finish",
        "Driver._wait_or_abort",
        "Driver._wait",
        "Driver._sleep",
        "Driver._receive",
        "Driver._flush",
    ),
    "simple": ("MQTTClient.publish", "MQTTClient.wait_msg", "MQTTClient.check_msg"),
    "quick": ("readdress",),  # the generators' frames are made once, on the heap
    "publisher": ("Publisher.publish", "Publisher._prepare"),
    "packets": (
        "Packets._ack",
        "Packets.wrote",
        "Packets.put_publish",
        "Packets.start_publish",
    ),
    "reader": ("Reader.timer",),
    "receive": ("publish", "_publish1", "_publish", "_publish2", "pubrel", "_hand", "_dispatch", "_taker"),
    "message": ("matches", "Message.is_usual", "Message.is_new", "Message.is_for", "Message.parse_topic"),
    "protocol": ("Engine.publish", "Engine._puback", "Engine._pubrec", "Engine._pubcomp", "Engine._answer"),
    "transport": ("at_once", "may_wait"),
    "session": ("Session.answered", "Session.release", "Session.take"),
}


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    return mpy.compile_files(mpy.sources(modules=("umqtt5",)), tmp_path_factory.mktemp("frames"))


@pytest.mark.parametrize("module", HOT)
def test_on_the_stack(compiled, module):
    found = frames.frames(compiled[f"umqtt5/{module}.mpy"])
    words = {name.removeprefix("?."): n for name, n in found.items()}
    assert {name: words[name] for name in HOT[module] if words[name] > frames.LIMIT} == {}
