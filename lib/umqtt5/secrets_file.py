# What reads secrets.json for secrets.py: its parts, their names and types, and the mechanism that it describes.
# tools/provision.py writes the file. The one place of umqtt5 that knows usasl: by name, lazily.
# Must never: put a value of the file into an error text (names only), fill in something that is missing.
from micropython import const

import json
from errno import ENOENT

from .errors import wrong

# Texts of errors: see texts.py. Their values are names and paths.
_NOT_JSON = const(109)
_FORMAT = const(110)
_UNKNOWN_METHOD = const(111)
_NO_OBJECT = const(112)
_WRONG_TYPE = const(113)
_MISSING = const(114)
_UNKNOWN_NAME = const(115)
_QUIRK = const(116)
_QUIRK_NOT_FOR = const(117)
_AUTH = const(118)
_KEYS = const(119)
_NOT_BASE64 = const(120)

# Authentication Methods; beside them any other, with a token.
METHODS = ("SCRAM-SHA-1", "SCRAM-SHA-256", "SCRAM-SHA-512", "DIGEST-MD5")
QUIRKS = ("emqx-5.0",)
# The names in each part of the file; before one: # a whole number, { an object, [ a list, else text; behind it: ? may
# be left out. Ranges are checked where the values are used. (Dicts instead of strings: 240 bytes of heap more.)
_FILE = "#format {wifi? {mqtt {auth"
_WIFI = "ssid key"
_MQTT = "host #port client_id #keepalive {tls?"
_TLS = "ca"
_SCRAM = "method user #min_iterations #max_iterations [keys server_proof? quirk?"
_KEY = "salt #iterations client_key server_key"
_DIGEST = "method user realm key host?"
_TOKEN = "method token user?"


def client(path):
    """See secrets.load()."""
    secrets = read(path)
    mqtt = secrets["mqtt"]
    arguments = {
        "client_id": mqtt["client_id"],
        "server": mqtt["host"],
        "port": mqtt["port"],
        "keepalive": mqtt["keepalive"],
        "auth": mechanism(path, secrets["auth"]),
    }
    if "tls" in mqtt:
        # Beside the secrets file. Without it there is no connection: TLS is never dropped.
        ca = path[: path.rfind("/") + 1] + mqtt["tls"]["ca"]
        arguments["ssl"] = True
        arguments["ssl_params"] = {"cadata": _bytes(ca), "server_hostname": mqtt["host"]}
    return arguments


def wifi(path):
    """See secrets.load_wifi()."""
    found = read(path).get("wifi")
    return (found["ssid"], found["key"]) if found else None


def _bytes(path):
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError as e:
        if e.errno == ENOENT:
            raise OSError(ENOENT, path + " is not there: run make provision, then make flash")
        raise


def read(path):
    """The file as a dict, all but auth.keys checked. Errors as those of secrets.load()."""
    text = _bytes(path)
    try:
        secrets = json.loads(text)
    except ValueError:
        secrets = None  # CPython's error would carry the file's text
    if secrets is None:
        raise wrong((_NOT_JSON, path))
    _check(path, secrets, _FILE)
    if secrets["format"] != 1:
        raise wrong((_FORMAT, path))
    if "wifi" in secrets:
        _check(path, secrets["wifi"], _WIFI, "wifi.")
    _check(path, secrets["mqtt"], _MQTT, "mqtt.")
    if "tls" in secrets["mqtt"]:
        _check(path, secrets["mqtt"]["tls"], _TLS, "mqtt.tls.")
    auth = secrets["auth"]
    if "token" in auth:
        _check(path, auth, _TOKEN, "auth.")
    elif "method" in auth and auth["method"] not in METHODS:
        raise wrong((_UNKNOWN_METHOD, path, ", ".join(METHODS)))
    elif auth.get("method") == "DIGEST-MD5":
        _check(path, auth, _DIGEST, "auth.")
    else:
        _check(path, auth, _SCRAM, "auth.")
    return secrets


def _check(path, found, expected, prefix=""):
    """Has the dict `found` exactly the names of `expected`, with values of its types?"""
    if not isinstance(found, dict):
        raise wrong((_NO_OBJECT, path, prefix[:-1] or "the whole"))
    known = []
    for name in expected.split():
        kind = {"#": int, "{": dict, "[": list}.get(name[0], str)
        name = name.strip("#{[")
        optional = name[-1] == "?"
        name = name.strip("?")
        known.append(name)
        if name in found:
            value = found[name]
            # A bool is an int.
            if not isinstance(value, kind) or isinstance(value, bool):
                raise wrong((_WRONG_TYPE, path, prefix, name))
        elif not optional:
            raise wrong((_MISSING, path, prefix, name))
    for name in found:
        if name not in known:
            raise wrong((_UNKNOWN_NAME, path, prefix, name))


def find(method, quirk=None):
    """The class of one of METHODS, loaded now. ValueError: no such quirk, or none of this method."""
    if quirk is not None and quirk not in QUIRKS:
        raise wrong((_QUIRK, ", ".join(QUIRKS)))
    if method == "DIGEST-MD5":
        module, name = "usasl.digest_md5", "DigestMD5"
    else:
        module = "usasl.scram_emqx" if quirk else "usasl.scram"
        name = "Scram" + method[6:].replace("-", "")  # ScramSHA256
    found = getattr(__import__(module, None, None, (name,)), name, None)
    if not found:  # EMQX has no SCRAM-SHA-1
        raise wrong((_QUIRK_NOT_FOR, method))
    return found


def mechanism(path, auth):
    """The mechanism that the file's "auth", as read() gives it, describes. path: for the text of a ValueError."""
    arguments = auth.copy()
    method = arguments.pop("method")
    quirk = arguments.pop("quirk", None)
    if "keys" in auth:
        arguments["keys"] = _keys(path, auth["keys"])
    elif "key" in auth:
        arguments["key"] = _unb64(path, auth, "key", "auth.")
    try:
        if "token" in auth:
            from usasl.token import Token

            return Token(method, arguments.pop("token").encode(), **arguments)
        return find(method, quirk)(**arguments)
    except ValueError as e:
        raise wrong((_AUTH, path, e))


def _keys(path, entries):
    """auth.keys as SCRAM's class wants them."""
    keys = []
    for entry in entries:
        prefix = "auth.keys[" + str(len(keys)) + "]."
        _check(path, entry, _KEY, prefix)
        salt = _unb64(path, entry, "salt", prefix)
        client_key = _unb64(path, entry, "client_key", prefix)
        keys.append((salt, entry["iterations"], client_key, _unb64(path, entry, "server_key", prefix)))
    if not 1 <= len(keys) <= 2:
        raise wrong((_KEYS, path, len(keys)))
    return keys


def _unb64(path, values, name, prefix):
    from usasl.crypto import unb64

    try:
        return unb64(values[name].encode())
    except ValueError:
        raise wrong((_NOT_BASE64, path, prefix, name))
