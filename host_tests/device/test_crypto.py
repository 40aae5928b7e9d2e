# usasl.crypto and usasl.derive against published vectors and against what the firmware's decoder lets pass.
# runs under CPython too
import hashlib
from binascii import unhexlify

from usasl import crypto, derive

CA_SHA1 = "1d96ee3a529b5a5f9e47c01f229a2cb8a6e15f7d"
CA_SHA256 = "c4a49510323ab4f952cac1fa99441939e78ea74d6be81ddf7096e87513dc615d"


def pbkdf2(hash, password, salt, count):
    return list(derive.pbkdf2(hash, password, salt, count, 64))[-1]


def test_hmac_sha256_rfc4231():
    for key, data, expected in (
        (
            b"\x0b" * 20,
            b"Hi There",
            "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7",
        ),
        (
            b"Jefe",
            b"what do ya want for nothing?",
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843",
        ),
        # A key longer than the block is hashed first.
        (
            b"\xaa" * 131,
            b"Test Using Larger Than Block-Size Key - Hash Key First",
            "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54",
        ),
    ):
        assert crypto.hmac(hashlib.sha256, key, data, 64) == unhexlify(expected)


def test_pbkdf2_vectors():
    # RFC 6070 (SHA-1), and the salted passwords of the examples in RFC 5802 and RFC 7677.
    assert pbkdf2(hashlib.sha1, b"password", b"salt", 1) == unhexlify("0c60c80f961f0e71f3a9b524af6012062fe037a6")
    assert pbkdf2(hashlib.sha1, b"password", b"salt", 2) == unhexlify("ea6c014dc72d6f8ccd1ed92ace1d41f0d8de8957")
    salt = crypto.unb64(b"QSXCR+Q6sek8bf92")
    assert pbkdf2(hashlib.sha1, b"pencil", salt, 4096) == unhexlify(CA_SHA1)
    salt = crypto.unb64(b"W22ZaJ0SNY7soEsUEjb6gQ==")
    assert pbkdf2(hashlib.sha256, b"pencil", salt, 4096) == unhexlify(CA_SHA256)


def test_pbkdf2_slices_hold_64_iterations():
    for count in (1, 2, 63, 64, 65, 66, 128, 129, 130, 200):
        done = list(derive.pbkdf2(hashlib.sha256, b"p", b"s", count, 64))
        assert len(done.pop()) == 32
        before = 1
        for now in done:
            assert before < now <= before + 64
            before = now
        assert count == 1 or done[-1] == count


def test_pbkdf2_hashes_exactly_twice_an_iteration():
    calls = [0]

    def counting(data=b""):
        calls[0] += 1
        return hashlib.sha256(data)

    def cost(count):
        calls[0] = 0
        pbkdf2(counting, b"pencil", b"salt", count)
        return calls[0]

    assert cost(1) == 2
    assert cost(101) - cost(1) == 200


def test_unb64_is_strict():
    assert crypto.unb64(b"AAA=") == b"\0\0"
    assert crypto.unb64(b"+/8=") == b"\xfb\xff"
    assert crypto.b64(b"\xfb\xff") == b"+/8="
    for text in (
        b"!!!!",
        b"AAA",
        b"AAAA=",
        b"AAA=AAA=",
        b"AA A=",
        b"AAAA\n",
        b" AAAA",
        b"AAAA==",
        b"AAB=",  # stray bits behind the last byte
        b"AB==",
        b"=AAA",
        b"A===",
        b"-_8=",
        b"AAAA\0",
        b"AAA\xc3",
    ):
        try:
            crypto.unb64(text)
        except ValueError:
            continue
        raise AssertionError(text)


def test_same():
    assert crypto.same(b"", b"")
    assert crypto.same(b"abc", bytearray(b"abc"))
    assert not crypto.same(b"abc", b"abd")
    assert not crypto.same(b"bbc", b"abc")
    assert not crypto.same(b"abc", b"")
    assert not crypto.same(b"", b"abc")
    assert not crypto.same(b"abc", b"abcd")


def test_nonce_is_text_and_new_each_time():
    seen = set()
    for _ in range(200):
        nonce = crypto.nonce()
        assert len(nonce) == 24 and len(crypto.unb64(nonce)) == 18 and b"," not in nonce
        seen.add(nonce)
    assert len(seen) == 200


def test_errors_are_told_apart_by_an_attribute():
    assert crypto.SASLError.not_proven is False
    assert crypto.ServerNotProven("signature").not_proven is True
    assert isinstance(crypto.ServerNotProven("signature"), crypto.SASLError)
    # What a server sent is cut and made printable.
    text = str(crypto.SASLError("refused", b"a\x1b[31m\xc3\n b" + b"x" * 100))
    assert "a?[31m????" not in text and "a?[31m?" in text and len(text) < 100, text
