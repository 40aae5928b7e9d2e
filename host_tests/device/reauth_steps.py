# For test_reauth_*.py and test_reauth.py: an engine that is logged in, and the steps of a re-authentication.
from rules import METHOD, Mechanism, connack, opened, packet, props
from umqtt5.reader import UP
from umqtt5.reauth import _early_publish
from wire import Wire

FRONT = ("next", "timer", "_ack", "publish", "end", "closed")


def auth(reason=0x18, data=None, properties=METHOD):
    if data is not None:
        properties += b"\x16" + bytes((len(data) >> 8, len(data) & 255)) + data
    return packet(0xF0, bytes((reason,)) + props(properties))


def granted(w):
    """CONNECT is out: log in with a mechanism that has one thing to say."""
    opened(w)
    w.feed(connack(0, 0, METHOD))
    assert w.e.state == UP
    w.sent.clear()
    return w


def up(**options):
    options.setdefault("auth", Mechanism(b"login"))
    return granted(Wire(**options))


def step(w):
    """What a driver does while the mechanism works."""
    w.flush()
    while w.e.auth_busy():
        w.e.work(w.now)
        w.flush()
    return w


def begin(w, *says):
    """AUTH 0x19 is out; the mechanism."""
    m = Mechanism(*(says or (b"one", b"two")))
    w.e.reauthenticate(m, w.now)
    assert w.e.authenticating and w.e.auth_busy()
    step(w)
    return m


def nothing_stands_in_front(w):
    assert not [name for name in FRONT if name in w.e.__dict__]
    assert w.e.handlers[3] is not _early_publish
    assert not w.e.held and not w.e.authenticating and not w.e.auth_busy()


def finish(w, data=None):
    w.feed(auth(0x00, data))
    step(w)
    nothing_stands_in_front(w)
    assert w.e.state == UP
