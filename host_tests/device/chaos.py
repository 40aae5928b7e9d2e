# For chaos_robust.py and chaos_aio.py: what the script is told, by standard input; the arguments of its client; and
# what it says, as JSON lines.
import gc
import json
import os
import sys

from umqtt5.outbox import Outbox
from umqtt5.retry import Backoff
from umqtt5.store import Store

told = json.loads(sys.stdin.readline())
topic = told["topic"].encode()
got = []  # the messages' payloads
down = []  # why each connection was lost
store = Store(told["store"]) if told.get("store") else None


def event(name, value):
    if name == "lost":
        down.append(repr(value))


def options():
    """What both clients take, but for client_id and server."""
    found = {
        "port": told["port"],
        "keepalive": told.get("keepalive", 10),
        "backoff": Backoff(0.01, 0.05, 0.05, 0.1),
        "on_event": event,
        "timeout": told.get("timeout", 5),
    }
    found.update(told.get("options", {}))
    if told.get("user"):
        from usasl.scram import ScramSHA256

        found["auth"] = ScramSHA256(told["user"], told["password"])
    if store:
        found["store"] = store
        found["outbox"] = Outbox(50)
    return found


def say(**line):
    print(json.dumps(line))


def note(message):
    got.append(str(message.payload, "utf-8"))


def keep(message):
    """A handler. In order, each exactly once: the number kept with the message's identifier says so."""
    n = int(message.payload)
    if n != int(store.word or b"-1") + 1:
        say(wrong=[n, store.word.decode()])
    store.keep(b"%d" % n)


def measure():
    """Bytes of heap, and descriptors."""
    gc.collect()
    gc.collect()
    return gc.mem_alloc(), len(os.listdir("/proc/self/fd"))
