# The inner loop of PBKDF2-HMAC-SHA-256 in machine code, for Arm's Thumb (ARMv6-M: an RP2040; later ones run it too).
# hashlib has no copy(), so with it an iteration pays 4 compressions; here the states behind HMAC's two pads are kept,
# and it pays 2, each in less than half of the time that the firmware's C takes on an RP2040.
# Must never: hand out a buffer on which it has not been held against hashlib, write outside of that buffer, allocate
# in turn(), branch or index by a secret.
#
# Elsewhere this file does not compile (SyntaxError) and its .mpy does not load (ValueError); tools/mpy.py leaves it
# out, derive.py does without. Tested by running what mpy-cross made of it in a CPU emulator (tools/thumb.py).
# ruff: noqa: F821  (registers, instructions and labels are MicroPython's own words)
import micropython
from micropython import const

from struct import pack, pack_into, unpack, unpack_from

# The one buffer, 608 bytes, 32-bit words of the CPU's own (little) order: 64 pairs of a round's constant and its
# word of the message schedule (the first 8 of these are an iteration's input and its output, U), then the states
# behind the inner and the outer pad, and T, the xor of all U (RFC 8018 5.2).
_INNER = const(512)
_OUTER = const(544)
_T = const(576)
_SIZE = const(608)

# Iterations done both ways.
_BOTH = const(4)

# FIPS 180-4: 4.2.2, the constants of the 64 rounds; 5.3.3, the state that every hash begins with.
_K = (
    b"\x98\x2f\x8a\x42\x91\x44\x37\x71\xcf\xfb\xc0\xb5\xa5\xdb\xb5\xe9"
    b"\x5b\xc2\x56\x39\xf1\x11\xf1\x59\xa4\x82\x3f\x92\xd5\x5e\x1c\xab"
    b"\x98\xaa\x07\xd8\x01\x5b\x83\x12\xbe\x85\x31\x24\xc3\x7d\x0c\x55"
    b"\x74\x5d\xbe\x72\xfe\xb1\xde\x80\xa7\x06\xdc\x9b\x74\xf1\x9b\xc1"
    b"\xc1\x69\x9b\xe4\x86\x47\xbe\xef\xc6\x9d\xc1\x0f\xcc\xa1\x0c\x24"
    b"\x6f\x2c\xe9\x2d\xaa\x84\x74\x4a\xdc\xa9\xb0\x5c\xda\x88\xf9\x76"
    b"\x52\x51\x3e\x98\x6d\xc6\x31\xa8\xc8\x27\x03\xb0\xc7\x7f\x59\xbf"
    b"\xf3\x0b\xe0\xc6\x47\x91\xa7\xd5\x51\x63\xca\x06\x67\x29\x29\x14"
    b"\x85\x0a\xb7\x27\x38\x21\x1b\x2e\xfc\x6d\x2c\x4d\x13\x0d\x38\x53"
    b"\x54\x73\x0a\x65\xbb\x0a\x6a\x76\x2e\xc9\xc2\x81\x85\x2c\x72\x92"
    b"\xa1\xe8\xbf\xa2\x4b\x66\x1a\xa8\x70\x8b\x4b\xc2\xa3\x51\x6c\xc7"
    b"\x19\xe8\x92\xd1\x24\x06\x99\xd6\x85\x35\x0e\xf4\x70\xa0\x6a\x10"
    b"\x16\xc1\xa4\x19\x08\x6c\x37\x1e\x4c\x77\x48\x27\xb5\xbc\xb0\x34"
    b"\xb3\x0c\x1c\x39\x4a\xaa\xd8\x4e\x4f\xca\x9c\x5b\xf3\x6f\x2e\x68"
    b"\xee\x82\x8f\x74\x6f\x63\xa5\x78\x14\x78\xc8\x84\x08\x02\xc7\x8c"
    b"\xfa\xff\xbe\x90\xeb\x6c\x50\xa4\xf7\xa3\xf9\xbe\xf2\x78\x71\xc6"
)
_START = (
    b"\x67\xe6\x09\x6a\x85\xae\x67\xbb\x72\xf3\x6e\x3c\x3a\xf5\x4f\xa5"
    b"\x7f\x52\x0e\x51\x8c\x68\x05\x9b\xab\xd9\x83\x1f\x19\xcd\xe0\x5b"
)


def start(hash, inner, outer):
    """The buffer (bytearray) for turn() and result(), None if this code does not do what `hash` does. inner, outer:
    HMAC's padded keys, bytearrays of 64 bytes, and 32 more: the first U behind inner; only these of `outer` are
    changed. The buffer is as secret as the password.

    Each derivation begins so: with iterations done both ways, from its own password and salt. They go through all of
    the machine code (both states, its loop, the xor) and all of its constants; what turn() does later is the same
    steps again, from the same states, and they do not branch by data. Whatever is wrong, or if `hash` is another one
    of these sizes, T (the xor of every U) differs, and none of it is used. 2 ms of 0.3 s on an RP2040."""
    work = _load(inner, outer, inner[64:])
    proof = bytearray(work)
    turn(proof, _BOTH, 0)
    key = int.from_bytes(inner[64:], "big")
    both = bytearray(inner)
    for _ in range(_BOTH):
        outer[64:] = hash(both).digest()
        both[64:] = u = hash(outer).digest()
        key ^= int.from_bytes(u, "big")
    return work if result(proof) == key.to_bytes(32, "big") else None


def _load(inner, outer, u):
    work = bytearray(_SIZE)
    for i in range(64):
        work[8 * i : 8 * i + 4] = _K[4 * i : 4 * i + 4]
    for state, pad in ((_INNER, inner), (_OUTER, outer)):
        # The second half of an iteration is one compression, from the state in the outer place, xored into T.
        work[_OUTER:_T] = _START
        work[_T:] = bytes(32)
        _fill(work, pad)
        turn(work, 1, _OUTER - _INNER)
        work[state : state + 32] = work[_T:]
    # What is hashed behind a pad: 32 bytes, and the padding of 64 + 32 bytes (FIPS 180-4 5.1.1), which stays.
    _fill(work, u + b"\x80" + bytes(29) + b"\x03\x00")
    pack_into("<8I", work, _T, *unpack(">8I", u))
    return work


def _fill(work, block):
    for i in range(16):
        pack_into("<I", work, 8 * i + 4, unpack_from(">I", block, 4 * i)[0])


def result(work):
    """T, the derived key (bytes)."""
    return pack(">8I", *unpack_from("<8I", work, _T))


# turn(work, n, 0): n iterations (int, 1 or more), 2 compressions each. Its third argument is for _load() alone: 32
# lets the first iteration begin with its second half. Does not allocate; interrupts stay on; 44 bytes of stack.
# The same number of instructions whatever the data.
#
# In the rounds: r0-r4 are a, b, e, f, g; r8-r10 c, d, h; r11 is b ^ c. r5 goes through the pairs, r12 is their end,
# lr the state to begin with, r6 and r7 are free. Only r0-r7 can do more than be moved, added and compared.
# MicroPython has no words for ldmia, stmia and high registers in add and cmp: their code is given as data.
@micropython.asm_thumb
def turn(r0, r1, r2):
    mov(r4, r8)
    mov(r5, r9)
    mov(r6, r10)
    mov(r7, r11)
    push({r4, r5, r6, r7})
    mov(r3, 128)
    lsl(r3, r3, 2)
    add(r0, r0, r3)
    mov(r12, r0)  # behind the pairs: the inner state
    add(r0, r0, r2)
    mov(r14, r0)
    label(ITERATION)
    push({r1})  # iterations to go

    # FIPS 180-4 6.2.2, step 1: the message schedule, 48 words out of 16. r0 is the sum, r5 the first of four words.
    # A sum of three rotations is nested: ror 7 ^ ror 18 = ror(ror(x, 11) ^ x, 7).
    label(COMPRESSION)
    mov(r5, r12)
    sub(r5, 128)
    mov(r8, r5)  # its end: 48 pairs
    sub(r5, 192)
    sub(r5, 192)
    mov(r3, 11)
    mov(r4, 7)
    mov(r6, 2)
    mov(r7, 17)
    label(WORD)
    ldr(r0, [r5, 4])  # W[t-16]
    ldr(r1, [r5, 12])  # W[t-15]
    mov(r2, r1)
    ror(r2, r3)
    eor(r2, r1)
    ror(r2, r4)
    lsr(r1, r1, 3)
    eor(r2, r1)
    add(r0, r0, r2)  # + sigma0: ror 7 ^ ror 18 ^ shr 3
    ldr(r1, [r5, 116])  # W[t-2]
    mov(r2, r1)
    ror(r2, r6)
    eor(r2, r1)
    ror(r2, r7)
    lsr(r1, r1, 10)
    eor(r2, r1)
    add(r0, r0, r2)  # + sigma1: ror 17 ^ ror 19 ^ shr 10
    ldr(r1, [r5, 76])  # W[t-7]
    add(r0, r0, r1)
    add(r5, 8)
    str(r0, [r5, 124])  # 132 from where r5 was: too far for one
    data(2, 0x4545)  # cmp r5, r8
    bne(WORD)

    # Step 2: the state, into registers.
    sub(r5, 192)
    sub(r5, 192)
    mov(r7, r14)
    data(2, 0xCF0F)  # ldmia r7!, {r0, r1, r2, r3}
    mov(r8, r2)
    mov(r9, r3)
    data(2, 0xCF5C)  # ldmia r7!, {r2, r3, r4, r6}
    mov(r10, r6)
    mov(r6, r1)
    mov(r7, r8)
    eor(r6, r7)
    mov(r11, r6)

    # Step 3: 64 rounds.
    label(ROUND)
    data(2, 0xCDC0)  # ldmia r5!, {r6, r7}: K and W
    add(r6, r6, r7)
    data(2, 0x4456)  # add r6, r10: + h
    mov(r10, r4)  # h = g
    bic(r4, r2)
    add(r6, r6, r4)  # + ~e & g, of Ch
    mov(r4, r3)  # g = f
    and_(r3, r2)
    add(r6, r6, r3)  # + e & f, of Ch: they have no bit in common
    mov(r3, r2)  # f = e
    mov(r7, 14)
    ror(r2, r7)
    eor(r2, r3)
    mov(r7, 5)
    ror(r2, r7)
    eor(r2, r3)
    mov(r7, 6)
    ror(r2, r7)
    add(r6, r6, r2)  # + Sigma1(e), ror 6 ^ ror 11 ^ ror 25: T1
    mov(r2, r9)
    add(r2, r2, r6)  # e = d + T1
    mov(r9, r8)  # d = c
    mov(r8, r1)  # c = b
    eor(r1, r0)
    mov(r7, r11)
    mov(r11, r1)
    and_(r7, r1)
    mov(r1, r8)
    eor(r7, r1)
    add(r6, r6, r7)  # + Maj: ((a ^ b) & (b ^ c)) ^ b, and the next b ^ c is this a ^ b
    mov(r1, r0)  # b = a
    mov(r7, 9)
    ror(r0, r7)
    eor(r0, r1)
    mov(r7, 11)
    ror(r0, r7)
    eor(r0, r1)
    mov(r7, 2)
    ror(r0, r7)
    add(r0, r0, r6)  # a = T1 + Maj + Sigma0(a), ror 2 ^ ror 13 ^ ror 22
    data(2, 0x4565)  # cmp r5, r12
    bne(ROUND)

    # Step 4: what the state was is added. It becomes the next compression's input.
    sub(r5, 255)
    sub(r5, 255)
    sub(r5, 2)
    mov(r6, r14)
    data(2, 0xCE80)  # ldmia r6!, {r7}
    add(r7, r7, r0)
    str(r7, [r5, 4])
    data(2, 0xCE81)  # ldmia r6!, {r0, r7}
    add(r0, r0, r1)
    str(r0, [r5, 12])
    data(2, 0x4447)  # add r7, r8
    str(r7, [r5, 20])
    data(2, 0xCE83)  # ldmia r6!, {r0, r1, r7}
    data(2, 0x4448)  # add r0, r9
    str(r0, [r5, 28])
    add(r1, r1, r2)
    str(r1, [r5, 36])
    add(r7, r7, r3)
    str(r7, [r5, 44])
    data(2, 0xCE03)  # ldmia r6!, {r0, r1}
    add(r0, r0, r4)
    str(r0, [r5, 52])
    data(2, 0x4451)  # add r1, r10
    str(r1, [r5, 60])
    mov(r14, r6)  # behind the inner state stands the outer one, behind that T
    mov(r2, r12)
    add(r2, 64)
    cmp(r6, r2)
    bne(COMPRESSION)

    add(r2, 32)
    label(XOR)  # T ^= U
    ldr(r0, [r5, 4])
    ldr(r1, [r6, 0])
    eor(r0, r1)
    data(2, 0xC601)  # stmia r6!, {r0}
    add(r5, 8)
    cmp(r6, r2)
    bne(XOR)

    mov(r14, r12)
    pop({r1})
    sub(r1, 1)
    beq(DONE)
    b(ITERATION)
    label(DONE)
    pop({r4, r5, r6, r7})
    mov(r8, r4)
    mov(r9, r5)
    mov(r10, r6)
    mov(r11, r7)
    mov(r0, r1)  # 0: a large number would be an object on the heap
