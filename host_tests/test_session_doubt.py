"""Session present does not say that our subscriptions are: the connection may have broken between the broker's making
a new session and its CONNACK's coming; or between SUBSCRIBE and SUBACK."""

import pytest
from harness import wire
from harness.aio import AioBoard
from harness.remote import Board
from harness.scripts import Server, nothing, subscribed
from test_aio_outbox import stored
from test_aio_stays_up import greet, refuse
from test_robust import MAKE


def first(conn):
    subscribed(conn)
    conn.close()


def lost(conn):
    """The broker has read CONNECT; its CONNACK goes nowhere."""
    conn.expect(wire.CONNECT)
    conn.reset()


def anew(conn):
    subscribed(conn)
    conn.serve()


def as_it_was(conn):
    nothing(conn)
    conn.serve()


# What happened between the connection that made the session and the one that finds one.
BETWEEN = {"a lost CONNACK": (lost, anew), "a refusal": (refuse(0x88), as_it_was)}


@pytest.mark.parametrize("what", BETWEEN)
def test_asyncio(what):
    between, last = BETWEEN[what]
    with Server(greet(then=first), between, greet(present=1, then=last)) as server, AioBoard(server.port) as board:
        board.run("await c.connect()\nawait c.subscribe('a', 1)\nawait until(lambda: c.epoch == 2)")
        board.run("await until(lambda: not c._anew)\nawait asyncio.sleep_ms(250)\nawait c.disconnect()")
        server.finish()


@pytest.mark.parametrize("what", [*BETWEEN, "nobody there"])
def test_robust(what):
    """Nobody there: no CONNECT has gone out."""
    between, last = BETWEEN.get(what, (None, as_it_was))
    scripts = [s for s in (greet(then=first), between, greet(present=1, then=last)) if s]
    with Server(*scripts) as server, Board() as board:
        board.run("import __main__\nnames = __main__.names\n" + MAKE, port=server.port)
        code = """
        make()
        c.connect()
        c.subscribe("a", 1, note)
        if what == "nobody there":
            c.port, good = 1, c.port
            delay = c.delay
            def wait(i):
                if i:
                    c.port = good
                delay(i)
            c.delay = wait
        until(lambda: ("reconnected", True) in log)
        until(lambda: not c._missing)
        import time
        time.sleep_ms(250)
        c.disconnect()
        """
        board.run(code, what=what)
        server.finish()


def test_it_is_remembered_over_a_power_cut(tmp_path):
    """The CONNACK is lost, the device goes to sleep: in its next life the store does not say that all is there."""
    with Server(greet(then=first), lost, greet(present=1, then=anew)) as server:
        for code in (
            "await c.connect()\nawait c.subscribe('a', 1)\nawait until(lambda: events('lost'))",
            "c.on('a', note, 1)\nc.start()\nawait until(lambda: events('failed'))",
            "c.on('a', note, 1)\nawait c.connect()\nawait until(lambda: not c._anew)\nawait c.disconnect()",
        ):
            with AioBoard() as board:
                stored(board, server.port, tmp_path / "log")
                board.run("c._backoff = Backoff(60, 60)\n" + code)
        server.finish()


def test_a_cancelled_subscribe_stays():
    """SUBSCRIBE was out, its answer never came: the caller has given up, but was told that it stays."""

    def unanswered(conn):
        conn.expect(wire.SUBSCRIBE)
        conn.pause(0.2)
        conn.close()

    with Server(greet(then=unanswered), greet(present=1, then=anew)) as server, AioBoard(server.port) as board:
        board.error("await c.connect()\nawait c.subscribe('a', 1, note, timeout=0.05)")
        board.run("await until(lambda: c.epoch == 2 and not c._anew)\nawait c.disconnect()")
        server.finish()
