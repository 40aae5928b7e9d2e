"""Publishes that wait in the asyncio client's outbox, and messages in that outlive a power cut on its store."""

import pytest
from harness import wire
from harness.aio import AioBoard
from harness.scripts import Server, subscribed
from test_aio_stays_up import greet, leave, refuse

MAKE = """
global c
from umqtt5.outbox import Outbox
c = MQTTClient("board", "127.0.0.1", port, on_event=told, backoff=quick(), outbox=Outbox({bounds}), {more})
"""


def made(board, port, bounds="", more=""):
    board.run(MAKE.format(bounds=bounds, more=more), port=port)


def keep(payloads):
    """A script's rest: an honest broker that writes down the payloads of all PUBLISH, in order."""

    def then(conn):
        while (p := conn.next()) is not None and p.type != wire.DISCONNECT:
            if p.type == wire.PUBLISH:
                payloads.append(p.payload)
                if p.qos:
                    conn.send(wire.ack(wire.PUBACK if p.qos == 1 else wire.PUBREC, p.pid))
            elif p.type == wire.PUBREL:
                conn.send(wire.ack(wire.PUBCOMP, p.pid))

    return then


@pytest.mark.parametrize("wait", [True, False])
def test_published_offline_goes_out_in_order_before_what_comes_later(wait):
    got = []
    with Server(refuse(0x88), refuse(0x88), greet(then=keep(got))) as server, AioBoard() as board:
        made(board, server.port, "100, 4000")
        code = """
        c.start()
        tasks = [spawn(c.publish("t", b"%d" % i, qos=i % 3, wait=wait)) for i in range(30)]
        await until(lambda: c.connected)
        for i in range(30, 40):
            await c.publish("t", b"%d" % i, qos=i % 3)
        await c.flush()
        for t in tasks:
            await t
        await c.disconnect()
        return len(failed)
        """
        assert board.run(code, wait=wait) == 0
        server.finish()
    assert got == [b"%d" % i for i in range(40)]


def test_what_an_outage_caught_in_the_middle_keeps_its_order():
    """Tasks wait for room in flight when the connection breaks: they were first, and go first."""
    got = []

    def first(conn):
        conn.expect(wire.PUBLISH)
        conn.close()

    scripts = [greet((0x21, 1), then=first), greet((0x21, 1), then=keep(got))]
    with Server(*scripts) as server, AioBoard() as board:
        made(board, server.port)
        code = """
        await c.connect()
        tasks = [spawn(c.publish("t", b"%d" % i, qos=1)) for i in range(6)]
        await until(lambda: c.state != "up")
        tasks += [spawn(c.publish("t", b"%d" % i, qos=1)) for i in range(6, 12)]
        for t in tasks:
            await t
        await c.disconnect()
        """
        board.run(code)
        server.finish()
    assert got == [b"%d" % i for i in range(12)]


@pytest.mark.parametrize("full", ["wait", "oldest", "newest", "raise"])
def test_a_full_outbox(full):
    got = []
    with Server(greet(then=leave), greet(then=keep(got))) as server, AioBoard() as board:
        made(board, server.port, f"3, 1000, {full!r}")
        code = """
        c._backoff = Backoff(0.3, 0.3)
        await c.connect()
        await until(lambda: c.state == "waiting")
        errors = []
        async def one(i):
            try:
                await c.publish("t", b"%d" % i, qos=1)
            except Exception as x:
                errors.append((i, type(x).__name__))
        tasks = [spawn(one(i)) for i in range(6)]
        await until(lambda: c.connected)
        for t in tasks:
            await t
        await c.disconnect()
        return sorted(errors), events("dropped")
        """
        errors, dropped = board.run(code)
        server.finish()
    kept = {"wait": range(6), "oldest": range(3, 6), "newest": range(3), "raise": range(3)}[full]
    assert got == [b"%d" % i for i in kept]
    lost = [i for i in range(6) if i not in kept]
    assert [i for i, _ in errors] == lost
    assert {name for _, name in errors} <= {"ResourceError"}
    assert dropped == (len(lost) if full in ("oldest", "newest") else 0)


def test_a_cancelled_publish_stays_in_the_outbox():
    got = []
    with Server(refuse(0x88), greet(then=keep(got))) as server, AioBoard() as board:
        made(board, server.port)
        code = """
        c.start()
        try:
            await c.publish("t", b"1", qos=2, timeout=0.01)
        except OSError as x:
            assert x.errno == 110
        await until(lambda: c.connected)
        await c.flush()
        assert not any(c._engine.session.state)
        await c.disconnect()
        """
        board.run(code)
        server.finish()
    assert got == [b"1"]


def test_disconnect_tells_who_waits():
    with AioBoard() as board:
        made(board, 1, "1")
        code = """
        c.start()
        results = []
        async def one(qos):
            try:
                await c.publish("t", b"", qos=qos)
            except OSError as x:
                results.append(x.errno)
        tasks = [spawn(one(i % 3)) for i in range(4)]
        await asyncio.sleep_ms(10)
        await c.disconnect()
        for t in tasks:
            await t
        return results
        """
        assert board.run(code) == (107,) * 4


# --- the store

STORED = "store=Store(path), clean_session=False"


def stored(board, port, path):
    board.run("global Store\nfrom umqtt5.store import Store\nglobal path\npath = where", where=str(path))
    made(board, port, more=STORED)


def test_who_waited_for_room_and_is_cancelled_stands_in_nobody_s_way():
    """Another task waits behind it, with a connection where nothing else would happen."""
    got = []
    with Server(greet(then=leave), greet(then=keep(got))) as server, AioBoard() as board:
        made(board, server.port, "1, 100", "keepalive=0")
        code = """
        c._backoff = Backoff(0.1, 0.1)
        await c.connect()
        await until(lambda: c.state == "waiting")
        def hold(name, value):
            c._stuck = True  # as if the stream took nothing yet
        c._engine.on_event = hold
        await c.publish("t", b"1", wait=False)
        a = asyncio.create_task(c.publish("t", b"2"))
        await until(lambda: c.connected)
        b = spawn(c.publish("t", b"3"))
        await until(lambda: len(c._lines[0]) == 1)
        c._stuck = False
        c._push()
        a.cancel()  # it has just been told that there is room
        await until(lambda: b.done())
        await c.disconnect()
        """
        board.run(code)
        server.finish()
    assert got == [b"1", b"3"]


FULL_FLASH = """
import umqtt5.log
def full(*_):
    raise OSError(28)
umqtt5.log.open = full
if c._engine.session.store.log._file:
    c._engine.session.store.log._close()
"""


def test_closed_while_the_flash_takes_nothing(tmp_path):
    """disconnect() closes all the same, and who waits is told; with room again the client works."""
    with Server(greet(), greet(present=1)) as server, AioBoard() as board:
        stored(board, server.port, tmp_path / "log")
        board.run("await c.connect()\nglobal Store\nfrom umqtt5.store import StoreError\nglobal E\nE = StoreError")
        code = """
async def read():
    async for m in c:
        pass
reader = spawn(read())
await asyncio.sleep_ms(0)
try:
    await c.publish("t", b"x", qos=1)
except E:
    log.append(("full", 0))
await c.disconnect()
await until(lambda: reader.done())
assert c.state == "closed"
del umqtt5.log.open
assert await c.connect()
await c.publish("t", b"y", qos=1)
await c.disconnect()
"""
        board.run(FULL_FLASH + code)
        assert ("full", 0) in board.events()
        _, second = server.finish()
        assert [p.payload for p in second.all(wire.PUBLISH)] == [b"y"]


def test_subscribing_again_goes_on_where_the_flash_takes_nothing(tmp_path):
    """What could not be written is asked for again in the next connection."""

    def first(conn):
        subscribed(conn)
        subscribed(conn)
        conn.expect(wire.PUBLISH)
        conn.close()

    def second(conn):
        assert {subscribed(conn).filters[0][0] for _ in range(2)} == {b"a", b"b"}
        conn.expect(wire.PUBLISH)
        conn.close()

    scripts = [greet(then=first), greet(then=second), greet(present=1, then=second)]
    with Server(*scripts) as server, AioBoard() as board:
        stored(board, server.port, tmp_path / "log")
        code = """
        await c.connect()
        await c.subscribe("a")
        await c.subscribe("b")
        heard = []
        asyncio.get_event_loop().set_exception_handler(lambda loop, context: heard.append(context["exception"]))
        s = c._engine.session.store
        s.subscribed = lambda one: s._error(OSError(28))
        await c.publish("t", b"")
        await until(lambda: c.epoch == 2 and len(heard) == 2)
        del s.subscribed
        await c.publish("t", b"")
        await until(lambda: c.epoch == 3 and not c._anew)
        await c.publish("t", b"")
        await c.disconnect()
        return heard
        """
        assert board.run(code) == ("StoreError", "StoreError")
        server.finish()


def test_a_handler_s_error_leaves_the_next_identifier_to_the_flash(tmp_path):
    """Two handlers for one message at QoS 2: a coroutine, for which it is kept, and a plain one, which raises. What
    comes behind is received, and its identifier is on the flash before its PUBREC."""

    def script(conn):
        subscribed(conn)
        subscribed(conn)
        conn.send(wire.publish("in", b"1", 2, 7, (wire.SUBSCRIPTION_ID, 1), (wire.SUBSCRIPTION_ID, 2)))
        conn.send(wire.publish("in", b"2", 2, 8, (wire.SUBSCRIPTION_ID, 2)))
        assert conn.expect(wire.PUBREC).pid == 8
        conn.serve()

    with Server(greet(then=script)) as server, AioBoard() as board:
        stored(board, server.port, tmp_path / "log")
        code = """
        asyncio.get_event_loop().set_exception_handler(lambda loop, context: None)
        async def coroutine(m):
            pass
        def plain(m):
            inbox.append(m.payload)
            if m.payload == b"1":
                raise KeyError
        await c.connect()
        await c.subscribe("in", 2, coroutine)
        await c.subscribe("+", 2, plain)
        await until(lambda: len(inbox) == 2)
        await asyncio.sleep_ms(20)
        found = Store(path)._received
        await c.disconnect()
        return found
        """
        assert board.run(code) == (8,)
        server.finish()


def test_switched_off_with_a_full_outbox(tmp_path):
    got = []
    with AioBoard() as board:
        stored(board, 1, tmp_path / "log")
        board.run("c.start()\nfor i in range(6): await c.publish('t', b'%d' % i, qos=1 + i % 2, wait=False)")
    with Server(greet(then=keep(got))) as server, AioBoard() as board:
        stored(board, server.port, tmp_path / "log")
        board.run("await c.connect()\nawait c.flush()\nawait c.disconnect()")
        server.finish()
    assert got == [b"%d" % i for i in range(6)]


def test_a_message_that_was_only_queued_comes_again_after_a_power_cut(tmp_path):
    """QoS 2: its PUBREC goes out, and its identifier to the flash, when the program is through with it."""

    def first(conn):
        subscribed(conn)
        conn.send(wire.publish("in", b"x", 2, 7))
        conn.next(20)  # until the power is cut

    def second(conn):
        conn.send(wire.publish("in", b"x", 2, 7, flags=0x0C))
        assert conn.expect(wire.PUBREC).pid == 7
        conn.reset()  # the power is cut again, behind the PUBREC

    def third(conn):
        conn.send(wire.publish("in", b"x", 2, 7, flags=0x0C))
        assert conn.expect(wire.PUBREC).pid == 7
        conn.send(wire.ack(wire.PUBREL, 7))
        assert conn.expect(wire.PUBCOMP).pid == 7
        conn.serve()

    read = """
    await c.connect()
    await c.subscribe("in", 2)  # the session has it: nothing is sent
    async def read():
        async for m in c:
            inbox.append(m.payload)
    t = spawn(read())
    """
    scripts = [greet(then=first), greet(present=1, then=second), greet(present=1, then=third)]
    with Server(*scripts) as server:
        with AioBoard() as board:
            stored(board, server.port, tmp_path / "log")
            board.run("await c.connect()\nawait c.subscribe('in', 2)\nawait until(lambda: c._inbox.items)")
        with AioBoard() as board:
            stored(board, server.port, tmp_path / "log")
            board.run("c._backoff = Backoff(60, 60)")
            board.run(read)
            board.wait_for("events('lost')")
            assert board.get("inbox") == (b"x",)
        with AioBoard() as board:
            stored(board, server.port, tmp_path / "log")
            board.run(read)
            board.run("await until(lambda: c._engine.session.receiving == 0)\nawait c.disconnect()")
            assert board.get("inbox") == ()
        server.finish()


def test_a_message_still_queued_when_it_is_sent_again_is_no_second_one():
    """The connection breaks while a message at QoS 2 waits in the queue; the broker sends it again."""

    def first(conn):
        subscribed(conn)
        conn.send(wire.publish("in", b"1", 2, 7), wire.publish("in", b"2", 1, 8))
        conn.pause(0.05)
        conn.close()

    def second(conn):
        conn.send(wire.publish("in", b"1", 2, 7, flags=0x0C), wire.publish("in", b"2", 1, 8, flags=0x0A))
        acks = [conn.next() for _ in range(2)]
        assert [(p.type, p.pid) for p in acks] == [(wire.PUBREC, 7), (wire.PUBACK, 8)]
        conn.send(wire.ack(wire.PUBREL, 7))
        conn.serve()

    with Server(greet(then=first), greet(present=1, then=second)) as server, AioBoard(server.port) as board:
        code = """
        await c.connect()
        await c.subscribe("in", 2)
        await until(lambda: c.epoch == 2 and len(c._inbox.items) == 2)
        async def read():
            async for m in c:
                inbox.append(m.payload)
        t = spawn(read())
        await asyncio.sleep_ms(50)
        await c.disconnect()
        await t
        return inbox
        """
        assert board.run(code) == (b"1", b"2")
        server.finish()
