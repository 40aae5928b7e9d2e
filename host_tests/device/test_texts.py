# The texts of errors come from a file that is loaded when one is needed: what happens where the heap has no room for
# it, and what it is worth that a client has not loaded it.
import gc
import sys

from umqtt5.codec import text
from umqtt5.errors import MalformedPacket
from wire import Wire, raises


class Full:
    """While it is entered, the heap has only small holes, 200 bytes each."""

    def __enter__(self):
        gc.collect()
        self.hogs = hogs = [None] * 200000
        try:
            for i in range(len(hogs)):
                hogs[i] = bytearray(200)
        except MemoryError:
            for j in range(i - 40, i, 4):
                hogs[j] = None
        gc.collect()

    def __exit__(self, *_):
        self.hogs.clear()
        gc.collect()


def loaded():
    return [name for name in ("umqtt5.texts", "umqtt5.reasons") if name in sys.modules]


def test_a_client_that_nothing_goes_wrong_with_loads_no_text():
    Wire().up().publish(b"a", b"b")
    assert not loaded(), loaded()


def test_an_error_that_is_caught_and_not_printed_loads_none():
    w = Wire().up()
    error = raises(MalformedPacket, w.feed, b"\x30\x02\x00\x09")
    assert not loaded(), loaded()
    assert "0x81 Malformed Packet" in str(error) and loaded() == ["umqtt5.reasons"]


def test_after_an_error_the_texts_are_gone_again():
    def free():
        gc.collect()
        gc.collect()
        return gc.mem_free()

    raises(ValueError, text, "a\0", "topic")  # names that are new are there to stay
    before = free()
    for _ in range(10):
        error = raises(ValueError, text, "a\0", "topic")
        assert str(error).startswith("topic: not UTF-8")
    error = None
    assert not loaded() and before - free() < 100, (loaded(), before, free())


def test_no_room_for_the_texts():
    with Full():
        error = raises(ValueError, text, "a\0", "topic")
        shown = str(error)
    assert shown == "(15, 'topic')", shown
    error = raises(ValueError, text, "a\0", "topic")
    assert str(error).startswith("topic: not UTF-8"), error


def test_no_room_to_print_one():
    error = MalformedPacket(1)
    with Full():
        shown = (str(error), repr(error))
    assert shown == ("1 129", "MalformedPacket: 1 129"), shown
    assert repr(error) == "MalformedPacket: " + str(error) and "a length that does not end" in str(error)
