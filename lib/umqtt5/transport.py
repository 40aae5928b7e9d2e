"""Opens a stream: TCP, and TLS on top of it. Non-blocking throughout, but for the name look-up, which no port can do
without blocking. It must never fall back from TLS to plain TCP.

This file alone knows the difference between MicroPython and CPython (where the host tools run lib/).
"""

import select
import socket
import sys
from errno import ECONNREFUSED, EINPROGRESS

POLLIN = select.POLLIN
POLLOUT = select.POLLOUT
_BROKEN = select.POLLERR | select.POLLHUP

_PARAMS = ("cadata", "server_hostname", "cert", "key", "cert_reqs")

if sys.implementation.name != "micropython":
    from cpython_net import select, socket


def poller():
    """A poll object with ipoll()."""
    return select.poll()


def context(ssl, params, server):
    """The `ssl` and `ssl_params` arguments of MQTTClient -> (SSLContext, name to be checked), or None for plain TCP.

    ssl: an SSLContext; or True, and then ssl_params has `cadata` (the CA's certificate, DER bytes), if need be
    `server_hostname` (default: the server's name), and `cert` and `key` (DER) of the client's own. Without a CA the
    broker would not be verified: ValueError, unless `cert_reqs` says ssl.CERT_NONE in so many words."""
    if not ssl:
        if params:
            raise ValueError("ssl_params without ssl=True")
        return None
    name = params.get("server_hostname") or server
    if ssl is not True:
        return ssl, name
    for key in params:
        if key not in _PARAMS:
            raise ValueError("ssl_params: %s is none of %s" % (key, ", ".join(_PARAMS)))
    if sys.implementation.name == "micropython":
        import ssl
    else:
        from cpython_net import ssl
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if params.get("cert_reqs", ssl.CERT_REQUIRED) == ssl.CERT_NONE:
        made.check_hostname = False  # CPython wants it in this order
        made.verify_mode = ssl.CERT_NONE
    elif "cadata" in params:
        made.verify_mode = ssl.CERT_REQUIRED
        made.load_verify_locations(cadata=params["cadata"])
    else:
        raise ValueError('ssl=True needs the CA that signed the broker\'s certificate: ssl_params={"cadata": <DER>}')
    if "cert" in params:
        made.load_cert_chain(params["cert"], params["key"])
    return made, name


def addresses(host, port):
    """What to connect to, in turn. Blocks while the name is looked up. OSError where there is no such name."""
    return socket.getaddrinfo(host, port, 0, socket.SOCK_STREAM)


def start(address):
    """A non-blocking socket that is being connected to `address`: when it can be written to, see connected()."""
    sock = socket.socket(address[0], address[1])
    try:
        sock.setblocking(False)
        try:
            # One write a packet, and it leaves at once: Nagle's algorithm would hold a QoS 1 publish for 40 ms.
            sock.setsockopt(6, getattr(socket, "TCP_NODELAY", 1), 1)
        except (OSError, AttributeError):
            pass  # a port without the option
        try:
            sock.connect(address[-1])
        except OSError as e:
            if e.errno != EINPROGRESS:
                raise
    except BaseException:
        sock.close()
        raise
    return sock


def connected(sock, poll):
    """Whether a socket from start(), polled for POLLOUT, has connected; OSError where that failed."""
    for event in poll.ipoll(0):
        if event[1] & _BROKEN:
            sock.readinto(bytearray(1), 1)  # there is no getsockopt: this raises what went wrong
            raise OSError(ECONNREFUSED)
        if event[1] & POLLOUT:
            return True
    return False


def secure(sock, tls):
    """TLS over a connected socket. The handshake runs inside the first write, which answers None until it is done."""
    return tls[0].wrap_socket(sock, server_hostname=tls[1], do_handshake_on_connect=False)
