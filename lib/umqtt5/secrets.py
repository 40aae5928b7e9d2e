# secrets.json -> the keyword arguments of an MQTTClient: MQTTClient(**load("secrets.json")).
# tools/provision.py writes the file. The one place of umqtt5 that knows usasl: by name, lazily.
# Must never: put a value of the file into an error text (names only), fill in something that is missing.
import json
from errno import ENOENT

# Authentication Method: (module, class)
METHODS = {
    "SCRAM-SHA-1": ("usasl.scram", "ScramSHA1"),
    "SCRAM-SHA-256": ("usasl.scram", "ScramSHA256"),
}
# What a part of the file holds. Types only: ranges are checked where the values are used.
_FILE = {"format": int, "wifi": dict, "mqtt": dict, "auth": dict}
_WIFI = {"ssid": str, "key": str}
_MQTT = {"host": str, "port": int, "client_id": str, "keepalive": int, "tls": dict}
_TLS = {"ca": str}
_AUTH = {"method": str, "user": str, "min_iterations": int, "max_iterations": int, "keys": list}
_KEY = {"salt": str, "iterations": int, "client_key": str, "server_key": str}
_OPTIONAL = ("wifi", "tls")


def load(path="secrets.json"):
    """The file as a dict: client_id, server, port, keepalive, auth, and for TLS ssl=True and ssl_params with
    cadata (bytes, DER) and server_hostname.

    ValueError: a name is missing, unknown or of the wrong type, and the text names it. OSError: no such
    file."""
    secrets = read(path)
    mqtt = secrets["mqtt"]
    client = {
        "client_id": mqtt["client_id"],
        "server": mqtt["host"],
        "port": mqtt["port"],
        "keepalive": mqtt["keepalive"],
        "auth": mechanism(path, secrets["auth"]),
    }
    if "tls" in mqtt:
        # Beside the secrets file. Without it there is no connection: TLS is never dropped.
        ca = path[: path.rfind("/") + 1] + mqtt["tls"]["ca"]
        client["ssl"] = True
        client["ssl_params"] = {"cadata": _bytes(ca), "server_hostname": mqtt["host"]}
    return client


def load_wifi(path="secrets.json"):
    """(ssid, key) as str, or None where the file has no "wifi". Errors as those of load()."""
    wifi = read(path).get("wifi")
    return (wifi["ssid"], wifi["key"]) if wifi else None


def _bytes(path):
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError as e:
        if e.errno == ENOENT:
            raise OSError(ENOENT, path + " is not there: run make provision, then make flash")
        raise


def read(path):
    """The file as a dict, all but auth.keys checked. Errors as those of load()."""
    text = _bytes(path)
    try:
        secrets = json.loads(text)
    except ValueError:
        secrets = None  # CPython's error would carry the file's text
    if secrets is None:
        raise ValueError(path + ": not JSON: provision and flash again")
    _check(path, secrets, _FILE)
    if secrets["format"] != 1:
        raise ValueError(path + ": format: not 1: provision again with the tools of this version")
    if "wifi" in secrets:
        _check(path, secrets["wifi"], _WIFI, "wifi.")
    _check(path, secrets["mqtt"], _MQTT, "mqtt.")
    if "tls" in secrets["mqtt"]:
        _check(path, secrets["mqtt"]["tls"], _TLS, "mqtt.tls.")
    _check(path, secrets["auth"], _AUTH, "auth.")
    return secrets


def _check(path, found, expected, prefix=""):
    """Has the dict `found` exactly the names of `expected`, with values of its types?"""
    if not isinstance(found, dict):
        raise ValueError(path + ": " + (prefix[:-1] or "the whole") + ": not an object {...}")
    for name in found:
        if name not in expected:
            raise ValueError(path + ": " + prefix + name + ": unknown name")
    for name in expected:
        if name in found:
            value = found[name]
            # A bool is an int.
            if not isinstance(value, expected[name]) or isinstance(value, bool):
                raise ValueError(path + ": " + prefix + name + ": wrong type")
        elif name not in _OPTIONAL:
            raise ValueError(path + ": " + prefix + name + ": missing")


def mechanism(path, auth):
    """The mechanism that the file's "auth" describes. path: for the text of a ValueError."""
    where = path + ": auth."
    if auth["method"] not in METHODS:
        raise ValueError(where + "method: unknown; one of " + ", ".join(sorted(METHODS)))
    from usasl.crypto import unb64

    module, name = METHODS[auth["method"]]
    found = getattr(__import__(module, None, None, (name,)), name)
    keys = []
    for entry in auth["keys"]:
        prefix = "auth.keys[" + str(len(keys)) + "]."
        _check(path, entry, _KEY, prefix)
        parts = {}
        for part in ("salt", "client_key", "server_key"):
            try:
                parts[part] = unb64(entry[part].encode())
            except ValueError:
                raise ValueError(path + ": " + prefix + part + ": not base64")
        keys.append((parts["salt"], entry["iterations"], parts["client_key"], parts["server_key"]))
    if not 1 <= len(keys) <= 2:
        raise ValueError(where + "keys: one or two entries, not " + str(len(keys)))
    try:
        return found(
            auth["user"],
            keys=keys,
            min_iterations=auth["min_iterations"],
            max_iterations=auth["max_iterations"],
        )
    except ValueError as e:
        raise ValueError(path + ": auth: " + str(e))
