# SCRAM as EMQX 5.0.0 to 5.6.1 has it, to which no correct client can log in; 5.7.0 and later need usasl.scram. Where
# RFC 5802 3 has the salted password as a key, these have its hexadecimal text; and the three messages that both sides
# sign stand without commas between them. The server proves itself all the same.
# Must never: be chosen by itself, be used with another server.
from binascii import hexlify

from usasl.scram import ScramSHA256 as _SHA256


class _Quirk:
    # Keys of this kind fit no other server, though its salt and its count may be the same.
    _comma = b""
    _respell = staticmethod(hexlify)


class ScramSHA256(_Quirk, _SHA256):
    """SCRAM-SHA-256 for EMQX 5.0.0 to 5.6.1; all else as usasl.scram.ScramSHA256."""


def __getattr__(name):
    # The other one that EMQX has: few boards need it.
    if name != "ScramSHA512":
        raise AttributeError(name)
    from usasl.scram_sha512 import ScramSHA512 as base

    class ScramSHA512(_Quirk, base):
        """SCRAM-SHA-512 for EMQX 5.0.0 to 5.6.1; all else as usasl.scram.ScramSHA512."""

    globals()[name] = ScramSHA512
    return ScramSHA512
