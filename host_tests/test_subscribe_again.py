"""The blocking client's subscribe() where it is not the first one, or does not come to its end; and calls behind a
connection's."""

from harness.cases import login
from harness.remote import Board
from harness.scripts import Server
from harness.wire import PUBACK, SUBACK, SUBSCRIBE, ack, publish


def test_messages_on_their_way_when_it_is_subscribed_again():
    """They carry the first SUBSCRIBE's number."""

    def script(conn):
        for _ in range(2):
            s = conn.expect(SUBSCRIBE)
            conn.send(publish("in", b"m", 1, 7, (0x0B, 1)), ack(SUBACK, s.pid, 1))
            assert conn.expect(PUBACK).pid == 7
        conn.serve()

    with Server(login(script)) as server, Board(server.port) as board:
        board.run("c.connect()\nfor i in range(2): c.subscribe('in', 1, note)")
        board.run("c.publish('t', b'', qos=1)\nc.disconnect()")
        assert board.log() == ((b"in", b"m", 1, False),) * 2
        server.finish()


def test_subscribe_that_a_handlers_error_ends():
    """SUBSCRIBE is out: the broker has it, and so have we; or what comes would be acknowledged, and nobody's."""

    def script(conn):
        s = conn.expect(SUBSCRIBE)
        conn.send(publish("in", b"1", 1, 7, (0x0B, 1)), ack(SUBACK, s.pid, 1), publish("in", b"2", 1, 8, (0x0B, 1)))
        assert conn.expect(PUBACK).pid == 8
        conn.serve()

    with Server(login(script)) as server, Board(server.port) as board:
        code = """
        def handler(m):
            note(m)
            if m.payload == b"1":
                raise KeyError("1")
        c.connect()
        """
        board.run(code)
        assert board.error("c.subscribe('in', 1, handler)").type == "KeyError"
        board.run("until(lambda: len(log) == 2)\nc.disconnect()")
        # By the handler; the callback would note two of the four.
        assert board.log() == ((b"in", b"1", 1, False), (b"in", b"2", 1, False))
        server.finish()


def test_a_call_after_the_link_was_found_dead():
    """With a ping, or an acknowledgement, that waited to go out: the error is the same as ever."""
    with Server(login(lambda conn: None)) as server, Board(server.port) as board:
        board.run("c.connect()\nc._engine.ping(0)\nc._close()")
        for call in ("c.publish('t', b'')", "c.subscribe('t')", "c.unsubscribe('t')", "c.check_msg()"):
            assert board.error(call).errno == 107, call
        server.finish()
