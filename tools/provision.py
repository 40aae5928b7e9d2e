"""boards/secrets.toml -> build/secrets/<BOARD>.json: `make provision BOARD=...`.

Makes of the password what the board gets in its place (credentials.py: asks the broker, derives), logs in with that
as the board will, and writes the file only when this login held.
It must never print, log or write the password, nor leave a half-written or readable file.
"""

import micropython  # noqa: F401  the shim: gives `time` a board's ticks, which lib/ needs

import argparse
import getpass
import json
import os
import shutil
import stat
import stringprep
import sys
import tempfile
import unicodedata
from pathlib import Path

from rich.console import Console
from umqtt5 import secrets_file as board_secrets

from tools import board as boards
from tools import credentials
from tools.secrets_toml import ProvisionError, read_settings

ROOT = Path(__file__).resolve().parent.parent
SECRETS = ROOT / "boards" / "secrets.toml"
OUT = ROOT / "build" / "secrets"


def find_secret(settings, environment=os.environ):
    """The password (or the token): UMQTT5_PASSWORD, else what the file has, else what is typed at the terminal."""
    auth = settings["auth"]
    what = "token" if auth["kind"] == "token" else "password"
    whose = f"the {what} of {auth['user'] or auth['method']}"
    stored = auth.pop(what)
    secret = environment.get("UMQTT5_PASSWORD") or (None if stored is True else stored)
    if secret is None:
        if not sys.stdin.isatty():
            raise ProvisionError(
                f"no {whose[4:]}: set auth.{what} in secrets.toml or UMQTT5_PASSWORD, or use a terminal"
            )
        secret = getpass.getpass(f"{whose[4:].capitalize()} at the broker (not shown): ")
    try:
        secret.encode()
    except UnicodeEncodeError:
        secret = ""
    if not secret:
        raise ProvisionError(f"{whose} is empty, or not UTF-8")
    return secret


def saslprep_changes(text):
    """Would SASLprep (RFC 4013) make another text of it?"""
    mapped = "".join(" " if stringprep.in_table_c12(c) else c for c in text if not stringprep.in_table_b1(c))
    return unicodedata.ucd_3_2_0.normalize("NFKC", mapped) != text


# The board's file -------------------------------------------------------------------------------------------


def old_keys(path, made):
    """The newest entry of an earlier file for the same user and method but another salt: until the broker's
    password is really changed everywhere, it may still be asked for. made: the new "auth"."""
    try:
        old = board_secrets.read(str(path))["auth"]
        board_secrets.mechanism(str(path), old)  # are its keys whole?
    except (OSError, ValueError):
        return []
    if any(old.get(name) != made.get(name) for name in ("method", "user", "quirk")) or "keys" not in old:
        return []
    salt = made["keys"][0]["salt"]
    keep = [e for e in old["keys"] if e["salt"] != salt and e["iterations"] >= made["min_iterations"]]
    return keep[:1]


def secrets_file(settings, auth):
    """The board's secrets.json as a dict (umqtt5/secrets_file.py reads it). auth: of credentials.py."""
    mqtt = settings["mqtt"]
    whole = {"format": 1}
    if "wifi" in settings:
        whole["wifi"] = settings["wifi"]
    whole["mqtt"] = {name: mqtt[name] for name in ("host", "port", "client_id", "keepalive")}
    if mqtt["tls"] is not None:
        whole["mqtt"]["tls"] = {"ca": "ca.der"}
    whole["auth"] = auth
    return whole


def _write(path, data):
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def warn_of(settings, secret, warn):
    """What is allowed, but may not work or not protect."""
    mqtt, auth = settings["mqtt"], settings["auth"]
    if auth["kind"] != "token":
        for what, text in (("password", secret), ("user name", auth["user"])):
            if saslprep_changes(text):
                warn(
                    f"the {what} has characters that SASLprep would change. It is taken as it is, which is "
                    "right for EMQX and Cyrus SASL; GNU SASL and others may expect it prepared"
                )
    if auth["kind"] == "SCRAM" and set(auth["user"]) & set(",="):
        warn("the user name has ',' or '=' in it: EMQX cannot log such users in by SCRAM")
    if mqtt["tls"] is None and mqtt["host"] != "localhost" and not mqtt["host"].startswith("127."):
        if auth["kind"] == "token":
            warn("no TLS: whoever is on the path reads the token, and can log in with it")
        else:
            name = auth["kind"]
            warn(f"no TLS: {name} proves the broker at login, but somebody on the path can read and change the rest")


def provision(board, secrets=SECRETS, out=OUT, timeout=10, say=print, warn=print):
    """Do it all; the path of the file written. say, warn: called with lines of text. Raises
    ProvisionError."""
    try:
        wifi = boards.load(board).wifi
    except boards.BoardError as e:
        raise ProvisionError(str(e))
    settings = read_settings(secrets, board, wifi)
    mqtt, auth = settings["mqtt"], settings["auth"]
    if stat.S_IMODE(os.stat(secrets).st_mode) & 0o077:
        warn(f"others on this computer can read {secrets}: chmod 600 {secrets}")
    secret = find_secret(settings)
    warn_of(settings, secret, warn)
    arguments = {"server": mqtt["host"], "port": mqtt["port"], "keepalive": mqtt["keepalive"]}
    if mqtt["tls"] is not None:
        arguments |= {"ssl": True, "ssl_params": {"cadata": mqtt["ca"], "server_hostname": mqtt["host"]}}
    try:
        made = credentials.KINDS[auth["kind"]](settings, secret, arguments, timeout, say, warn)
    except ValueError as e:  # a mechanism's word on the user's name or the password
        raise ProvisionError(f"auth: {e}")

    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    out.chmod(0o700)
    path, ca = out / f"{board}.json", out / f"{board}.ca.der"
    if "keys" in made:
        made["keys"] += old_keys(path, made)
    draft = Path(tempfile.mkdtemp(prefix=f".{board}-", dir=out))
    try:
        # UTF-8 as it is: MicroPython's json makes two surrogates of an escaped character outside of the BMP.
        text = json.dumps(secrets_file(settings, made), indent=1, ensure_ascii=False) + "\n"
        _write(draft / "secrets.json", text.encode())
        if mqtt["tls"] is not None:
            _write(draft / "ca.der", mqtt["ca"])
        say(credentials.prove(draft / "secrets.json", settings, timeout))
        if mqtt["tls"] is not None:
            os.replace(draft / "ca.der", ca)
        else:
            ca.unlink(missing_ok=True)
        os.replace(draft / "secrets.json", path)
    finally:
        shutil.rmtree(draft)
    if len(made.get("keys", ())) > 1:
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
    except OSError as e:  # the network's are ProvisionErrors
        errors.print(f"error: {boards.no_access(e)}", style="bold red")
        return 1
    except KeyboardInterrupt:
        errors.print("stopped; nothing was written", style="bold red")
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
