"""The hostile servers of test_hostile_auth.py, test_hostile_login.py and test_hostile_reauth.py, for every mechanism.

There each attack has a client of its own; here one MicroPython client has them all, one after the other, each with
the right typed error and DISCONNECT; it logs in to an honest server at last, and no secret shows in any text.
"""

import pytest
from harness import wire
from harness.attack import gave_up, spellings
from harness.digest import Digest, DigestExchange, split
from harness.logins import challenge, connack, receive_connect
from harness.remote import Board
from harness.scram import Credentials, Exchange
from harness.scripted import ScriptedServer
from harness.wire import AUTH, DATA, METHOD
from test_hostile_auth import BAD_FIRST, cut, flipped, longer
from test_token_login import Jwt

BROKEN = (0x81, 0x82)
PEER = "MalformedPacket|ProtocolError"


# The servers' side of each mechanism, until the client has shown its proof: the honest last message ----------------


class Scram:
    speaks_first = proves = True

    def __init__(self, *args, **more):
        self.credentials = Credentials(*args, **more)

    def login(self, conn, data, first=None):
        x = self.x = Exchange(self.credentials)
        x.first(data)
        message = (first or Exchange.build)(x)
        x.sent_first(message)
        conn.send(challenge(self.credentials, message))
        return x.final(conn.expect(AUTH).prop(DATA))

    def make(self, board):
        c = self.credentials
        module = "scram_emqx" if c.emqx else "scram"
        board.run(f"from usasl.{module} import Scram{c.hash_name.upper()} as M")
        board.run("auth = M(user, keys=[tuple(keys)])", user=c.user, keys=list(c.keys))


class Md5:
    speaks_first = False
    proves = True
    credentials = Digest()

    def login(self, conn, data, first=None):
        """A server that does not take up the login before."""
        x = self.x = DigestExchange(self.credentials)
        assert data is None or split(data)["nc"] == b"00000002"
        conn.send(challenge(self.credentials, (first or DigestExchange.build)(x)))
        return x.check(conn.expect(AUTH).prop(DATA))

    def make(self, board):
        c = self.credentials
        board.run("from usasl.digest_md5 import DigestMD5 as M")
        board.run("auth = M(user, key=key, realm=realm)", user=c.user, key=c.key, realm=c.realm)


class Token:
    speaks_first = True
    proves = False
    credentials = Jwt()

    def login(self, conn, data, first=None):
        assert data == self.credentials.token.encode()

    def make(self, board):
        c = self.credentials
        board.run("from usasl.token import Token as M")
        board.run("auth = M(method, token, user)", method=c.method, token=c.token, user=c.user)


KINDS = {
    "SCRAM-SHA-1": Scram(hash_name="sha1"),
    "SCRAM-SHA-512": Scram(hash_name="sha512"),
    "SCRAM-SHA-256-emqx-5.0": Scram(emqx=True),
    "SCRAM-SHA-512-emqx-5.0": Scram(hash_name="sha512", emqx=True),
    "DIGEST-MD5": Md5(),
    "JWT": Token(),
}
every = pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)


def data_of(c, data, method=None):
    """method: another one, "" for none."""
    pairs = [] if method == "" else [(METHOD, method or c.method)]
    return pairs + ([] if data is None else [(DATA, data)])


def success(c, data, method=None):
    return wire.auth(0, *data_of(c, data, method))


# Attacks: (name, what is sent, error, what the client says in its DISCONNECT; None: nothing) ------------------------


def in_answer(c, again):
    """To CONNECT, or to AUTH 0x19."""
    other = [
        ("of another method", wire.auth(0x18, (METHOD, "SCRAM-SHA-2"), (DATA, b"x")), PEER, BROKEN),
        ("of our method in small letters", wire.auth(0x18, (METHOD, c.method.lower()), (DATA, b"x")), PEER, BROKEN),
        ("without method", wire.auth(0x18, (DATA, b"x")), PEER, BROKEN),
        ("method twice", wire.auth(0x18, (METHOD, c.method), (METHOD, c.method)), PEER, BROKEN),
        ("data twice", wire.auth(0x18, (METHOD, c.method), (DATA, b"x"), (DATA, b"x")), PEER, BROKEN),
        ("AUTH 0x19", wire.auth(0x19, (METHOD, c.method), (DATA, b"x")), PEER, BROKEN),
        ("AUTH 0x87", wire.auth(0x87, (METHOD, c.method)), PEER, BROKEN),
        ("AUTH of length 0", wire.packet(AUTH), PEER, BROKEN),
        ("AUTH of length 1", wire.packet(AUTH, b"\x18"), PEER, BROKEN),
        ("AUTH with flags", wire.packet(AUTH, b"\x18\0", flags=1), PEER, BROKEN),
        ("a property overruns", wire.packet(AUTH, b"\x18\x05\x15\x00\x20ab"), PEER, BROKEN),
        ("a property of CONNACK", wire.auth(0x18, (METHOD, c.method), (0x21, 5)), PEER, BROKEN),
        ("a challenge larger than rx", challenge(c, bytes(3000)), "ResourceError", (0x95,)),
        ("rubbish", challenge(c, b"\xff\x00\xfe"), "AuthError", (0x80,)),
        ("CONNACK 0x87", wire.connack(0x87), "AuthError", None),
        ("CONNACK 0x8C", wire.connack(0x8C), "AuthError", None),
        ("DISCONNECT 0x87", wire.disconnect(0x87), "AuthError", None),
        ("it closes", b"", "OSError", None),
    ]
    if again:
        return [*other, ("CONNACK 0x00", wire.connack(0, (METHOD, c.method)), PEER, BROKEN)]
    return [
        *other,
        ("AUTH 0x00", wire.auth(0, (METHOD, c.method), (DATA, b"x")), PEER, BROKEN),
        ("PUBLISH before CONNACK", wire.publish("t", b"too early", 1, 7), PEER, BROKEN),
    ]


def unproven(c, again):
    """Success at once."""
    say = (lambda data: success(c, data)) if again else (lambda data: connack(c, data))
    return [("success at once", say(None)), ("success at once, empty data", say(b""))]


LAST = [  # in place of the honest last message
    ("no proof", lambda x, honest: None),
    ("an empty proof", lambda x, honest: b""),
    ("a proof without its last byte", lambda x, honest: honest[:-1]),
    ("a proof with one more byte", lambda x, honest: honest + b"0"),
    ("a proof with a line feed", lambda x, honest: honest + b"\n"),
    ("rubbish for a proof", lambda x, honest: b"\xff\x00\xfe"),
    ("the first message again", lambda x, honest: getattr(x, "server_first", None) or x.build(nonce=b"another")),
    ("one bit of the proof", lambda x, honest: honest[:-9] + bytes([honest[-9] ^ 1]) + honest[-8:]),
]
LAST_OF_SCRAM = [
    ("one bit of the signature", lambda x, honest: flipped(x)),
    ("the signature without its last byte", lambda x, honest: cut(x)),
    ("a longer signature", lambda x, honest: longer(x)),
    ("the signature of another key", lambda x, honest: b"v=" + x.signature(b"k" * 32)),
    ("our own proof", lambda x, honest: b"v=" + x.proof),
    ("an empty signature", lambda x, honest: b"v="),
    ("an error", lambda x, honest: b"e=other-error"),
    ("an error before it", lambda x, honest: b"e=other-error," + honest),
    ("a mandatory extension", lambda x, honest: b"m=x," + honest),
]


def at_the_end(c, again):
    """In answer to the client's proof, which is `honest`'s: (name, honest -> bytes, error, says)."""
    say = success if again else (lambda c, data, method=None: wire.connack(0, *data_of(c, data, method)))
    return [
        ("success of another method", lambda h: say(c, h, "SCRAM-SHA-2"), PEER, BROKEN),
        ("success without method", lambda h: say(c, h, ""), PEER, BROKEN),
        ("AUTH 0x19", lambda h: wire.auth(0x19, (METHOD, c.method), (DATA, b"x")), PEER, BROKEN),
        ("CONNACK 0x87", lambda h: wire.connack(0x87), "AuthError", None),
        ("DISCONNECT 0x8C", lambda h: wire.disconnect(0x8C), "AuthError", None),
        ("it closes", lambda h: b"", "OSError", None),
    ]


def attacks(kind, again):
    """[(name, what the server does, error, says)]; what it does is f(conn, the client's first data)."""
    c = kind.credentials

    def sending(data):
        return lambda conn, first: end(conn, data)

    def finally_(build):
        return lambda conn, first: end(conn, build(kind.login(conn, first)))

    def proof(build):
        return finally_(lambda h: success(c, build(kind.x, h)) if again else connack(c, build(kind.x, h)))

    def beginning(build):
        def act(conn, first):
            kind.login(conn, first, build)

        return act

    found = [(name, sending(data), error, says) for name, data, error, says in in_answer(c, again)]
    found += [(name, finally_(build), error, says) for name, build, error, says in at_the_end(c, again)]
    if kind.proves:
        found += [(name, sending(data), "NotProven", (0x80,)) for name, data in unproven(c, again)]
        last = LAST + (LAST_OF_SCRAM if isinstance(kind, Scram) else [])
        found += [(name, proof(build), "NotProven", (0x80,)) for name, build in last]
    if isinstance(kind, Scram):
        found += [(name, beginning(f), "AuthError", (0x80,)) for name, f, _ in BAD_FIRST if name != "empty"]
    return found


def end(conn, data):
    conn.send(data)
    if not data or data[0] >> 4 == 14 or (data[:1] == b"\x20" and data[3] >= 0x80):
        conn.close()


def first_of(conn, kind):
    return receive_connect(conn, kind.credentials).prop(DATA)


def again_of(conn, kind):
    a = conn.expect(AUTH)
    assert a.reason == 0x19 and a.prop(METHOD) == kind.credentials.method
    return a.prop(DATA)


def logged_in(conn, kind):
    conn.send(connack(kind.credentials, kind.login(conn, first_of(conn, kind))))


def run(kind, scripts, error_of, expected):
    """All scripts; then an honest one, with a re-authentication."""

    def honest(conn):
        logged_in(conn, kind)
        conn.send(success(kind.credentials, kind.login(conn, again_of(conn, kind))))
        conn.serve()

    c = kind.credentials
    with ScriptedServer(*scripts, honest) as server, Board() as board:
        kind.make(board)
        board.run("c = MQTTClient('every', '127.0.0.1', port, keepalive=60, auth=auth, timeout=3)", port=server.port)
        board.run("c.set_callback(lambda topic, msg: log.append(topic))")
        for name, error, _ in expected:
            try:
                e = board.error(error_of)
                assert e.type in error.split("|"), e
                if error in ("AuthError", "NotProven"):
                    assert c.method in e.text, e
                if e.reason in (0x87, 0x8C):
                    assert "; usually: " in e.text and c.method in e.text.partition(";")[0], e
                if error == "ResourceError":
                    assert "rx_size" in e.text
            except AssertionError as e:
                e.add_note(f"the attack: {name}")
                raise
        board.run("c.connect(); c.reauthenticate(); c.publish('t', b'm', qos=1); c.disconnect()")
        assert board.log() == ()
        connections = server.finish()
        output = board._text() + board.get("repr(c) + repr(auth)")
    for (name, _, says), conn in zip(expected, connections, strict=False):
        assert conn.broken is None and conn.ended in ("fin", "reset"), (name, conn.broken, conn.ended)
        try:
            gave_up(conn, says)
        except AssertionError as e:
            e.add_note(f"the attack: {name}")
            raise
    assert connections[-1].error is None, connections[-1].error
    for secret in c.secrets():
        for spelling in spellings(secret):
            assert spelling not in output


@every
def test_login(kind):
    found = attacks(kind, False)
    scripts = [lambda conn, act=act: act(conn, first_of(conn, kind)) for _, act, _, _ in found]
    run(kind, scripts, "c.connect()", [(name, error, says) for name, _, error, says in found])


@every
def test_reauthentication(kind):
    found = attacks(kind, True)

    def script(act):
        def both(conn):
            logged_in(conn, kind)
            act(conn, again_of(conn, kind))

        return both

    run(
        kind,
        [script(act) for _, act, _, _ in found],
        "c.connect(); c.reauthenticate()",
        [(name, error, says) for name, _, error, says in found],
    )


UNASKED = [
    ("a second CONNACK", lambda c: wire.connack(0, (METHOD, c.method))),
    ("AUTH 0x18", lambda c: wire.auth(0x18, (METHOD, c.method), (DATA, b"x"))),
    ("AUTH 0x19", lambda c: wire.auth(0x19, (METHOD, c.method), (DATA, b"x"))),
    ("AUTH 0x00", lambda c: wire.auth(0, (METHOD, c.method))),
    ("AUTH of length 0", lambda c: wire.packet(AUTH)),
]


@every
def test_unasked_after_connack(kind):
    def script(data):
        def then(conn):
            logged_in(conn, kind)
            conn.send(data)

        return then

    scripts = [script(build(kind.credentials)) for _, build in UNASKED]
    run(kind, scripts, "c.connect()\nwhile True: c.wait_msg()", [(n, "ProtocolError", (0x82,)) for n, _ in UNASKED])


@pytest.mark.parametrize("name", [name for name, kind in KINDS.items() if kind.proves])
def test_proof_in_one_more_round(name):
    """The last message in AUTH 0x18, its answer is empty, and CONNACK (AUTH 0x00) brings nothing: right; wrong ones
    are seen there too."""
    kind = KINDS[name]

    def more(conn, final, last):
        conn.send(challenge(kind.credentials, final))
        a = conn.expect(AUTH)
        assert a.reason == 0x18 and a.prop(DATA) == b""
        conn.send(last)

    def good(conn):
        more(conn, kind.login(conn, first_of(conn, kind)), connack(kind.credentials, None))
        more(conn, kind.login(conn, again_of(conn, kind)), success(kind.credentials, None))
        conn.serve()

    def bad(conn):
        final = kind.login(conn, first_of(conn, kind))
        conn.send(challenge(kind.credentials, final[:-9] + bytes([final[-9] ^ 1]) + final[-8:]))

    with ScriptedServer(good, bad) as server, Board() as board:
        kind.make(board)
        board.run("c = MQTTClient('every', '127.0.0.1', port, keepalive=60, auth=auth, timeout=3)", port=server.port)
        board.run("c.connect(); c.reauthenticate(); c.publish('t', b'm', qos=1); c.disconnect()")
        assert board.error("c.connect()").type == "NotProven"
        assert server.finish()[0].error is None
