"""TLS on top of a TCP stream. Loaded only where it is asked for. It must never fall back to plain TCP."""

from micropython import const

import sys

from .errors import wrong

# Texts of errors: see texts.py.
_SSL_PARAMS = const(65)
_NO_CA = const(66)
_NOT_DER = const(121)
_SSL = const(131)

_TLS = const("TLS handshake")

_PARAMS = ("cadata", "server_hostname", "cert", "key", "cert_reqs")


def context(ssl, params, server):
    """The `ssl` and `ssl_params` arguments of MQTTClient -> (SSLContext, name to be checked).

    ssl: an SSLContext; or True, and then ssl_params has `cadata` (the CA's certificate, DER bytes), if need be
    `server_hostname` (default: the server's name), and `cert` and `key` (DER) of the client's own. Without a CA the
    broker would not be verified: ValueError, unless `cert_reqs` says ssl.CERT_NONE in so many words."""
    params = params or {}
    name = params.get("server_hostname") or server
    if ssl is not True:
        if not hasattr(ssl, "verify_mode"):
            raise wrong(_SSL, TypeError)
        return ssl, name
    for key in params:
        if key not in _PARAMS:
            raise wrong((_SSL_PARAMS, key, ", ".join(_PARAMS)))
    if sys.implementation.name == "micropython":
        import ssl
    else:
        from cpython_net import ssl
    if "cadata" not in params and params.get("cert_reqs", ssl.CERT_REQUIRED) != ssl.CERT_NONE:
        raise wrong(_NO_CA)
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        if params.get("cert_reqs", ssl.CERT_REQUIRED) == ssl.CERT_NONE:
            made.check_hostname = False  # CPython wants it in this order
            made.verify_mode = ssl.CERT_NONE
        else:
            made.verify_mode = ssl.CERT_REQUIRED
            made.load_verify_locations(cadata=params["cadata"])
        if "cert" in params:
            made.load_cert_chain(params["cert"], params["key"])
    except (ValueError, TypeError, OSError, KeyError):
        raise wrong(_NOT_DER)
    return made, name


def secure(sock, tls):
    """TLS over a connected socket. The handshake runs inside the first write, which answers None until it is done."""
    return tls[0].wrap_socket(sock, server_hostname=tls[1], do_handshake_on_connect=False)


def start(driver, tls):
    """TLS over the blocking driver's stream; the poll object gets the new one."""
    driver._doing = _TLS
    driver._together = -1
    driver._poll.unregister(driver.sock)
    driver.sock = secure(driver.sock, tls)
    driver._poll.register(driver.sock, driver._events)
