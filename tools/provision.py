"""boards/secrets.toml -> build/secrets/<BOARD>.json: `make provision BOARD=...`.

Asks the broker for the user's salt and iteration count (the first half of a SCRAM login, twice), derives the
keys from the password, logs in with those keys as the board will have them, and writes the file only when
the broker has proven that it knows them.
It must never print, log or write the password, nor leave a half-written or readable file.
"""

import micropython  # noqa: F401  the shim: gives `time` a board's ticks, which lib/ needs

import argparse
import base64
import errno
import getpass
import importlib
import json
import os
import re
import shutil
import ssl
import stat
import stringprep
import sys
import tempfile
import tomllib
import unicodedata
from pathlib import Path

from rich.console import Console
from umqtt5 import secrets as board_secrets
from umqtt5.errors import AuthError, MQTTError, NotProven
from umqtt5.simple import MQTTClient

from tools.secrets_toml import ProvisionError, read_settings

ROOT = Path(__file__).resolve().parent.parent
SECRETS = ROOT / "boards" / "secrets.toml"
OUT = ROOT / "build" / "secrets"


def find_password(settings, environment=os.environ):
    """UMQTT5_PASSWORD, else auth.password, else what is typed at the terminal."""
    user = settings["auth"]["user"]
    stored = settings["auth"].pop("password")
    password = environment.get("UMQTT5_PASSWORD") or stored
    if password is None:
        if not sys.stdin.isatty():
            raise ProvisionError(
                f"no password of {user}: set auth.password in secrets.toml or UMQTT5_PASSWORD, or use a terminal"
            )
        password = getpass.getpass(f"Password of {user} at the broker (not shown): ")
    try:
        password.encode()
    except UnicodeEncodeError:
        password = ""
    if not password:
        raise ProvisionError(f"the password of {user} is empty, or not UTF-8")
    return password


def saslprep_changes(text):
    """Would SASLprep (RFC 4013) make another text of it?"""
    mapped = "".join(" " if stringprep.in_table_c12(c) else c for c in text if not stringprep.in_table_b1(c))
    return unicodedata.ucd_3_2_0.normalize("NFKC", mapped) != text


# The broker -------------------------------------------------------------------------------------------------


class _Asked(Exception):
    """Ends a login after the broker's first message: salt and count are known."""


def _connect(arguments, settings, timeout):
    """One login under a client id of its own: the board's session and will are not touched, nor is the board
    thrown off if it is connected."""
    mqtt = settings["mqtt"]
    where = f"{mqtt['host']}:{mqtt['port']}"
    arguments = arguments | {"client_id": mqtt["client_id"][:18] + "-prov", "timeout": timeout}
    client = MQTTClient(**arguments)
    try:
        client.connect()
        client.disconnect()
    except MQTTError:
        raise
    except ssl.SSLCertVerificationError as e:
        raise ProvisionError(
            f"TLS with {where}: the broker's certificate does not hold: {e.verify_message}. Is mqtt.tls.ca "
            "the CA that signed it, and mqtt.host the name in it?"
        )
    except ssl.SSLError as e:
        raise ProvisionError(f"TLS with {where} failed ({e.reason}): is this the broker's TLS port?")
    except OSError as e:
        if e.errno in (errno.ECONNRESET, errno.EPIPE):
            raise ProvisionError(
                f"the broker {where} closed the connection: {e}. Are mqtt.port and mqtt.tls right, and the password?"
            )
        raise ProvisionError(
            f"broker {where} not reachable: {e}. Does it run, are mqtt.host, mqtt.port and mqtt.tls right?"
        )


def ask(mechanism, settings, arguments, timeout):
    """What salt (bytes) and iteration count does the broker have for the user? The first half of a login."""

    class Asking(mechanism):
        asked = None

        def _derived(self, salt, count):
            self.asked = salt, count
            raise _Asked

    auth = settings["auth"]
    method, user = auth["method"], auth["user"]
    # The password is not needed: nothing that depends on it is sent.
    asking = Asking(user, "-", min_iterations=auth["min_iterations"], max_iterations=auth["max_iterations"])
    try:
        _connect(arguments | {"auth": asking}, settings, timeout)
    except NotProven:
        raise ProvisionError(
            f"the broker lets clients in without asking for {method}: no authentication is set up on this "
            "listener. Nothing was written"
        )
    except AuthError as e:
        if asking.asked:
            return asking.asked
        if e.reason == 0x8C:
            raise ProvisionError(f"the broker does not offer {method}: {e}")
        if e.reason is not None:
            raise ProvisionError(
                f"the broker refused the user {user} before any password: unknown user, or {method} is not "
                f"enabled on this listener. {e}"
            )
        raise ProvisionError(f"{e} (auth.min_iterations and auth.max_iterations are in secrets.toml)")
    except MQTTError as e:
        raise ProvisionError(f"no login by {method} with this broker: {e}")
    raise ProvisionError(f"the broker ended the login by {method} without a challenge")


def prove(path, settings, timeout):
    """Log in as the board will, with the file that it will have."""
    arguments = board_secrets.load(str(path))
    user = settings["auth"]["user"]
    try:
        _connect(arguments, settings, timeout)
    except NotProven as e:
        raise ProvisionError(f"the broker did not prove that it knows {user}'s keys: {e}. Nothing was written")
    except MQTTError as e:
        if isinstance(e, AuthError) and e.reason in (0x86, 0x87):
            raise ProvisionError(f"wrong password of {user}: {e}. Nothing was written")
        raise ProvisionError(f"the login with the derived keys failed: {e}. Nothing was written")


# The board's file -------------------------------------------------------------------------------------------


def old_keys(path, settings, salt):
    """The newest entry of an earlier file for the same user and method but another salt: until the broker's
    password is really changed everywhere, it may still be asked for."""
    auth = settings["auth"]
    try:
        old = board_secrets.read(str(path))["auth"]
        board_secrets.mechanism(str(path), old)  # are its keys whole?
    except (OSError, ValueError):
        return []
    if (old["method"], old["user"]) != (auth["method"], auth["user"]):
        return []
    keep = [e for e in old["keys"] if e["salt"] != _b64(salt) and e["iterations"] >= auth["min_iterations"]]
    return keep[:1]


def _b64(data):
    return base64.b64encode(data).decode()


def secrets_file(settings, keys):
    """The board's secrets.json as a dict (umqtt5/secrets.py reads it)."""
    mqtt, auth = settings["mqtt"], settings["auth"]
    whole = {"format": 1}
    if "wifi" in settings:
        whole["wifi"] = settings["wifi"]
    whole["mqtt"] = {name: mqtt[name] for name in ("host", "port", "client_id", "keepalive")}
    if mqtt["tls"] is not None:
        whole["mqtt"]["tls"] = {"ca": "ca.der"}
    whole["auth"] = {name: auth[name] for name in ("method", "user", "min_iterations", "max_iterations")}
    whole["auth"]["keys"] = keys
    return whole


def _write(path, data):
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def provision(board, secrets=SECRETS, out=OUT, timeout=10, say=print, warn=print):
    """Do it all; the path of the file written. say, warn: called with lines of text. Raises
    ProvisionError."""
    folder = ROOT / "boards" / board
    if not re.fullmatch(r"\w+", board) or not (folder / "board.toml").is_file():
        known = sorted(p.parent.name for p in folder.parent.glob("*/board.toml"))
        raise ProvisionError(f"no board {board!r}; there are {', '.join(known)}")
    wifi = tomllib.loads((folder / "board.toml").read_text()).get("wifi", True)
    settings = read_settings(secrets, board, wifi)
    mqtt, auth = settings["mqtt"], settings["auth"]
    if stat.S_IMODE(os.stat(secrets).st_mode) & 0o077:
        warn(f"others on this computer can read {secrets}: chmod 600 {secrets}")
    password = find_password(settings)
    for what, text in (("password", password), ("user name", auth["user"])):
        if saslprep_changes(text):
            warn(
                f"the {what} has characters that SASLprep would change. It is taken as it is, which is "
                "right for EMQX and Cyrus SASL; GNU SASL and others may expect it prepared"
            )
    if set(auth["user"]) & set(",="):
        warn("the user name has ',' or '=' in it: EMQX cannot log such users in by SCRAM")
    if mqtt["tls"] is None and mqtt["host"] != "localhost" and not mqtt["host"].startswith("127."):
        warn("no TLS: SCRAM proves the broker at login, but somebody on the path can read and change the rest")

    module, name = board_secrets.METHODS[auth["method"]]
    mechanism = getattr(importlib.import_module(module), name)
    arguments = {"server": mqtt["host"], "port": mqtt["port"], "keepalive": mqtt["keepalive"]}
    if mqtt["tls"] is not None:
        arguments |= {"ssl": True, "ssl_params": {"cadata": mqtt["ca"], "server_hostname": mqtt["host"]}}
    salt, count = ask(mechanism, settings, arguments, timeout)
    if (salt, count) != ask(mechanism, settings, arguments, timeout):
        raise ProvisionError(
            f"the broker asks {auth['user']} for another salt or count at each login: keys made beforehand "
            "cannot work with it. It must store SCRAM credentials (some brokers also do so for users that "
            "they do not know)"
        )
    say(f"{mqtt['host']}:{mqtt['port']}: {auth['method']}, user {auth['user']}, {count} iterations, a fixed salt")
    client_key, server_key = mechanism.derive(password, salt, count)
    keys = [
        {
            "salt": _b64(salt),
            "iterations": count,
            "client_key": _b64(client_key),
            "server_key": _b64(server_key),
        }
    ]

    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    out.chmod(0o700)
    path, ca = out / f"{board}.json", out / f"{board}.ca.der"
    keys += old_keys(path, settings, salt)
    draft = Path(tempfile.mkdtemp(prefix=f".{board}-", dir=out))
    try:
        text = json.dumps(secrets_file(settings, keys), indent=1) + "\n"
        _write(draft / "secrets.json", text.encode())
        if mqtt["tls"] is not None:
            _write(draft / "ca.der", mqtt["ca"])
        prove(draft / "secrets.json", settings, timeout)
        say("logged in with the derived keys; the broker has proven that it knows them")
        if mqtt["tls"] is not None:
            os.replace(draft / "ca.der", ca)
        else:
            ca.unlink(missing_ok=True)
        os.replace(draft / "secrets.json", path)
    finally:
        shutil.rmtree(draft)
    if len(keys) > 1:
        say("the earlier keys stay in the file as a second entry, until the next change of password")
    say(f"written: {path} (mode 600; next: make flash BOARD={board} PORT=...)")
    return path


def main(arguments=None):
    parser = argparse.ArgumentParser(prog="python -m tools.provision", description=__doc__.split("\n\n")[0])
    parser.add_argument("board", help="a folder of boards/: UNIX, RPI_PICO_W, ...")
    parser.add_argument("--secrets", type=Path, default=SECRETS, help="default: boards/secrets.toml")
    parser.add_argument("--out", type=Path, default=OUT, help="default: build/secrets")
    parser.add_argument("--timeout", type=float, default=10, help="seconds for each login (default 10)")
    given = parser.parse_args(arguments)
    console = Console(markup=False, highlight=False, soft_wrap=True)
    errors = Console(markup=False, highlight=False, soft_wrap=True, stderr=True)
    try:
        provision(
            given.board,
            given.secrets,
            given.out,
            given.timeout,
            say=lambda text: console.print(text, style="green"),
            warn=lambda text: errors.print("warning: " + text, style="yellow"),
        )
    except ProvisionError as e:
        errors.print(f"error: {e}", style="bold red")
        return 1
    except KeyboardInterrupt:
        errors.print("stopped; nothing was written", style="bold red")
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
