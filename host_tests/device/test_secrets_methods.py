# umqtt5.secrets: what "auth" holds for each mechanism, and which name each error blames.
# runs under CPython too
import json
import sys

from test_secrets import KEY, MISSING, SECRET, Folder, error, secrets
from umqtt5.secrets import load

MD5 = "c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0c2U="
DIGEST = {"method": "DIGEST-MD5", "user": "chris", "realm": "r", "key": "AAECAwQFBgcICQoLDA0ODw=="}
TOKEN = {"method": "OAUTHBEARER", "token": SECRET}


def file(auth):
    return json.dumps(dict(secrets(), auth=auth))


def broken(auth, name, value):
    """The error for this "auth" with another value of a name, or without the name."""
    auth = dict(auth)
    if value is MISSING:
        del auth[name]
    else:
        auth[name] = value
    return error(file(auth))


def made(auth):
    with Folder(file(auth)) as path:
        return load(path)["auth"]


def scram(**more):
    return dict(secrets()["auth"], **more)


def test_server_proof():
    assert made(scram(server_proof="require")).name == "SCRAM-SHA-256"
    for proof in ("skip", "reauth"):
        assert made(scram(server_proof=proof)).server_proof == proof
    assert broken(scram(), "server_proof", "requier").startswith("auth: server_proof: ")
    assert broken(scram(), "server_proof", 1) == "auth.server_proof: wrong type"


def test_sha512():
    key = "MTIz" * 21 + "MQ=="  # 64 bytes
    auth = scram(method="SCRAM-SHA-512", keys=[dict(KEY, client_key=key, server_key=key)])
    assert made(auth).name == "SCRAM-SHA-512"
    assert made(dict(auth, quirk="emqx-5.0"))._comma == b""
    assert error(file(scram(method="SCRAM-SHA-512"))).startswith("auth: keys: ")


def test_quirk():
    mechanism = made(scram(quirk="emqx-5.0"))
    assert mechanism.name == "SCRAM-SHA-256" and mechanism._comma == b""
    assert broken(scram(quirk="emqx-5.0"), "method", "SCRAM-SHA-1") == "auth: quirk: not for SCRAM-SHA-1"
    assert broken(scram(), "quirk", "emqx-5.1") == "auth: quirk: unknown; one of emqx-5.0"
    assert broken(scram(), "quirk", "") == "auth: quirk: unknown; one of emqx-5.0"
    assert broken(scram(), "quirk", True) == "auth.quirk: wrong type"


def test_digest_md5():
    mechanism = made(DIGEST)
    assert (mechanism.name, mechanism.user) == ("DIGEST-MD5", "chris")
    exchange = mechanism.exchange()
    assert next(exchange) == b""
    challenge = b'realm="r",nonce="n",qop="auth",algorithm=md5-sess,charset=utf-8'
    assert b'digest-uri="mqtt/r"' in exchange.send(challenge)
    exchange = made(dict(DIGEST, host="h")).exchange()
    next(exchange)
    assert b'digest-uri="mqtt/h"' in exchange.send(challenge)


def test_digest_md5_names():
    for name in ("user", "realm", "key"):
        assert broken(DIGEST, name, MISSING) == "auth." + name + ": missing"
        assert broken(DIGEST, name, 1) == "auth." + name + ": wrong type"
    for name in ("password", "keys", "min_iterations", "quirk", "server_proof"):
        assert broken(DIGEST, name, SECRET) == "auth." + name + ": unknown name"
    assert broken(DIGEST, "key", "AAEC!") == "auth.key: not base64"
    assert broken(DIGEST, "key", MD5) == "auth: key: not 16 bytes"
    assert broken(DIGEST, "host", 5) == "auth.host: wrong type"


def test_token():
    mechanism = made(TOKEN)
    assert mechanism.name == "OAUTHBEARER" and mechanism.user is None
    assert next(mechanism.exchange()) == SECRET.encode()
    assert made(dict(TOKEN, user="u")).user == "u"
    # It counts, not the method's name.
    assert next(made(dict(TOKEN, method="SCRAM-SHA-256")).exchange()) == SECRET.encode()


def test_token_names():
    assert broken(TOKEN, "method", MISSING) == "auth.method: missing"
    assert broken(TOKEN, "token", MISSING).startswith("auth.method: unknown; one of ")
    assert broken(TOKEN, "token", 1) == "auth.token: wrong type"
    assert broken(TOKEN, "token", "").startswith("auth: token: ")
    assert broken(TOKEN, "user", 1) == "auth.user: wrong type"
    for name in ("password", "keys", "key", "realm", "quirk"):
        assert broken(TOKEN, name, SECRET) == "auth." + name + ": unknown name"


def test_scram_takes_nothing_of_the_others():
    for name in ("realm", "host", "key"):
        assert broken(scram(), name, "x") == "auth." + name + ": unknown name"
    assert broken(scram(), "token", SECRET).endswith(": unknown name")  # with it, all the others are


def test_only_what_the_method_needs_is_loaded():
    for auth, modules in (
        (DIGEST, ["usasl", "usasl.crypto", "usasl.digest_md5"]),
        (TOKEN, ["usasl", "usasl.crypto", "usasl.token"]),
        (scram(), ["usasl", "usasl.crypto", "usasl.scram"]),
        (scram(quirk="emqx-5.0"), ["usasl", "usasl.crypto", "usasl.scram", "usasl.scram_emqx"]),
    ):
        for name in list(sys.modules):
            if name.startswith("usasl"):
                del sys.modules[name]
        made(auth)
        assert sorted([name for name in sys.modules if name.startswith("usasl")]) == modules
