# SHA-512's compression in plain Python, for where sha512_native.py does not run. Words of 64 bits are four of 16, the
# highest first: on a 32-bit board a larger number than 30 bits is an object on the heap.
# Must never: make such a number, be loaded where the machine code runs.


def _words(data, at, n):
    """n words of `data`, each a list of four."""
    return [[data[i] << 8 | data[i + 1] for i in range(j, j + 8, 2)] for j in range(at, at + 8 * n, 8)]


def compress(state, data, at, k):
    """FIPS 180-4 6.4.2: the 128 bytes of data[at:], into `state` (bytearray of 64, changed in place). k: the 80
    constants, as bytes.

    x[i - n] >> s | x[i - n - 1] << 16 - s, cut to 16 bits, is part i of x rotated to the right by 16 n + s:
    indices below 0 go around by themselves."""
    w = _words(data, at, 16)
    words = _words(state, 0, 8)
    a, b, c, d, e, f, g, h = words
    for t in range(80):
        now = w[t & 15]
        if t > 15:
            x = w[t + 1 & 15]
            y = w[t + 14 & 15]
            z = w[t + 9 & 15]
            n = 0
            for i in (3, 2, 1, 0):
                # sigma0: rotr 1 ^ rotr 8 ^ shr 7; sigma1: rotr 19 ^ rotr 61 ^ shr 6
                s0 = x[i] >> 1 ^ x[i] >> 8 ^ x[i - 1] << 8 ^ x[i] >> 7 ^ (x[i - 1] & 1) << 15
                s1 = y[i - 1] >> 3 ^ y[i - 2] << 13 ^ y[i - 3] >> 13 ^ y[i] << 3 ^ y[i] >> 6
                if i:
                    s0 ^= x[i - 1] << 9
                    s1 ^= y[i - 1] << 10
                n = (n >> 16) + now[i] + z[i] + (s0 & 0xFFFF) + (s1 & 0xFFFF)
                now[i] = n & 0xFFFF
        # The new a and the new e go into what was h and d: no list is made.
        n = m = 0
        j = 8 * t + 6
        for i in (3, 2, 1, 0):
            # Sigma1: rotr 14 ^ rotr 18 ^ rotr 41; Sigma0: rotr 28 ^ rotr 34 ^ rotr 39
            s1 = e[i] >> 14 ^ e[i - 1] << 2 ^ e[i - 1] >> 2 ^ e[i - 2] << 14 ^ e[i - 2] >> 9 ^ e[i - 3] << 7
            s0 = a[i - 1] >> 12 ^ a[i - 2] << 4 ^ a[i - 2] >> 2 ^ a[i - 3] << 14 ^ a[i - 2] >> 7 ^ a[i - 3] << 9
            t1 = h[i] + (s1 & 0xFFFF) + (g[i] ^ e[i] & (f[i] ^ g[i])) + (k[j] << 8 | k[j + 1]) + now[i]
            n = (n >> 16) + d[i] + t1
            m = (m >> 16) + t1 + (s0 & 0xFFFF) + (a[i] & b[i] | c[i] & (a[i] | b[i]))
            d[i] = n & 0xFFFF
            h[i] = m & 0xFFFF
            j -= 2
        a, b, c, d, e, f, g, h = h, a, b, c, d, e, f, g
    j = 64
    for x in (h, g, f, e, d, c, b, a):
        n = 0
        for i in (3, 2, 1, 0):
            j -= 2
            n = (n >> 16) + (state[j] << 8 | state[j + 1]) + x[i]
            state[j] = n >> 8 & 0xFF
            state[j + 1] = n & 0xFF
