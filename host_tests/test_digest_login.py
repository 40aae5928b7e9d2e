"""DIGEST-MD5 in MicroPython against the real broker: mosquitto with Cyrus SASL, and with GNU SASL as a second
opinion."""

import micropython  # noqa: F401  (first: it gives `time` its ticks)

import re

import pytest
from harness.attack import no_secrets
from harness.digest import Digest
from harness.observer import Subscriber
from test_broker_login import run
from umqtt5 import MQTTClient
from usasl.digest_md5 import DigestMD5

from tools.devbroker import Broker

PORTS = ["port", "gsasl_port"]
REALM = "localhost"  # what the plugin's libraries offer
LOGIN = [["connect"], ["disconnect"]]

# Name -> (user, password, does GNU SASL 2.2.0 take it?). It does not undo the escapes in a quoted string (RFC 2831
# 7.2), and hashes names as UTF-8 where 2.1.2.1 wants ISO 8859-1; passwords it converts.
USERS = {
    "ascii": ("device1", "s3cret-of-device1", True),
    "iso-8859-1": ("device2", "pä§ßwörd", True),
    "utf-8": ("device3", "пароль-€", True),
    "long-65": ("device4", "x" * 65, True),
    "long-129": ("device5", "y" * 129, True),
    "long-iso-8859-1": ("device6", "ü" * 120, True),
    "comma-equals": ("a=b,c", "p=,ss", True),
    "at-and-space": ("a b@c", "p ss", True),
    "quote": ('a"b', 'p"ss', False),
    "backslash": ("a\\b", "p\\ss", False),
    "all-of-them": ('=,"\\', '",\\=', False),
    "name-iso-8859-1": ("dévice", "päss", False),
    "name-iso-8859-1-password-utf-8": ("dévice2", "пароль", False),
    "name-utf-8": ("имя", "päss", True),
}


@pytest.fixture(scope="module")
def digest_broker():
    with Broker(tls=False, mechs=["DIGEST-MD5"]) as broker:
        for user, password, _ in USERS.values():
            broker.add_user(user, password, mechanisms=("DIGEST-MD5",))
        yield broker


@pytest.mark.parametrize("name", USERS)
@pytest.mark.parametrize("mode", ["password", "keys"])
@pytest.mark.parametrize("port", PORTS)
def test_login(digest_broker, port, mode, name):
    """Logged in twice with the same object; GNU SASL's two faults are seen as what they are."""
    user, password, gnu = USERS[name]
    credentials = Digest(user, password, REALM)
    outcome = run(digest_broker, port, credentials.mechanism(mode), LOGIN, again=LOGIN)
    if port == "port" or gnu:
        outcome.good()
    else:
        assert (outcome.error["type"], outcome.error["reason"]) == ("AuthError", 0x87), outcome.error
    no_secrets(outcome, credentials)


@pytest.mark.parametrize("port", PORTS)
def test_message(digest_broker, port):
    """What it publishes is seen by an independent subscriber; host= is what digest-uri says."""
    topic = f"digest/{port}"
    auth = Digest(realm=REALM).mechanism("keys", host="broker.example")
    with Subscriber(digest_broker, topic) as witness:
        run(digest_broker, port, auth, [["connect"], ["publish", topic, "m", False, 1], ["disconnect"]]).good()
        assert [m["payload"] for m in witness.messages(1)] == ["m"]


@pytest.mark.parametrize("mode", ["password", "keys"])
@pytest.mark.parametrize("port", PORTS)
def test_wrong_password(digest_broker, port, mode):
    credentials = Digest(password="not-the-password", realm=REALM)
    outcome = run(digest_broker, port, credentials.mechanism(mode), [["connect"]])
    e = outcome.error
    assert (e["type"], e["reason"]) == ("AuthError", 0x87) and "DIGEST-MD5" in e["text"], e
    no_secrets(outcome, credentials)


@pytest.mark.parametrize("port", PORTS)
def test_unknown_user(digest_broker, port):
    e = run(digest_broker, port, Digest("nobody", realm=REALM).mechanism("password"), [["connect"]]).error
    assert (e["type"], e["reason"]) == ("AuthError", 0x87), e


@pytest.mark.parametrize("port", PORTS)
def test_another_realm(digest_broker, port):
    """The error names both, and nothing was sent."""
    e = run(digest_broker, port, Digest(realm="elsewhere").mechanism("keys"), [["connect"]]).error
    assert e["type"] == "AuthError" and e["reason"] is None, e
    assert REALM in e["text"] and "elsewhere" in e["text"], e["text"]


def test_not_offered(broker):
    e = run(broker, "port", Digest(realm=REALM).mechanism("keys"), [["connect"]]).error
    assert (e["type"], e["reason"]) == ("AuthError", 0x8C) and "DIGEST-MD5" in e["text"], e


def test_subsequent_authentication():
    """Cyrus takes up earlier logins, if told to: then a login is CONNECT and CONNACK alone, both sides proven. GNU
    SASL does not: it is tried once. After a restart of the broker a login is a whole one again."""
    with Broker(tls=False, mechs=["DIGEST-MD5"], reauth_timeout=5) as broker:
        user, password, _ = USERS["iso-8859-1"]
        broker.add_user(user, password, mechanisms=("DIGEST-MD5",))

        def rounds(name):
            return len(re.findall(rf"Received AUTH from {name} ", broker.log_text()))

        auth = Digest(user, password, REALM).mechanism("keys")
        run(broker, "port", auth, LOGIN * 5, client_id="cyrus").good()
        assert rounds("cyrus") == 1
        run(broker, "gsasl_port", auth, LOGIN * 5, client_id="gnu").good()
        assert rounds("gnu") == 5
        # A second board with the same name: its count is another one. The first must get in all the same.
        run(broker, "port", auth, LOGIN, client_id="other").good()
        run(broker, "port", auth, LOGIN * 2, client_id="cyrus2").good()
        assert (rounds("other"), rounds("cyrus2")) == (1, 1)


def test_subsequent_authentication_after_a_restart():
    with Broker(tls=False, mechs=["DIGEST-MD5"], reauth_timeout=5) as broker:
        broker.add_user("device1", "päss", mechanisms=("DIGEST-MD5",))
        client = MQTTClient("c", broker.host, broker.port, auth=DigestMD5("device1", "päss"))

        def logins(count):
            before = broker.log_text().count("Received AUTH")
            for _ in range(count):
                client.connect()
                client.disconnect()
            return broker.log_text().count("Received AUTH") - before

        assert logins(3) == 1
        broker.restart()
        assert logins(3) == 1
