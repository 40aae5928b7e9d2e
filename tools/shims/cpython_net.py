"""MicroPython's stream methods over CPython's sockets: what lib/umqtt5/transport.py uses instead of
`socket`, `select` and `ssl` when it runs under CPython. It must never be put onto a board.

MicroPython's non-blocking streams answer None for "nothing now" where CPython raises; they read and write in place
(`readinto(buf, n)`, `write(buf, off, n)`); a poll object has `ipoll`.
"""

import select as _select
import socket as _socket
import ssl as _ssl

_NOT_NOW = (BlockingIOError, _ssl.SSLWantReadError, _ssl.SSLWantWriteError)


class Stream:
    def __init__(self, sock):
        self._sock = sock

    def fileno(self):
        return self._sock.fileno()

    def setblocking(self, flag):
        self._sock.setblocking(flag)

    def setsockopt(self, *args):
        self._sock.setsockopt(*args)

    def connect(self, address):
        self._sock.connect(address)

    def write(self, buf, off, n=None):
        if n is None:
            off, n = 0, off
        try:
            return self._sock.send(memoryview(buf)[off : off + n])
        except _NOT_NOW:
            return None

    def readinto(self, buf, n):
        try:
            return self._sock.recv_into(memoryview(buf)[:n])
        except _NOT_NOW:
            return None

    def close(self):
        self._sock.close()


class socket:
    """The names of MicroPython's socket module that transport.py uses."""

    SOCK_STREAM = _socket.SOCK_STREAM
    TCP_NODELAY = _socket.TCP_NODELAY
    getaddrinfo = staticmethod(_socket.getaddrinfo)

    @staticmethod
    def socket(*args):
        return Stream(_socket.socket(*args))


class ssl:
    CERT_NONE = _ssl.CERT_NONE
    CERT_REQUIRED = _ssl.CERT_REQUIRED
    PROTOCOL_TLS_CLIENT = _ssl.PROTOCOL_TLS_CLIENT

    class SSLContext(_ssl.SSLContext):
        def wrap_socket(self, sock, server_hostname=None, do_handshake_on_connect=False, **_):
            raw = sock._sock if isinstance(sock, Stream) else sock
            return Stream(
                super().wrap_socket(
                    raw, server_hostname=server_hostname, do_handshake_on_connect=do_handshake_on_connect
                )
            )


class _Poll:
    def __init__(self):
        self._poll = _select.poll()

    def register(self, stream, events):
        self._poll.register(stream.fileno(), events)

    modify = register

    def unregister(self, stream):
        if stream.fileno() >= 0:
            self._poll.unregister(stream.fileno())

    def ipoll(self, ms):
        return iter(self._poll.poll(ms))


poller = _Poll
