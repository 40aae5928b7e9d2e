# usasl's PBKDF2-HMAC-SHA-256 with N iterations against 2 N bare `hashlib.sha256(96 bytes).digest()` calls: what it
# costs at the least with a hash that has no copy(). Prints one JSON line: [[microseconds ours, the limit's], ...].
#
# In turn with each slice of ours goes as much of the limit: what else the machine does hits both alike.
import gc
import json
import sys
from hashlib import sha256
from time import ticks_diff, ticks_us

from usasl.derive import pbkdf2

told = json.loads(sys.stdin.read())
data = bytes(96)


def limit(calls):
    hash = sha256  # a local name: faster
    d = data
    for _ in range(calls):
        hash(d).digest()


def one_round(iterations):
    ours = bare = done = 0
    gc.collect()
    start = ticks_us()
    for step in pbkdf2(sha256, b"a password of 26 characters", b"salt-of-16-bytes", iterations, 64):
        end = ticks_us()
        ours += ticks_diff(end, start)
        if isinstance(step, int):  # how many iterations are done; at last it is the key
            limit(2 * (step - done))
            done = step
        start = ticks_us()
        bare += ticks_diff(start, end)
    return [ours, bare]


print(json.dumps([one_round(told["iterations"]) for _ in range(told["rounds"])]))
