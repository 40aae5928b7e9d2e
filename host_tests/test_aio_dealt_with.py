"""Messages that a coroutine of the application's has not dealt with: it raised, refused, or was cancelled. They come
again, at QoS 2 too, and nothing that comes later is taken for them."""

import pytest
from harness import wire
from harness.aio import AioBoard
from harness.scripts import Server, nothing, subscribed
from test_aio_outbox import made, stored
from test_aio_stays_up import greet

OURS = (wire.SUBSCRIPTION_ID, 1)

# A handler that notes what it gets; `first(message)` is awaited the first time.
HANDLER = """
global calls
calls = []
async def handler(m):
    calls.append(m.payload)
    if len(calls) == 1:
        await first(m)
await c.connect()
await c.subscribe("in", 2, handler)
"""


def complete(conn, pid):
    """Our half of a message at QoS 2."""
    p = conn.expect(wire.PUBREC)
    assert (p.pid, p.reason) == (pid, 0)
    conn.send(wire.ack(wire.PUBREL, pid))
    p = conn.expect(wire.PUBCOMP)
    assert (p.pid, p.reason) == (pid, 0)


@pytest.mark.parametrize("how", ["raised", "cancelled"])
@pytest.mark.parametrize("kept", [False, True])
def test_it_comes_again(how, kept, tmp_path):
    """kept: with a store, which must not regard it as received."""

    def one(conn):
        subscribed(conn)
        conn.send(wire.publish("in", b"m", 2, 7, OURS))
        nothing(conn) if how == "raised" else conn.expect(wire.DISCONNECT)
        conn.close()

    def two(conn):
        conn.send(wire.publish("in", b"m", 2, 7, OURS, flags=0x0C))
        complete(conn, 7)
        conn.serve()

    code = """
        async def first(m):
            if how == "raised":
                raise KeyError("once")
            await asyncio.sleep(10)
        """
    again = """
        await until(lambda: calls)
        if how == "cancelled":
            await c.disconnect()
            await c.connect()
        await until(lambda: c.epoch == 2 and not c._engine.session.receiving and len(calls) == 2)
        await c.disconnect()
        return c._engine.undealt, store._held if store else []
        """
    with Server(greet(then=one), greet(present=1, then=two)) as server, AioBoard() as board:
        stored(board, server.port, tmp_path / "log") if kept else made(board, server.port)
        board.run(code + HANDLER.replace("\n", "\n        ") + "store = c._engine.session.store" + again, how=how)
        server.finish()


def test_a_refused_one_frees_its_identifier():
    """4.3.3: after PUBREC 0x83 there is no PUBREL: what comes with this identifier is another message."""

    def script(conn):
        subscribed(conn)
        conn.send(wire.publish("in", b"1", 2, 7, OURS))
        assert conn.expect(wire.PUBREC).reason == 0x83
        conn.send(wire.publish("in", b"2", 2, 7, OURS))
        complete(conn, 7)
        conn.serve()

    code = """
        from umqtt5 import Reject
        async def first(m):
            raise Reject(0x83, {"user_property": (("why", "no"),)})
        """
    check = """
        await until(lambda: len(calls) == 2 and not c._engine.session.receiving)
        assert not c._engine.owed
        await c.disconnect()
        return calls
        """
    with Server(greet(then=script)) as server, AioBoard(server.port) as board:
        assert board.run(code + HANDLER.replace("\n", "\n        ") + check) == (b"1", b"2")
        server.finish()


def test_a_refusal_that_cannot_be_sent_is_the_handlers_error():
    """Properties that are none: the connection is whole, as with a plain handler."""

    def script(conn):
        subscribed(conn)
        conn.send(wire.publish("in", b"1", 2, 7, OURS))
        nothing(conn)
        conn.send(wire.publish("in", b"2", 2, 8, OURS))
        complete(conn, 8)
        conn.serve()

    code = """
        from umqtt5 import Reject
        async def first(m):
            raise Reject(0x83, {"nonsense": 1})
        """
    check = """
        await until(lambda: len(calls) == 2 and not c._engine.session.receiving)
        await c.disconnect()
        return c.epoch
        """
    with Server(greet(then=script)) as server, AioBoard(server.port) as board:
        assert board.run(code + HANDLER.replace("\n", "\n        ") + check) == 1
        server.finish()


@pytest.mark.parametrize("slow", [False, True])
def test_what_was_queued_at_disconnect_is_dealt_with_later(slow):
    """One message is with the handler, which disconnect() cancels; one is behind it, or comes while the handler still
    takes its time to end. No other message need come for that to be dealt with."""

    def one(conn):
        subscribed(conn)
        conn.send(wire.publish("in", b"1", 0, 0, OURS))
        if not slow:
            conn.send(wire.publish("in", b"2", 2, 8, OURS))
        conn.expect(wire.DISCONNECT)

    def two(conn):
        conn.send(wire.publish("in", b"2", 2, 8, OURS, flags=0x0C))
        complete(conn, 8)
        conn.serve()

    code = """
        async def first(m):
            try:
                await asyncio.sleep(10)
            finally:
                if slow:
                    await asyncio.sleep_ms(100)
        """
    check = """
        await until(lambda: calls and (slow or c._jobs.items))
        await c.disconnect()
        await c.connect()
        await until(lambda: len(calls) == 2 and not c._engine.session.receiving)
        await c.disconnect()
        return calls
        """
    with Server(greet(then=one), greet(present=1, then=two)) as server, AioBoard(server.port) as board:
        assert board.run(code + HANDLER.replace("\n", "\n        ") + check, slow=slow) == (b"1", b"2")
        server.finish()
