# usasl.scram.ScramSHA512: the published vector, what it refuses on a board; and for each of the three hashes: 1000
# logins, and a login with a byte changed.
# runs under CPython too
import hashlib
import random
import sys

from exchanges import Fixed, ends, step
from usasl import scram
from usasl.crypto import SASLError, ServerNotProven, b64, hmac, unb64
from usasl.scram import ScramSHA1, ScramSHA256, ScramSHA512

SALT64 = b"W22ZaJ0SNY7soEsUEjb6gQ=="
SALT = unb64(SALT64)
OWN = b"rOprNGfwEbeRWgbNEkqO"
WHOLE = OWN + b"%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
PROOF = b"gMGXRcevScNtxZ6/8lQYpGtnsNAc3mGcmNomv+xnoOMw+3R2xNJdMNnzMlTN8PPC6wdp6dybEmDYXYTxwnYPJQ=="
FINAL = b"v=ZQnYEgWQMFmmsM8aQMF0nDDCy/AgCzkwk8CmMZYcMg0vSVlKDanekLtifDSeVGT4+5ZxXnJq199RVG2rR7N7Zw=="
MECHANISMS = (ScramSHA1, ScramSHA256, ScramSHA512)


def test_published_vector():
    # xdg-go/scram, testdata/good/sha-512-ascii.json: no RFC has one
    own = b"/uAp+YhRXyuq+1zS3YWsUsZHpxLfGkcQ"
    whole = own + b"4FHzBxBhPzykjGStpoxdfs4Nyp1mtC9B"
    with Fixed(scram, own):
        m = ScramSHA512("user", "pencil", max_iterations=10000)
        x = m.exchange()
        assert m.name == "SCRAM-SHA-512"
        assert x.send(None) == b"n,,n=user,r=" + own
        out, pauses = step(x, b"r=" + whole + b",s=" + SALT64 + b",i=10000")
        proof = b"E2tqtuwJz5ShFuck1/KeqZKCmGZe/Lxjyr6fTZio21wZtlpgyeYLNxxQXrLuK/FfMSCanyDRmI1q5KL1Tj54nQ=="
        assert out == b"c=biws,r=" + whole + b",p=" + proof
        assert pauses == 9999  # each of them is four blocks of SHA-512
        assert ends(x, b"v=qKOkLNGdt0VrlVkoL3kXjhWmI4SjEfqw8ogXgikzbPOMh6gloo8Mrboq/q3cz0/7hIvcQ1N9VL4m7iiSTTyolQ==")


def test_rfc7677_inputs_by_keys():
    keys = ScramSHA512.derive("pencil", SALT, 4096)
    assert len(keys[0]) == len(keys[1]) == 64
    with Fixed(scram, OWN):
        x = ScramSHA512("user", keys=[(SALT, 4096) + keys]).exchange()
        x.send(None)
        assert x.send(b"r=" + WHOLE + b",s=" + SALT64 + b",i=4096") == b"c=biws,r=" + WHOLE + b",p=" + PROOF
        assert ends(x, FINAL)


def test_a_password_is_refused_and_the_error_says_to_provision():
    m = ScramSHA512("user", "pencil")
    for count in (b"4096", b"10000", b"2147483648"):
        x = m.exchange()
        whole = x.send(None)[len(b"n,,n=user,r=") :] + b"abc"
        try:
            x.send(b"r=" + whole + b",s=" + SALT64 + b",i=" + count)
        except SASLError as e:
            assert not e.not_proven and " %s " % count.decode() in str(e), e
            assert "max_iterations is 1000" in str(e) and "provision keys" in str(e), e
            continue
        raise AssertionError(count)
    # Low enough: its own server has a low count, and the caller has allowed it.
    m = ScramSHA512("user", "pencil", min_iterations=1)
    assert login(m, Server(ScramSHA512, b"salt", 1000, "pencil")) == 999


def test_it_is_loaded_only_when_asked_for():
    for name in [name for name in sys.modules if name.startswith("usasl")]:
        del sys.modules[name]
    import usasl.scram as again

    again.ScramSHA256("u", "p")
    assert sorted([n for n in sys.modules if n.startswith("usasl")]) == ["usasl", "usasl.crypto", "usasl.scram"]
    again.ScramSHA1("u", "p")
    assert "usasl.sha512" not in sys.modules and "usasl.scram_sha512" not in sys.modules
    again.ScramSHA512("u", "p")
    # CPython's hashlib has it, MicroPython's has not.
    assert ("usasl.sha512" in sys.modules) == (not hasattr(hashlib, "sha512"))
    for name in ("ScramMD5", "x", "__path__"):
        assert not hasattr(again, name), name


def test_keys_of_another_hash_are_refused():
    for kind in MECHANISMS:
        for other in MECHANISMS:
            keys = [(SALT, 1) + other.derive("p", SALT, 1)]
            try:
                kind("u", keys=keys)
            except ValueError:
                assert kind is not other
            else:
                assert kind is other


# Each hash ----------------------------------------------------------------------------------------------------


class Server:
    """An honest server's side; what it signs is what was really sent."""

    def __init__(self, kind, salt, count, password, nonce=b"%abc", more=b""):
        self.kind = kind
        self.keys = (salt, count) + kind.derive(password, salt, count)
        self.rest = nonce + b",s=" + b64(salt) + b",i=" + str(count).encode() + more

    def first(self, client_first):
        self.bare = client_first[3:]
        self.sent = self.bare[self.bare.find(b",r=") + 1 :] + self.rest
        return self.sent

    def final(self, client_final, server_key=None):
        auth = self.bare + b"," + self.sent + b"," + client_final[: client_final.rfind(b",p=")]
        return b"v=" + b64(hmac(self.kind._hash, server_key or self.keys[3], auth, self.kind._block))


def login(mechanism, server, change=None):
    """A login. change(which, message): what is sent instead of the server's first (0) or last (1) message. The number
    of pauses."""
    x = mechanism.exchange()
    first = server.first(x.send(None))
    out, pauses = step(x, change(0, first) if change else first)
    final = server.final(out)
    assert ends(x, change(1, final) if change else final)
    return pauses


def test_1000_logins_with_any_nonce():
    # EMQX's nonces have 0x7F in them; "," alone ends one.
    letters = [c for c in range(0x21, 0x80) if c != 44]
    for kind in MECHANISMS:
        server = Server(kind, b"a salt", 4096 if kind is ScramSHA256 else 7, "pass")
        m = kind("user", keys=[server.keys], min_iterations=1)
        rest = server.rest[4:]
        for _ in range(1000):
            nonce = bytes([letters[random.getrandbits(16) % len(letters)] for _ in range(1 + random.getrandbits(5))])
            server.rest = nonce + rest
            assert login(m, server) == 0


def flipped(kind, m, server, which, at, bit):
    """Does a login fail if this bit of that message is changed?"""

    def change(now, message):
        if now != which:
            return message
        message = bytearray(message)
        message[at] ^= 1 << bit
        return message

    try:
        login(m, server, change)
    except SASLError as e:
        # What comes instead of the proof is no proof; the first message may be refused before any is sent.
        return which == 0 or type(e) is ServerNotProven
    return False


def test_any_bit_of_any_byte_that_is_signed():
    for kind in MECHANISMS:
        for more in (b"", b",x=ext,y=~"):
            server = Server(kind, b"salt", 7, "pass", more=more)
            with Fixed(scram, OWN):
                for m in (
                    kind("user", keys=[server.keys], min_iterations=1),
                    kind("user", "pass", min_iterations=1, max_iterations=9999),
                ):
                    login(m, server)
                    for which, size in enumerate((len(server.sent), 2 + len(b64(server.keys[3])))):
                        for at in range(size):
                            for bit in range(8):
                                assert flipped(kind, m, server, which, at, bit), (kind.name, which, at, bit)
                    login(m, server)
                    assert m._proven == 7
