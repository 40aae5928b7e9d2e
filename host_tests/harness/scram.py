"""SCRAM's server side (RFC 5802, 7677) for a test server that is honest unless a test alters one of its
messages.

Written over hashlib and hmac, so that neither usasl nor the broker's SASL library judges itself. It must
never import usasl.
"""

import base64
import hashlib
import hmac
import secrets

b64 = base64.b64encode


class ScramFailure(Exception):
    """An honest server would refuse this client."""


class Credentials:
    """A user as a server stores it, and as a client with precomputed keys holds it. `secrets()` lists what
    must never show. emqx: as EMQX 5.0.0 to 5.6.1 has it: another key (hexadecimal text), no commas in
    what is signed."""

    def __init__(
        self, user="device1", password="s3cret-of-device1", salt=None, iterations=4096, hash_name="sha256", emqx=False
    ):
        self.user, self.password, self.iterations, self.hash_name = user, password, iterations, hash_name
        self.emqx = emqx
        self.salt = salt if salt is not None else b"salt-of-16-bytes"
        salted = hashlib.pbkdf2_hmac(hash_name, password.encode(), self.salt, iterations)
        self.salted = salted = salted.hex().encode() if emqx else salted
        self.client_key = self.mac(salted, b"Client Key")
        self.server_key = self.mac(salted, b"Server Key")
        self.stored_key = hashlib.new(hash_name, self.client_key).digest()

    @property
    def method(self):
        return {"sha1": "SCRAM-SHA-1", "sha256": "SCRAM-SHA-256", "sha512": "SCRAM-SHA-512"}[self.hash_name]

    @property
    def keys(self):
        """One entry of ScramSHA256(keys=[...])."""
        return (self.salt, self.iterations, self.client_key, self.server_key)

    def mac(self, key, data):
        return hmac.new(key, data, self.hash_name).digest()

    def secrets(self):
        return [self.password.encode(), self.salted, self.client_key, self.server_key, self.stored_key]

    def __repr__(self):
        return f"<Credentials of {self.user}>"


class Exchange:
    """One login. `first()` and `final()` give the honest messages; what was really sent is noted with
    `sent_first`."""

    def __init__(self, credentials):
        self.credentials = credentials
        self.salt = b64(credentials.salt)
        self.own_nonce = secrets.token_urlsafe(18).encode()

    def first(self, client_first):
        """The honest server-first for this client-first; ScramFailure if the client is not who we know."""
        if not client_first.startswith(b"n,,"):
            raise ScramFailure("client-first has no gs2 header n,,")
        self.bare = client_first[3:]
        name, nonce = self.bare.split(b",", 1)
        saslname = self.credentials.user.replace("=", "=3D").replace(",", "=2C")
        if name != b"n=" + saslname.encode():
            raise ScramFailure("another user")
        self.client_nonce = nonce.removeprefix(b"r=")
        if not nonce.startswith(b"r=") or len(self.client_nonce) < 18:
            raise ScramFailure("no client nonce, or one too short to be random")
        self.nonce = self.client_nonce + self.own_nonce
        return self.build()

    def build(self, r=None, s=None, i=None):
        """A server-first with one or more of its values replaced (bytes)."""
        i = str(self.credentials.iterations).encode() if i is None else i
        return b"r=%b,s=%b,i=%b" % (self.nonce if r is None else r, self.salt if s is None else s, i)

    def sent_first(self, data):
        self.server_first = data

    def final(self, client_final):
        """The honest server-final; ScramFailure where the client's proof does not hold."""
        without_proof, _, proof = client_final.rpartition(b",p=")
        self.proof = proof
        if without_proof != b"c=biws,r=" + self.nonce:
            raise ScramFailure("client-final has another channel binding, nonce or an extension")
        c = self.credentials
        self.auth_message = (b"" if c.emqx else b",").join((self.bare, self.server_first, without_proof))
        signature = c.mac(c.stored_key, self.auth_message)
        key = bytes(a ^ b for a, b in zip(base64.b64decode(proof, validate=True), signature, strict=True))
        if not hmac.compare_digest(hashlib.new(c.hash_name, key).digest(), c.stored_key):
            raise ScramFailure("the client's proof does not hold")
        return b"v=" + self.signature()

    def signature(self, server_key=None):
        """Base64 of the server's signature, by the right key or by another one."""
        return b64(self.credentials.mac(server_key or self.credentials.server_key, self.auth_message))
