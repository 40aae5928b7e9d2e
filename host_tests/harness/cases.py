"""A hostile server as a line in a table: its script, and how it must end. Shared by the test_hostile_*.py
files."""

import re
from dataclasses import dataclass

import pytest

from harness import wire
from harness.attack import gave_up, proofs_of, survived
from harness.logins import client_final, receive_connect, scram
from harness.scram import Credentials

GOOD = Credentials()
OURS = GOOD.method
MODES = ("password", "keys")


@dataclass
class Case:
    """A hostile script and how it must end. `says`: reasons of the client's DISCONNECT, None for no
    DISCONNECT."""

    id: str
    script: object
    error: str  # the name of the exception's class, exactly
    text: str = ""  # a regular expression for the error's text
    reason: int | None = None
    says: tuple | None = (0x80,)
    proof: bool = True  # whether the client may have shown its proof
    modes: tuple = ("keys",)


def params(cases):
    """For pytest.mark.parametrize(("case", "mode"), ...): every case in its modes."""
    return [pytest.param(case, mode, id=f"{case.id}-{mode}") for case in cases for mode in case.modes]


def check(case, outcome):
    """All that a case promises, and all that survived() asks of every case."""
    e = outcome.error
    assert e["type"] == case.error, e
    assert e["reason"] == case.reason, e
    assert re.search(case.text, e["text"]), e["text"]
    assert outcome.ms < 2500, "the error came by the deadline, not by what the server did"
    gave_up(outcome.first, case.says)
    if not case.proof:
        assert not proofs_of(outcome.first), "the client showed its proof"
    assert outcome.end["messages"] == []
    survived(outcome, GOOD)


def after_connect(*data):
    """A script: these bytes in answer to CONNECT."""

    def script(conn):
        receive_connect(conn, GOOD)
        conn.send(*data)

    return script


def after_proof(build):
    """A script: build(exchange) in answer to the client's proof."""

    def script(conn):
        x = client_final(conn, GOOD)
        conn.send(build(x))

    return script


def after_login(*data):
    """A script: an honest login, then these bytes."""
    return scram(GOOD, then=lambda conn: conn.send(*data))


# Without authentication


def login(then=None, *pairs, present=0):
    """A script: CONNACK 0x00 with these properties, then `then(conn)`."""

    def script(conn):
        receive_connect(conn)
        conn.send(wire.connack(0, *pairs, present=present))
        if then:
            then(conn)

    return script


def say(*data):
    """A script: these bytes after CONNACK."""
    return login(lambda conn: conn.send(*data))


def cases(*rows):
    return [pytest.param(*row[1:], id=row[0]) for row in rows]
