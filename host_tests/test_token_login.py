"""usasl.token in MicroPython, against scripted servers: what is a yes, and what a server may say instead.
No byte of what the server says is covered by anything: a token does not prove the server."""

import re

import pytest
from harness import wire
from harness.attack import AGAIN, attack, gave_up, no_secrets, survived
from harness.cases import cases
from harness.logins import challenge, connack, receive_connect
from harness.wire import DATA


class Jwt:
    """A user with a token, for attack()."""

    method, user, token = "JWT", "device1", "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJkZXZpY2UxIn0.c2lnbmF0dXJl"

    def secrets(self):
        return [self.token.encode(), self.token[22:].encode(), self.token[-16:].encode()]

    def mechanism(self, mode, **more):
        arguments = {"name": self.method, "data": self.token, "user": self.user}
        return {"module": "usasl.token", "class": "Token", "arguments": arguments}


JWT = Jwt()
ERROR = b'{"status":"invalid_token"}'


def after_token(*data, then=None):
    """A script: the token comes, these packets go out."""

    def script(conn):
        assert receive_connect(conn, JWT).prop(DATA) == JWT.token.encode()
        conn.send(*data)
        if then:
            then(conn)

    return script


TAKEN = after_token(connack(JWT, None), then=lambda conn: conn.serve())


@pytest.mark.parametrize(
    ("script", "error", "text", "says"),
    cases(
        ("asks-back", after_token(challenge(JWT, ERROR)), "AuthError", r'\{"status":"invalid_token"\}', (0x80,)),
        ("repeats-it", after_token(challenge(JWT, b"no: " + JWT.token.encode())), "AuthError", "<token>", (0x80,)),
        ("data-in-connack", after_token(connack(JWT, ERROR)), "AuthError", "invalid_token", (0x80,)),
        ("refused", after_token(connack(JWT, None, 0x87)), "AuthError", "0x87", None),
        ("refused-with-data", after_token(connack(JWT, ERROR, 0x87)), "AuthError", "0x87", None),
        ("no-method", after_token(wire.connack(0)), "ProtocolError", "Method", (0x82,)),
        ("asks-twice", after_token(challenge(JWT, b""), challenge(JWT, b"")), "ProtocolError", "", (0x82,)),
    ),
)
def test_token_refused(script, error, text, says):
    outcome = attack(script, JWT, second=TAKEN)
    assert outcome.error["type"] == error, outcome.error
    assert re.search(text, outcome.error["text"]), outcome.error["text"]
    gave_up(outcome.first, says)
    survived(outcome)
    no_secrets(outcome, JWT)


@pytest.mark.parametrize(
    "script",
    cases(
        ("connack", TAKEN),
        ("empty-data", after_token(connack(JWT, b""), then=lambda conn: conn.serve())),
    ),
)
def test_token_taken(script):
    outcome = attack(script, JWT, steps=AGAIN, again=[])
    assert not [line for line in outcome.steps if "error" in line], outcome.steps
    assert outcome.first.names() == ["CONNECT", "PUBLISH", "DISCONNECT"]
    no_secrets(outcome, JWT)


def test_token_and_an_empty_question():
    """AUTH 0x18 without data is answered in kind; then comes CONNACK."""

    def script(conn):
        receive_connect(conn, JWT)
        conn.send(challenge(JWT, b""))
        assert conn.expect(wire.AUTH).prop(DATA) == b""
        conn.send(connack(JWT, None))
        conn.serve()

    outcome = attack(script, JWT, steps=AGAIN, again=[])
    assert not [line for line in outcome.steps if "error" in line], outcome.steps
