# Compresses the blocks that the host tells (see test_sha512_carries.py).
#
# Told by standard input: [module, [[state, block, constants], ...]], hex. Prints a JSON line for each: the new state.
import json
import sys
from binascii import hexlify, unhexlify

module, cases = json.loads(sys.stdin.read())
compress = __import__("usasl." + module, None, None, ("compress",)).compress
for case in cases:
    state, block, constants = (bytearray(unhexlify(part)) for part in case)
    compress(state, block, 0, constants)
    print(json.dumps([hexlify(state).decode()]))
