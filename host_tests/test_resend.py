"""What a resumed session sends again: all of it, whatever goes out in between; once told where it cannot be."""

import pytest
from harness.aio import AioBoard
from harness.cases import login
from harness.remote import Board
from harness.scripts import Server, complete, subscribed
from harness.wire import PUBACK, PUBCOMP, PUBLISH, PUBREC, PUBREL, ack
from test_aio_stays_up import greet
from test_robust import MAKE


def test_a_subscription_in_the_middle():
    """The broker takes one message at a time; SUBSCRIBE, which takes a packet identifier too, goes out meanwhile."""

    def one(conn):
        for _ in range(3):
            conn.expect(PUBLISH)
        conn.close()

    def two(conn):
        p = conn.expect(PUBLISH)
        subscribed(conn)
        subscribed(conn)
        payloads = [p.payload]
        conn.send(ack(PUBACK, p.pid))
        for _ in range(2):
            p = conn.expect(PUBLISH)
            payloads.append(p.payload)
            complete(conn, p)
        assert payloads == [b"0", b"1", b"2"]
        conn.serve()

    with Server(login(one), login(two, (0x21, 1), present=1)) as server, Board(server.port) as board:
        board.run("c.connect(False)\nfor i in range(3): c.publish('t', b'%d' % i, qos=1, wait=False)")
        board.error("while True: c.wait_msg()")
        board.run("c.connect(False)\nc.subscribe('a')\nc.subscribe('b')\nsettle()\nc.disconnect()")
        server.finish()


TWO = """
c.publish("b", b"", qos=2, wait=False)
c.publish("d", b"", qos=2, wait=False)
"""


def interrupted(n):
    """A login, n PUBLISH, the end."""

    def script(conn):
        for _ in range(n):
            conn.expect(PUBLISH)
        conn.close()

    return greet(then=script)


def test_refused_by_the_next_broker_is_told_where_nobody_waits():
    """The one who waits for the first hears of it by an exception; that swallows no event of the others."""
    with Server(interrupted(3), greet((0x24, 1), present=1)) as server, AioBoard(server.port) as board:
        code = """
        await c.connect()
        a = asyncio.create_task(c.publish("a", b"", qos=2))
        await asyncio.sleep_ms(0)
        await c.publish("b", b"", qos=2, wait=False)
        await c.publish("d", b"", qos=2, wait=False)
        try:
            await a
        except errors.Refused as x:
            reason = x.reason
        await until(lambda: c.connected and not c._engine.session.in_flight())
        await c.disconnect()
        return reason, [value for name, value in log if name == "refused"]
        """
        assert board.run(code) == (0x9B, ((b"b", 0x9B), (b"d", 0x9B)))
        server.finish()


SORRY = """
def told(name, value):
    log.append((name, value))
    if name == "refused":
        c.publish("sorry", value[0])
"""


def both(conn):
    found = set()
    while len(found) < 2:
        p = conn.expect(PUBLISH)
        complete(conn, p)
        if not p.qos:
            found.add(p.payload)
    assert found == {b"b", b"d"}
    conn.serve()


def test_who_is_told_may_publish_robust():
    with Server(interrupted(2), greet((0x24, 1), present=1, then=both)) as server, Board() as board:
        board.run("import __main__\nnames = __main__.names\n" + SORRY + MAKE, port=server.port)
        board.run("make()\nc.connect()" + TWO + "c.publish('e', b'', qos=1)\nc.disconnect()")
        assert [v for n, v in board.log() if n == "refused"] == [(b"b", 0x9B), (b"d", 0x9B)]
        server.finish()


def test_who_is_told_may_publish_asyncio():
    with Server(interrupted(2), greet((0x24, 1), present=1, then=both)) as server, AioBoard(server.port) as board:
        board.run(SORRY + "c._engine.on_event = told\nawait c.connect()" + TWO.replace("c.", "await c."))
        board.run("await until(lambda: c.epoch == 2)\nawait c.publish('e', b'', qos=1)\nawait c.disconnect()")
        assert [v for n, v in board.events() if n == "refused"] == [(b"b", 0x9B), (b"d", 0x9B)]
        server.finish()


@pytest.mark.parametrize("again", [False, True])
def test_a_pubcomp_that_does_not_know_the_identifier(again):
    """3.7.2.1: 0x92 is no error during recovery: the PUBCOMP before was lost, the message has arrived. EMQX says it.
    In the connection that the message was sent in it is one."""

    def exchange(conn):
        p = conn.expect(PUBLISH)
        conn.send(ack(PUBREC, p.pid))
        assert conn.expect(PUBREL).pid == p.pid
        if again:
            conn.close()
        else:
            conn.send(ack(PUBCOMP, p.pid, 0x92))
            conn.serve()

    def two(conn):
        p = conn.expect(PUBREL)
        conn.send(ack(PUBCOMP, p.pid, 0x92))
        conn.serve()

    scripts = [greet(then=exchange)] + [greet(present=1, then=two)] * again
    with Server(*scripts) as server, AioBoard(server.port) as board:
        board.run("await c.connect()")
        if again:
            board.run("await c.publish('t', b'', qos=2)")
        else:
            assert board.error("await c.publish('t', b'', qos=2)").reason == 0x92
        board.run("await c.disconnect()")
        server.finish()
