"""The engine of the library under test on CPython, fed by hand: bytes in, in any pieces; what it sends, delivers and
raises out. For tests that need thousands of runs; those of the rules run on MicroPython too (device/wire.py).
"""

import micropython  # noqa: F401  (first: it gives `time` its ticks)

from umqtt5.codec import put_vbi, vbi_size
from umqtt5.protocol import Engine
from umqtt5.reader import FAILED, UP

from harness import wire
from harness.proxy import packet_end

NOW = 1000


class Driven:
    """An engine and its driver. `messages`: dicts of all that a handler can see of a message; `sent`: packets;
    `error`: the exception that ended it, or None."""

    def __init__(self, opened=True, **options):
        options.setdefault("topic_alias_maximum", 4)
        self.e = Engine("me", None, None, 60, **options)
        self.sent, self.messages, self.told, self.error = bytearray(), [], [], None
        self.e.on_event = lambda name, value: self.told.append((name, value))
        self.e.callback = self._handler
        if opened:
            self.open()

    def open(self, clean=True):
        """Send CONNECT."""
        self.e.open(NOW, clean)
        self._flush()
        return self

    def publish(self, topic, msg, retain=False, qos=0, props=None):
        """As a driver's publish(); bytes."""
        e = self.e
        e.out_topic, e.out_msg, e.out_props, e.out_flags = topic, msg, props, qos << 1 | retain
        slot = e.publish()
        self._flush()
        return slot

    def up(self, *granted, present=0):
        self.feed(wire.connack(0, *granted, present=present))
        assert self.e.state == UP, self.error
        self.sent.clear()
        return self

    def feed(self, data, sizes=()):
        """Bytes from the server, read in pieces of these sizes (in turn; () or a 0: as large as can be). What the
        engine raises is kept, and nothing is fed after it. Returns self."""
        view, turn = memoryview(bytes(data)), 0
        while view and not self.error:
            e = self.e
            size = sizes[turn % len(sizes)] if sizes else 0
            turn += 1
            n = min(e.need, len(view), size or len(view))
            assert n > 0 and len(e.into) >= n, "the engine asks for nothing: a driver would hang"
            e.into[:n] = view[:n]
            view = view[n:]
            try:
                e.got(n, NOW)
            except Exception as x:
                self.error = x
                if e.state == FAILED and e.farewell():
                    self.sent += bytes(e.out[e.off : e.off + e.left])
                break
            self._flush()
        return self

    def _flush(self):
        e = self.e
        while e.left or e.next():
            self.sent += bytes(e.out[e.off : e.off + e.left])
            e.wrote(e.left, NOW)

    def packets(self):
        """All that was sent, as the strict reader of wire.py sees it."""
        found, data = [], bytes(self.sent)
        while data:
            end = packet_end(data)
            assert end, "half a packet was sent"
            found.append(wire.split(data)[0])
            data = data[end:]
        return found

    def _handler(self, topic, payload):
        m = self.e.message
        copy = m.copy()
        assert self.e.state == UP, "a message before the login"
        assert (topic, payload) == (m.topic, m.payload) == (copy.topic, copy.payload)
        assert copy.props == m.props
        flags = {"qos": m.qos, "dup": m.dup, "retain": m.retain}
        self.messages.append({"topic": topic, "payload": payload, "props": m.props, **flags})


def length(n):
    """A Variable Byte Integer of the library's own making."""
    out = bytearray(vbi_size(n))
    put_vbi(out, 0, n)
    return bytes(out)
