# SCRAM with SHA-1. To be had as usasl.scram.ScramSHA1, which loads this.
# Must never: hold anything but what differs from SHA-256.
from usasl.crypto import hashlib
from usasl.scram import Scram


class ScramSHA1(Scram):
    """SCRAM-SHA-1 (RFC 5802)."""

    name = "SCRAM-SHA-1"
    _hash = getattr(hashlib, "sha1", None)
    _size = 20
