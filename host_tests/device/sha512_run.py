# Hashes what the host tells with usasl.sha512 (see test_sha512.py), and says what it took for it.
#
# Told by standard input: {"which": "plain" (take that one) or anything else, "lengths": [...], "seed": 0-255}. Prints
# JSON lines: the kind of compress() that was taken at import, then the digests, hex.
import json
import sys
from binascii import hexlify

from usasl import sha512

told = json.loads(sys.stdin.read())
taken = "native" if "usasl.sha512_native" in sys.modules and "usasl.sha512_plain" not in sys.modules else "plain"
if told["which"] == "plain":
    from usasl.sha512_plain import compress

    sha512._compress = compress
print(json.dumps([taken]))
for n in told["lengths"]:
    data = bytes([(i * i + 31 * i + told["seed"]) & 255 for i in range(n)])
    print(json.dumps([hexlify(sha512.sha512(data).digest()).decode()]))
