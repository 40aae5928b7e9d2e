"""docs/mechanisms.md: every block of code in it runs in MicroPython and logs in, so that the page cannot rot."""

import hashlib
import hmac
import re
import secrets

import pytest
from harness import wire
from harness.attack import AGAIN, attack, gave_up
from harness.digest import Digest
from harness.digest import honest as honest_digest
from harness.logins import challenge, connack, honest, receive_connect
from harness.micropython import ROOT
from harness.scram import Credentials
from harness.wire import DATA

PAGE = (ROOT / "docs" / "mechanisms.md").read_text()
BLOCKS = re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJkZXZpY2UxIn0.c2lnbmF0dXJl"
FILE = f"import io\nopen = lambda name: io.StringIO({JWT!r})\n"  # token.jwt


def block(word):
    """The one block of the page that has this word."""
    found = [text for text in BLOCKS if word in text]
    assert len(found) == 1, (word, len(found))
    return found[0]


class Written:
    """Credentials whose mechanism is made by the page."""

    user = "device1"

    def __init__(self, method, source):
        self.method, self.source = method, source

    def mechanism(self, mode, **more):
        return {"source": self.source}


def login(script, method, source):
    """Logs in with the page's mechanism, and publishes."""
    outcome = attack(script, Written(method, source), steps=AGAIN, again=[])
    assert not [line for line in outcome.steps if "error" in line], outcome.steps
    assert outcome.first.error is None, outcome.first.error
    return outcome


def test_all_blocks_are_run_here():
    assert len(BLOCKS) == 4


def test_scram():
    login(honest(Credentials("device1", "the password")), "SCRAM-SHA-256", block("ScramSHA256"))


def test_digest_md5():
    server = Digest("device1", "the password", "broker.example")
    login(honest_digest(server), "DIGEST-MD5", block("DigestMD5"))


def test_token():
    def script(conn):
        assert receive_connect(conn, credentials).prop(DATA) == JWT.encode()
        conn.send(connack(credentials, None))
        conn.serve()

    credentials = Written("JWT", None)
    login(script, "JWT", FILE + block("Token"))


def shared_key(key, label=b"server"):
    """A script: the server's side of the page's own mechanism."""

    def script(conn):
        credentials = Written("X-SHARED-KEY", None)
        client = receive_connect(conn, credentials).prop(DATA)
        server = secrets.token_bytes(16)
        conn.send(challenge(credentials, server))
        proof = conn.expect(wire.AUTH).prop(DATA)
        if key == KEY:
            assert proof == hmac.digest(KEY, b"client" + client + server, hashlib.sha256)
        conn.send(connack(credentials, hmac.digest(key, label + client + server, hashlib.sha256)))
        conn.serve()

    return script


KEY = b"sixteen random bytes of your own"


def test_your_own():
    source = block("class SharedKey")
    assert KEY.decode() in source
    body = source.partition("def exchange(self):\n")[2].partition("\n\n")[0].splitlines()
    assert len(body) == 5, "the page says five lines"
    login(shared_key(KEY), "X-SHARED-KEY", source)


@pytest.mark.parametrize("script", [shared_key(b"another key"), shared_key(KEY, b"client")])
def test_your_own_and_a_server_without_the_key(script):
    outcome = attack(script, Written("X-SHARED-KEY", block("class SharedKey")), again=[])
    error = outcome.error
    assert error["type"] == "NotProven" and "the broker does not know the key" in error["text"], error
    gave_up(outcome.first, (0x80,))
