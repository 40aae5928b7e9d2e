# From a password to SCRAM's two keys: PBKDF2 in slices. A board that holds keys never loads this.
# Must never: block for longer than one slice, decide which count is acceptable (scram.py does, before).
from micropython import const

from usasl.crypto import hmac, pads

# Iterations between two yields. One takes 0.40-0.44 ms on an RP2040: 28 ms, where 50 ms is the limit.
_SLICE = const(64)


def derive(hash, password, salt, count, block):
    """Generator: yields the number of iterations done (int) after each slice of work, and at last the tuple
    (client_key, server_key) of RFC 5802 3. `password`, `salt`: bytes; `count`: 1 or more."""
    for salted in pbkdf2(hash, password, salt, count, block):
        if isinstance(salted, int):
            yield salted
    yield hmac(hash, salted, b"Client Key", block), hmac(hash, salted, b"Server Key", block)


def pbkdf2(hash, password, salt, count, block):
    """Generator: PBKDF2-HMAC for one block of output (RFC 8018 5.2; SCRAM's Hi()). Yields like derive(), and
    at last the derived key (bytes, as long as the digest).

    Firmware hashes have no copy(), so the states behind the two pads cannot be kept: an iteration is two
    hashes of block + digest bytes. They lie in two buffers of which only the tail changes, to spare two
    concatenations."""
    u = hmac(hash, password, salt + b"\0\0\0\1", block)
    inner, outer = pads(hash, password, block, len(u))
    from_bytes = int.from_bytes
    inner[block:] = u
    key = from_bytes(u, "big")
    done = 1
    while done < count:
        step = min(_SLICE, count - done)
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
    yield key.to_bytes(len(u), "big")
