# The asyncio client against the real broker: many tasks, cancelled ones, messages in and out.
import asyncio
import os
import sys
import time

from umqtt5 import Reject
from umqtt5.aio import MQTTClient
from usasl.scram import ScramSHA256
from wire import raises

USER = "device1"


def run(main, *args):
    """The loop, with whatever it raises; what asyncio's exception handler gets fails the test, too."""
    heard = []
    loop = asyncio.get_event_loop()
    loop.set_exception_handler(lambda loop, context: heard.append(context["exception"]))
    asyncio.run(asyncio.wait_for(main(*args), 40))
    loop.set_exception_handler(None)
    return heard


def scram(name, host, port, passwords, **options):
    return MQTTClient(name, host, port, auth=ScramSHA256(USER, passwords[USER]), **options)


async def until(condition, ms=5000):
    end = time.ticks_add(time.ticks_ms(), ms)
    while not condition():
        assert time.ticks_diff(end, time.ticks_ms()) > 0, "it did not come true"
        await asyncio.sleep_ms(2)


def test_log_in_publish_and_read(broker_host, broker_port, passwords):
    async def main():
        async with scram("aio-a", broker_host, broker_port, passwords) as c:
            assert c.connected and c.state == "up" and c.connack["receive_maximum"] == 20
            assert await c.subscribe("aio-a/#", 2) == 2
            for qos in (0, 1, 2):
                await c.publish("aio-a/%d" % qos, "hello", qos=qos)
            got = []
            async for m in c:
                got.append((m.topic, m.payload, m.qos))
                await c.publish("elsewhere", b"from the body of the loop", qos=2)  # must not deadlock
                if len(got) == 3:
                    break
            assert sorted(got) == [(b"aio-a/%d" % qos, b"hello", qos) for qos in (0, 1, 2)], got
            assert await c.unsubscribe("aio-a/#") == 0
        assert c.state == "closed" and not c.connected
        error = None
        try:
            await c.publish("t", b"")
        except OSError as e:
            error = e
        assert error and "closed" in str(error)

    assert run(main) == []


def test_disconnect_ends_the_loop_and_what_waits(broker_host, plain_port):
    async def main():
        ended = []
        c = MQTTClient("aio-b", broker_host, plain_port)
        await c.connect()

        async def read():
            async for _ in c:
                pass
            ended.append("loop")

        async def flush():
            try:
                await c.flush()
                ended.append("flush")
            except OSError:
                ended.append("flush raised")

        tasks = [asyncio.create_task(read()), asyncio.create_task(flush())]
        await asyncio.sleep_ms(10)
        await c.disconnect()
        await asyncio.gather(*tasks)
        assert ended == ["flush", "loop"], ended
        assert await c.connect() is True  # the broker has kept the session
        await c.disconnect()

    assert run(main) == []


def test_handlers_plain_and_coroutine(broker_host, plain_port):
    async def main():
        got = []

        class Device:
            def plain(self, m):
                got.append(("plain", m.topic, m.payload, m.buf is c._engine.rx))

            async def coroutine(self, m):
                await asyncio.sleep_ms(1)
                got.append(("coroutine", m.topic, m.payload, m.buf is c._engine.rx))

        async def refuses(m):
            raise Reject(0x83)

        async with MQTTClient("aio-c", broker_host, plain_port) as c:
            d = Device()
            await c.subscribe("aio-c/plain", 1, d.plain)
            await c.subscribe("aio-c/coro", 1, d.coroutine)
            await c.subscribe("aio-c/not", 1, refuses)
            for _ in range(30):  # more than the queue, and than Receive Maximum
                await c.publish("aio-c/plain", b"x", qos=1)
                await c.publish("aio-c/coro", b"y", qos=1)
                await c.publish("aio-c/not", b"z", qos=1)
            await until(lambda: len(got) == 60)
            # The first message shows what kind of handler it is.
            assert got.count(("plain", b"aio-c/plain", b"x", True)) == 29
            assert got.count(("plain", b"aio-c/plain", b"x", False)) == 1
            assert got.count(("coroutine", b"aio-c/coro", b"y", False)) == 30
            assert c._engine.owed == 0

    assert run(main) == []


def test_a_handler_that_raises_is_told_and_the_connection_lives(broker_host, plain_port):
    async def main():
        def bad(m):
            raise KeyError("a plain handler's")

        async def worse(m):
            raise KeyError("a coroutine's")

        async with MQTTClient("aio-d", broker_host, plain_port) as c:
            await c.subscribe("aio-d/1", 0, bad)
            await c.subscribe("aio-d/2", 0, worse)
            await c.publish("aio-d/1", b"")
            await c.publish("aio-d/2", b"")
            await c.publish("aio-d/3", b"", qos=2)
            await asyncio.sleep_ms(20)
            assert c.epoch == 1

    assert [str(e) for e in run(main)] == ["a plain handler's", "a coroutine's"]


def test_more_than_the_queue_holds(broker_host, plain_port):
    # QoS 1 and 2: the broker waits for our acknowledgements, nothing is lost; QoS 0: dropped, counted and told.
    async def main():
        told = []
        c = MQTTClient(
            "aio-e", broker_host, plain_port, queue=4, receive_maximum=4, on_event=lambda *e: told.append(e)
        )
        async with c:
            await c.subscribe("aio-e", 2)
            for qos in (1, 2):
                for i in range(40):
                    await c.publish("aio-e", b"%d" % i, qos=qos)
                await asyncio.sleep_ms(20)
                assert 4 <= len(c._inbox.items) <= 12, len(c._inbox.items)
                got = []
                async for m in c:
                    got.append(m.payload)
                    if len(got) == 40:
                        break
                assert got == [b"%d" % i for i in range(40)], got
            for _ in range(40):
                await c.publish("aio-e", b"0")
            await c.publish("other", b"", qos=1)
            await until(lambda: c.dropped > 0)
            assert ("dropped", b"aio-e") in told
            assert c.epoch == 1

    assert run(main) == []


def test_twenty_tasks(broker_host, broker_port, passwords):
    """Each publishes 50 messages at QoS 1 and at QoS 2; every one comes once, in order."""

    async def main():
        got = {}

        def handler(m):
            got.setdefault(m.topic, []).append(int(m.payload))

        async with scram("aio-f", broker_host, broker_port, passwords) as c:
            await c.subscribe("aio-f/#", 2, handler)

            async def work(n):
                for i in range(50):
                    await c.publish("aio-f/1/%d" % n, b"%d" % i, qos=1)
                    await c.publish("aio-f/2/%d" % n, b"%d" % i, qos=2)

            await asyncio.gather(*[work(n) for n in range(20)])
            await until(lambda: sum(len(v) for v in got.values()) == 2000)
            await asyncio.sleep_ms(20)
            for numbers in got.values():
                assert numbers == list(range(50)), numbers
            assert len(got) == 40 and c.epoch == 1

    assert run(main) == []


def test_order_among_tasks_of_one_topic(broker_host, plain_port):
    # First come, first served, also where Receive Maximum makes them wait.
    async def main():
        got = []
        async with MQTTClient("aio-g", broker_host, plain_port, receive_maximum=2) as c:
            await c.subscribe("aio-g", 2, lambda m: got.append(int(m.payload)))
            for qos in (1, 2):
                tasks = [asyncio.create_task(c.publish("aio-g", b"%d" % i, qos=qos)) for i in range(60)]
                await asyncio.gather(*tasks)
                await until(lambda: len(got) == 60)
                assert got == list(range(60)), got
                got.clear()

    assert run(main) == []


def test_cancelled_at_every_point(broker_host, plain_port):
    """A publish is cancelled after 0, 1, 2 ... turns of the loop, large and small, at each QoS, beside others: the
    connection stays whole, and no other message is harmed."""

    async def main():
        got = []
        big = bytes(20000)

        def handler(m):
            got.append(m.payload)

        async with MQTTClient("aio-h", broker_host, plain_port, receive_maximum=3, rx_size=256) as c:
            e = c._engine
            await c.subscribe("aio-h/ok", 1, handler)
            n = 0
            for qos in (0, 1, 2):
                for msg in (b"small", big):
                    finished = 0
                    turns = 0
                    while finished < 3:
                        tasks = [asyncio.create_task(c.publish("aio-h/x", msg, qos=qos)) for _ in range(6)]
                        for _ in range(turns):
                            await asyncio.sleep_ms(0)
                        victim = tasks[turns % 6]
                        if victim.done():
                            finished += 1
                        victim.cancel()
                        await c.publish("aio-h/ok", b"%d" % n, qos=1)
                        n += 1
                        for t in tasks:
                            if t is not victim:
                                await t
                        turns += 1
                    assert turns > 3
            await c.flush()
            await until(lambda: len(got) == n)
            assert got == [b"%d" % i for i in range(n)]
            assert c.epoch == 1, "the connection broke"
            assert not e.session.in_flight() and c._turn is None and not any(c._lines) and c._tail is None
            assert not any(e.session.state), "a slot was lost"

    assert run(main) == []


def test_cancelled_where_the_stream_takes_nothing(broker_host, plain_port):
    # wait_for() ends publishes in the middle of their payload; nobody reads in between.
    async def main():
        async with MQTTClient("aio-i", broker_host, plain_port) as c:
            c._stuck = True  # as if the stream took nothing: what is built stays in the engine
            error = None
            try:
                await c.publish("aio-i", bytes(20000), timeout=0.02)
            except OSError as e:
                error = e
            assert error.errno == 110
            assert c._engine.left
            c._stuck = False
            c._push()
            await c.publish("aio-i", b"after", qos=2, timeout=2)
            assert c.epoch == 1

    assert run(main) == []


def test_a_cancelled_publish_is_completed(broker_host, plain_port):
    async def main():
        got = []
        async with MQTTClient("aio-j", broker_host, plain_port) as c:
            await c.subscribe("aio-j", 2, lambda m: got.append(m.payload))
            for i in range(10):
                t = asyncio.create_task(c.publish("aio-j", b"%d" % i, qos=2))
                await asyncio.sleep_ms(0)
                t.cancel()
            await until(lambda: len(got) == 10)
            await c.flush()
            assert not any(c._engine.session.state)

    assert run(main) == []


def test_cancelled_subscribe_and_unsubscribe(broker_host, plain_port):
    async def main():
        async with MQTTClient("aio-k", broker_host, plain_port) as c:
            for turns in range(12):
                tasks = [asyncio.create_task(c.subscribe("aio-k/%d" % i)) for i in range(6)]
                tasks.append(asyncio.create_task(c.unsubscribe("aio-k/%d" % turns)))
                for _ in range(turns):
                    await asyncio.sleep_ms(0)
                for t in tasks[turns % 3 :: 2]:
                    t.cancel()
                assert await c.subscribe("aio-k/last", 1, timeout=2) == 1
            await asyncio.sleep_ms(20)
            assert c.epoch == 1 and c._turn is None and not any(c._lines)
            assert not any(c._engine.session.state)

    assert run(main) == []


def test_who_is_put_back_keeps_its_place(broker_host, plain_port):
    # The task whose turn it is finds the way taken again before it runs: it waits on in front, not behind.
    async def main():
        done = []

        async def publish(i):
            await c.publish("aio-q", b"%d" % i, wait=False)
            done.append(i)

        async with MQTTClient("aio-q", broker_host, plain_port) as c:
            c._stuck = True  # as if the stream took nothing
            await c.publish("aio-q", b"", qos=1, wait=False)
            tasks = [asyncio.create_task(publish(i)) for i in range(4)]
            await asyncio.sleep_ms(5)
            c._stuck = False
            c._push()  # now it is task 0's turn; before it runs, a ping takes the way, and the stream is full again
            assert c._turn is tasks[0]
            c._engine.ping(time.ticks_ms())
            assert c._engine.next()
            c._stuck = True
            await asyncio.sleep_ms(5)
            assert c._turn is None and c._lines[0] == tasks, "the order of the line"
            c._stuck = False
            c._push()
            await asyncio.gather(*tasks)
            assert done == [0, 1, 2, 3], done
            assert c.epoch == 1

    assert run(main) == []


def test_every_call_cancelled_at_every_point(broker_host, broker_port, passwords):
    """connect, disconnect, subscribe, request, reauthenticate, flush and the next message, each cancelled after 0, 1,
    2 ... turns of the loop until one is through: what is left works, no task and no descriptor stays behind."""
    keys = ScramSHA256(USER, passwords[USER])  # derives once

    async def main():
        async def nothing():
            pass

        def waiting():
            return len(asyncio.core._io_queue.map), len(os.listdir("/proc/self/fd"))

        async def cancelled(call, after=nothing, most=400):
            """How many points there are."""
            for turns in range(most):
                t = asyncio.create_task(call())
                for _ in range(turns):
                    await asyncio.sleep_ms(0)
                done = t.done()
                t.cancel()
                try:
                    await t
                except asyncio.CancelledError:
                    pass
                await after()
                if done:
                    return turns
            return most

        at_rest = waiting()
        c = MQTTClient("aio-r", broker_host, broker_port, auth=keys)

        async def closed():
            await c.disconnect()
            await asyncio.sleep_ms(0)
            assert waiting() == at_rest, (waiting(), at_rest)
            assert c.state == "closed" and c._keeper is c._reader is c._writer is c._sock is None

        assert await cancelled(c.connect, closed) > 8

        async def left():
            await closed()
            await c.connect()

        await c.connect()
        await cancelled(c.disconnect, left)
        up = waiting()
        started = c.epoch

        async def whole():
            await c.publish("aio-r", b"", qos=2, timeout=3)
            assert (c.epoch, waiting()) == (started, up), (c.epoch, started, waiting(), up)
            assert c._turn is None and not any(c._lines) and not c._watchers, (c._turn, c._lines, c._watchers)

        async def answer(m):
            p = m.props
            props = {"correlation_data": p["correlation_data"]}
            await c.publish(p["response_topic"], m.payload, qos=1, props=props)

        await c.subscribe("aio-r/ask", 1, answer)
        assert await cancelled(lambda: c.request("aio-r/ask", b"?", qos=1), whole) > 2
        await until(lambda: not c._requests.open)

        async def flush():
            await c.publish("aio-r", b"", qos=2, wait=False)
            await c.flush()

        assert await cancelled(flush, whole) > 2
        assert await cancelled(c.reauthenticate, settled(c, whole)) > 2
        await c.subscribe("aio-r/next", 1)
        messages = c.__aiter__()

        async def get():
            await c.publish("aio-r/next", b"", qos=1)
            await messages.__anext__()

        assert await cancelled(get, whole) > 2
        await closed()

    assert run(main) == []


def test_reauthenticates_by_itself(broker_host, broker_port, passwords):
    # reauth_every: nobody calls, so the client's own task has to do the work that comes before the first packet.
    async def main():
        keys = ScramSHA256(USER, passwords[USER])
        began = 0
        async with MQTTClient("aio-s", broker_host, broker_port, auth=keys, reauth_every=1, timeout=2) as c:
            e = c._engine
            for _ in range(2):
                await until(lambda: e.authenticating)
                await until(lambda: not e.authenticating)
                began += 1
            await c.publish("aio-s", b"", qos=2, timeout=2)
            assert c.epoch == 1 and began == 2

    assert run(main) == []


def settled(c, check):
    """check(), when a re-authentication that was cancelled is over: it goes on by itself."""

    async def wait():
        await until(lambda: not c._engine.authenticating)
        await check()

    return wait


def test_request(broker_host, plain_port):
    async def main():
        client = MQTTClient("aio-l2", broker_host, plain_port)
        async with MQTTClient("aio-l1", broker_host, plain_port) as server, client:

            async def answer(m):
                p = m.props
                props = {"correlation_data": p["correlation_data"]}
                await server.publish(p["response_topic"], m.payload + b"!", qos=1, props=props)

            await server.subscribe("aio-l/ask", 1, answer)
            replies = await asyncio.gather(*[client.request("aio-l/ask", b"%d" % i, 3, qos=1) for i in range(5)])
            assert [r.payload for r in replies] == [b"%d!" % i for i in range(5)]
            error = None
            try:
                await client.request("aio-l/nobody", b"", timeout=0.05)
            except OSError as e:
                error = e
            assert error.errno == 110
            assert not client._requests.open

    assert run(main) == []


def test_tls(broker_host, tls_port, ca_der, passwords):
    async def main():
        with open(ca_der, "rb") as f:
            params = {"cadata": f.read(), "server_hostname": "localhost"}
        got = []
        async with scram("aio-m", broker_host, tls_port, passwords, ssl=True, ssl_params=params) as c:
            await c.subscribe("aio-m", 2, lambda m: got.append(len(m.payload)))
            tasks = [c.publish("aio-m", bytes(900), qos=n % 3) for n in range(12)]
            await asyncio.gather(*tasks)
            await c.publish("aio-m/big", bytes(100000), qos=1)
            await until(lambda: len(got) == 12)

    assert run(main) == []


def test_tls_with_the_wrong_ca_is_an_event(broker_host, tls_port, other_ca_der):
    async def main():
        told = []
        with open(other_ca_der, "rb") as f:
            params = {"cadata": f.read(), "server_hostname": "localhost"}
        c = MQTTClient(
            "aio-n", broker_host, tls_port, ssl=True, ssl_params=params, on_event=lambda *e: told.append(e)
        )
        c.start()
        await until(lambda: told)
        await c.disconnect()
        assert told[0][0] == "failed" and "TLS handshake" in str(told[0][1]), told

    assert run(main) == []


def test_arguments(broker_host, plain_port):
    raises(ValueError, MQTTClient, "me", [])
    raises(ValueError, MQTTClient, "me", "here", 0, None, None, 60, True)  # TLS without a CA

    async def main():
        async with MQTTClient("aio-o", broker_host, plain_port) as c:
            for call in (
                lambda: c.publish("a/#", b""),
                lambda: c.publish("a", b"", qos=3),
                lambda: c.subscribe("a/#/b"),
                lambda: c.subscribe("a", 3),
                lambda: c.disconnect(session_expiry=-1),
                lambda: c.disconnect(0x87),
            ):
                try:
                    await call()
                except ValueError:
                    continue
                raise AssertionError("no ValueError")
            await c.publish("a", b"still there", qos=1)

    assert run(main) == []
    assert "umqtt5.simple" not in sys.modules and "umqtt5.driver" not in sys.modules


def test_a_slow_program_hears_of_no_unfinished_business(broker_host, plain_port):
    # A broker's DISCONNECT, or the end, while tasks are in every kind of wait, and then disconnect().
    async def main():
        async with MQTTClient("aio-p", broker_host, plain_port) as c:
            c._stuck = True
            tasks = [asyncio.create_task(c.publish("aio-p", bytes(n * 500), qos=n % 3)) for n in range(6)]
            tasks.append(asyncio.create_task(c.subscribe("aio-p")))
            tasks.append(asyncio.create_task(c.request("aio-p", b"")))
            await asyncio.sleep_ms(5)
            c._end()
            results = await asyncio.gather(*tasks, return_exceptions=True)
            for r in results:
                assert r is None or isinstance(r, OSError), r

    assert run(main) == []
