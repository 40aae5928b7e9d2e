"""The client in MicroPython against the real broker: mosquitto with Cyrus SASL, and with GNU SASL as a
second opinion."""

import threading

import pytest
from harness.attack import mechanism, no_secrets
from harness.micropython import run_device
from harness.observer import Subscriber, send, stored
from harness.scram import Credentials

PORTS = ["port", "gsasl_port"]
NAMES = {"sha256": "ScramSHA256", "sha1": "ScramSHA1"}


class Outcome:
    """What client_run.py said: `steps`, `again`, `end`; `error` is that of the last step."""

    def __init__(self, result):
        self.result = result
        lines = result.lines
        self.steps = [line for line in lines if line.get("in") == "steps"]
        self.again = [line for line in lines if line.get("in") == "again"]
        self.end = lines[-1]

    @property
    def error(self):
        assert "error" in self.steps[-1], self.steps
        return self.steps[-1]["error"]

    def good(self):
        failed = [line for line in self.steps + self.again if "error" in line]
        assert not failed, failed
        return self


def run(broker, port, auth, steps, again=(), **client):
    told = {
        "client": {"server": broker.host, "port": getattr(broker, port), "timeout": 5, **client},
        "auth": auth,
        "steps": steps,
        "again": list(again),
    }
    return Outcome(run_device("client_run.py", told, timeout=60))


def as_mode(broker, port, mode, user="device1", hash_name="sha256", password=None):
    """(credentials, mechanism) of a user, by password or with keys for the salt that the broker names."""
    password = password or f"s3cret-of-{user}"
    c = stored(
        broker.host,
        getattr(broker, port),
        user,
        password,
        "SCRAM-" + {"sha256": "SHA-256", "sha1": "SHA-1"}[hash_name],
        hash_name,
    )
    return c, mechanism(c, mode, **{"class": NAMES[hash_name]})


# Good logins -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("hash_name", NAMES)
@pytest.mark.parametrize("mode", ["password", "keys"])
@pytest.mark.parametrize("port", PORTS)
def test_login(broker, port, mode, hash_name):
    """Logged in, and a message is seen by an independent subscriber; again with the same object."""
    credentials, auth = as_mode(broker, port, mode, hash_name=hash_name)
    topic = f"login/{port}/{mode}/{hash_name}"
    steps = [["connect"], ["publish", topic, "one", False, 1], ["disconnect"]]
    with Subscriber(broker, topic) as witness:
        outcome = run(
            broker,
            port,
            auth,
            steps,
            again=[["connect"], ["publish", topic, "two", False, 1], ["disconnect"]],
        )
        outcome.good()
        assert [m["payload"] for m in witness.messages(2)] == ["one", "two"]
    no_secrets(outcome, credentials)


def test_user_name_with_special_characters(own_broker):
    """',' and '=' are escaped in SCRAM's names (RFC 5802 5.1), and only there; the password is raw UTF-8."""
    own_broker.add_user("a=b,c", "p=ä,ss", iterations=4096)
    auth = {"user": "a=b,c", "password": "p=ä,ss"}
    run(own_broker, "port", auth, [["connect"], ["disconnect"]]).good()


# Bad ones --------------------------------------------------------------------------------------------------


def refused(outcome, reason):
    e = outcome.error
    assert (e["type"], e["reason"]) == ("AuthError", reason), e
    assert "SCRAM-SHA-256" in e["text"] and f"0x{reason:02X}" in e["text"], e["text"]


@pytest.mark.parametrize("mode", ["password", "keys"])
@pytest.mark.parametrize("port", PORTS)
def test_wrong_password(broker, port, mode):
    """Refused with 0x87: our proof was wrong; and that is not "not our broker"."""
    credentials, auth = as_mode(broker, port, mode, password="not-the-password")
    outcome = run(broker, port, auth, [["connect"]])
    refused(outcome, 0x87)
    no_secrets(outcome, credentials)


@pytest.mark.parametrize("port", PORTS)
def test_unknown_user(broker, port):
    refused(run(broker, port, {"user": "nobody", "password": "anything"}, [["connect"]]), 0x87)


@pytest.mark.parametrize("port", PORTS)
def test_unknown_method(broker, port):
    """0x8C, with the method's name in the text."""
    auth = {"user": "device1", "password": "s3cret-of-device1", "name": "SCRAM-SHA-257"}
    e = run(broker, port, auth, [["connect"]]).error
    assert (e["type"], e["reason"]) == ("AuthError", 0x8C), e
    assert "SCRAM-SHA-257" in e["text"], e["text"]


def test_listener_without_the_plugin(broker):
    """mosquitto refuses a method that no plugin answers; it must never let us in without the proof."""
    e = run(broker, "plain_port", {"user": "device1", "password": "x"}, [["connect"]]).error
    assert "AuthError" in e["isa"], e


def test_no_mechanism_where_one_is_asked_for(broker):
    e = run(broker, "port", None, [["connect"]]).error
    assert e["type"] == "AuthError" and e["reason"] in (0x86, 0x87), e


@pytest.mark.parametrize("port", PORTS)
def test_keys_of_another_salt(broker, port):
    """An error before any proof is sent; its text says what to do."""
    c = Credentials("device1", "s3cret-of-device1", b"another salt")
    e = run(broker, port, mechanism(c, "keys"), [["connect"]]).error
    assert e["type"] == "AuthError" and e["reason"] is None, e
    assert "salt" in e["text"] and "provision" in e["text"], e["text"]


def test_keys_of_another_count(own_broker):
    c = stored(own_broker.host, own_broker.port, "device1", "s3cret-of-device1")
    own_broker.add_user("device1", "s3cret-of-device1", iterations=5000, salt=c.salt)
    e = run(own_broker, "port", mechanism(c, "keys"), [["connect"]]).error
    assert e["type"] == "AuthError" and "5000" in e["text"] and "provision" in e["text"], e


def test_rotation(own_broker):
    """Two entries of keys, the old and the new: both brokers' states log in."""
    old = stored(own_broker.host, own_broker.port, "device1", "s3cret-of-device1")
    own_broker.add_user("device2", "s3cret-of-device2", iterations=4096)
    new = Credentials("device1", "the-new-password", b"the new salt", 6000)
    auth = mechanism(old, "keys")
    auth["keys"] += mechanism(new, "keys")["keys"]
    run(own_broker, "port", auth, [["connect"], ["disconnect"]]).good()
    own_broker.add_user("device1", "the-new-password", iterations=6000, salt=new.salt)
    run(own_broker, "port", auth, [["connect"], ["disconnect"]]).good()


# The broker restarts ---------------------------------------------------------------------------------------


def ended(broker):
    broker.restart()


def killed(broker):
    broker.kill()
    broker.start()


@pytest.mark.parametrize("mode", ["password", "keys"])
@pytest.mark.parametrize("how", [ended, killed])
def test_broker_restarts(own_broker, how, mode):
    """The end is an OSError; the same object with the same keys logs in again."""
    _, auth = as_mode(own_broker, "port", mode)
    name = "restarts"
    steps = [["connect"], ["subscribe", "t", 1, "collect"], ["wait_msg"]]
    again = [["reconnect", 10000], ["publish", "after", "m", False, 1], ["disconnect"]]
    found = []
    device = threading.Thread(
        target=lambda: found.append(run(own_broker, "port", auth, steps, again, client_id=name)), daemon=True
    )
    device.start()
    own_broker.wait_for_log(f"Sending SUBACK to {name}")
    how(own_broker)
    device.join(60)
    assert found, "the client did not end"
    assert found[0].error["oserror"], found[0].error
    assert not [line for line in found[0].again if "error" in line], found[0].again


# Messages --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("port", PORTS)
def test_round_trip(broker, port):
    """From mosquitto_pub to a handler at QoS 0, 1 and 2, and from the client to mosquitto_sub."""
    _, auth = as_mode(broker, port, "keys")
    name = f"trip-{port}"
    down, up = f"{name}/down/+", f"{name}/up"
    big = "x" * 900  # more than tx, less than rx
    steps = [
        ["connect"],
        ["subscribe", down, 2, "collect"],
        ["receive", 4],
        *[["publish", up, f"{i} ä", False, i % 2] for i in range(10)],
        ["publish", up, big, False, 1],
        ["disconnect"],
    ]
    found = []
    with Subscriber(broker, up) as witness:
        device = threading.Thread(
            target=lambda: found.append(run(broker, port, auth, steps, client_id=name)), daemon=True
        )
        device.start()
        broker.wait_for_log(f"Sending SUBACK to {name}")
        for qos in (0, 1, 2):
            send(broker, f"{name}/down/{qos}", f"message {qos}", qos)
        send(broker, f"{name}/down/big", big, 1)
        seen = witness.messages(11)
        device.join(60)
    assert found, "the client did not end"
    expected = [[f"{name}/down/{qos}", f"message {qos}"] for qos in (0, 1, 2)] + [[f"{name}/down/big", big]]
    assert found[0].good().end["messages"] == expected
    assert [m["payload"] for m in seen] == [f"{i} ä" for i in range(10)] + [big]
    assert [m["qos"] for m in seen] == [i % 2 for i in range(10)] + [1]


# TLS -------------------------------------------------------------------------------------------------------


def tls(broker, ca, name="localhost", **more):
    """Arguments for a client over TLS that trusts this CA and wants this name."""
    return {"ssl": True, "ssl_params": {"cadata": {"file": str(ca)}, "server_hostname": name, **more}}


@pytest.mark.parametrize("mode", ["password", "keys"])
def test_tls(broker, mode):
    _, auth = as_mode(broker, "port", mode)
    topic = f"tls/{mode}"
    big = "y" * 5000
    steps = [
        ["connect"],
        ["publish", topic, "m", False, 1],
        ["publish", topic, big, False, 1],
        ["disconnect"],
    ]
    with Subscriber(broker, topic) as witness:
        run(broker, "tls_port", auth, steps, **tls(broker, broker.ca_der)).good()
        assert [m["payload"] for m in witness.messages(2)] == ["m", big]


@pytest.mark.parametrize(
    ("ca", "name"),
    [
        pytest.param("other_ca_der", "localhost", id="other-ca"),
        pytest.param("ca_der", "broker.example", id="wrong-name"),
    ],
)
def test_tls_not_our_broker(broker, ca, name):
    """An error within the deadline that tells of the certificate; no CONNECT goes over a connection like
    that."""
    client_id = f"tls-{ca}"
    _, auth = as_mode(broker, "port", "keys")
    outcome = run(
        broker, "tls_port", auth, [["connect"]], client_id=client_id, **tls(broker, getattr(broker, ca), name)
    )
    e = outcome.error
    # Not ValueError, as MicroPython's ssl has it: that is the caller's mistake, and this may be a forged
    # broker.
    assert e["oserror"] or e["type"] == "NotProven", e
    assert "TLS" in e["text"] or "CERT" in e["text"].upper(), e["text"]
    assert outcome.steps[-1]["ms"] < 4000
    assert client_id not in broker.log_text()


@pytest.mark.parametrize(("port", "with_tls"), [("port", True), ("tls_port", False)])
def test_tls_meets_plain(broker, port, with_tls):
    """TLS to a plain port and plain TCP to a TLS port: an error in time, never a login in clear instead."""
    _, auth = as_mode(broker, "port", "keys")
    more = tls(broker, broker.ca_der) if with_tls else {}
    outcome = run(broker, port, auth, [["connect"]], **{**more, "timeout": 2})
    assert outcome.error["oserror"] or "MQTTError" in outcome.error["isa"], outcome.error
    assert outcome.steps[-1]["ms"] < 3500
