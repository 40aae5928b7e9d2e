"""Staying up, the part that any client needs: what an error means for the next attempt, how long to wait for it, and
which broker to try. Shared by aio.py and robust.py; no socket, no clock, no sleeping.

It must never let a refusal silence a device for ever: only the very first login may give up.
"""

from micropython import const

from os import urandom
from time import ticks_diff

from .errors import AuthError, MQTTError, NotProven, PeerError, ResourceError, wrong
from .transport import place

# Texts of errors: see texts.py.
_NO_SSL = const(103)
_NO_SERVER = const(104)
_MADE = const(129)

# What verdict() says of an error.
RETRY = const(0)  # the network or the broker's state: it may work in a second
LONG = const(1)  # trying again soon helps nobody: our peer is not our broker, or another client has our name
PERMANENT = const(2)  # a person has to change something: raised at the very first login, then as LONG

# CONNACK's reasons (3.2.2.2) that no waiting cures: version, client identifier, password, not authorized, banned,
# method, will topic, packet too large, will payload, retain, QoS; and that we broke the protocol.
_PERMANENT_REASONS = const(b"\x81\x82\x84\x85\x86\x87\x8a\x8c\x90\x95\x99\x9a\x9b")
# DISCONNECT's (3.14.2.1): not authorized, session taken over, administrative action.
_LONG_REASONS = const(b"\x87\x8e\x98")

# ms. A connection that has lasted so many times the last wait clears the count of failures: not every login does,
# or two boards with one client identifier would throw each other out every second, for ever.
_PROOF = const(4)


def verdict(error):
    """RETRY, LONG or PERMANENT."""
    if isinstance(error, NotProven):  # whoever sits on the path can make us see this: never a reason to give up
        return LONG
    if isinstance(error, (PeerError, MemoryError)):
        return RETRY
    reason = getattr(error, "reason", None)
    if isinstance(error, OSError):
        return LONG if reason and reason in _LONG_REASONS else RETRY
    if isinstance(error, (AuthError, ResourceError)):
        return PERMANENT
    if isinstance(error, MQTTError):
        return PERMANENT if reason and reason in _PERMANENT_REASONS else RETRY
    return PERMANENT  # ValueError and the like: a mistake of the program's


class Backoff:
    """How long to wait before the next attempt: twice as long each time, up to a cap; and by chance up to half of it
    less, so that a hundred boards do not come back in the same second after a power cut. All in seconds."""

    def __init__(self, first=1, cap=60, long_first=60, long_cap=3600):
        self.first = first
        self.cap = cap
        self.long_first = long_first
        self.long_cap = long_cap
        self.failures = self.refusals = 0  # since the last connection that lasted
        self.last = 0  # ms: the last wait, without chance
        self.since = None  # ticks: when the connection came up

    def up(self, now):
        """A login has succeeded."""
        self.since = now

    def wait(self, error, now):
        """The connection or an attempt has failed with `error`: ms until the next attempt."""
        if self.since is not None:
            # Spans over 6 days cannot be told from ticks: a wrong answer costs one wait.
            if ticks_diff(now, self.since) > _PROOF * self.last:
                self.failures = self.refusals = 0
            self.since = None
        if verdict(error) == RETRY:
            ms = self._step(self.first, self.cap, self.failures)
            self.failures += 1
        else:
            ms = self._step(self.long_first, self.long_cap, self.refusals)
            self.refusals += 1
        self.last = ms
        chance = urandom(2)
        return ms - ms * (chance[0] << 8 | chance[1]) // 131072

    def _step(self, first, cap, n):
        return int(min(cap, first * (1 << min(n, 20))) * 1000)


def made(name, thing, class_name, method):
    """TypeError where the argument `thing` is neither None nor an object of that class's kind."""
    if thing is not None and (isinstance(thing, type) or not hasattr(thing, method)):
        raise wrong((_MADE, name, class_name), TypeError)
    return thing


def brokers(server, port, ssl, ssl_params):
    """The arguments of a client -> [(host, port, tls)], what transport's functions want. server: a host; or a list
    of hosts and of (host, port), to be tried in turn. port: 0 means 1883, or 8883 with TLS."""
    found = []
    if ssl:
        from .tls import context
    elif ssl_params:
        raise wrong(_NO_SSL)
    for where in server if isinstance(server, (list, tuple)) else (server,):
        host, own = where if isinstance(where, (tuple, list)) and len(where) == 2 else (where, 0)
        tls = context(ssl, ssl_params, host) if ssl else None
        found.append(place(host, own or port or (8883 if ssl else 1883)) + (tls,))
    if not found:
        raise wrong(_NO_SERVER)
    return found
