"""Reads boards/secrets.toml (the form is in boards/secrets.example.toml), for one board.

Every error names the file, the line and the key. It must never put text of the file into an error: a
password may stand there.
"""

import re
import ssl
import tomllib
from pathlib import Path

from umqtt5 import secrets_file as board_secrets

from tools.board import names

_REQUIRED = object()

# table: {name: (type, default)}
FORM = {
    "wifi": {"ssid": (str, _REQUIRED), "key": (str, _REQUIRED)},
    "mqtt": {
        "host": (str, _REQUIRED),
        "port": (int, None),
        "client_id": (str, _REQUIRED),
        "keepalive": (int, 60),
        "tls": (dict, None),
    },
    "auth": {
        "method": (str, "SCRAM-SHA-256"),
        "user": (str, _REQUIRED),
        "password": (str, None),
        "min_iterations": (int, 4096),
        "max_iterations": (int, 20000),
        "server_proof": (str, None),
        "quirk": (str, None),
        "realm": (str, None),
        "host": (str, None),
        "token": ((str, bool), None),
    },
}
# What of "auth" each kind of mechanism takes.
AUTH = {
    "SCRAM": ("method", "user", "password", "min_iterations", "max_iterations", "server_proof", "quirk"),
    "DIGEST-MD5": ("method", "user", "password", "realm", "host"),
    "token": ("method", "user", "token"),
}
CHOICES = {"server_proof": ("require", "reauth", "skip"), "quirk": board_secrets.QUIRKS}
RANGES = {
    "mqtt.port": (1, 65535),
    "mqtt.keepalive": (0, 65535),
    "auth.min_iterations": (1, 9_999_999_999),
    "auth.max_iterations": (1, 9_999_999_999),
}


class ProvisionError(Exception):
    """What is wrong and what to do; never with a secret in it."""


def _place(path, text, *way):
    """Like "secrets.toml, line 7: auth.user": the line of the key `way`, or of what it is in."""
    table, best, line = [], 0, ""
    for number, content in enumerate(text.splitlines(), 1):
        if header := re.match(r"\s*\[([^\[\]]+)\]", content):
            found = table = re.sub(r"[\s\"']", "", header[1]).split(".")
        elif key := re.match(r"\s*([\w.\"'-]+)\s*=", content):
            found = table + re.sub(r"[\"']", "", key[1]).split(".")
        else:
            continue
        found = found[: len(way)]
        if len(found) > best and found == list(way[: len(found)]):
            best, line = len(found), f", line {number}"
    return f"{path.name}{line}: {'.'.join(way)}"


def _syntax(path, text, error):
    """The text for a TOMLDecodeError: line and key, but nothing of the line itself: a password may stand
    there."""
    line = re.search(r"at line (\d+)", str(error))
    number = int(line[1]) if line else len(text.splitlines())
    key = re.match(r"\s*([\w.-]+)\s*=", "".join(text.splitlines()[number - 1 : number]))
    what = re.sub(r"\s*\(at .*\)$|\s*(['\"]).*\1", "", str(error))
    return f"{path.name}, line {number}{f' ({key[1]})' if key else ''}: not TOML: {what}"


def _check(path, text, values, form, *way):
    """One table: unknown names, wrong types and values out of range are errors."""
    if not isinstance(values, dict):
        raise ProvisionError(f"{_place(path, text, *way)}: must be a table")
    for name, value in values.items():
        where = _place(path, text, *way, name)
        if name not in form:
            raise ProvisionError(f"{where}: unknown name; known here: {', '.join(form)}")
        kind = form[name][0]
        if kind == (str, bool):
            right, kind = isinstance(value, str) or value is True, "text in quotes, or true: to be asked for it"
        else:
            right = isinstance(value, kind) and not isinstance(value, bool)
            kind = {str: "text in quotes", int: "a whole number", dict: "a table"}[kind]
        if not right:
            raise ProvisionError(f"{where}: must be {kind}")
        if name in CHOICES and value not in CHOICES[name]:
            raise ProvisionError(f"{where}: unknown; one of {', '.join(CHOICES[name])}")
        low, high = RANGES.get(f"{way[-1]}.{name}", (None, None))
        if low is not None and not low <= value <= high:
            raise ProvisionError(f"{where}: {value} is not in {low} to {high}")
        if value == "" and name != "key":  # an open network has no key
            raise ProvisionError(f"{where}: empty")


def read_settings(path, board, wifi):
    """secrets.toml for one board -> {"wifi": ..., "mqtt": ..., "auth": ...}, with the defaults filled in and
    mqtt.ca as DER bytes. wifi: has the board WiFi? Else the table is left out. Raises ProvisionError."""
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ProvisionError(f"{path} is not there: copy boards/secrets.example.toml and fill it in")
    except UnicodeDecodeError:
        raise ProvisionError(f"{path.name}: not UTF-8")
    try:
        whole = tomllib.loads(text)
    except tomllib.TOMLDecodeError as e:
        raise ProvisionError(_syntax(path, text, e))
    boards = whole.pop("board", {})
    for name in boards if isinstance(boards, dict) else ():
        if name not in names():
            known = ", ".join(names())
            raise ProvisionError(f"{_place(path, text, 'board', name)}: no such board; there are {known}")
    own = boards.get(board, {}) if isinstance(boards, dict) else None
    if not isinstance(own, dict):
        raise ProvisionError(f"{_place(path, text, 'board', board)}: must be a table")
    settings = {}
    for way, tables in (((), whole), (("board", board), own)):
        for name, values in tables.items():
            if name not in FORM:
                known = ", ".join(FORM)
                raise ProvisionError(f"{_place(path, text, *way, name)}: unknown name; known: {known}")
            _check(path, text, values, FORM[name], *way, name)
            settings[name] = settings.get(name, {}) | values
    if not wifi:
        settings.pop("wifi", None)
    forms = FORM | {"auth": _auth_form(path, text, board, own.get("auth", {}), settings.get("auth", {}))}
    for name, form in forms.items():
        if name == "wifi" and not wifi:
            continue
        values = settings.setdefault(name, {})
        for key, (_, default) in form.items():
            if values.setdefault(key, default) is _REQUIRED:
                raise ProvisionError(f"{path.name}: {name}.{key} is missing")
    mqtt, auth = settings["mqtt"], settings["auth"]
    if re.search(r"[\s/@]", mqtt["host"]) or mqtt["host"].count(":") == 1:  # more of them: IPv6
        where = _place(path, text, *(("board", board) if "host" in own.get("mqtt", {}) else ()), "mqtt", "host")
        raise ProvisionError(f"{where}: a name or an address alone; the port is for mqtt.port, TLS for mqtt.tls")
    if mqtt["tls"] is not None:
        _check(path, text, mqtt["tls"], {"ca": (str, _REQUIRED)}, "mqtt", "tls")
        if "ca" not in mqtt["tls"]:
            raise ProvisionError(f"{_place(path, text, 'mqtt', 'tls')}: ca is missing")
        mqtt["ca"] = read_ca(path.parent / mqtt["tls"]["ca"])
    mqtt["port"] = mqtt["port"] or (1883 if mqtt["tls"] is None else 8883)
    if auth["kind"] == "SCRAM" and auth["max_iterations"] < auth["min_iterations"]:
        where = _place(path, text, "auth", "max_iterations")
        raise ProvisionError(f"{where}: lower than auth.min_iterations={auth['min_iterations']}")
    return settings


def _auth_form(path, text, board, own, auth):
    """The form of the table "auth" for its method. Sets auth["kind"], a key of AUTH. own: the board's own table."""

    def where(name):
        return _place(path, text, *(("board", board) if name in own else ()), "auth", name)

    method = auth.get("method", FORM["auth"]["method"][1])
    known = method in board_secrets.METHODS
    if "token" in auth:
        if known:
            raise ProvisionError(f"{where('token')}: {method} takes no token, but a password")
        kind = "token"
    elif known:
        kind = "SCRAM" if method.startswith("SCRAM") else method
    else:
        names = ", ".join(board_secrets.METHODS)
        raise ProvisionError(f"{where('method')}: unknown; known: {names}; any other one needs auth.token")
    for name in auth:
        if name not in AUTH[kind]:
            raise ProvisionError(f"{where(name)}: not for {method}; it takes {', '.join(AUTH[kind])}")
    if "quirk" in auth:
        try:
            board_secrets.find(method, auth["quirk"])
        except ValueError as e:
            raise ProvisionError(f"{where('quirk')}: {str(e).removeprefix('quirk: ')}")
    auth["kind"] = kind
    form = {name: FORM["auth"][name] for name in AUTH[kind]}
    return form | {"user": (str, None)} if kind == "token" else form


def read_ca(path):
    """A CA certificate, PEM or DER -> DER bytes."""
    try:
        data = Path(path).read_bytes()
    except OSError as e:
        raise ProvisionError(f"mqtt.tls.ca: {path}: {e.strerror}")
    blocks = re.findall(rb"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", data, re.DOTALL)
    if len(blocks) > 1:
        raise ProvisionError(f"mqtt.tls.ca: {path} holds {len(blocks)} certificates; keep the CA's alone")
    try:
        der = ssl.PEM_cert_to_DER_cert(blocks[0].decode()) if blocks else data
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=der)
    except (ValueError, OSError):
        raise ProvisionError(f"mqtt.tls.ca: {path} is not a certificate (PEM or DER)")
    return der
