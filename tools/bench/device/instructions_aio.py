# n messages of one kind by our asyncio client: as instructions.py.
import asyncio
import json
import sys

import handlers
from umqtt5.aio import MQTTClient

TOPIC = b"bench/house/kitchen"
MESSAGE = b'{"t": 21.5, "h": 48, "n": 123}'

told = json.loads(sys.stdin.read())
what, n = told["what"], told["n"]


async def main():
    client = MQTTClient("counted", "127.0.0.1", told["port"])
    await client.connect()
    if what.startswith("publish QoS 0"):
        for _ in range(n):
            await client.publish(TOPIC, MESSAGE)
    elif what.startswith("publish QoS 1, pipelined"):
        for _ in range(n):
            await client.publish(TOPIC, MESSAGE, qos=1, wait=False)
        await client.flush()
    else:
        await client.subscribe(TOPIC, 1, handlers.take)
        while handlers.seen < n:
            await asyncio.sleep_ms(10)


asyncio.run(main())
print("done")
