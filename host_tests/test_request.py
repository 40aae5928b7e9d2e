"""request(): a request and its response (4.10), between two clients over a real broker; answers that are late,
wrong, or nobody's; and what else happens while it waits.
"""

import pytest
from harness import wire
from harness.cases import login
from harness.peer import Peer
from harness.remote import Board
from harness.scripts import Server, subscribed
from harness.wire import publish

RESPONSE_TOPIC, CORRELATION = 0x08, 0x09

RESPONDER = """
def answer(m):
    p = m.props
    log.append((m.topic, m.payload, p.get("content_type"), m.qos))
    given = {"correlation_data": p["correlation_data"], "user_property": [("from", "responder")]}
    c.publish(p["response_topic"], b"re: " + m.payload, qos=m.qos, props=given)
c.connect()
c.subscribe(topic, 2, answer)
"""


@pytest.fixture
def responder(broker):
    """A second client of ours that answers each request on `responder/#` in its handler."""
    with Board(broker.plain_port, "responder", tx_size=512) as board:
        board.run(RESPONDER, topic="responder/#")
        yield board


def listen(board):
    """The responder looks for messages until it is told otherwise by the end of the test."""
    board.start("while True: c.wait_msg()")


@pytest.mark.parametrize("qos", [0, 1, 2])
def test_two_clients(broker, responder, qos):
    """Several in a row: each gets its own answer, a message of its own with all of its properties."""
    listen(responder)
    with Board(broker.plain_port, "asker") as board:
        code = """
            c.connect()
            xy = {"content_type": "x/y"}
            answers = [c.request("responder/%d" % i, b"%d" % i, qos=qos, props=xy) for i in range(5)]
            result = [(m.payload, m.props["user_property"], m.topic) for m in answers]
            c.disconnect()
            """
        got = board.run(code, qos=qos)
    assert [entry[0] for entry in got] == [b"re: %d" % i for i in range(5)]
    assert {entry[1] for entry in got} == {(("from", "responder"),)}
    assert len({entry[2] for entry in got}) == 1


def test_what_the_responder_gets(broker):
    """Response Topic and Correlation Data, another one each time; the caller's properties beside them."""
    with Peer(broker.plain_port) as peer, Board(broker.plain_port, "asker2") as board:
        peer.subscribe("ask/peer")
        seen = set()
        board.run("c.connect()")
        for i in range(3):
            board.start("result = c.request('ask/peer', str(i), qos=1, props={'content_type': 'q'}).text", i=i)
            p = peer.receive()
            assert p.payload == b"%d" % i and p.prop(0x03) == "q"
            seen.add(p.prop(CORRELATION))
            peer.publish(p.prop(RESPONSE_TOPIC), "grün".encode(), 1, (CORRELATION, p.prop(CORRELATION)))
            assert board.wait() == "grün"
        assert len(seen) == 3 and all(len(data) >= 8 for data in seen)


def test_two_askers_at_the_same_time(broker):
    """Each has its own response topic: the answers come crosswise, and go where they belong."""
    with (
        Peer(broker.plain_port) as peer,
        Board(broker.plain_port, "left") as left,
        Board(broker.plain_port, "right") as right,
    ):
        peer.subscribe("ask/both")
        for board in (left, right):
            board.run("c.connect()")
            board.start("result = c.request('ask/both', c.client_id).payload")
        asked = [peer.receive(), peer.receive()]
        assert len({p.prop(RESPONSE_TOPIC) for p in asked}) == 2
        for p in reversed(asked):
            peer.publish(p.prop(RESPONSE_TOPIC), b"for " + p.payload, 0, (CORRELATION, p.prop(CORRELATION)))
        assert (left.wait(), right.wait()) == (b"for left", b"for right")


def test_no_answer_and_a_late_one(broker):
    """ETIMEDOUT, the connection stays; the answer that comes late is nobody's, and not that of the next request."""
    with Peer(broker.plain_port) as peer, Board(broker.plain_port, "late") as board:
        peer.subscribe("ask/late")
        board.run("c.connect()")
        error = board.error("c.request('ask/late', b'1', 0.3)")
        assert (error.type, error.errno) == ("OSError", 110) and "response" in error.text
        first = peer.receive()
        peer.publish(first.prop(RESPONSE_TOPIC), b"late", 0, (CORRELATION, first.prop(CORRELATION)))
        board.start("result = c.request('ask/late', b'2').payload")
        second = peer.receive()
        peer.publish(first.prop(RESPONSE_TOPIC), b"later", 0, (CORRELATION, first.prop(CORRELATION)))
        peer.publish(second.prop(RESPONSE_TOPIC), b"no data")
        peer.publish(second.prop(RESPONSE_TOPIC), b"empty", 0, (CORRELATION, b""))
        peer.publish(second.prop(RESPONSE_TOPIC), b"longer", 0, (CORRELATION, second.prop(CORRELATION) + b"x"))
        peer.publish(second.prop(RESPONSE_TOPIC), b"shorter", 0, (CORRELATION, second.prop(CORRELATION)[:-1]))
        peer.publish(second.prop(RESPONSE_TOPIC), b"in time", 0, (CORRELATION, second.prop(CORRELATION)))
        assert board.wait() == b"in time"
        peer.publish(second.prop(RESPONSE_TOPIC), b"twice", 0, (CORRELATION, second.prop(CORRELATION)))
        board.run("for i in range(20): c.check_msg()\nc.publish('x', b'', qos=2)")
        assert board.log() == (), "answers are no messages for others"
        board.run("c.disconnect()")


def test_other_messages_go_to_their_handlers_meanwhile(broker):
    """A handler that publishes, too; and it may not make a request of its own: that would wait."""
    code = """
        def other(m):
            log.append(m.payload)
            c.publish("ask/echo", m.payload, qos=1)
            try:
                c.request("ask/nested", b"")
            except RuntimeError:
                log.append("RuntimeError")
        c.connect()
        c.subscribe("ask/other", 1, other)
        """
    with Peer(broker.plain_port) as peer, Board(broker.plain_port, "busy") as board:
        peer.subscribe("ask/main")
        peer.subscribe("ask/echo")
        board.run(code)
        board.start("result = c.request('ask/main', b'').payload")
        p = peer.receive()
        for i in range(3):
            peer.publish("ask/other", b"%d" % i, 1)
        assert [peer.receive().payload for _ in range(3)] == [b"0", b"1", b"2"]
        assert board.busy(), "it still waits for its answer"
        peer.publish(p.prop(RESPONSE_TOPIC), b"done", 2, (CORRELATION, p.prop(CORRELATION)))
        assert board.wait() == b"done"
        assert board.log() == (b"0", "RuntimeError", b"1", "RuntimeError", b"2", "RuntimeError")


@pytest.mark.parametrize("clean", [True, False])
def test_after_a_reconnect(broker, clean):
    with Peer(broker.plain_port) as peer, Board(broker.plain_port, f"again{clean}") as board:
        peer.subscribe("ask/again")
        for _ in range(3):
            board.run("c.connect(clean)", clean=clean)
            board.start("result = c.request('ask/again', b'').payload")
            p = peer.receive()
            peer.publish(p.prop(RESPONSE_TOPIC), b"ok", 1, (CORRELATION, p.prop(CORRELATION)))
            assert board.wait() == b"ok"
            board.run("c.disconnect()")
        assert board.log() == ()


def test_the_connection_ends_meanwhile():
    """The end is told as such, at once; and the next connection asks anew."""

    def first(conn):
        subscribed(conn)
        conn.expect(wire.PUBLISH)
        conn.close()

    def second(conn):
        s = subscribed(conn)
        p = conn.expect(wire.PUBLISH)
        ident = (wire.SUBSCRIPTION_ID, s.prop(wire.SUBSCRIPTION_ID))
        conn.send(publish(p.prop(RESPONSE_TOPIC), b"yes", 0, 1, (CORRELATION, p.prop(CORRELATION)), ident))
        conn.serve()

    with Server(login(first), login(second)) as server, Board(server.port) as board:
        board.run("c.connect()")
        error = board.error("c.request('t', b'')")
        assert (error.type, error.errno) == ("OSError", 104)
        assert board.get("c.sock is None")
        assert board.get("c.connect() or c.request('t', b'').payload") == b"yes"
        board.run("c.disconnect()")
        server.finish()


def test_response_information():
    """3.2.2.3.15: the broker says where responses of this client may go."""

    def script(conn):
        s = subscribed(conn)
        p = conn.expect(wire.PUBLISH)
        assert s.filters[0][0].decode().startswith("answers/of/")
        assert p.prop(RESPONSE_TOPIC).encode() == s.filters[0][0]
        ident = (wire.SUBSCRIPTION_ID, s.prop(wire.SUBSCRIPTION_ID))
        conn.send(publish(p.prop(RESPONSE_TOPIC), b"yes", 0, 1, (CORRELATION, p.prop(CORRELATION)), ident))
        conn.serve()

    granted = (0x1A, "answers/of")
    with (
        Server(login(script, granted)) as server,
        Board(server.port, props={"request_response_information": 1}) as board,
    ):
        assert board.get("c.connect() or c.request('t', b'').payload") == b"yes"
        board.run("c.disconnect()")
        server.finish()


@pytest.mark.parametrize("client_id", ["a+b", "a#b", "$x", "a/b/", "ä ö"])
def test_client_ids_that_are_no_topics(broker, client_id):
    """Any client identifier will do, also one with what a topic must not have."""
    with Peer(broker.plain_port) as peer, Board(broker.plain_port, client_id) as board:
        peer.subscribe("ask/odd")
        board.run("c.connect()")
        board.start("result = c.request('ask/odd', b'').payload")
        p = peer.receive()
        peer.publish(p.prop(RESPONSE_TOPIC), b"yes", 0, (CORRELATION, p.prop(CORRELATION)))
        assert board.wait() == b"yes"
