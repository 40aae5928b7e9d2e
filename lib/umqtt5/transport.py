"""Opens a stream: TCP (tls.py: TLS on top of it). Non-blocking throughout, but for the name look-up, which no port
can do without blocking.

This file and tls.py alone know the difference between MicroPython and CPython (where the host tools run lib/).
"""

from micropython import const

import errno
import sys

from .errors import wrong

if sys.implementation.name == "micropython":
    import socket
    from select import poll as poller  # makes a poll object with ipoll()
else:
    from cpython_net import poller, socket  # noqa: F401  (drivers use it)

_PLACE = const(127)  # see texts.py
_STREAM = const(1)  # socket.SOCK_STREAM, on every port
# select's, on every port.
_POLLOUT = const(4)
_FAILED = const(8 | 16)  # POLLERR, POLLHUP

# A board's port that has the option has its name, too; one that has not (before 1.24) prints a warning each time.
_NODELAY = getattr(socket, "TCP_NODELAY", sys.platform in "linux darwin")


def place(host, port):
    """(host, port), where they can be a broker's. ValueError: a socket takes 70000 for 4464."""
    if not host or not isinstance(host, (str, bytes)) or not isinstance(port, int) or not 0 < port < 65536:
        raise wrong(_PLACE)
    return host, port


def addresses(server, port):
    """What to connect to, in turn. Blocks while the name is looked up. OSError where there is no such name."""
    return socket.getaddrinfo(server, port, 0, _STREAM)


def start(where):
    """A non-blocking socket that is being connected to `where`: when it can be written to, see connected()."""
    sock = socket.socket(where[0], where[1])
    try:
        sock.setblocking(False)
        at_once(sock, 1)
        try:
            sock.connect(where[-1])
        except OSError as e:
            if e.errno != errno.EINPROGRESS:
                raise
    except BaseException:
        sock.close()
        raise
    return sock


def at_once(sock, on):
    """on=1: what is written to this TCP socket leaves at once: one write a packet, and Nagle's algorithm would hold a
    QoS 1 publish for 40 ms. 0: a small packet waits until the other side has confirmed the last (RFC 896)."""
    try:
        if _NODELAY:
            sock.setsockopt(6, _NODELAY, on)
    except Exception:  # a tuple would put the frame on the heap
        pass  # a port without the option


def may_wait(sock, on):
    """at_once() for a socket that has been connected. Not on extmod/modlwip.c (RP2040; the one with a reset()): it
    does not look whether the connection has been reset meanwhile, and would write to address 0."""
    if not hasattr(socket, "reset"):
        at_once(sock, 1 - on)


def connected(sock, poll):
    """Whether a socket from start(), polled for POLLOUT, has connected; OSError where that failed."""
    for event in poll.ipoll(0):
        if event[1] & _FAILED:
            sock.readinto(bytearray(1), 1)  # there is no getsockopt: this raises what went wrong
            raise OSError(errno.ECONNREFUSED)
        if event[1] & _POLLOUT:
            return True
    return False
