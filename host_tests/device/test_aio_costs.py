# What the asyncio client costs: heap for a publish and for a message, wake-ups when nothing happens, and how long it
# keeps the loop to itself.
import asyncio
import gc
import time
from asyncio import core

from umqtt5.aio import MQTTClient
from usasl.scram import ScramSHA256

USER = "device1"
N = 50


def test_heap_of_publishing(broker_host, plain_port):
    # Bytes for each await client.publish(); on a 32-bit board it is half of that. QoS 0: now and then a yield.
    limits = {0: 16, 1: 400, 2: 480}

    async def main():
        cost = {}
        async with MQTTClient("aio-u", broker_host, plain_port) as c:
            for qos in (0, 1, 2):
                for i in range(N + 5):
                    if i == 5:
                        gc.collect()
                        gc.disable()
                        before = gc.mem_alloc()
                    await c.publish(b"aio-u", b"twelve bytes", False, qos)
                cost[qos] = (gc.mem_alloc() - before) / N
                gc.enable()
        print("publish", cost)
        for qos in limits:
            assert cost[qos] <= limits[qos], cost

    asyncio.run(main())


def test_heap_of_receiving(broker_host, plain_port):
    # Bytes for each message, from the read to the end of its handler: in place nothing, or nearly (a task that waits
    # for the stream costs what asyncio's queue does); copied: the copy, and what runs the coroutine.
    limits = {"plain": 200, "coroutine": 1000, "loop": 1300}

    async def main():
        cost = {}
        got = 0

        def plain(m):
            nonlocal got
            got += 1

        async def coroutine(m):
            nonlocal got
            got += 1

        async with MQTTClient("aio-v1", broker_host, plain_port) as sender:
            for kind, handler in (("plain", plain), ("coroutine", coroutine), ("loop", None)):
                async with MQTTClient("aio-v2", broker_host, plain_port) as c:
                    await c.subscribe("aio-v", 1, handler)
                    messages = c.__aiter__()
                    own = before = 0
                    for i in range(2 * N + 5):
                        if i == 5 or i == N + 5:
                            # First the sender alone, to a topic that nobody reads; then both.
                            if i == N + 5:
                                own = gc.mem_alloc() - before
                            gc.enable()
                            gc.collect()
                            gc.disable()
                            before = gc.mem_alloc()
                        if i < 5 or i >= N + 5:
                            n = got
                            await sender.publish(b"aio-v", b"twelve bytes", False, 1)
                            if handler:
                                while got == n:
                                    await asyncio.sleep_ms(0)
                            else:
                                await messages.__anext__()
                        else:
                            await sender.publish(b"aio-x", b"twelve bytes", False, 1)
                    cost[kind] = (gc.mem_alloc() - before - own) / N
                    gc.enable()
        print("message", cost)
        for kind in limits:
            assert cost[kind] <= limits[kind], cost

    asyncio.run(main())


def test_nothing_wakes_an_idle_client(broker_host, plain_port):
    # One timer wake-up in a keep alive interval (the ping), and the PINGRESP; with keepalive=0 none at all.
    async def main():
        c = MQTTClient("aio-w", broker_host, plain_port, keepalive=1)
        async with MQTTClient("aio-x", broker_host, plain_port, keepalive=0), c:
            await asyncio.sleep_ms(50)
            queue = core._io_queue
            passes = timers = 0
            timer = c._timer
            wait = queue.wait_io_event

            def counted(ms):
                nonlocal passes
                passes += 1
                wait(ms)

            def counted_timer():
                nonlocal timers
                timers += 1
                return timer()

            queue.wait_io_event = counted
            c._timer = counted_timer
            await asyncio.sleep_ms(4000)
            del queue.wait_io_event
            del c._timer
            assert c.epoch == 1
            print("timer wake-ups in 4 intervals:", timers, "passes of the loop:", passes)
            assert 4 <= timers <= 5, timers
            assert passes <= 4 * 5, passes  # each wake-up is two passes of asyncio's loop

    asyncio.run(main())


def longest(main):
    """ms: the longest time that a task that always wants to run had to wait while main() ran."""
    worst = 0

    async def ticker():
        nonlocal worst
        last = time.ticks_us()
        while True:
            await asyncio.sleep_ms(0)
            now = time.ticks_us()
            worst = max(worst, time.ticks_diff(now, last))
            last = now

    async def both():
        t = asyncio.create_task(ticker())
        await main()
        t.cancel()

    gc.collect()
    asyncio.run(both())
    return worst / 1000


def test_the_loop_is_never_kept_long(broker_host, broker_port, tls_port, ca_der, passwords):
    with open(ca_der, "rb") as f:
        params = {"cadata": f.read(), "server_hostname": "localhost"}

    async def log_in(port, **options):
        async with MQTTClient("aio-y", broker_host, port, auth=ScramSHA256(USER, passwords[USER]), **options) as c:
            got = 0

            def handler(m):
                nonlocal got
                got += 1

            await c.subscribe("aio-y", 0, handler)
            payload = bytes(200)
            for _ in range(1000):
                await c.publish(b"aio-y", payload)
            while got < 1000:
                await asyncio.sleep_ms(1)

    def held(ms, *args, **options):
        """The shortest of three, at most: the machine does other things too."""
        shortest = 1e9
        for _ in range(3):
            shortest = min(shortest, longest(lambda: log_in(*args, **options)))
            if shortest < ms:
                break
        return shortest

    plain = held(100, broker_port)
    tls = held(150, tls_port, ssl=True, ssl_params=params)
    print("longest time without a yield: %.1f ms, with TLS %.1f ms" % (plain, tls))
    assert plain < 100 and tls < 150, (plain, tls)
