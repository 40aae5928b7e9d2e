"""One hostile connection, then an honest one, by the same client object in MicroPython; and what must hold
in every case.

`attack()` runs it and returns an Outcome; `survived()` checks what no case is exempt from: the socket was
closed, nothing that is not MQTT was sent, no secret shows in any text, and the client logs in and publishes
afterwards.
"""

import base64
from dataclasses import dataclass

from harness import wire
from harness.logins import honest
from harness.micropython import Result, run_device
from harness.scripted import Connection, ScriptedServer

AGAIN = [["connect"], ["publish", "after", "all is well", False, 1], ["disconnect"]]


@dataclass
class Outcome:
    """`first`, `second`: the connections; `steps`: what the client reported of each call; `end`: its last
    line."""

    first: Connection
    second: Connection | None
    steps: list
    again: list
    end: dict
    result: Result

    @property
    def error(self):
        """The error that ended the steps; fails the test if there was none."""
        assert "error" in self.steps[-1], f"no error at all: {self.steps} {self.first.error}"
        return self.steps[-1]["error"]

    @property
    def ms(self):
        """How long the last step took, in ms."""
        return self.steps[-1]["ms"]


def mechanism(credentials, mode, **more):
    """What device/client_run.py builds a mechanism from (a ScramSHA256, if the credentials do not say another one);
    mode: "password" or "keys"."""
    if hasattr(credentials, "mechanism"):
        return credentials.mechanism(mode, **more)
    if mode == "password":
        return {"user": credentials.user, "password": credentials.password, **more}
    salt, iterations, client_key, server_key = credentials.keys
    entry = [{"hex": salt.hex()}, iterations, {"hex": client_key.hex()}, {"hex": server_key.hex()}]
    return {"user": credentials.user, "keys": [entry], **more}


def attack(
    script,
    credentials=None,
    mode="keys",
    *,
    second=None,
    steps=None,
    again=None,
    timeout=3,
    client=None,
    callback=True,
    heap=None,
    rcvbuf=None,
):
    """Run `steps` of client_run.py against `script`, then `again` against an honest broker (or `second`).

    timeout: the client's, in seconds; client: more of its keyword arguments. again=[]: no second connection.
    second=False: `again` goes on over the first connection.
    callback=False: the client has none. heap: MicroPython's, in bytes; rcvbuf: of the server's sockets.
    """
    again = AGAIN if again is None else again
    scripts = [script, second or honest(credentials)] if again and second is not False else [script]
    with ScriptedServer(*scripts, rcvbuf=rcvbuf) as server:
        told = {
            "client": {"server": server.host, "port": server.port, "timeout": timeout, **(client or {})},
            "auth": mechanism(credentials, mode) if credentials else None,
            "steps": steps or [["connect"]],
            "again": again,
            "callback": callback,
        }
        result = run_device("client_run.py", told, timeout=40, heap=heap)
        connections = server.finish()
    lines = result.lines
    return Outcome(
        connections[0],
        connections[1] if len(connections) > 1 else None,
        [line for line in lines if line.get("in") == "steps"],
        [line for line in lines if line.get("in") == "again"],
        lines[-1],
        result,
    )


def spellings(secret):
    """A secret as it may slip into a text: raw, base64, hex, a list of numbers; cut short, as long texts
    are."""
    found = {base64.b64encode(secret).decode(), secret.hex(), secret.hex().upper(), repr(secret)[2:-1]}
    return {spelling[:16] for spelling in found | {repr(list(secret))[1:-1]}}


def no_secrets(outcome, credentials, proofs=()):
    """No password, key, or proof in anything that the client printed: error texts, reprs, traces."""
    output = outcome.result.out + outcome.result.err
    for secret in [*credentials.secrets(), *proofs]:
        for spelling in spellings(secret):
            assert spelling not in output, f"a secret shows: {spelling[:4]}... in the client's output"


def proofs_of(connection):
    """The raw proofs that the client sent on a connection."""
    found = []
    for p in connection.all(wire.AUTH):
        data = p.prop(wire.DATA) or b""
        if b",p=" in data:
            found.append(base64.b64decode(data.rpartition(b",p=")[2]))
    return found


def survived(outcome, credentials=None):
    """See the head of the file."""
    first, second = outcome.first, outcome.second
    assert first.broken is None, first.broken
    assert first.ended in ("fin", "reset", "reset by the server"), f"the client's socket: {first.ended}"
    failed = [line for line in outcome.again if "error" in line]
    assert not failed, f"not usable afterwards: {failed}"
    assert len(outcome.again) == len(AGAIN)
    assert second.broken is None and second.error is None, (second.broken, second.error)
    expected = ["CONNECT", "AUTH", "PUBLISH", "DISCONNECT"] if credentials else ["CONNECT", "PUBLISH", "DISCONNECT"]
    assert second.names() == expected, second.names()
    if credentials:
        no_secrets(outcome, credentials, proofs_of(first) + proofs_of(second))
        assert outcome.end["repr"]


def gave_up(connection, codes):
    """The client's last packet is a DISCONNECT with one of these reasons (None: it must not send one at
    all)."""
    says = connection.all(wire.DISCONNECT)
    if codes is None:
        assert not says, f"the server had ended it first, and the client still said {says}"
        return
    assert [p.reason for p in says] and connection.received[-1] is says[0], connection.received
    assert len(says) == 1 and says[0].reason in codes, f"{says}, expected one of {[hex(c) for c in codes]}"
