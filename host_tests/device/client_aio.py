# A board at the end of a line, as client_remote.py, whose program is asyncio's: each piece that the host sends
# (harness/aio.py) is the body of an `async def`, run in the loop; what it returns is its result.
import asyncio
import gc
import json
import os
import sys
import time

import umqtt5.errors as errors
from as_json import failure, given, plain
from umqtt5.aio import MQTTClient
from umqtt5.retry import Backoff
from usasl.scram import ScramSHA256

log = []  # what on_event has told: (name, value)
inbox = []  # what `note` got


def shown(value):
    """Exceptions as their names."""
    return type(value).__name__ if isinstance(value, Exception) else repr(value)


def note(message):
    """A handler."""
    inbox.append((message.topic, message.payload, message.qos, message.dup))


def told(name, value):
    """An on_event."""
    if name != "waiting":
        log.append((name, value))


def events(name):
    """How often on_event was told this."""
    return sum(n == name for n, _ in log)


async def until(condition, ms=5000):
    """Wait for a condition of this program's own."""
    end = time.ticks_add(time.ticks_ms(), ms)
    while not condition():
        if time.ticks_diff(end, time.ticks_ms()) <= 0:
            raise AssertionError("it did not come true; events: %s" % log)
        await asyncio.sleep_ms(2)


failed = []  # what tasks of spawn() have raised


def spawn(coro):
    async def run():
        try:
            await coro
        except Exception as x:
            failed.append(x)
            sys.print_exception(x)

    return asyncio.create_task(run())


def quick():
    """Waits that suit a test."""
    return Backoff(0.02, 0.1, 0.05, 0.1)


names = {
    "MQTTClient": MQTTClient,
    "Backoff": Backoff,
    "ScramSHA256": ScramSHA256,
    "asyncio": asyncio,
    "errors": errors,
    "events": events,
    "failed": failed,
    "gc": gc,
    "inbox": inbox,
    "log": log,
    "note": note,
    "os": os,
    "quick": quick,
    "spawn": spawn,
    "sys": sys,
    "time": time,
    "told": told,
    "until": until,
}


async def piece(task):
    names.update(given(task["values"]))
    lines = "\n".join("    " + line for line in task["code"].split("\n"))
    exec("async def piece():\n    pass\n" + lines, names)
    return await names["piece"]()


async def main():
    stream = asyncio.StreamReader(sys.stdin)
    while True:
        line = await stream.readline()
        if not line:
            break
        answer = {}
        try:
            answer["result"] = plain(await piece(json.loads(line)), shown)
        except Exception as e:
            answer["error"] = failure(e)
            sys.print_exception(e)
        print("\n>>> " + json.dumps(answer))


asyncio.run(main())
