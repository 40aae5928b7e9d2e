"""Re-authentication by each mechanism (SCRAM-SHA-256: test_reauth.py), by both clients in MicroPython, against the
real broker with Cyrus SASL and GNU SASL.
"""

import pytest
from harness.aio import AioBoard
from harness.digest import Digest
from harness.proxy import Proxy
from harness.reauth import between, rounds
from harness.remote import Board
from harness.scram import Credentials

from tools.devbroker import Broker

SALT = b"the salt of all of these"
USER, PASSWORD = "dévice,=1", "пароль of device1"
MECHANISMS = ("SCRAM-SHA-1", "SCRAM-SHA-256", "SCRAM-SHA-512", "DIGEST-MD5")
# GNU SASL 2.2.0 has no SCRAM-SHA-512, and hashes such a name for DIGEST-MD5 in another way (test_digest_login.py).
OFFERED = [("port", "sha1"), ("port", "sha512"), ("port", "md5"), ("gsasl_port", "sha1"), ("gsasl_port", "md5")]
each = pytest.mark.parametrize(("port", "mechanism"), OFFERED)


def user(port, mechanism):
    return "device1" if (port, mechanism) == ("gsasl_port", "md5") else USER


@pytest.fixture(scope="module")
def every_broker():
    with Broker(tls=False, mechs=list(MECHANISMS)) as broker:
        for name in (USER, "device1"):
            broker.add_user(name, PASSWORD, iterations=4096, salt=SALT, mechanisms=MECHANISMS)
        yield broker


def make(board, user, mechanism, password=PASSWORD, name="auth", head=""):
    """A mechanism with provisioned keys on the board."""
    if mechanism == "md5":
        c = Digest(user, password, "localhost")
        values = {"user": user, "more": {"key": c.key, "realm": c.realm}}
        code = "from usasl.digest_md5 import DigestMD5 as M\n"
    else:
        c = Credentials(user, password, SALT, 4096, mechanism)
        values = {"user": user, "more": {"keys": [list(c.keys)]}}
        code = f"from usasl.scram import Scram{mechanism.upper()} as M\n"
    board.run(f"{head}{code}{name} = M(user, **more)", **values)


CLIENT = "c = MQTTClient('every', '127.0.0.1', port, keepalive=60, auth=auth, timeout=5)"


@each
def test_blocking(every_broker, port, mechanism):
    with Proxy(getattr(every_broker, port)) as proxy, Board() as board:
        make(board, user(port, mechanism), mechanism)
        make(board, user(port, mechanism), mechanism, "another", "wrong")
        board.run(CLIENT, port=proxy.port)
        board.run("c.connect()\nfor _ in range(5): c.reauthenticate(); c.publish('t', b'm', qos=1)")
        assert rounds(proxy) == 5 and between(proxy) == []
        e = board.error("c.reauthenticate(wrong)")
        assert (e.type, e.reason) == ("AuthError", 0x87) and "; usually: " in e.text, e
        board.run("c.connect(); c.reauthenticate(); c.disconnect()")


@each
def test_asyncio(every_broker, port, mechanism):
    with Proxy(getattr(every_broker, port)) as proxy, AioBoard() as board:
        make(board, user(port, mechanism), mechanism, head="global auth\n")
        make(board, user(port, mechanism), mechanism, "another", "wrong", head="global wrong\n")
        board.run("global c\n" + CLIENT[:-1] + ", backoff=quick())", port=proxy.port)
        board.run(
            """
            await c.connect()
            for _ in range(5):
                await c.reauthenticate()
                await c.publish("t", b"m", qos=1)
            """
        )
        assert rounds(proxy) == 5 and between(proxy) == []
        e = board.error("await c.reauthenticate(wrong)")
        assert (e.type, e.reason) == ("AuthError", 0x87), e
        board.run("await c.publish('t', b'm', qos=1)\nawait c.reauthenticate()\nawait c.disconnect()")


def test_digest_md5_takes_up_the_login():
    """Cyrus, told to keep logins: a re-authentication is AUTH 0x19 with our answer and AUTH 0x00 with the proof."""
    with Broker(tls=False, mechs=["DIGEST-MD5"], reauth_timeout=5) as broker:
        broker.add_user(USER, PASSWORD, mechanisms=("DIGEST-MD5",))
        with Proxy(broker.port) as proxy, Board() as board:
            make(board, USER, "md5")
            board.run(CLIENT, port=proxy.port)
            board.run("c.connect()\nfor _ in range(5): c.reauthenticate(); c.publish('t', b'm', qos=1)")
            assert rounds(proxy) == 5
            board.run("c.disconnect(); c.connect(); c.reauthenticate(); c.disconnect()")
