# A board at the end of a line: it runs each piece of program that the host sends (harness/remote.py), all in the
# same namespace, and says what became of it.
import json
import sys

import umqtt5.errors as errors
from as_json import failure, given, plain
from umqtt5 import MQTTClient

log = []  # what handlers and on_event have noted
names = {}


def note(message):
    """A handler: (topic, payload, qos, dup) of each message."""
    log.append((message.topic, message.payload, message.qos, message.dup))


def payload(size):
    """Bytes of all values, other ones for each size: too large to be sent by the host (test_sizes.py)."""
    return bytes([(size + i * 7 + i // 256) & 0xFF for i in range(size)])


def told(name, value):
    """An on_event."""
    log.append((name, value))


def until(condition, ms=5000):
    """Look for messages until condition() holds."""
    import time

    end = time.ticks_add(time.ticks_ms(), ms)
    while not condition():
        if time.ticks_diff(end, time.ticks_ms()) <= 0:
            raise AssertionError("it did not come true")
        if names["c"].check_msg() is None:
            time.sleep_ms(1)


def settle(ms=5000):
    """Look for messages until nothing of the client's is in flight."""
    e = names["c"]._engine
    until(lambda: not e.session.in_flight(), ms)


names.update(
    {
        "MQTTClient": MQTTClient,
        "errors": errors,
        "log": log,
        "note": note,
        "payload": payload,
        "told": told,
        "until": until,
        "settle": settle,
    }
)

while True:
    line = sys.stdin.readline()
    if not line:
        break
    task = json.loads(line)
    names.update(given(task["values"]))
    names["result"] = None
    answer = {}
    try:
        exec(task["code"], names)
        answer["result"] = plain(names["result"])
    except Exception as e:
        answer["error"] = failure(e)
        sys.print_exception(e)
    print("\n>>> " + json.dumps(answer))
