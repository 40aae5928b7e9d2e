# secrets.json -> the keyword arguments of an MQTTClient: MQTTClient(**load("secrets.json")).
# What reads it, secrets_file.py, is loaded for that, and unloaded as soon as it is done: 2.9 KB.
# Must never: hold a value of the file.
import sys


def load(path="secrets.json"):
    """The file as a dict: client_id, server, port, keepalive, auth, and for TLS ssl=True and ssl_params with
    cadata (bytes, DER) and server_hostname.

    ValueError: a name is missing, unknown or of the wrong type, and the text names it. OSError: no such
    file."""
    return _read(path, "client")


def load_wifi(path="secrets.json"):
    """(ssid, key) as str, or None where the file has no "wifi". Errors as those of load()."""
    return _read(path, "wifi")


def _read(path, what):
    import umqtt5.secrets_file as file

    try:
        return getattr(file, what)(path)
    finally:
        sys.modules.pop("umqtt5.secrets_file", None)
        sys.modules["umqtt5"].__dict__.pop("secrets_file", None)
