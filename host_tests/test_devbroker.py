"""Logging in to the dev broker, and what must not kill it; judged by scramp, a SCRAM library not ours."""

import base64
import hashlib
import hmac
import os
import re
import time

import pytest
from scramp import ScramClient, ScramException

from host_tests.devbroker_wire import (
    AUTH,
    CONNACK,
    CONTINUE,
    PASSWORD,
    REAUTHENTICATE,
    Refused,
    Wire,
    exchange,
    login,
    parse_auth_properties,
    ports,
)
from tools.devbroker import Broker, BrokerError, users


@pytest.fixture(scope="module")
def broker():
    with Broker() as running:
        running.add_user("device1", PASSWORD)
        yield running


BOTH = pytest.mark.parametrize("library", ["cyrus", "gsasl"])
EVERY = pytest.mark.parametrize(
    "library, mechanism",
    [
        ("cyrus", "SCRAM-SHA-1"),
        ("cyrus", "SCRAM-SHA-256"),
        ("cyrus", "SCRAM-SHA-512"),
        ("gsasl", "SCRAM-SHA-1"),
        ("gsasl", "SCRAM-SHA-256"),
    ],
)


# -- logging in


@EVERY
def test_login_and_the_servers_signature(broker, library, mechanism):
    salt, iterations = login(broker, ports(broker)[library], mechanism)
    assert iterations == "4096" and len(base64.b64decode(salt)) == users.SALT_SIZE


@EVERY
def test_the_salt_and_count_are_those_that_were_stored(broker, library, mechanism):
    salt = bytes(range(24))
    broker.add_user("fixed", "pencil", iterations=5000, salt=salt)
    told = login(broker, ports(broker)[library], mechanism, "fixed", "pencil")
    assert told == (base64.b64encode(salt).decode(), "5000")


def test_rfc_7677_keys_are_what_is_stored(tmp_path):
    path = tmp_path / "users.txt"
    users.add(path, "user", "pencil", salt=base64.b64decode("W22ZaJ0SNY7soEsUEjb6gQ=="))
    line = next(line for line in path.read_text().splitlines() if "SHA-256" in line)
    stored = "WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY="
    server = "wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU="
    assert line == f"user:SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==${stored}:{server}"


@BOTH
def test_wrong_password(broker, library):
    with pytest.raises(Refused, match=str(0x87)):
        login(broker, ports(broker)[library], password="wrong")


@BOTH
def test_unknown_user(broker, library):
    with pytest.raises(Refused, match=str(0x87)):
        login(broker, ports(broker)[library], user="nobody")


@BOTH
@pytest.mark.parametrize("method", ["SCRAM-MD5", "scram-sha-256", "PLAIN", "ANONYMOUS", "LOGIN", "DIGEST-MD5", ""])
def test_methods_not_offered(broker, library, method):
    with Wire(broker, ports(broker)[library]) as wire:
        wire.connect(method, b"\0device1\0" + PASSWORD.encode())
        assert wire.refusal() == 0x8C


def test_gsasl_has_no_sha_512(broker):
    with Wire(broker, broker.gsasl_port) as wire:
        wire.connect("SCRAM-SHA-512", b"n,,n=device1,r=abcdefghijklmnop")
        assert wire.refusal() == 0x8C


@BOTH
@pytest.mark.parametrize("credentials", [(None, None), ("device1", None), ("device1", PASSWORD)])
def test_nobody_gets_in_without_sasl(broker, library, credentials):
    with Wire(broker, ports(broker)[library]) as wire:
        wire.connect(user=credentials[0], password=credentials[1])
        assert wire.refusal() == 0x87


@BOTH
def test_no_initial_token(broker, library):
    """The client may leave the data out of CONNECT, and send its first message when asked."""
    client = ScramClient(["SCRAM-SHA-256"], "device1", PASSWORD)
    with Wire(broker, ports(broker)[library]) as wire:
        wire.connect("SCRAM-SHA-256")
        assert wire.read()[0] == AUTH
        wire.auth(CONTINUE, "SCRAM-SHA-256", client.get_client_first())
        client.set_server_first(parse_auth_properties(wire.read()[1][1:])[1].decode())
        wire.auth(CONTINUE, "SCRAM-SHA-256", client.get_client_final())
        kind, body = wire.read()
        assert (kind, body[1]) == (CONNACK, 0)


@BOTH
def test_reauthentication(broker, library):
    with Wire(broker, ports(broker)[library], "again") as wire:
        exchange(wire, "SCRAM-SHA-256", "device1", PASSWORD)
        for _ in range(3):
            exchange(wire, "SCRAM-SHA-256", "device1", PASSWORD, again=True)
        with pytest.raises(Refused, match=str(0x87)):
            exchange(wire, "SCRAM-SHA-256", "device1", "wrong", again=True)
        assert wire.closed()
    login(broker, ports(broker)[library], client_id="again")


@BOTH
def test_nobody_acts_for_somebody_else(broker, library):
    broker.add_user("boss", "pencil")
    client = ScramClient(["SCRAM-SHA-256"], "device1", PASSWORD)
    first = client.get_client_first()
    # scramp has no authzid: put it into the header, and into what is signed, by hand.
    header = "n,a=boss,"
    with Wire(broker, ports(broker)[library]) as wire:
        wire.connect("SCRAM-SHA-256", header + first.removeprefix("n,,"))
        kind, body = wire.read()
        if kind == AUTH:
            server_first = parse_auth_properties(body[1:])[1].decode()
            wire.auth(CONTINUE, "SCRAM-SHA-256", final_message(first[3:], server_first, header, PASSWORD))
            kind, body = wire.read()
        assert (kind, body[1]) == (CONNACK, 0x87)
    # The same message with its own name is good: it was not refused for being made by hand.
    header = "n,a=device1,"
    with Wire(broker, ports(broker)[library]) as wire:
        wire.connect("SCRAM-SHA-256", header + first.removeprefix("n,,"))
        server_first = parse_auth_properties(wire.read()[1][1:])[1].decode()
        wire.auth(CONTINUE, "SCRAM-SHA-256", final_message(first[3:], server_first, header, PASSWORD))
        kind, body = wire.read()
        assert (kind, body[1]) == (CONNACK, 0)


def final_message(first_bare, server_first, header, password):
    """RFC 5802 section 3, for SHA-256."""
    parts = dict(part.split("=", 1) for part in server_first.split(","))
    without_proof = f"c={base64.b64encode(header.encode()).decode()},r={parts['r']}"
    message = f"{first_bare},{server_first},{without_proof}".encode()
    salt = base64.b64decode(parts["s"])
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, int(parts["i"]))

    def sign(key, data):
        return hmac.digest(key, data, "sha256")

    client_key = sign(salted, b"Client Key")
    signature = sign(hashlib.sha256(client_key).digest(), message)
    proof = bytes(a ^ b for a, b in zip(client_key, signature, strict=True))
    return f"{without_proof},p={base64.b64encode(proof).decode()}"


def test_digest_md5_where_it_is_allowed():
    """The other mechanism that needs a clear password in the users file; RFC 2831 computed here."""
    with Broker(tls=False, mechs=["DIGEST-MD5", "SCRAM-SHA-256"]) as broker:
        broker.add_user("device1", PASSWORD, mechanisms=("SCRAM-SHA-256", "DIGEST-MD5"))
        for port in (broker.port, broker.gsasl_port):
            for password, reason in ((PASSWORD, 0), ("wrong", 0x87)):
                with Wire(broker, port) as wire:
                    wire.connect("DIGEST-MD5")
                    challenge = parse_auth_properties(wire.read()[1][1:])[1].decode()
                    assert 'realm="localhost"' in challenge
                    nonce = re.search(r'nonce="([^"]*)"', challenge).group(1)
                    wire.auth(CONTINUE, "DIGEST-MD5", digest_md5_response(nonce, "device1", password))
                    kind, body = wire.read()
                    assert (kind, body[1]) == (CONNACK, reason)
            login(broker, port)


def digest_md5_response(nonce, user, password):
    def md5(data):
        return hashlib.md5(data).digest()

    uri = "mqtt/localhost"
    a1 = md5(f"{user}:localhost:{password}".encode()) + f":{nonce}:cccc".encode()
    a2 = md5(f"AUTHENTICATE:{uri}".encode()).hex()
    response = md5(f"{md5(a1).hex()}:{nonce}:00000001:cccc:auth:{a2}".encode()).hex()
    return (
        f'username="{user}",realm="localhost",nonce="{nonce}",cnonce="cccc",nc=00000001,qop=auth,'
        f'digest-uri="{uri}",response={response}'
    )


def test_token_where_it_is_allowed():
    with Broker(tls=False, mechs=["TOKEN", "DIGEST-MD5"]) as broker:
        broker.add_user("bearer", "a-token", mechanisms=("TOKEN",))
        broker.add_user("device1", PASSWORD, mechanisms=("DIGEST-MD5",))
        assert [user.mechanisms for user in broker.users()] == [{"TOKEN": None}, {"DIGEST-MD5": None}]
        # No part of a token, nothing more than one, and no password of another mechanism.
        for data, reason in (("a-token", 0), ("a-toke", 0x87), ("a-token2", 0x87), (PASSWORD, 0x87), ("", 0x87)):
            with Wire(broker, broker.port) as wire:
                wire.connect("TOKEN", data.encode())
                kind, body = wire.read()
                assert (kind, body[1]) == (CONNACK, reason), data
        assert "sasl: bearer logged in (token)" in broker.log_text() and "a-token" not in broker.log_text()
        with pytest.raises(ValueError, match="printable ASCII"):
            broker.add_user("bearer", "a\nb", mechanisms=("TOKEN",))
        with pytest.raises(ValueError, match="cannot be stored"):
            broker.add_user("bearer", "TOKEN$x", mechanisms=("DIGEST-MD5",))
    with Broker(tls=False) as broker, Wire(broker, broker.port) as wire:
        wire.connect("TOKEN", b"a-token")
        assert wire.read()[1][1] == 0x8C  # only where it is asked for


def test_unsafe_mechanisms_cannot_be_offered():
    for mechanism in ("PLAIN", "LOGIN", "ANONYMOUS", "NTLM"):
        with (
            pytest.raises(BrokerError, match=f"plugin_opt_mechs: {mechanism}"),
            Broker(tls=False, mechs=[mechanism]),
        ):
            pass


# -- what must not kill the broker


def test_auth_without_properties_after_login(broker):
    """F0 00 can crash mosquitto 2.0.11 at a later login (use after free): the plugin must not refuse it."""
    pid = broker.pid
    for port in ports(broker).values():
        for _ in range(3):
            with Wire(broker, port, "f000") as wire:
                exchange(wire, "SCRAM-SHA-256", "device1", PASSWORD)
                wire.send(AUTH)
                kind, body = wire.read()
                assert (kind, body[0]) == (AUTH, CONTINUE)
                wire.send(AUTH)
                wire.read()
                wire.auth(CONTINUE, "SCRAM-SHA-256", b"more")
                wire.read()
        with Wire(broker, port, "f000") as wire:  # in the middle of a login it is an empty token
            exchange(wire, "SCRAM-SHA-256", "device1", PASSWORD)
            wire.auth(REAUTHENTICATE, "SCRAM-SHA-256", b"n,,n=device1,r=abcdefghijklmnop")
            assert wire.read()[0] == AUTH
            wire.send(AUTH)
            assert wire.refusal() == 0x87
        for client_id in ("f000", "other", "f000"):
            login(broker, port, client_id=client_id)
    assert broker.pid == pid and os.kill(pid, 0) is None


@BOTH
@pytest.mark.parametrize(
    "token",
    [
        b"\0",
        b"n,,n=device1",
        b"n,,n=device1,r=",
        b"n,,n=device1\0,r=abcdefgh",
        b"n,,n=,r=abcdefgh",
        b"n,,n==zz,r=abcdefgh",
        b"n,,m=x,n=device1,r=abcdefgh",
        b"\xff" * 100,
        b"n,,n=" + b"x" * 60000 + b",r=abcdefgh",
        b"," * 60000,
    ],
    ids=lambda token: f"{len(token)}-{token[:12]!r}",
)
def test_odd_first_tokens(broker, library, token):
    with Wire(broker, ports(broker)[library]) as wire:
        wire.connect("SCRAM-SHA-256", token)
        kind, body = wire.read()
        if kind == AUTH:  # GNU SASL refuses unknown users at the end only
            wire.auth(CONTINUE, "SCRAM-SHA-256", b"c=biws,r=x,p=eA==")
            kind, body = wire.read()
        assert (kind, body[1]) == (CONNACK, 0x87)
    login(broker, ports(broker)[library])


@BOTH
@pytest.mark.parametrize(
    "token",
    [None, b"", b"\0", b"c=biws", b"c=biws,r=,p=", b"p=" * 20000, b"\xfe" * 60000],
    # Short: it is in the environment of all that the test starts, and what is too long for that does not start.
    ids=lambda token: token and f"{len(token)}-{token[:12]!r}",
)
def test_odd_last_tokens(broker, library, token):
    first = b"n,,n=device1,r=abcdefghijklmnop"
    with Wire(broker, ports(broker)[library]) as wire:
        wire.connect("SCRAM-SHA-256", first)
        assert wire.read()[0] == AUTH
        wire.auth(CONTINUE, "SCRAM-SHA-256", token)
        assert wire.refusal() == 0x87
    login(broker, ports(broker)[library])


@BOTH
def test_logins_that_are_left_in_the_middle(broker, library):
    """Many at once, closed in the middle; the plugin must lose none of them, nor mix them up."""
    wires = [Wire(broker, ports(broker)[library], f"half-{i}") for i in range(40)]
    for wire in wires:
        wire.connect("SCRAM-SHA-256", b"n,,n=device1,r=abcdefghijklmnop")
    for wire in wires:
        assert wire.read()[0] == AUTH
    left = "sasl: a client left in the middle of its login"
    before = broker.log_text().count(left)
    for wire in wires:
        wire.socket.close()
    login(broker, ports(broker)[library], client_id="later")
    deadline = time.monotonic() + 10
    while broker.log_text().count(left) < before + len(wires):
        assert time.monotonic() < deadline
        time.sleep(0.01)


MALFORMED = [
    "SCRAM-SHA-256$",
    "SCRAM-SHA-256$4096",
    "SCRAM-SHA-256$4096:",
    "SCRAM-SHA-256$4096:{s}$",
    "SCRAM-SHA-256$4096:{s}${k}",
    "SCRAM-SHA-256$4096:{s}${k}:",
    "SCRAM-SHA-256$4096:{s}:{k}${k}",
    "SCRAM-SHA-256$4096:{s}${k}:{k} ",
    "SCRAM-SHA-256$4096:{s}${k}:{k}:{k}",
    "SCRAM-SHA-256$4096:${k}:{k}",
    "SCRAM-SHA-256$4096:!!!!${k}:{k}",
    "SCRAM-SHA-256$4096:{s}$eA==:eA==",
    "SCRAM-SHA-256$0:{s}${k}:{k}",
    "SCRAM-SHA-256$-1:{s}${k}:{k}",
    "SCRAM-SHA-256$99999999999:{s}${k}:{k}",
    "SCRAM-SHA-256$x:{s}${k}:{k}",
    "SCRAM-SHA-256$4096:{s}${k}:{k}\0",
    "SCRAM-SHA-256$4096:" + "QUJD" * 5000 + "${k}:{k}",
    "",
    "pencil",
]


def test_malformed_users_lines_refuse_that_user_only():
    good = users.stored_key_line("SCRAM-SHA-256", PASSWORD, b"salt-of-16-bytes", 4096)
    salt, key = base64.b64encode(b"x" * 16).decode(), base64.b64encode(b"y" * 32).decode()
    lines = [f"bad{i}:" + line.replace("{s}", salt).replace("{k}", key) for i, line in enumerate(MALFORMED)]
    with Broker(tls=False) as broker:
        text_of_it = "\n".join([":", "no colon", *lines, f"device1:{good}"])
        broker.users_path.write_text(text_of_it)
        for port in ports(broker).values():
            for i in range(len(MALFORMED)):
                with pytest.raises(Refused, match=str(0x87)):
                    login(broker, port, user=f"bad{i}")
            login(broker, port)  # the last line, without a newline
        assert "malformed, so this user is refused" in broker.log_text()
        broker.users_path.unlink()
        for port in ports(broker).values():
            with pytest.raises(Refused, match=str(0x87)):
                login(broker, port)
        broker.add_user("device1", PASSWORD)
        login(broker, broker.port)


@pytest.mark.parametrize("name", ["a:b", "a\nb", "a\x7fb", "", " a", "x" * 256, "\x00"])
def test_user_names_that_are_refused(tmp_path, name):
    with pytest.raises(ValueError, match="user name"):
        users.add(tmp_path / "users.txt", name, "pencil")
    assert not (tmp_path / "users.txt").exists()


@BOTH
@pytest.mark.parametrize(
    "name, password", [("jürgen", "pencil"), ("a=b,c", "pencil"), ("long", "7" * 70), ("#", "$:")]
)
def test_user_names_that_are_not(broker, library, name, password):
    broker.add_user(name, password)
    assert name in [user.name for user in broker.users()]
    escaped = name.replace("=", "=3D").replace(",", "=2C")  # scramp leaves that to its caller
    login(broker, ports(broker)[library], user=escaped, password=password)
    broker.remove_user(name)
    with pytest.raises(Refused):
        login(broker, ports(broker)[library], user=escaped, password=password)


def test_a_users_password_is_taken_as_raw_utf_8(tmp_path):
    """No SASLprep on the broker's side (facts: neither EMQX nor Cyrus does it)."""
    users.add(tmp_path / "users.txt", "u", "pa\u00adss", salt=b"0123456789abcdef")
    users.add(tmp_path / "users.txt", "v", "pass", salt=b"0123456789abcdef")
    lines = [line.partition(":")[2] for line in (tmp_path / "users.txt").read_text().splitlines()]
    assert lines[0] != lines[3]


def test_scramp_notices_a_wrong_signature():
    """The judge is awake: with another ServerKey in the users file it must refuse the server."""
    other = users.stored_key_line("SCRAM-SHA-256", "other", b"salt-of-16-bytes", 4096)
    with Broker(tls=False) as broker:
        line = users.stored_key_line("SCRAM-SHA-256", PASSWORD, b"salt-of-16-bytes", 4096)
        forged = line.rpartition(":")[0] + ":" + other.rpartition(":")[2]
        users.replace_file(broker.users_path, f"device1:{forged}\n")
        for port in ports(broker).values():
            with pytest.raises(ScramException):
                login(broker, port)
