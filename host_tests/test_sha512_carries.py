"""The sums of usasl's SHA-512, where a 64-bit word is in parts: two odd halves whose sum is exactly 2**32 carry, and
no random message would meet that (one in 2**33 sums). For each of the sums, blocks are made here that do, from a
plain reading of FIPS 180-4 with whole words."""

import hashlib
import random
import struct

import pytest
from harness.micropython import run_device
from usasl import sha512

from tools import viper

LOW, WORD = 2**32 - 1, 2**64 - 1
K = struct.unpack(">80Q", sha512._K)
# In the order of the sums: of a round (t = 0), of the schedule (W[16]), of the end.
SITES = ["K", "h", "Ch", "Sigma1", "d", "Maj", "Sigma0", "W9", "sigma0", "sigma1", "end"]


def rotr(x, *counts):
    out = 0
    for n in counts:
        out ^= (x >> n | x << 64 - n) & WORD
    return out


def sigma0(x):
    return rotr(x, 1, 8) ^ x >> 7


def sigma1(x):
    return rotr(x, 19, 61) ^ x >> 6


def terms(state):
    """Ch, Sigma1, Maj and Sigma0 of a round."""
    a, b, c, _, e, f, g, _ = state
    return e & f ^ ~e & g & WORD, rotr(e, 14, 18, 41), a & b ^ a & c ^ b & c, rotr(a, 28, 34, 39)


def rounds(state, w, k, count):
    """The working variables after `count` rounds."""
    w, state = list(w), list(state)
    for t in range(count):
        if t > 15:
            w.append((sigma1(w[t - 2]) + w[t - 7] + sigma0(w[t - 15]) + w[t - 16]) & WORD)
        ch, upper1, maj, upper0 = terms(state)
        t1 = state[7] + upper1 + ch + k[t] + w[t]
        state = [(t1 + maj + upper0) & WORD, *state[:3], (state[3] + t1) & WORD, *state[4:7]]
    return state


def compressed(state, w, k):
    return [(a + b) & WORD for a, b in zip(state, rounds(state, w, k, 80), strict=True)]


def made_for(site, rng):
    """(state, w, k) where the lower halves of both terms of this sum are odd, and their sum 2**32."""
    while True:
        state, w, k = ([rng.getrandbits(64) for _ in range(n)] for n in (8, 16, 80))
        ch, upper1, maj, upper0 = terms(state)
        # What is added to W[0], in this order, in each of the three sums that have it; the last is the other term.
        t1 = [k[0], state[7], ch, upper1]
        of = {"K": t1[:1], "h": t1[:2], "Ch": t1[:3], "Sigma1": t1, "d": [*t1, state[3]], "Maj": [*t1, maj]}
        of |= {"Sigma0": [*t1, maj, upper0]}
        schedule = [w[9], sigma0(w[1]), sigma1(w[14])]
        of |= {name: schedule[: i + 1] for i, name in enumerate(["W9", "sigma0", "sigma1"])}
        if site == "end":
            other = state[0]
            k[79] = k[79] - rounds(state, w, k, 80)[0] - other & LOW | k[79] & ~LOW
        else:
            other = of[site][-1]
            w[0] = -sum(of[site]) & LOW | w[0] & ~LOW
        if other & 1:
            return state, w, k


def packed(*words):
    return [struct.pack(f">{len(part)}Q", *part) for part in words]


@pytest.fixture(scope="module")
def cases():
    """[(site, what compress() is given, the state after it)]"""
    rng = random.Random(512)
    made = [(site, made_for(site, rng)) for site in SITES for _ in range(3)]
    return [(site, packed(*case), packed(compressed(*case))[0]) for site, case in made]


def test_the_reading_is_right():
    block = b"abc\x80" + bytes(122) + b"\0\x18"
    state = compressed(struct.unpack(">8Q", sha512._START), struct.unpack(">16Q", block), K)
    assert packed(state)[0] == hashlib.sha512(b"abc").digest()


@pytest.mark.parametrize("module", ["sha512_native", "sha512_plain"])
def test_on_this_machine(cases, module):
    told = [module, [[part.hex() for part in given] for _, given, _ in cases]]
    found = [line[0] for line in run_device("sha512_blocks.py", told).lines]
    wrong = {site for (site, _, good), state in zip(cases, found, strict=True) if state != good.hex()}
    assert not wrong


def test_on_32_bits(cases):
    machine = viper.Machine(viper.compiled())
    wrong = set()
    for site, (state, block, k), good in cases:
        state = bytearray(state)
        machine.compress(state, block, 0, k)
        if state != good:
            wrong.add(site)
    assert not wrong
