# The asyncio client's short ways (umqtt5/quick.py): what is like something before goes and comes by them, whatever
# the stream takes of it, and an interrupted write ends the connection.
import asyncio
import select

from test_aio import run, until
from umqtt5.aio import MQTTClient
from umqtt5.retry import Backoff


class Taking:
    """A stream whose next writes take what `takes` says: so many bytes, None: none; or raise that from then on."""

    def __init__(self, sock, takes):
        self.sock = sock
        self.takes = takes

    def write(self, buf, at, n=None):
        if n is None:
            at, n = 0, at
        if self.takes:
            most = self.takes[0]
            if isinstance(most, BaseException):
                raise most
            self.takes.pop(0)
            if most is None:
                return None
            n = min(n, most)
        return self.sock.write(memoryview(buf)[at : at + n])

    def readinto(self, buf, n):
        return self.sock.readinto(buf, n)


def publish(c, takes, *args, **options):
    """c.publish(), which writes before it returns; its stream is this one as long."""
    sock = c._sock
    c._sock = stream = Taking(sock, takes)
    try:
        return c.publish(*args, **options)
    finally:
        c._sock = sock
        assert not stream.takes or isinstance(stream.takes[0], BaseException), stream.takes


def long_ways(e):
    """Counts the PUBLISH packets that the engine builds: a list with the number."""
    built = [0]
    whole = e.publish

    def publish():
        built[0] += 1
        return whole()

    e.publish = publish
    return built


def test_whatever_the_stream_takes(broker_host, plain_port):
    """Packets in pieces, at each QoS, topics by turns: all of it arrives, once, in order."""

    async def main():
        got = []
        async with MQTTClient("aio-x", broker_host, plain_port) as c:
            await c.subscribe("aio-x/#", 2, lambda m: got.append((m.topic, m.payload, m.qos)))
            built = long_ways(c._engine)
            sent = []
            for qos in (0, 1, 2):
                for i in range(8):
                    takes = [[], [1], [None], [5, 1], [1, 1, 1, 1], [7, None], [0], [3, 3, 3]][i]
                    topic, msg = (b"aio-x/a", b"aio-x/b")[i & 1], "%d-%d" % (qos, i)
                    await publish(c, takes, topic, msg, qos=qos)
                    await c.publish(topic, msg + "!", qos=qos)
                    sent += [(topic, msg.encode(), qos), (topic, msg.encode() + b"!", qos)]
            await until(lambda: len(got) == len(sent))
            assert got == sent, got
            assert built[0] < len(sent), "all of them by the long way"
            assert c.epoch == 1

    assert run(main) == []


def test_the_short_way_is_taken(broker_host, plain_port):
    async def main():
        async with MQTTClient("aio-x", broker_host, plain_port) as c:
            for qos in (0, 1):
                for _ in range(3):  # its topic, its alias beside it, its alias alone
                    await c.publish(b"aio-x", b"first", qos=qos)
                built = long_ways(c._engine)
                for i in range(20):
                    await c.publish(b"aio-x", b"%d" % i, qos=qos)
                assert not built[0], built

    assert run(main) == []


def test_a_write_that_fails(broker_host, plain_port):
    """In a short way, at once or behind some bytes: at QoS > 0 its caller waits on, over the reconnect."""

    async def main():
        got = []
        backoff = Backoff(0.05, 0.05)
        async with MQTTClient("aio-x", broker_host, plain_port, session_expiry=60, backoff=backoff) as c:
            await c.subscribe("aio-x", 2, lambda m: got.append(m.payload))
            for qos in (0, 1, 2):
                for takes in ([OSError(104)], [4, OSError(32)]):
                    await c.publish(b"aio-x", b"before", qos=qos)
                    epoch = c.epoch
                    await publish(c, takes, b"aio-x", b"%d" % qos, qos=qos)
                    await until(lambda: c.epoch == epoch + 1 and c.connected)  # noqa: B023
            await c.flush()
            await c.publish(b"aio-x", b"end", qos=2)
            await until(lambda: got[-1] == b"end")
            assert got.count(b"1") == got.count(b"2") == 2, got
            assert not c._engine.session.in_flight()

    assert run(main) == []


def test_a_handler_publishes_behind_a_write_that_failed(broker_host, plain_port):
    """The last words are read while the short way still runs, and messages may be among them."""

    async def main():
        got = []
        backoff = Backoff(0.05, 0.05)
        sender = MQTTClient("aio-sender", broker_host, plain_port)
        async with MQTTClient("aio-x", broker_host, plain_port, session_expiry=60, backoff=backoff) as c, sender:
            answers = []
            await sender.subscribe("aio-x/out", 1, lambda m: got.append(m.payload))

            def answer(m):
                if not answers:  # it comes again: its acknowledgement finds no stream
                    answers.append(c.publish(b"aio-x/out", b"answer", qos=1))

            await c.subscribe("aio-x/in", 1, answer)
            for _ in range(3):
                await c.publish(b"aio-x/out", b"before", qos=1)
            await until(lambda: len(got) == 3)
            built = long_ways(c._engine)
            there = select.poll()
            there.register(c._sock, select.POLLIN)
            sent = asyncio.create_task(sender.publish("aio-x/in", b"", qos=1))
            c._got = lambda: None  # the reader lets it lie
            await until(lambda: there.poll(0))
            del c._got
            last = publish(c, [OSError(104)], b"aio-x/out", b"last", qos=1)
            assert len(answers) == 1, "the last words are not read any more"
            assert built == [1], "the last by the short way, its answer by the long one"
            await last
            await answers[0]
            await sent
            await until(lambda: len(got) == 5)
            assert got == [b"before"] * 3 + [b"last", b"answer"] and c.epoch == 2, (got, c.epoch)
            assert not c._engine.session.in_flight()

    assert run(main) == []


def test_ctrl_c_in_a_write(broker_host, plain_port):
    """Nobody knows how much of the packet is out: this connection is over, and the message goes out in the next."""

    async def main():
        got = []
        async with MQTTClient("aio-x", broker_host, plain_port, session_expiry=60) as c:
            await c.subscribe("aio-x", 1, lambda m: got.append(m.payload))
            for before in (1, 3):  # a long way, a short one
                got.clear()
                for _ in range(before):
                    await c.publish(b"aio-x", b"before", qos=1)
                await until(lambda: len(got) == before)  # noqa: B023
                epoch = c.epoch
                try:
                    await publish(c, [KeyboardInterrupt()], b"aio-x", b"interrupted", qos=1)
                    raise AssertionError
                except KeyboardInterrupt:
                    await c.publish(b"aio-x", b"bye", qos=1)  # not behind what may be half a packet
                await until(lambda: c.epoch == epoch + 1 and c.connected)  # noqa: B023
                await c.publish(b"aio-x", b"after", qos=1)
                await until(lambda: got[-1] == b"after")
                assert got == [b"before"] * before + [b"interrupted", b"bye", b"after"], got

    assert run(main) == []


def test_messages_in_a_row(broker_host, plain_port):
    """Those of a function and of `async for` by turns: each in order, and acknowledged."""

    async def main():
        got = []
        kept = []
        async with MQTTClient("aio-x", broker_host, plain_port, queue=60) as c:
            await c.subscribe("aio-x/plain", 2, lambda m: got.append((m.qos, m.payload)))
            await c.subscribe("aio-x/loop", 2)
            messages = c.__aiter__()
            for qos in (0, 1, 2):
                for i in range(15):
                    await c.publish("aio-x/plain", b"%d" % i, qos=qos)
                    await c.publish("aio-x/loop", b"%d" % i, qos=qos)
                await until(lambda: len(got) == len(kept) + len(c._inbox.items) == 15 * qos + 15)  # noqa: B023
                while len(kept) < len(got):
                    m = await messages.__anext__()
                    kept.append((m.qos, m.payload))
            assert got == kept == [(qos, b"%d" % i) for qos in (0, 1, 2) for i in range(15)], (got, kept)
            await c.publish("aio-x/plain", b"", qos=2)  # the broker has its acknowledgements: there is room
            assert c.epoch == 1 and c._engine.session.unmatched == 0

    assert run(main) == []
