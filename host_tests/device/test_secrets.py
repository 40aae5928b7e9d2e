# umqtt5.secrets: what a board reads from its secrets file, and which name each error blames.
# runs under CPython too
import json
import os
import sys

from umqtt5.secrets import load, load_wifi

SECRET = "c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0c2U="
KEY = {"salt": "QSXCR+Q6sek8bf92", "iterations": 4096, "client_key": SECRET, "server_key": SECRET}
MISSING = "missing"


def secrets():
    return {
        "format": 1,
        "wifi": {"ssid": "net", "key": "wifi-key"},
        "mqtt": {
            "host": "broker.test",
            "port": 8883,
            "client_id": "c1",
            "keepalive": 60,
            "tls": {"ca": "ca.der"},
        },
        "auth": {
            "method": "SCRAM-SHA-256",
            "user": "device1",
            "min_iterations": 4096,
            "max_iterations": 20000,
            "keys": [dict(KEY)],
        },
    }


class Folder:
    """A folder of its own with a secrets.json of this text, and a ca.der."""

    def __init__(self, text):
        self.text = text

    def __enter__(self):
        self.path = "/tmp/umqtt5-secrets-" + "".join(["%02x" % b for b in os.urandom(6)])
        os.mkdir(self.path)
        with open(self.path + "/secrets.json", "w") as file:
            file.write(self.text)
        with open(self.path + "/ca.der", "wb") as file:
            file.write(b"DER")
        return self.path + "/secrets.json"

    def __exit__(self, *_):
        os.remove(self.path + "/secrets.json")
        os.remove(self.path + "/ca.der")
        os.rmdir(self.path)


def error(text):
    with Folder(text) as path:
        try:
            load(path)
        except ValueError as e:
            shown = str(e)
            assert shown.startswith(path + ": "), shown
            assert SECRET not in shown and "wifi-key" not in shown
            return shown[len(path) + 2 :]
    raise AssertionError("accepted")


def broken(value, *way):
    """The error for a file in which the value at the end of `way` is another, or is missing."""
    whole = at = secrets()
    for name in way[:-1]:
        at = at[name]
    if value is MISSING:
        del at[way[-1]]
    else:
        at[way[-1]] = value
    return error(json.dumps(whole))


def test_arguments_of_a_client():
    with Folder(json.dumps(secrets())) as path:
        client = load(path)
        auth = client.pop("auth")
        assert "umqtt5.secrets_file" not in sys.modules  # it is unloaded again
        assert client == {
            "client_id": "c1",
            "server": "broker.test",
            "port": 8883,
            "keepalive": 60,
            "ssl": True,
            "ssl_params": {"cadata": b"DER", "server_hostname": "broker.test"},
        }
        assert auth.name == "SCRAM-SHA-256" and auth.user == "device1"
        assert next(auth.exchange()).startswith(b"n,,n=device1,r=")
        assert load_wifi(path) == ("net", "wifi-key")


def test_without_wifi_and_tls():
    whole = secrets()
    del whole["wifi"]
    del whole["mqtt"]["tls"]
    with Folder(json.dumps(whole)) as path:
        assert load_wifi(path) is None
        assert sorted(load(path)) == ["auth", "client_id", "keepalive", "port", "server"]


def test_two_keys():
    whole = secrets()
    whole["auth"]["keys"].append(dict(KEY))
    with Folder(json.dumps(whole)) as path:
        load(path)
    whole["auth"]["keys"].append(dict(KEY))
    assert error(json.dumps(whole)) == "auth.keys: one or two entries, not 3"
    assert broken([], "auth", "keys") == "auth.keys: one or two entries, not 0"


def test_sha1():
    whole = secrets()
    whole["auth"]["method"] = "SCRAM-SHA-1"
    assert error(json.dumps(whole)).startswith("auth: keys: ")
    key = "QSXCR+Q6sek8bf92QSXCR+Q6seg="
    whole["auth"]["keys"] = [dict(KEY, client_key=key, server_key=key)]
    with Folder(json.dumps(whole)) as path:
        assert load(path)["auth"].name == "SCRAM-SHA-1"


def test_every_missing_name_is_named():
    for way in (
        ("format",),
        ("mqtt",),
        ("auth",),
        ("wifi", "ssid"),
        ("wifi", "key"),
        ("mqtt", "host"),
        ("mqtt", "port"),
        ("mqtt", "client_id"),
        ("mqtt", "keepalive"),
        ("mqtt", "tls", "ca"),
        ("auth", "method"),
        ("auth", "user"),
        ("auth", "min_iterations"),
        ("auth", "max_iterations"),
        ("auth", "keys"),
    ):
        assert broken(MISSING, *way) == ".".join(way) + ": missing"
    for name in KEY:
        assert broken(MISSING, "auth", "keys", 0, name) == "auth.keys[0]." + name + ": missing"


def test_unknown_names_are_named():
    assert broken(1, "colour") == "colour: unknown name"
    assert broken("x", "mqtt", "passwrod") == "mqtt.passwrod: unknown name"
    assert broken("x", "wifi", "password") == "wifi.password: unknown name"
    assert broken(True, "mqtt", "tls", "insecure") == "mqtt.tls.insecure: unknown name"
    # The broker password has no place in this file.
    assert broken(SECRET, "auth", "password") == "auth.password: unknown name"
    assert broken(SECRET, "auth", "keys", 0, "key") == "auth.keys[0].key: unknown name"


def test_wrong_types_are_named():
    assert broken("8883", "mqtt", "port") == "mqtt.port: wrong type"
    assert broken(True, "mqtt", "port") == "mqtt.port: wrong type"
    assert broken(None, "mqtt", "tls") == "mqtt.tls: wrong type"
    assert broken(SECRET, "auth", "keys") == "auth.keys: wrong type"
    assert broken([SECRET], "auth", "keys") == "auth.keys[0]: not an object {...}"
    assert broken("4096", "auth", "keys", 0, "iterations") == "auth.keys[0].iterations: wrong type"
    assert error("[1]") == "the whole: not an object {...}"


def test_wrong_values_are_named():
    assert broken(2, "format").startswith("format: not 1")
    assert broken("PLAIN", "auth", "method").startswith("auth.method: unknown; one of SCRAM-SHA-1, ")
    assert broken("", "auth", "user").startswith("auth: empty user")
    for name in ("salt", "client_key", "server_key"):
        for value in ("!!!!", SECRET[:-1], SECRET + "\n", "\xe9\xe9=="):
            assert broken(value, "auth", "keys", 0, name) == "auth.keys[0]." + name + ": not base64"
    assert "no salt" in broken("", "auth", "keys", 0, "salt")
    assert broken("AAAA", "auth", "keys", 0, "client_key").startswith("auth: keys: ")
    assert broken(0, "auth", "keys", 0, "iterations").startswith("auth: keys: ")


def test_not_json():
    for text in ("", "{", json.dumps(secrets())[:-1], "\x00", "null"):
        assert ": not" in ": " + error(text)


def test_files_that_are_not_there():
    for name in ("secrets.json", "ca.der"):
        with Folder(json.dumps(secrets())) as path:
            os.rename(path[: -len("secrets.json")] + name, path + "2")
            try:
                load(path)
            except OSError as e:
                assert name in str(e) and "make provision" in str(e)
            else:
                raise AssertionError(name)
            finally:
                os.rename(path + "2", path[: -len("secrets.json")] + name)


def test_a_mechanism_is_loaded_only_when_asked_for():
    for name in list(sys.modules):
        if name.startswith("usasl"):
            del sys.modules[name]
    with Folder(json.dumps(secrets())) as path:
        load_wifi(path)
        assert not [name for name in sys.modules if name.startswith("usasl")]
        load(path)
        assert sorted([name for name in sys.modules if name.startswith("usasl")]) == [
            "usasl",
            "usasl.crypto",
            "usasl.scram",
        ]
