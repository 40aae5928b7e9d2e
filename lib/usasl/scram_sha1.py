# SCRAM with SHA-1. To be had as usasl.scram.ScramSHA1, which loads this.
# Must never: hold anything but what differs from SHA-256.
from usasl.crypto import hashlib
from usasl.scram import ScramSHA256


class ScramSHA1(ScramSHA256):
    """SCRAM-SHA-1 (RFC 5802). ValueError where the firmware has no SHA-1."""

    name = "SCRAM-SHA-1"
    _hash = getattr(hashlib, "sha1", None)
    _size = 20

    def __init__(self, *args, **more):
        if not self._hash:
            raise ValueError("no SHA-1 in this firmware: use SCRAM-SHA-256")
        super().__init__(*args, **more)
