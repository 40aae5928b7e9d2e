# SHA-512's compression in machine code, by MicroPython's viper emitter. Words of 64 bits are two of 32 (xh the higher
# one, xl the lower), so that the same source serves CPUs of 32 and of 64 bits.
# Must never: read or write a word of memory that may not be aligned (a constant of frozen code is not), branch or
# index by a secret.
#
# Where the firmware has no emitter this file does not compile (SyntaxError); its .mpy is for one architecture
# (tools/mpy.py) and does not load on another (ValueError). sha512.py does without.
# ruff: noqa: F821  (viper's own words)
import micropython


@micropython.viper
def compress(state: ptr8, data: ptr8, at: int, k: ptr8):
    """As that of sha512_plain.py."""
    # 32-bit words of the CPU's own order: the last 16 words of the message schedule; then the state to begin with.
    w = ptr32(bytearray(192))
    for i in range(16):
        j = i << 2
        w[32 + i] = state[j] << 24 | state[j + 1] << 16 | state[j + 2] << 8 | state[j + 3]
    ah = uint(w[32])
    al = uint(w[33])
    bh = uint(w[34])
    bl = uint(w[35])
    ch = uint(w[36])
    cl = uint(w[37])
    dh = uint(w[38])
    dl = uint(w[39])
    eh = uint(w[40])
    el = uint(w[41])
    fh = uint(w[42])
    fl = uint(w[43])
    gh = uint(w[44])
    gl = uint(w[45])
    hh = uint(w[46])
    hl = uint(w[47])
    # Does nothing on 32 bits; on 64 it cuts what a shift to the left or a sum leaves above.
    m = uint(0xFFFF) << 16 | 0xFFFF
    for t in range(80):
        i = (t & 15) << 1
        if t < 16:
            j = at + (t << 3)
            xh = uint(data[j] << 24 | data[j + 1] << 16 | data[j + 2] << 8 | data[j + 3])
            xl = uint(data[j + 4] << 24 | data[j + 5] << 16 | data[j + 6] << 8 | data[j + 7]) & m
        else:
            # W[t-16] + W[t-7]. The carry of xl + zl is the top bit of the sum of their halves: a comparison would
            # branch.
            j = i + 18 & 30
            xh = uint(w[i])
            xl = uint(w[i + 1])
            zl = uint(w[j + 1])
            xh += uint(w[j])
            xh += (xl >> 1) + (zl >> 1) + (xl & zl & 1) >> 31
            xl = xl + zl & m
            # + sigma0(W[t-15]): rotr 1 ^ rotr 8 ^ shr 7
            j = i + 2 & 30
            yh = uint(w[j])
            yl = uint(w[j + 1])
            zl = (yl >> 1 ^ yh << 31 ^ yl >> 8 ^ yh << 24 ^ yl >> 7 ^ yh << 25) & m
            xh += yh >> 1 ^ yl << 31 ^ yh >> 8 ^ yl << 24 ^ yh >> 7
            xh += (xl >> 1) + (zl >> 1) + (xl & zl & 1) >> 31
            xl = xl + zl & m
            # + sigma1(W[t-2]): rotr 19 ^ rotr 61 ^ shr 6
            j = i + 28 & 30
            yh = uint(w[j])
            yl = uint(w[j + 1])
            zl = (yl >> 19 ^ yh << 13 ^ yh >> 29 ^ yl << 3 ^ yl >> 6 ^ yh << 26) & m
            xh += yh >> 19 ^ yl << 13 ^ yl >> 29 ^ yh << 3 ^ yh >> 6
            xh += (xl >> 1) + (zl >> 1) + (xl & zl & 1) >> 31
            xl = xl + zl & m
        w[i] = xh
        w[i + 1] = xl
        # T1 = h + K + W + Ch + Sigma1(e), rotr 14 ^ rotr 18 ^ rotr 41
        j = t << 3
        zl = uint(k[j + 4] << 24 | k[j + 5] << 16 | k[j + 6] << 8 | k[j + 7]) & m
        xh += uint(k[j] << 24 | k[j + 1] << 16 | k[j + 2] << 8 | k[j + 3])
        xh += (xl >> 1) + (zl >> 1) + (xl & zl & 1) >> 31
        xl = xl + zl & m
        xh += hh
        xh += (xl >> 1) + (hl >> 1) + (xl & hl & 1) >> 31
        xl = xl + hl & m
        zl = gl ^ el & (fl ^ gl)
        xh += gh ^ eh & (fh ^ gh)
        xh += (xl >> 1) + (zl >> 1) + (xl & zl & 1) >> 31
        xl = xl + zl & m
        zl = (el >> 14 ^ eh << 18 ^ el >> 18 ^ eh << 14 ^ eh >> 9 ^ el << 23) & m
        xh += eh >> 14 ^ el << 18 ^ eh >> 18 ^ el << 14 ^ el >> 9 ^ eh << 23
        xh += (xl >> 1) + (zl >> 1) + (xl & zl & 1) >> 31
        xl = xl + zl & m
        hh = gh
        hl = gl
        gh = fh
        gl = fl
        fh = eh
        fl = el
        # e = d + T1
        eh = dh + xh + ((xl >> 1) + (dl >> 1) + (xl & dl & 1) >> 31) & m
        el = dl + xl & m
        dh = ch
        dl = cl
        # a = T1 + Maj + Sigma0(a), rotr 28 ^ rotr 34 ^ rotr 39
        zl = al & bl | cl & (al | bl)
        xh += ah & bh | ch & (ah | bh)
        xh += (xl >> 1) + (zl >> 1) + (xl & zl & 1) >> 31
        xl = xl + zl & m
        ch = bh
        cl = bl
        bh = ah
        bl = al
        zl = (bl >> 28 ^ bh << 4 ^ bh >> 2 ^ bl << 30 ^ bh >> 7 ^ bl << 25) & m
        xh += bh >> 28 ^ bl << 4 ^ bl >> 2 ^ bh << 30 ^ bl >> 7 ^ bh << 25
        ah = xh + ((xl >> 1) + (zl >> 1) + (xl & zl & 1) >> 31) & m
        al = xl + zl & m
    w[0] = ah
    w[1] = al
    w[2] = bh
    w[3] = bl
    w[4] = ch
    w[5] = cl
    w[6] = dh
    w[7] = dl
    w[8] = eh
    w[9] = el
    w[10] = fh
    w[11] = fl
    w[12] = gh
    w[13] = gl
    w[14] = hh
    w[15] = hl
    for i in range(14, -1, -2):
        xl = uint(w[i + 1])
        zl = uint(w[33 + i])
        xh = uint(w[i]) + uint(w[32 + i]) + ((xl >> 1) + (zl >> 1) + (xl & zl & 1) >> 31)
        xl += zl
        j = i << 2
        state[j] = xh >> 24
        state[j + 1] = xh >> 16
        state[j + 2] = xh >> 8
        state[j + 3] = xh
        state[j + 4] = xl >> 24
        state[j + 5] = xl >> 16
        state[j + 6] = xl >> 8
        state[j + 7] = xl
