# Message handlers that are not as they should be: what becomes of their messages, and of the connection.
import asyncio
import json

from test_aio import run, until
from umqtt5 import MQTTClient
from umqtt5.aio import MQTTClient as Aio
from umqtt5.message import Message
from umqtt5.retry import Backoff
from umqtt5.robust import MQTTClient as Robust
from wire import raises

MOST = 5  # receive_maximum


def fill(host, port, topic, n):
    """n messages that are no JSON, and one that is."""
    sender = MQTTClient("handlers-sender", host, port)
    sender.connect()
    for _ in range(n):
        sender.publish(topic, b"no JSON", qos=1)
    sender.publish(topic, b"{}", qos=1)
    sender.disconnect()


def test_as_many_raise_as_may_be_unacknowledged(broker_host, plain_port):
    """The last one ends the connection, for in this one nothing would come any more; and they come again."""
    got = []

    def handler(m):
        got.append(m.dup)
        if cured and m.payload != b"{}":
            return
        json.loads(m.payload)

    c = MQTTClient("handlers", broker_host, plain_port, receive_maximum=MOST, session_expiry=60, on_event=print)
    c.on("handlers/a", handler)
    c.connect()
    c.subscribe("handlers/a", 1, handler)
    cured = False
    fill(broker_host, plain_port, "handlers/a", MOST)
    for n in range(MOST):
        assert c.sock is not None, n
        raises(ValueError, c.wait_msg)
    assert c.sock is None and got == [False] * MOST
    raises(OSError, c.check_msg)
    cured = True
    assert c.connect(False)
    while len(got) < 2 * MOST + 1:
        c.wait_msg()
    assert got[MOST:] == [True] * MOST + [False]
    c.ping()
    c.disconnect()


def test_robust_connects_anew_by_itself(broker_host, plain_port):
    got = []

    def handler(m):
        got.append(m.payload)
        if len(got) <= MOST:
            json.loads(m.payload)

    c = Robust("handlers", broker_host, plain_port, receive_maximum=MOST)
    c.connect()
    c.subscribe("handlers/i", 1, handler)
    fill(broker_host, plain_port, "handlers/i", MOST)
    for _ in range(MOST):
        raises(ValueError, c.wait_msg)
    assert c.sock is None
    while b"{}" not in got:
        c.wait_msg()
    assert len(got) == 2 * MOST + 1, got
    c.publish("handlers/i", b"m", qos=2)
    c.disconnect()


def test_fewer_leave_the_connection(broker_host, plain_port):
    got = []

    def handler(m):
        got.append(m.payload)
        json.loads(m.payload)

    c = MQTTClient("handlers", broker_host, plain_port, receive_maximum=MOST)
    c.connect()
    c.subscribe("handlers/b", 1, handler)
    fill(broker_host, plain_port, "handlers/b", MOST - 1)
    for _ in range(MOST - 1):
        raises(ValueError, c.wait_msg)
    c.wait_msg()
    assert got[-1] == b"{}"
    c.disconnect()


def deaf(broker_host, plain_port, handler, got):
    events = []

    async def main():
        c = Aio("handlers", broker_host, plain_port, receive_maximum=MOST, backoff=Backoff(0.05, 0.05, 0.05, 0.05),
                on_event=lambda *event: events.append(event))  # fmt: skip
        async with c:
            await c.subscribe("handlers/c", 1, handler)
            fill(broker_host, plain_port, "handlers/c", MOST)
            await until(lambda: b"{}" in got)
            assert c.epoch == 2 and len(got) == 2 * MOST + 1, (c.epoch, got)
            await until(lambda: not c._engine.session.receiving)

    heard = run(main)
    assert [type(e) for e in heard] == [ValueError] * MOST, heard
    return [value for name, value in events if name == "lost"]


def test_asyncio_function(broker_host, plain_port):
    got = []

    def handler(m):
        got.append(m.payload)
        if len(got) <= MOST:  # so long it is not cured
            json.loads(m.payload)

    (lost,) = deaf(broker_host, plain_port, handler, got)
    assert "handlers raised" in str(lost), lost


def test_asyncio_coroutine(broker_host, plain_port):
    got = []

    async def handler(m):
        got.append(m.payload)
        await asyncio.sleep_ms(1)
        if len(got) <= MOST:
            json.loads(m.payload)

    (lost,) = deaf(broker_host, plain_port, handler, got)
    assert "handlers raised" in str(lost), lost


def test_a_lambda_that_publishes_is_called_once(broker_host, plain_port):
    """What asyncio's publish() returns can be awaited, but the packet may be out already."""

    async def main():
        for qos in (0, 1, 2):
            got = []
            async with Aio("handlers", broker_host, plain_port) as c:
                await c.subscribe("handlers/out", 2, lambda m: got.append(m.payload))  # noqa: B023
                await c.subscribe("handlers/in", 2, lambda m: c.publish("handlers/out", m.payload, qos=qos))  # noqa: B023
                for i in range(4):
                    await c.publish("handlers/in", b"%d" % i, qos=qos)
                await c.publish("handlers/out", b"end", qos=qos)
                await until(lambda: len(got) == 5)  # noqa: B023
                await asyncio.sleep_ms(20)
                assert sorted(got) == [b"0", b"1", b"2", b"3", b"end"], got

    assert run(main) == []


def test_a_coroutine_gets_its_first_message_once(broker_host, plain_port):
    async def main():
        got = []

        async def handler(m):
            await asyncio.sleep_ms(2)
            got.append((m.topic, m.payload))

        async with Aio("handlers", broker_host, plain_port) as c:
            await c.subscribe("handlers/d", 2, handler)
            for i in range(4):
                await c.publish("handlers/d", b"%d" % i, qos=2)
            await until(lambda: len(got) == 4)
            assert got == [(b"handlers/d", b"%d" % i) for i in range(4)], got

    assert run(main) == []


def test_a_coroutine_that_fails_between_two_connections(broker_host, plain_port):
    """While the next one logs in: its message belongs to the old one, and comes again."""

    async def main():
        for most in (1, MOST):
            got = []
            raised = []
            go = asyncio.Event()

            async def handler(m):
                await go.wait()  # noqa: B023
                if c.state != "up":  # noqa: B023
                    raised.append(m.payload)  # noqa: B023
                    raise ValueError
                got.append(m.payload)  # noqa: B023

            options = {"receive_maximum": most, "session_expiry": 60, "backoff": Backoff(0.01, 0.01)}
            c = Aio("handlers-%d" % most, broker_host, plain_port, **options)
            sender = Aio("handlers-sender", broker_host, plain_port)
            async with c, sender:
                await c.subscribe("handlers/i", 1, handler)
                await sender.publish("handlers/i", b"0", qos=1)
                await until(lambda: c._worker is not None)  # noqa: B023
                c._fail(OSError(104))
                c._got = lambda: None  # CONNACK lies there
                await until(lambda: c._reader is not None and c.state == "connecting")  # noqa: B023
                go.set()
                await until(lambda: raised)  # noqa: B023
                assert not got and c.state == "connecting"
                del c._got
                await until(lambda: got == [b"0"])  # noqa: B023
                await sender.publish("handlers/i", b"1", qos=1)
                await until(lambda: got == [b"0", b"1"])  # noqa: B023
                assert c.epoch == 2 and not c._engine.owed

    assert [type(e) for e in run(main)] == [ValueError] * 2


def test_no_memory_for_a_copy_of_the_first_message(broker_host, plain_port):
    """The handler gets the message itself; a coroutine is called again, with what its task has kept."""
    copy = Message.copy
    fails = []

    def no_memory(m, *args):
        if fails:
            raise fails.pop()
        return copy(m, *args)

    async def main():
        async with Aio("handlers", broker_host, plain_port) as c:
            plain = []
            later = []

            async def coroutine(m):
                await asyncio.sleep_ms(20)  # others come into the buffer
                later.append(m.payload)

            await c.subscribe("handlers/j", 1, lambda m: plain.append(m.payload))
            await c.subscribe("handlers/k", 1, coroutine)
            for topic, got in (("handlers/j", plain), ("handlers/k", later)):
                fails.append(MemoryError())
                for i in range(3):
                    await c.publish(topic, b"%d" % i, qos=1)
                await until(lambda: len(got) == 3)  # noqa: B023
                assert got == [b"0", b"1", b"2"] and not fails, got
            assert not c._engine.owed

    Message.copy = no_memory
    try:
        assert run(main) == []
    finally:
        Message.copy = copy


def test_nobody_to_give_it_to(broker_host, plain_port):
    events = []
    c = MQTTClient("handlers", broker_host, plain_port, on_event=lambda *event: events.append(event))
    c.connect()
    c.subscribe("handlers/e", 1)
    c.publish("handlers/e", b"x", qos=1)
    while not events:  # it may have come before the PUBACK
        c.wait_msg()
    assert events == [("unhandled", b"handlers/e")], events
    c.set_callback(lambda topic, msg: events.append(msg))
    c.publish("handlers/e", b"y", qos=1)
    while len(events) < 2:
        c.wait_msg()
    assert events[1:] == [b"y"], events
    c.disconnect()


def test_a_network_hook_that_is_a_plain_function(broker_host, plain_port):
    answers = [None, True, "192.168.4.2"]

    async def main():
        async with Aio("handlers", broker_host, plain_port, network=answers.pop) as c:
            await c.publish("t", b"m", qos=1)

    while answers:
        assert run(main) == []


def test_a_coroutine_that_nobody_runs(broker_host, plain_port):
    """The blocking client says so, each time, and acknowledges nothing."""

    async def handler(*_):
        raise AssertionError("it ran")

    c = MQTTClient("handlers", broker_host, plain_port)
    c.connect()
    c.subscribe("handlers/f", 1, handler)
    c.subscribe("handlers/g", 1)
    c.set_callback(handler)
    sender = MQTTClient("handlers-sender", broker_host, plain_port)
    sender.connect()
    for topic in ("handlers/f", "handlers/f", "handlers/g", "handlers/g"):
        sender.publish(topic, b"m", qos=1)
        assert "give a plain function" in str(raises(TypeError, c.wait_msg))
    assert c._engine.owed == 4
    c.disconnect()
    sender.disconnect()


def test_asyncios_callback_that_is_a_coroutine(broker_host, plain_port):
    got = []

    async def callback(topic, msg):
        await asyncio.sleep_ms(1)
        got.append((topic, msg))

    async def main():
        async with Aio("handlers", broker_host, plain_port) as c:
            c.set_callback(callback)
            await c.subscribe("handlers/h", 1)
            for i in range(3):
                await c.publish("handlers/h", b"%d" % i, qos=1)
            await until(lambda: len(got) == 3)

    assert run(main) == []
    assert got == [(b"handlers/h", b"%d" % i) for i in range(3)], got
