# The asyncio client, told to do what chaos_robust.py does.
import asyncio
import gc
import json
import os
import sys

from umqtt5.aio import MQTTClient
from umqtt5.outbox import Outbox
from umqtt5.retry import Backoff
from umqtt5.store import Store

told = json.loads(sys.stdin.readline())
got = []
down = []


def event(name, value):
    if name == "lost":
        down.append(repr(value))


options = told.get("options", {})
if told.get("user"):
    from usasl.scram import ScramSHA256

    options["auth"] = ScramSHA256(told["user"], told["password"])
store = None
if told.get("store"):
    store = options["store"] = Store(told["store"])
    options["outbox"] = Outbox(50)
client = MQTTClient(
    told["id"],
    "127.0.0.1",
    told["port"],
    keepalive=told.get("keepalive", 10),
    backoff=Backoff(0.01, 0.05, 0.05, 0.1),
    clean_session=False,
    on_event=event,
    timeout=told.get("timeout", 5),
    **options,
)
topic = told["topic"].encode()
session = client._engine.session


def say(**line):
    print(json.dumps(line))


def note(message):
    got.append(str(message.payload, "utf-8"))


async def until(condition):
    while not condition():
        await asyncio.sleep_ms(1)


async def start():
    await client.connect()
    await client.subscribe(topic, 2, note)


async def every_byte():
    await start()
    await client.disconnect()
    say(ready=1)
    for n in range(told["count"]):
        await client.connect()
        await client.publish(topic, b"1-%05d" % n, qos=1)
        last = "2-%05d" % n
        await client.publish(topic, last.encode(), qos=2)
        await until(lambda last=last: last in got[-4:] and not (session.receiving and client.connected))
        await client.disconnect()
    say(got=got)


async def flood():
    await start()
    say(ready=1)
    qos = told["qos"]
    for n in range(told["count"]):
        await client.publish(topic, b"%d-%05d" % (qos, n), qos=qos, wait=False)
    await client.flush()
    last = "%d-%05d" % (qos, told["count"] - 1)
    await until(lambda: last in got[-100:] and not session.receiving)
    await client.disconnect()
    say(got=got, down=len(down))


async def hole():
    await start()
    say(ready=1)
    await until(lambda: down)
    say(down=down[0])


async def reconnects():
    await start()

    def measure():
        gc.collect()
        gc.collect()
        return gc.mem_alloc(), len(os.listdir("/proc/self/fd"))

    # One block of an asyncio task comes and goes: the most after the tenth, the least of the last ones.
    early = late = None
    for n in range(told["count"]):
        await client.publish(topic, b"x", qos=n % 3)
        await client.disconnect()
        await client.connect()
        got.clear()
        down.clear()
        if 9 <= n < 14:
            early = max(early or measure(), measure())
        if n >= told["count"] - 5:
            late = min(late or measure(), measure())
    say(early=early, late=late)


async def lives():
    def handler(message):
        n = int(message.payload)
        if n != int(store.word or b"-1") + 1:
            say(wrong=[n, store.word.decode()])
        store.keep(b"%d" % n)

    client.on(topic + b"/in", handler)  # a resumed session's messages may come before subscribe() has run
    await client.connect()
    await client.subscribe(topic + b"/in", 2, handler)
    say(ready=1)
    n = 0
    while told["end"] is None:
        payload = "%d-%d" % (told["life"], n)
        await client.publish(topic + b"/out", payload.encode(), qos=2, wait=False)
        say(accepted=payload)
        n += 1
    await until(lambda: int(store.word or b"-1") >= told["end"])
    await client.flush()
    await until(lambda: not session.receiving)
    await client.disconnect()
    say(word=store.word.decode(), end=1)


asyncio.run(globals()[told["do"]]())
