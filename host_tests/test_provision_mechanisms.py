"""Provisioning of every mechanism: SCRAM's other hashes, its server_proof and quirk, DIGEST-MD5, tokens.

What all of them share is test_provision.py's. The dev broker answers where one of its libraries has the mechanism.
"""

import base64
import hashlib
import json
import stat

import pytest
from harness import wire
from harness.logins import challenge, scram
from harness.provisioning import PASSWORD, USER, Place, asking, log_in, spellings
from harness.remote import Board
from harness.scram import Credentials, Exchange
from harness.scripted import ScriptedServer

from tools.devbroker import Broker
from tools.devbroker.__main__ import MECHS

TOKEN = "eyJhbGciOiJub25lIn0.a-token-of-the-board.c2ln"


@pytest.fixture(scope="module")
def own():
    """A broker with all mechanisms, and one user who has them all."""
    with Broker(tls=False, mechs=MECHS) as broker:
        broker.add_user(USER, PASSWORD, mechanisms=("SCRAM-SHA-1", "SCRAM-SHA-256", "SCRAM-SHA-512", "DIGEST-MD5"))
        yield broker


@pytest.fixture
def place(tmp_path):
    return Place(tmp_path)


def auth_of(place):
    return json.loads(place.file.read_text())["auth"]


# SCRAM ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "hash_name", "library"),
    [("SCRAM-SHA-1", "sha1", "gsasl_port"), ("SCRAM-SHA-512", "sha512", "port")],  # GNU SASL has no SHA-512
)
def test_other_hashes(own, place, method, hash_name, library):
    place.settings(getattr(own, library), auth=f'method = "{method}"')
    code, text = place.run()
    assert code == 0 and "the broker has proven" in text and method in text, text
    auth = auth_of(place)
    (entry,) = auth["keys"]
    known = Credentials(USER, PASSWORD, base64.b64decode(entry["salt"]), entry["iterations"], hash_name)
    assert base64.b64decode(entry["client_key"]) == known.client_key
    assert base64.b64decode(entry["server_key"]) == known.server_key
    assert auth["method"] == method and "quirk" not in auth and "server_proof" not in auth
    log_in(place.file).disconnect()


def test_sha512_where_it_is_not_offered(own, place):
    place.settings(own.gsasl_port, auth='method = "SCRAM-SHA-512"')
    assert "does not offer SCRAM-SHA-512" in place.refused()


def test_wrong_password_of_another_hash(own, place):
    place.settings(own.port, auth='method = "SCRAM-SHA-512"', password="not-this-one")
    text = place.refused(secret="not-this-one")
    assert text.startswith(f"wrong password of {USER}") and "EMQX" not in text


def test_server_proof_is_passed_through(own, place):
    for proof in ("require", "skip"):
        place.settings(own.port, auth=f'server_proof = "{proof}"')
        code, text = place.run()
        assert code == 0 and auth_of(place)["server_proof"] == proof
        # Nothing is promised that was not asked for.
        assert ("has proven" in text) == (proof == "require") and ("may be taken for" in text) == (proof == "skip")


def test_server_proof_decides_about_a_broker_that_gives_none(place):
    """As ThingsBoard TBMQ: it checks the client's proof, and drops its own."""
    known = Credentials(USER, PASSWORD)

    def run(settings):
        silent = scram(known, final=lambda x: None)
        with ScriptedServer(asking(known), asking(known), silent) as server:
            place.settings(server.port, auth=settings)
            result = place.run()
            server.finish()
        return result

    code, text = run("")
    assert code == 1 and f"did not prove that it knows {USER}'s keys" in text
    assert not place.file.exists()
    code, text = run('server_proof = "skip"')
    assert code == 0, text


def late(known, prove):
    """A script: TBMQ, whose proof comes only at re-authentication: there, `prove` makes it of the Exchange."""

    def then(conn):
        again = conn.expect(wire.AUTH)
        assert again.reason == 0x19
        x = Exchange(known)
        x.first(again.prop(wire.DATA))
        x.sent_first(x.build())
        conn.send(challenge(known, x.server_first))
        x.honest = x.final(conn.expect(wire.AUTH).prop(wire.DATA))
        conn.send(wire.auth(0, (wire.METHOD, known.method), (wire.DATA, prove(x))))

    return scram(known, final=lambda x: None, then=then)


def test_server_proof_at_reauthentication(place):
    known = Credentials(USER, PASSWORD)
    forged = late(known, lambda x: b"v=" + base64.b64encode(bytes(32)))
    with ScriptedServer(asking(known), asking(known), forged) as server:
        place.settings(server.port, auth='server_proof = "reauth"')
        assert "did not prove" in place.refused()
        server.finish()
    with ScriptedServer(asking(known), asking(known), late(known, lambda x: x.honest)) as server:
        place.settings(server.port, auth='server_proof = "reauth"')
        code, text = place.run()
        server.finish()
    assert code == 0 and "the broker has proven" in text, text
    assert auth_of(place)["server_proof"] == "reauth"


# EMQX 5.0 ---------------------------------------------------------------------------------------------------


class Emqx50(Credentials):
    """A user of EMQX 5.0 to 5.6.1, by what was measured there: the salted password's hexadecimal text is the key, and
    no commas stand between what is signed."""

    def __init__(self, **more):
        super().__init__(USER, PASSWORD, salt=b"0123456789abcdef0123456789abcdef", **more)

    def mac(self, key, data):
        if data in (b"Client Key", b"Server Key"):
            return super().mac(key.hex().encode(), data)
        name, nonce, rest = data.split(b",r=", 2)
        return super().mac(key, name + b",r=" + nonce + b"r=" + rest.replace(b",c=", b"c=", 1))


@pytest.mark.parametrize("hash_name", ["sha256", "sha512"])
def test_quirk(place, hash_name):
    known = Emqx50(hash_name=hash_name)
    for _ in range(2):  # the second time there is an old file
        with ScriptedServer(asking(known), asking(known), scram(known)) as server:
            place.settings(server.port, auth=f'method = "{known.method}"\nquirk = "emqx-5.0"')
            code, text = place.run()
            server.finish()
        assert code == 0 and "has proven" in text, text
        assert auth_of(place)["quirk"] == "emqx-5.0"
        (entry,) = auth_of(place)["keys"]
        assert base64.b64decode(entry["client_key"]) == known.client_key
    with ScriptedServer(scram(known)) as server:
        whole = json.loads(place.file.read_text())
        whole["mqtt"]["port"] = server.port
        place.file.write_text(json.dumps(whole))
        log_in(place.file).disconnect()  # as the board does
        server.finish()


def test_quirk_still_wants_the_brokers_proof(place):
    known = Emqx50()
    rogue = scram(known, final=lambda x: b"v=" + base64.b64encode(bytes(32)))
    with ScriptedServer(asking(known), asking(known), rogue) as server:
        place.settings(server.port, auth='quirk = "emqx-5.0"')
        assert "did not prove" in place.refused()
        server.finish()


def refusing(known):
    """A script: EMQX 5.0 does not understand the proof of a correct client."""

    def script(conn):
        x = Exchange(known)
        x.first(conn.expect(wire.CONNECT).prop(wire.DATA))
        conn.send(challenge(known, x.build()))
        conn.expect(wire.AUTH)
        conn.send(wire.connack(0x87))

    return script


def test_the_quirk_is_named_where_it_is_likely(place):
    known = Emqx50()
    with ScriptedServer(asking(known), asking(known), refusing(known)) as server:
        place.settings(server.port)
        text = place.refused()
        server.finish()
    assert 'auth.quirk = "emqx-5.0"' in text and text.startswith("wrong password")


def test_the_quirk_is_named_where_it_may_be_the_mistake(own, place):
    place.settings(own.port, auth='quirk = "emqx-5.0"')
    text = place.refused()
    assert text.startswith("wrong password") and 'leave auth.quirk = "emqx-5.0" out' in text


def test_keys_of_another_quirk_are_not_kept(own, place):
    place.settings(own.port)
    assert place.run()[0] == 0
    known = Emqx50()
    with ScriptedServer(asking(known), asking(known), scram(known)) as server:
        place.settings(server.port, auth='quirk = "emqx-5.0"')
        assert place.run()[0] == 0
        server.finish()
    assert len(place.entries()) == 1


# DIGEST-MD5 -------------------------------------------------------------------------------------------------

DIGEST = 'method = "DIGEST-MD5"'


@pytest.mark.parametrize("library", ["port", "gsasl_port"])
def test_digest_md5(own, place, library):
    place.settings(getattr(own, library), auth=DIGEST)
    code, text = place.run()
    assert code == 0 and "the broker has proven" in text, text
    assert "historic" in text and "SCRAM" in text and "realm localhost" in text
    key = hashlib.md5(f"{USER}:localhost:{PASSWORD}".encode()).digest()
    assert auth_of(place) == {
        "method": "DIGEST-MD5",
        "user": USER,
        "realm": "localhost",
        "key": base64.b64encode(key).decode(),
    }
    assert stat.S_IMODE(place.file.stat().st_mode) == 0o600
    for hidden in spellings(PASSWORD):
        assert hidden not in place.file.read_text()
    assert base64.b64encode(key).decode() not in text and key.hex() not in text
    log_in(place.file).disconnect()


def test_digest_md5_with_realm_and_host(own, place):
    place.settings(own.port, auth=DIGEST + '\nrealm = "localhost"\nhost = "broker.example"')
    code, text = place.run()
    assert code == 0, text
    assert auth_of(place)["host"] == "broker.example"
    log_in(place.file).disconnect()


@pytest.mark.parametrize("library", ["port", "gsasl_port"])
def test_digest_md5_wrong_password(own, place, library):
    place.settings(getattr(own, library), auth=DIGEST, password="not-this-one")
    assert place.refused(secret="not-this-one").startswith(f"wrong password of {USER}")


def test_realm_that_is_not_offered(own, place):
    place.settings(own.port, auth=DIGEST + '\nrealm = "elsewhere"')
    text = place.refused()
    assert "does not offer the realm 'elsewhere'" in text and "'localhost'" in text and "auth.realm" in text


def test_digest_md5_where_it_is_not_offered(place):
    with Broker(tls=False) as broker:
        place.settings(broker.port, auth=DIGEST)
        assert "does not offer DIGEST-MD5" in place.refused()


def digest_challenge(*realms):
    text = "".join(f'realm="{realm}",' for realm in realms)
    return text.encode() + b'nonce="a-nonce",qop="auth",charset=utf-8,algorithm=md5-sess'


def digest(data, *then):
    """A script: a challenge; what comes then answers the client's response."""

    def script(conn):
        connect = conn.expect(wire.CONNECT)
        assert connect.prop(wire.METHOD) == "DIGEST-MD5" and connect.prop(wire.DATA) is None
        conn.send(wire.auth(0x18, (wire.METHOD, "DIGEST-MD5"), (wire.DATA, data)))
        for packet in then:
            conn.expect(wire.AUTH)
            conn.send(packet)
        while (packet := conn.next()) is not None:
            assert packet.type == wire.DISCONNECT, "a response was sent"

    return script


def test_several_realms(place):
    with ScriptedServer(digest(digest_challenge("one", "two"))) as server:
        place.settings(server.port, auth=DIGEST)
        text = place.refused()
        server.finish()
    assert "'one', 'two'" in text and "auth.realm" in text


def test_a_broker_without_realms(place):
    with ScriptedServer(digest(digest_challenge())) as server:
        place.settings(server.port, auth=DIGEST)
        assert "none" in place.refused()
        server.finish()


@pytest.mark.parametrize("data", [b"rspauth=" + b"0" * 32, None])
def test_digest_md5_broker_that_does_not_prove_itself(place, data):
    pairs = [(wire.METHOD, "DIGEST-MD5"), *([(wire.DATA, data)] if data else [])]
    rogue = digest(digest_challenge("r"), wire.connack(0, *pairs))
    with ScriptedServer(digest(digest_challenge("r")), rogue) as server:
        place.settings(server.port, auth=DIGEST)
        text = place.refused()
        server.finish()
    assert f"did not prove that it knows {USER}'s keys" in text


@pytest.mark.parametrize("data", [b"", b'realm="r"', b"nonsense", b'realm="r",nonce="n",qop="auth-conf"'])
def test_digest_md5_bad_challenge(place, data):
    with ScriptedServer(digest(data)) as server:
        place.settings(server.port, auth=DIGEST)
        assert "DIGEST-MD5" in place.refused()
        server.finish()


def test_scram_after_digest_md5_and_back(own, place):
    for method in ("DIGEST-MD5", "SCRAM-SHA-256", "DIGEST-MD5"):
        place.settings(own.port, auth=f'method = "{method}"')
        assert place.run()[0] == 0
        assert auth_of(place)["method"] == method
        log_in(place.file).disconnect()


# Tokens -----------------------------------------------------------------------------------------------------


def bearer(reason=0, data=TOKEN, user=None):
    """A script: a broker that looks at the token."""

    def script(conn):
        connect = conn.expect(wire.CONNECT)
        assert connect.prop(wire.METHOD) == "JWT" and connect.prop(wire.DATA) == data.encode()
        assert connect.connect.get("user") == user
        conn.send(wire.connack(reason, *([] if reason else [(wire.METHOD, "JWT")])))
        while (packet := conn.next()) is not None:
            assert packet.type == wire.DISCONNECT

    return script


def token_settings(place, port, token=f'"{TOKEN}"', user=None, method="JWT"):
    who = f'user = "{user}"\n' if user else ""
    place.write(
        f'[mqtt]\nhost = "127.0.0.1"\nport = {port}\nclient_id = "board-1"\n'
        f'[auth]\nmethod = "{method}"\n{who}token = {token}\n'
    )


@pytest.mark.parametrize("user", [None, "device1"])
def test_token(place, user):
    with ScriptedServer(bearer(user=user and user.encode())) as server:
        token_settings(place, server.port, user=user)
        code, text = place.run(secret=TOKEN)
        server.finish()
    assert code == 0, text
    assert "has proven nothing" in text and "flash in clear" in text
    assert auth_of(place) == {"method": "JWT", "token": TOKEN} | ({"user": user} if user else {})
    assert stat.S_IMODE(place.file.stat().st_mode) == 0o600


def test_token_from_the_environment(place):
    with ScriptedServer(bearer(), bearer()) as server:
        for stored in ("true", '"a stale one"'):
            token_settings(place, server.port, stored)
            code, text = place.run(secret=TOKEN, environment={"UMQTT5_PASSWORD": TOKEN})
            assert code == 0 and auth_of(place)["token"] == TOKEN, text
        server.finish()
    token_settings(place, server.port, "true")
    text = place.refused()
    assert "no token of JWT" in text and "auth.token" in text and "UMQTT5_PASSWORD" in text


def test_token_refused(place):
    with ScriptedServer(bearer(0x87)) as server:
        token_settings(place, server.port)
        text = place.refused(secret=TOKEN)
        server.finish()
    assert "refused the token" in text and "0x87" in text


@pytest.mark.parametrize("library", ["port", "gsasl_port"])
def test_token_at_the_dev_broker(own, place, library):
    port = getattr(own, library)
    own.add_user("bearer", TOKEN, mechanisms=("TOKEN",))
    token_settings(place, port, method="TOKEN")
    code, text = place.run(secret=TOKEN)
    assert code == 0, text
    log_in(place.file).disconnect()
    token_settings(place, port, '"another-token"', method="TOKEN")
    assert "refused the token" in place.refused(secret="another-token")
    token_settings(place, port)
    assert "does not offer JWT" in place.refused(secret=TOKEN)


# secrets.toml -----------------------------------------------------------------------------------------------

MQTT = '[mqtt]\nhost = "h"\nclient_id = "c"\n'
AUTH = f'[auth]\nuser = "u"\npassword = "{PASSWORD}"\n'
TOML = MQTT + AUTH


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (TOML + 'server_proof = "requier"\n', ("line 7: auth.server_proof", "unknown; one of require, reauth, skip")),
        (TOML + "server_proof = true\n", ("line 7: auth.server_proof", "text in quotes")),
        (TOML + 'quirk = "emqx-5.7"\n', ("line 7: auth.quirk", "unknown; one of emqx-5.0")),
        (TOML + 'quirk = "emqx-5.0"\nmethod = "SCRAM-SHA-1"\n', ("line 7: auth.quirk", "not for SCRAM-SHA-1")),
        (TOML + 'realm = "r"\n', ("line 7: auth.realm", "not for SCRAM-SHA-256; it takes method, user")),
        (TOML + DIGEST + '\nquirk = "emqx-5.0"\n', ("line 8: auth.quirk", "not for DIGEST-MD5")),
        (TOML + DIGEST + "\nmin_iterations = 4096\n", ("line 8: auth.min_iterations", "not for DIGEST-MD5")),
        (TOML + 'token = "t"\n', ("line 7: auth.token", "SCRAM-SHA-256 takes no token")),
        (TOML + DIGEST + "\ntoken = true\n", ("line 8: auth.token", "DIGEST-MD5 takes no token")),
        (TOML + 'method = "JWT"\ntoken = "t"\n', ("line 6: auth.password", "not for JWT")),
        (MQTT + '[auth]\nmethod = "JWT"\ntoken = 5\n', ("line 6: auth.token", "text in quotes")),
        (MQTT + '[auth]\nmethod = "JWT"\ntoken = false\n', ("line 6: auth.token", "text in quotes")),
        (MQTT + '[auth]\nmethod = "JWT"\ntoken = ""\n', ("line 6: auth.token", "empty")),
        (TOML + 'method = "JWT"\n', ("line 7: auth.method", "unknown; known: SCRAM-SHA-1", "auth.token")),
        (TOML + "[board.UNIX.auth]\n" + DIGEST + '\nquirk = "emqx-5.0"\n', ("line 9: board.UNIX.auth.quirk",)),
        (TOML + 'quirk = "emqx-5.0"\n[board.UNIX.auth]\n' + DIGEST + "\n", ("line 7: auth.quirk", "not for DIGEST")),
    ],
)
def test_names_that_do_not_belong_to_the_method(place, text, expected):
    place.write(text)
    error = place.refused()
    assert error.startswith("secrets.toml")
    for part in expected:
        assert part in error, error


KEY = "\U0001f511"  # outside of the BMP: MicroPython's json makes two surrogates of JSON's \ud83d\udd11


@pytest.mark.parametrize("method", ["SCRAM-SHA-256", "SCRAM-SHA-512", "DIGEST-MD5"])
def test_names_of_every_kind(own, place, method):
    """The board's own MicroPython reads from the file what was written, and logs in with it."""
    user = f"{KEY} é 日本 of {method}"
    own.add_user(user, PASSWORD, iterations=4096, mechanisms=(method,))
    place.settings(own.port, user=user, auth=f'method = "{method}"')
    assert place.run()[0] == 0
    with Board() as board:
        board.run("from umqtt5.secrets import load\nc = MQTTClient(**load(path))", path=str(place.file))
        assert board.get("c._engine.terms.user") == user.encode()
        board.run("c.connect(); c.publish('t', b'm', qos=1); c.disconnect()")
