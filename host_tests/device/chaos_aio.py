# The asyncio client, told to do what chaos_robust.py does.
import asyncio

from chaos import down, got, keep, measure, note, options, say, store, told, topic
from umqtt5.aio import MQTTClient

client = MQTTClient(told["id"], "127.0.0.1", clean_session=False, **options())
session = client._engine.session


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
    client.on(topic + b"/in", keep)  # a resumed session's messages may come before subscribe() has run
    await client.connect()
    await client.subscribe(topic + b"/in", 2, keep)
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
