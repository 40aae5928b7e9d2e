# What is loaded when it is needed may find no memory: the client says so, or does without. It is whole then, or
# closed, and what was in flight is not lost.
# runs under CPython too
import builtins
import sys

import umqtt5.transport as transport
from net import Net
from umqtt5 import MQTTClient, Refused
from wire import raises

TOPIC = b"house/kitchen"


class Full:
    """No memory to load this module of umqtt5."""

    def __init__(self, name):
        self.name = name
        sys.modules.pop("umqtt5." + name, None)
        if name in sys.modules["umqtt5"].__dict__:
            delattr(sys.modules["umqtt5"], name)

    def __enter__(self):
        self.kept = builtins.__import__
        self.refused = 0
        builtins.__import__ = self

    def __exit__(self, *_):
        builtins.__import__ = self.kept
        assert self.refused, "nobody needed it"

    def __call__(self, name, *args):
        if name == self.name or name == "umqtt5." + self.name:
            self.refused += 1
            raise MemoryError
        return self.kept(name, *args)


def up(**options):
    net = Net()
    c = MQTTClient("me", "host", timeout=0.2, **options)
    c.connect()
    return c, net


def test_for_the_last_words():
    for qos in (0, 1):  # by the short way and by the long one
        c, net = up()
        c.publish(TOPIC, b"first", False, 0)
        net.streams[0].error = OSError(104)
        with Full("ending"):
            assert raises(OSError, c.publish, TOPIC, b"payload", False, qos).args == (104,)
        assert c.sock is None
        c.connect()
        c.publish(TOPIC, b"more")
        c.disconnect()


def test_for_a_refused_login():
    net = Net(b"\x20\3\0\x87\0")
    c = MQTTClient("me", "host")
    with Full("ending"):
        raises(MemoryError, c.connect)
    assert c.sock is None and net.streams[0].closed
    raises(Refused, c.connect)


def test_for_a_disconnect():
    c, net = up()
    net.streams[0].says = b"\xe0\1\x8b"
    with Full("ending"):
        raises(MemoryError, c.check_msg)
    assert c.sock is None and net.streams[0].closed
    c.connect()
    c.disconnect()


def test_for_the_name_of_a_step():
    def nobody(sock, poll):
        raise OSError(111)

    Net()
    c = MQTTClient("me", "host")
    transport.connected = nobody
    with Full("ending"):
        assert raises(OSError, c.connect).args == (111,)
    assert raises(OSError, c.connect).args[0] == 111
    assert c.sock is None


def test_for_what_is_to_be_resent():
    c, net = up()
    for n in range(3):
        c.publish(TOPIC, b"%d" % n, False, 1, None, False)
    c._close()
    net.connack = b"\x20\3\1\0\0"
    with Full("resume"):
        raises(MemoryError, c.connect, False)
    assert c.sock is None and c._engine.session.in_flight() == 3
    c.connect(False)
    sent = [p for p in net.streams[-1].took if p[0] == 0x3A]
    assert [p[-1:] for p in sent] == [b"0", b"1", b"2"], sent


def test_for_a_will():
    Net()
    c = MQTTClient("me", "host")
    with Full("make"):
        raises(MemoryError, c.set_last_will, "t", "gone")
    c.set_last_will("t", "gone")
    c.connect()
    c.disconnect()


def test_for_a_client():
    Net()
    with Full("make"):
        raises(MemoryError, MQTTClient, "me", "host")
    MQTTClient("me", "host").connect()
