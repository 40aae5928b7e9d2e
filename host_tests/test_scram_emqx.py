"""usasl/scram_emqx.py against a server with the two deviations of EMQX 5.0.0 to 5.6.1 (harness/scram.py, over
hashlib): it logs in there and nowhere else, usasl.scram everywhere else and not there; and the server is proven.
"""

import hashlib
import hmac

import pytest
from harness.attack import mechanism, proofs_of
from harness.logins import honest, scram
from harness.micropython import run_device
from harness.scram import Credentials, Exchange, ScramFailure
from harness.scripted import ScriptedServer
from usasl import scram as plain
from usasl import scram_emqx
from usasl.crypto import ServerNotProven

from tools import mpy

CLASSES = {"sha256": "ScramSHA256", "sha512": "ScramSHA512"}
SALT = b"0123456789abcdef0123456789abcdef"  # 32 hexadecimal digits, as EMQX makes them


def credentials(hash_name, emqx=True, password="pässword"):
    return Credentials("device1", password, SALT, 4096, hash_name, emqx)


def login(c, mode, module="usasl.scram_emqx", script=None):
    """client_run.py logs in by this module's class -> (error or None, the connection)."""
    more = {"module": module, "class": CLASSES[c.hash_name]}
    if mode == "password":
        more["max_iterations"] = 4096
    with ScriptedServer(script or honest(c)) as server:
        told = {
            "client": {"server": server.host, "port": server.port, "timeout": 20, "keepalive": 60},
            "auth": mechanism(c, mode, **more),
            "steps": [["connect"], ["publish", "t", "m", False, 1], ["disconnect"]],
        }
        result = run_device("client_run.py", told, timeout=60)
        connection = server.finish()[0]
    error = next((line["error"] for line in result.lines if "error" in line), None)
    return error, connection


@pytest.mark.parametrize("mode", ["password", "keys"])
@pytest.mark.parametrize("hash_name", CLASSES)
def test_login(hash_name, mode):
    error, connection = login(credentials(hash_name), mode)
    assert error is None and connection.error is None and connection.broken is None
    assert connection.names() == ["CONNECT", "AUTH", "PUBLISH", "DISCONNECT"]
    assert len(proofs_of(connection)) == 1


@pytest.mark.parametrize(("emqx", "module"), [(True, plain), (False, scram_emqx)])
@pytest.mark.parametrize("hash_name", CLASSES)
def test_each_fits_its_own_server_only(hash_name, emqx, module):
    """The proof is refused by an honest server of the other kind: nobody is logged in by chance."""
    c = credentials(hash_name, emqx)
    client = getattr(module, CLASSES[hash_name])(c.user, c.password, max_iterations=4096).exchange()
    server = Exchange(c)
    first = server.first(client.send(None))
    server.sent_first(first)
    out = client.send(first)
    while out is None:
        out = client.send(None)
    with pytest.raises(ScramFailure, match="the client's proof does not hold"):
        server.final(out)


@pytest.mark.parametrize("hash_name", CLASSES)
def test_the_server_is_verified(hash_name):
    """A signature that another key made, that a correct server would give, or none: not our broker."""
    c = credentials(hash_name)
    correct = credentials(hash_name, emqx=False)
    for final in (
        lambda x: b"v=" + x.signature(b"k" * 32),
        lambda x: b"v=" + x.signature(correct.server_key),
        lambda x: None,
    ):
        error, _ = login(c, "keys", script=scram(c, final=final))
        assert error["type"] == "NotProven", error


def test_usasl_never_takes_it_by_itself():
    for path in (mpy.LIB / "usasl").glob("*.py"):
        code = [line for line in path.read_text().splitlines() if "import" in line and "scram_emqx" in line]
        assert not code, path


@pytest.mark.parametrize("hash_name", CLASSES)
def test_keys_are_of_the_hexadecimal_text(hash_name):
    """What provisioning derives: the key of HMAC is the text of the salted password, in small letters."""
    salted = hashlib.pbkdf2_hmac(hash_name, b"p", SALT, 4096)
    kind = getattr(scram_emqx, CLASSES[hash_name])
    keys = kind.derive("p", SALT, 4096)
    text = salted.hex().encode()
    assert keys == tuple(hmac.digest(text, name, hash_name) for name in (b"Client Key", b"Server Key"))
    assert keys != getattr(plain, CLASSES[hash_name]).derive("p", SALT, 4096)


def test_arguments_and_attributes_are_those_of_usasl_scram():
    for name in CLASSES.values():
        kind, other = getattr(scram_emqx, name), getattr(plain, name)
        assert issubclass(kind, other) and kind.name == other.name and kind is getattr(scram_emqx, name)
        assert kind("u", "p", server_proof="skip")._max == other("u", "p")._max
    for name in ("ScramSHA1", "__path__"):
        assert not hasattr(scram_emqx, name)


def test_a_listener_without_authentication_is_not_our_broker():
    client = scram_emqx.ScramSHA256("device1", "p").exchange()
    client.send(None)
    with pytest.raises(ServerNotProven):
        client.send(b"")
