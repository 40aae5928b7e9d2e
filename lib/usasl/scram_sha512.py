# SCRAM with SHA-512. To be had as usasl.scram.ScramSHA512, which loads this.
# Must never: hold anything but what differs from SHA-256.
try:
    from hashlib import sha512
except ImportError:  # MicroPython
    from usasl.sha512 import sha512

from usasl.scram import ScramSHA256


class ScramSHA512(ScramSHA256):
    """SCRAM-SHA-512, for keys: with a password a board derives for minutes, so the default of max_iterations is below
    what servers ask for."""

    name = "SCRAM-SHA-512"
    _hash = sha512
    _size = 64
    _block = 128
    _max = 1000
