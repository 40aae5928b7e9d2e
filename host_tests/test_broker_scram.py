"""SCRAM with each hash in MicroPython against Cyrus SASL and GNU SASL: by password and with keys, for users and
passwords of every kind."""

import pytest
from harness.attack import mechanism, no_secrets
from harness.micropython import run_device
from harness.scram import Credentials
from test_broker_login import Outcome

from tools.devbroker import Broker

CLASSES = {"sha1": "ScramSHA1", "sha256": "ScramSHA256", "sha512": "ScramSHA512"}
OFFERED = [("port", hash_name) for hash_name in CLASSES] + [("gsasl_port", "sha1"), ("gsasl_port", "sha256")]
# A hash's block, beyond which HMAC hashes its key first, has 64 bytes, that of SHA-512 128.
USERS = {
    "ascii": "s3cret, with = and ,",
    "jürgen": "pässwörd-日本",
    "long64": "x" * 64,
    "long65": "y" * 65,
    "long128": "z" * 128,
    "long129": "ä" * 64 + "z",
    "a=b,c": "=2C,=3D",
    "=,": "comma",
}
SALT = b"the salt of all of these"


@pytest.fixture(scope="module")
def broker():
    with Broker(tls=False) as broker:
        for user, password in USERS.items():
            broker.add_user(user, password, iterations=4096, salt=SALT)
        yield broker


def connect(broker, port, c, mode, **more):
    more = {"class": CLASSES[c.hash_name], **more}
    if mode == "password":
        more.setdefault("max_iterations", 4096)  # more than ScramSHA512 allows by itself
    told = {
        "client": {"server": broker.host, "port": getattr(broker, port), "timeout": 10, "keepalive": 60},
        "auth": mechanism(c, mode, **more),
        "steps": [["connect"], ["publish", "t", "m", False, 1], ["disconnect"]],
        # By password: with the keys that are derived by now.
        "again": [["connect"], ["disconnect"]],
    }
    outcome = Outcome(run_device("client_run.py", told, timeout=60))
    no_secrets(outcome, c)
    return outcome


@pytest.mark.parametrize("user", USERS)
@pytest.mark.parametrize("mode", ["password", "keys"])
@pytest.mark.parametrize(("port", "hash_name"), OFFERED)
def test_login(broker, port, hash_name, mode, user):
    connect(broker, port, Credentials(user, USERS[user], SALT, 4096, hash_name), mode).good()


@pytest.mark.parametrize("mode", ["password", "keys"])
@pytest.mark.parametrize(("port", "hash_name"), OFFERED)
def test_wrong_password(broker, port, hash_name, mode):
    c = Credentials("ascii", "another", SALT, 4096, hash_name)
    e = connect(broker, port, c, mode).error
    assert (e["type"], e["reason"]) == ("AuthError", 0x87) and c.method in e["text"], e


def test_sha512_by_password_is_refused_unless_allowed(broker):
    c = Credentials("ascii", USERS["ascii"], SALT, 4096, "sha512")
    e = connect(broker, "port", c, "password", max_iterations=None).error
    assert e["type"] == "AuthError" and e["reason"] is None, e
    assert "4096" in e["text"] and "provision keys" in e["text"], e


def test_gnu_sasl_has_no_sha512(broker):
    e = connect(broker, "gsasl_port", Credentials("ascii", USERS["ascii"], SALT, 4096, "sha512"), "keys").error
    assert (e["type"], e["reason"]) == ("AuthError", 0x8C) and "SCRAM-SHA-512" in e["text"], e


def test_another_salt_for_each_hash(broker):
    """The broker has its own salt for each mechanism; keys are of one."""
    broker.add_user("salts", "s3cret-of-salts", iterations=4096)
    c = Credentials("salts", "s3cret-of-salts", SALT, 4096, "sha512")
    e = connect(broker, "port", c, "keys").error
    assert e["reason"] is None and "another salt" in e["text"], e
    connect(broker, "port", c, "password").good()
