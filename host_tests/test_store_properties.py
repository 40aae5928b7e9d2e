"""Hypothesis looks for a sequence of messages, lost connections and power cuts that the store does not survive.

The same broker and flash as in device/test_store.py, which tries every byte of one sequence; here CPython, since it
takes thousands of runs. What must hold is in device/deal.py: Book.check().
"""

import micropython  # noqa: F401  (first: it gives `time` its ticks)

import sys

import pytest
from harness.micropython import DEVICE
from hypothesis import given, settings
from hypothesis import strategies as st

STEPS = st.lists(
    st.sampled_from(["out0", "out1", "out2", "in0", "in1", "in2", "off", "connect", "flush"]), min_size=3, max_size=18
)
CUTS = st.lists(st.integers(0, 900), max_size=4)


@pytest.fixture(scope="module")
def device():
    """The modules deal, flash and test_store of host_tests/device; umqtt5.log gets its own open() and os back."""
    import os

    import umqtt5.log

    sys.path.insert(0, str(DEVICE))
    import deal
    import flash

    yield deal, flash
    sys.path.remove(str(DEVICE))
    umqtt5.log.os = os
    del umqtt5.log.open


def script(names):
    out = [("connect", b"0")]
    for i, name in enumerate(names):
        kind = name.rstrip("012")
        out.append((kind, b"%s%d" % (name[-1:].encode(), i) if kind != name else b"0"))
    return out


@settings(max_examples=400, deadline=None, derandomize=True)
@given(names=STEPS, cuts=CUTS, torn=st.booleans(), unlinks=st.booleans(), limit=st.sampled_from([1, 60, 200, 4096]))
def test_power_cuts(device, names, cuts, torn, unlinks, limit):
    run(device, names, cuts, limit, torn=torn, unlinks=unlinks)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(names=STEPS, rooms=st.lists(st.integers(0, 400), max_size=3), limit=st.sampled_from([1, 100, 4096]))
def test_full_flash(device, names, rooms, limit):
    """Between two lives the flash has more or less room; in the last one enough."""
    run(device, names, (), limit, rooms=rooms)


def run(device, names, cuts, limit, rooms=(), **kinds):
    deal, flash = device
    disk = flash.Flash(**kinds)
    book, broker, steps = deal.Book(), deal.Broker(), script(names)

    def make():
        made = deal.Device(broker, limit, handled=book.handled)
        if broker.present:
            try:
                made.connect()
            except deal.StoreError:
                made.e.closed()
        return made

    third = max(1, len(steps) // 3)
    for room in rooms:
        disk.room = room
        part, steps = steps[:third], steps[third:]
        deal.live(book, broker, part, make)
    disk.room = 1 << 30
    for cut in cuts:
        disk.cut_at = disk.steps + cut
        try:
            deal.live(book, broker, steps, make)
        except flash.PowerCut:
            pass
        disk.reboot()
    last = deal.live(book, broker, steps, make)
    last.connect()
    book.check(broker, last)
