# The small cryptography that SASL mechanisms share, over the hash functions that the firmware brings: HMAC,
# constant-time compare, strict base64, nonces; and the two errors of the package. PBKDF2 is in derive.py.
# Must never: put a secret into an error, know a protocol or a mechanism.
#
# Runs on MicroPython 1.20 and later (.mpy files of version 6; before 1.21 some builds
# have hashlib only as uhashlib) and on CPython 3.11 and later.
import binascii

try:
    import hashlib
except ImportError:
    import uhashlib as hashlib  # noqa: F401  (others import it from here)


class SASLError(Exception):
    """The login failed: the server broke the rules or refused us, or our keys do not fit what it asks for.
    args: the name of a text in texts.py, which is loaded only to print it, and what the server sent."""

    not_proven = False  # what callers look at, so that they need not import this module

    def __str__(self):
        from usasl.texts import text

        return text(*self.args)

    def __repr__(self):
        # What MicroPython prints of an uncaught error: it does not ask __str__, and shows args where this is missing.
        try:
            return "%s: %s" % (type(self).__name__, self)
        except Exception:  # MemoryError, above all: raised in here it would end the program
            return type(self).__name__


class ServerNotProven(SASLError):
    """The server's proof is wrong or missing: it may not be the server that knows our keys."""

    not_proven = True


def nonce():
    """24 bytes of base64 text made of 18 random bytes: no "," in it, new at each call."""
    from os import urandom

    return b64(urandom(18))


def b64(data):
    """Base64 as bytes, without a newline (older firmware does not know `newline=False`)."""
    return binascii.b2a_base64(data)[:-1]


def unb64(text):
    """Strict inverse of b64(). ValueError for anything that b64() would not have made: the firmware's own
    decoder skips foreign characters and excess padding, and drops stray bits."""
    data = binascii.a2b_base64(text)
    if b64(data) != text:
        raise ValueError("not base64")
    return data


def same(key, data):
    """Are two byte strings equal? The time it takes depends on their lengths only."""
    if len(key) != len(data):
        return False
    diff = 0
    for i in range(len(key)):
        diff |= key[i] ^ data[i]
    return diff == 0


def pads(hash, key, block, size):
    """HMAC's two padded keys (RFC 2104), each in a bytearray with `size` more bytes behind it."""
    if len(key) > block:
        key = hash(key).digest()
    inner = bytearray(block + size)
    outer = bytearray(block + size)
    for i in range(block):
        k = key[i] if i < len(key) else 0
        inner[i] = k ^ 0x36
        outer[i] = k ^ 0x5C
    return inner, outer


def hmac(hash, key, data, block):
    """HMAC of `data`. `hash`: a hashlib constructor; `block`: its block size in bytes (not that of its
    digest)."""
    inner, outer = pads(hash, key, block, 0)
    return hash(outer + hash(inner + data).digest()).digest()
