"""DIGEST-MD5's server side (RFC 2831) for a test server that is honest unless a test alters one of its messages.

Written over hashlib, so that neither usasl nor the broker's SASL library judges itself. It must never import usasl.
"""

import hashlib
import re
import secrets

from harness import wire
from harness.logins import challenge, connack, receive_connect
from harness.scripted import Unexpected

METHOD = "DIGEST-MD5"


class DigestFailure(Exception):
    """An honest server would refuse this client."""


def md5(data):
    return hashlib.md5(data).digest()


def folded(text):
    """RFC 2831 2.1.2.1: what is wholly ISO 8859-1 is hashed as such."""
    try:
        return text.encode("iso-8859-1")
    except UnicodeError:
        return text.encode()


class Digest:
    """A user, as the server and a board that was provisioned know it. `secrets()` lists what must never show."""

    method = METHOD

    def __init__(self, user="device1", password="s3cret-of-device1", realm="broker.example"):
        self.user, self.password, self.realm = user, password, realm
        self.key = md5(b":".join(map(folded, (user, realm, password))))

    def secrets(self):
        return [self.password.encode(), self.key]

    def mechanism(self, mode, **more):
        """What device/client_run.py builds a DigestMD5 from; mode: "password" or "keys"."""
        spec = {"module": "usasl.digest_md5", "class": "DigestMD5", "user": self.user, **more}
        if mode == "password":
            return {**spec, "password": self.password}
        return {**spec, "key": {"hex": self.key.hex()}, "realm": self.realm}


def split(message):
    """A digest-response as {name: bytes}; DigestFailure if it is not one, strictly (7.1)."""
    found, at = {}, 0
    pair = re.compile(rb'([a-z-]+)=(?:"((?:[^"\\]|\\.)*)"|([^",\\ ]+))(?:,|$)')
    while at < len(message):
        m = pair.match(message, at)
        if not m or m[1] in found:
            raise DigestFailure(f"not a digest-response at {at}")
        name, quoted, token = m[1].decode(), m[2], m[3]
        must = name in ("username", "realm", "nonce", "cnonce", "digest-uri")
        if must != (quoted is not None):
            raise DigestFailure(f"{name}: must {'' if must else 'not '}be quoted")
        found[name] = re.sub(rb"\\(.)", rb"\1", quoted) if must else token
        at = m.end()
    return found


class DigestExchange:
    """One login. `build()` makes the honest challenge; `check()` takes the client's answer and keeps the honest
    rspauth in `honest`."""

    def __init__(self, credentials, nonce=None):
        self.credentials = credentials
        self.nonce = nonce or secrets.token_urlsafe(18).encode()
        self.count = 0

    def build(self, realm=None, nonce=None, qop=b'qop="auth"', charset=b"charset=utf-8", more=b""):
        """A challenge with one or more of its parts replaced: whole directives but for the nonce's value; b"" leaves
        one out."""
        if realm is None:
            realm = b'realm="%b"' % self.credentials.realm.encode()
        parts = [b'nonce="%b"' % (self.nonce if nonce is None else nonce), realm, qop, charset, b"algorithm=md5-sess"]
        return b",".join(part for part in [*parts, more] if part)

    def check(self, message, host=None):
        """-> the honest rspauth message; DigestFailure if an honest server would refuse."""
        c = self.credentials
        found = split(message)
        if len(message) >= 4096:
            raise DigestFailure("4096 bytes or more")
        allowed = {"username", "realm", "nonce", "cnonce", "nc", "qop", "digest-uri", "response", "charset"}
        if not set(found) <= allowed:
            raise DigestFailure(f"unknown directives {found.keys()}")
        names = "utf-8" if found.get("charset") == b"utf-8" else "iso-8859-1"
        expected = {"username": c.user.encode(names), "nonce": self.nonce, "qop": b"auth"}
        expected["nc"] = b"%08x" % (self.count + 1)
        if c.realm or "realm" in found:
            expected["realm"] = c.realm.encode(names)
        for name, value in expected.items():
            if found.get(name) != value:
                raise DigestFailure(f"{name} is {found.get(name)}, expected {value}")
        if len(found.get("cnonce", b"")) < 18:
            raise DigestFailure("no client nonce, or one too short to be random")
        uri = found.get("digest-uri", b"")
        if uri != b"mqtt/" + (host or c.realm).encode():
            raise DigestFailure(f"digest-uri is {uri}")
        self.cnonce, self.uri = found["cnonce"], uri
        if found.get("response") != self.proof(b"AUTHENTICATE:"):
            raise DigestFailure("the client's response does not hold")
        self.count += 1
        return b"rspauth=" + self.proof(b":", self.count)

    def proof(self, verb, count=None, key=None):
        """32 hexadecimal digits: the client's (verb b"AUTHENTICATE:") or the server's (b":") (2.1.2.1, 2.1.3)."""
        a1 = md5((key or self.credentials.key) + b":" + self.nonce + b":" + self.cnonce)
        a2 = md5(verb + self.uri).hex().encode()
        count = b"%08x" % (count or self.count + 1)
        middle = b":".join((self.nonce, count, self.cnonce, b"auth", a2))
        return md5(a1.hex().encode() + b":" + middle).hex().encode()


# Scripts ----------------------------------------------------------------------------------------------------


def answered(conn, x, message):
    """Send a challenge; take and check the client's answer to it."""
    conn.send(challenge(x.credentials, message))
    a = conn.expect(wire.AUTH)
    assert a.reason == 0x18 and a.prop(wire.METHOD) == METHOD, a
    try:
        x.honest = x.check(a.prop(wire.DATA))
    except DigestFailure as e:
        raise Unexpected(f"an honest server would refuse: {e}") from None


def digest(credentials, first=None, final=None, then=None):
    """A script: a login whose challenge is first(exchange) and whose last message is final(exchange), if given;
    afterwards then(conn)."""

    def script(conn):
        assert receive_connect(conn, credentials).prop(wire.DATA) is None, "the server speaks first"
        x = DigestExchange(credentials)
        answered(conn, x, x.build() if first is None else first(x))
        conn.send(connack(credentials, x.honest if final is None else final(x)))
        if then:
            then(conn)

    return script


def honest(credentials):
    return digest(credentials, then=lambda conn: conn.serve())
