"""Runs `python -m tools.provision` for tests, and searches all that it prints for secrets."""

import base64
import json
import os
import subprocess
import sys
from pathlib import Path

from umqtt5.secrets import load
from umqtt5.simple import MQTTClient

from harness import wire
from harness.logins import challenge
from harness.scram import Exchange

ROOT = Path(__file__).parent.parent.parent
PASSWORD = "pA55-of-provisioned"
USER = "provisioned"
DEADLINE = 30


class Place:
    """A folder with a secrets.toml, and where provisioning puts its result."""

    def __init__(self, folder):
        self.folder, self.toml, self.out = folder, folder / "secrets.toml", folder / "out"
        self.file = self.out / "UNIX.json"

    def write(self, text, mode=0o600):
        self.toml.write_text(text)
        self.toml.chmod(mode)

    def settings(self, port, *, mqtt="", auth="", user=USER, password=PASSWORD, host="127.0.0.1", more=""):
        password = "" if password is None else f"password = {json.dumps(password, ensure_ascii=False)}\n"
        self.write(
            f'[mqtt]\nhost = "{host}"\nport = {port}\nclient_id = "board-1"\n{mqtt}\n'
            f'[auth]\nuser = "{user}"\n{password}{auth}\n{more}\n'
        )

    def run(self, *arguments, board="UNIX", environment=(), secret=PASSWORD):
        """Run the command -> (exit code, all that it printed). Nothing secret may be in it."""
        command = [sys.executable, "-m", "tools.provision", board, "--secrets", self.toml, "--out", self.out]
        env = {k: v for k, v in os.environ.items() if k != "UMQTT5_PASSWORD"} | dict(environment)
        env["PYTHONPATH"] = os.pathsep.join(str(ROOT / part) for part in ("", "tools/shims", "lib"))
        done = subprocess.run(
            [*command, *arguments],
            env=env,
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=DEADLINE,
            check=False,
        )
        text = done.stdout.decode()
        assert "Traceback" not in text, text
        for hidden in spellings(secret) + self.key_texts():
            assert hidden not in text, "a secret was printed"
        # No draft is left behind, whatever the end.
        assert not self.out.exists() or not [p.name for p in self.out.iterdir() if p.name.startswith(".")]
        return done.returncode, " ".join(text.split())

    def refused(self, *arguments, **more):
        """Run the command: it must fail and write nothing. Its error."""
        before = self.file.read_bytes() if self.file.exists() else None
        code, text = self.run(*arguments, **more)
        assert code == 1, text
        assert (self.file.read_bytes() if self.file.exists() else None) == before
        return text[text.index("error: ") + 7 :]

    def entries(self):
        return json.loads(self.file.read_text())["auth"].get("keys", []) if self.file.exists() else []

    def key_texts(self):
        keys = [entry[name] for entry in self.entries() for name in ("client_key", "server_key")]
        auth = json.loads(self.file.read_text())["auth"] if self.file.exists() else {}
        return keys + [auth[name] for name in ("key", "token") if name in auth]


def spellings(secret):
    raw = secret.encode()
    return [secret, base64.b64encode(raw).decode(), raw.hex()]


def log_in(path):
    """Log in with a board's file; the client, connected."""
    client = MQTTClient(**load(str(path)))
    client.connect()
    return client


def asking(credentials):
    """A script: the first half of a login; the client must leave then, without a proof."""

    def script(conn):
        x = Exchange(credentials)
        x.first(conn.expect(wire.CONNECT).prop(wire.DATA))
        conn.send(challenge(credentials, x.build()))
        while (packet := conn.next()) is not None:
            assert packet.type == wire.DISCONNECT, "a proof was sent"

    return script
