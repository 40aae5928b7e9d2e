# From a password to SCRAM's two keys: PBKDF2 in slices. A board that holds keys never loads this.
# Must never: block for longer than one slice, derive with a count that the caller did not allow (scram.py has held it
# against min_iterations before), take what thumb.py's machine code says without having held it against hashlib.
from micropython import const

import sys

from usasl.crypto import SASLError, hmac, pads

# Iterations between two yields. One takes 0.40-0.44 ms on an RP2040: 28 ms, where 50 ms is the limit. One of SHA-512
# (sha512.py, four blocks) stands alone: 5 ms in machine code (reckoned), far more without.
_SLICE = const(64)


def entry(scram, salt, text):
    """Generator for a mechanism of scram.py that has a password: yields None after each slice of work, and returns
    the entry of keys for this salt (bytes) and count (text), which the mechanism keeps. SASLError: there must be
    none."""
    count = int(text[:11])
    if count < scram._proven:
        raise SASLError("count_fell", text, scram._proven)
    if count > scram._max:
        raise SASLError("count_high", text, scram._max)
    if hasattr(scram, "_derived"):  # tools/provision.py's: it ends the login here
        scram._derived(salt, count)
    try:
        for salted in pbkdf2(scram._hash, scram._secret, salt, count, scram._block):
            if isinstance(salted, int):
                scram.progress = salted * 100 // count
                yield None
    finally:
        scram.progress = 100
    made = (salt, count) + _keys(scram, salted)
    # Two: one may be a rogue server's, and must not cost the true one's.
    scram._keys = [made] + scram._keys[:1]
    return made


def at_once(scram, password, salt, count):
    """(client_key, server_key), in one go. scram: a mechanism or its class; password: str, or bytes in UTF-8."""
    from usasl.scram_make import check, utf8

    check(salt and count > 0, "keys")
    return _keys(scram, list(pbkdf2(scram._hash, utf8(password), salt, count, scram._block))[-1])


def _keys(scram, salted):
    # RFC 5802 3; scram_emqx.py's servers have another key there
    if hasattr(scram, "_respell"):
        salted = scram._respell(salted)
    return tuple([hmac(scram._hash, salted, text, scram._block) for text in (b"Client Key", b"Server Key")])


def pbkdf2(hash, password, salt, count, block):
    """Generator: PBKDF2-HMAC for one block of output (RFC 8018 5.2; SCRAM's Hi()). Yields the number of iterations
    done (int) after each slice of work, and at last the derived key (bytes, as long as the digest). `password`,
    `salt`: bytes; `count`: 1 or more.

    Firmware hashes have no copy(), so the states behind the two pads cannot be kept: an iteration is two
    hashes of block + digest bytes. They lie in two buffers of which only the tail changes, to spare two
    concatenations. Where thumb.py runs, and agrees with `hash`, it does the iterations."""
    u = hmac(hash, password, salt + b"\0\0\0\1", block)
    size = len(u)
    inner, outer = pads(hash, password, block, size)
    from_bytes = int.from_bytes
    inner[block:] = u
    key = from_bytes(u, "big")
    work = None
    # 4-8 are the .mpy architectures armv6m to armv7emdp. Asked first: no other board parses a file for nothing.
    if size == 32 and block == 64 and 4 <= getattr(sys.implementation, "_mpy", 0) >> 10 & 15 <= 8:
        try:
            from usasl import thumb  # 5 ms on an RP2040, once; 0.1 s if a .py has to be compiled

            work = thumb.start(hash, inner, outer)
        except Exception:
            pass  # not installed, not for this firmware, no room: nothing that hashlib could not do
    done = 1
    while done < count:
        step = min(1 if size > 32 else _SLICE, count - done)
        if work:
            thumb.turn(work, step, 0)
        else:
            # Two in a turn: 4 % faster. Where their number is odd, the first stands alone.
            if step & 1:
                outer[block:] = hash(inner).digest()
                inner[block:] = u = hash(outer).digest()
                key ^= from_bytes(u, "big")
            for _ in range(step // 2):
                outer[block:] = hash(inner).digest()
                inner[block:] = u = hash(outer).digest()
                outer[block:] = hash(inner).digest()
                inner[block:] = v = hash(outer).digest()
                key ^= from_bytes(u, "big") ^ from_bytes(v, "big")
        done += step
        yield done
    yield thumb.result(work) if work else key.to_bytes(size, "big")
