"""What becomes of messages in flight when the broker has forgotten the session, or takes less than it did before.

Scripted servers, so that each stage of an exchange can be had; and once a real mosquitto that was killed without
having saved anything.
"""

import pytest
from harness import wire
from harness.cases import login
from harness.logins import receive_connect
from harness.peer import Peer
from harness.proxy import OUT, Proxy
from harness.remote import Board, described
from harness.scripts import Server, within
from harness.wire import PUBACK, PUBCOMP, PUBLISH, PUBREC, PUBREL, ack, publish

from tools.devbroker import Broker

# Five messages, and how far each gets before the connection ends.
SEND = """
c.publish("t/acked", b"0", qos=1, wait=False)
c.publish("t/one", b"1", qos=1, wait=False)
c.publish("t/two", b"2", qos=2, wait=False)
c.publish("t/released", b"3", qos=2, wait=False)
c.publish("t/three", b"4", retain=True, qos=2, wait=False)
while True: c.wait_msg()
"""
UNSENT = [("unsent", (b"t/one", b"1")), ("unsent", (b"t/two", b"2")), ("unsent", (b"t/three", b"4"))]
UNCONFIRMED = ("unconfirmed", b"t/released")
RESENT = ["t/one", "t/two", "t/three"]


def first(conn):
    """PUBACK for the first, PUBREC for the fourth message, and the end."""
    pids = [conn.expect(PUBLISH).pid for _ in range(5)]
    conn.send(ack(PUBACK, pids[0]), ack(PUBREC, pids[3]))
    assert conn.expect(PUBREL).pid == pids[3]
    conn.close()


def topics(connection):
    return [p.topic.decode() for p in connection.all(PUBLISH)]


def three_connections(second, do, third=None, **options):
    """(connections, the board's log, what connect() returned) after the messages were cut off and `do` was run on the
    second connection."""
    scripts = [login(first), second, *([third] if third else [])]
    with Server(*scripts) as server, Board(server.port, **options) as board:
        assert board.get("c.connect(False)") is False
        assert board.error(SEND).type == "OSError"
        log = board.log()
        result = board.run(do)
        assert log == ()
        log = list(board.log())
        assert board.get("c._engine.session.in_flight()") == 0
        return server.finish(), log, result


NEW = "result = c.connect({})\nsettle()\nc.publish('t/new', b'5', qos=2)\nc.disconnect()"


@pytest.mark.parametrize("clean", [False, True])
def test_told(clean):
    """republish=False: every message is reported, none is sent again."""
    serve = login(lambda conn: conn.serve())
    connections, log, present = three_connections(serve, NEW.format(clean))
    assert present is False
    assert [entry for entry in log if entry[0] == "unsent"] == UNSENT
    assert [entry for entry in log if entry[0] != "unsent"] == [UNCONFIRMED]
    assert topics(connections[1]) == ["t/new"]
    assert connections[1].names().count("PUBREL") == 1, "the old exchange is over"


@pytest.mark.parametrize("clean", [False, True])
def test_sent_anew(clean):
    """republish=True: without DUP, in order; but never the one whose PUBREC came."""
    serve = login(lambda conn: conn.serve())
    connections, log, present = three_connections(serve, NEW.format(clean), republish=True)
    assert present is False
    assert log == [UNCONFIRMED]
    found = connections[1].all(PUBLISH)
    assert topics(connections[1]) == [*RESENT, "t/new"]
    assert [p.flags for p in found] == [2, 4, 5, 4], "no DUP; QoS and RETAIN as they were"
    assert [p.payload for p in found] == [b"1", b"2", b"4", b"5"]
    assert len({p.pid for p in found}) == 4


def test_sent_anew_and_cut_again():
    """What was sent anew belongs to the new session: it is resumed there, with DUP."""

    def second(conn):
        p = conn.expect(PUBLISH)
        assert not p.flags & 8
        conn.close()

    do = """
        present = c.connect(False)
        try:
            settle()
        except OSError:
            pass
        result = present, c.connect(False)
        settle()
        c.disconnect()
        """
    resumed = login(lambda conn: conn.serve(), present=1)
    connections, log, present = three_connections(login(second), do, resumed, republish=True)
    assert present == (False, True)
    assert log == [UNCONFIRMED]
    assert topics(connections[2]) == RESENT
    assert connections[2].all(PUBLISH)[0].flags == 0x0A


def test_session_present():
    """The same messages where the session is there: DUP, PUBREL where PUBREC came, in order."""
    serve = login(lambda conn: conn.serve(), present=1)
    connections, log, present = three_connections(serve, NEW.format(False))
    assert present is True and log == []
    expected = ["PUBLISH 2 dup", "PUBLISH 3 dup", "PUBREL 4", "PUBLISH 5 dup"]
    assert described(connections[1].received[1:5]) == expected
    assert topics(connections[1]) == [*RESENT, "t/new"]
    assert [p.flags for p in connections[1].all(PUBLISH)] == [0x0A, 0x0C, 0x0D, 4]


def test_resent_within_the_receive_maximum():
    """4.9 holds for what is resent, and the order (4.6) for what is published meanwhile."""

    def second(conn):
        in_flight = None
        while (p := within(conn, 0.1)) is None or p.type != wire.DISCONNECT:
            if p is None:  # it waits for us
                conn.send(ack(PUBACK if in_flight.qos == 1 else PUBREC, in_flight.pid))
                in_flight = in_flight if in_flight.qos == 2 else None
            elif p.type == PUBLISH:
                assert in_flight is None, "more than Receive Maximum allows"
                in_flight = p
            else:
                # The fourth message's is not counted: its PUBLISH is not in flight in this connection.
                assert p.type == PUBREL
                conn.send(ack(PUBCOMP, p.pid))
                in_flight = in_flight if in_flight and p.pid != in_flight.pid else None

    do = "c.connect(False)\nc.publish('t/new', b'5', qos=1)\nc.disconnect()"
    script = login(second, (0x21, 1), present=1)
    connections, log, _ = three_connections(script, do)
    assert topics(connections[1]) == [*RESENT, "t/new"] and log == []


@pytest.mark.parametrize(
    ("granted", "told"),
    [
        pytest.param((0x24, 1), {"t/two": 0x9B, "t/three": 0x9B}, id="maximum-qos-1"),
        pytest.param((0x24, 0), {"t/one": 0x9B, "t/two": 0x9B, "t/three": 0x9B}, id="maximum-qos-0"),
        pytest.param((0x25, 0), {"t/three": 0x9A}, id="no-retain"),
        pytest.param((0x27, 13), {"t/three": 0x95}, id="maximum-packet-size"),
    ],
)
def test_a_broker_that_takes_less_than_before(granted, told):
    """A message that can never go out any more is reported, not sent, and does not stand in the way."""
    script = login(lambda conn: conn.serve(), granted, present=1)
    do = "c.connect(False)\nsettle()\nc.publish('n', b'5')\nc.disconnect()"
    connections, log, _ = three_connections(script, do)
    assert log == [("refused", (topic.encode(), reason)) for topic, reason in told.items()]
    assert topics(connections[1]) == [topic for topic in RESENT if topic not in told] + ["n"]
    assert "PUBREL" in connections[1].names()


@pytest.mark.parametrize("present", [0, 1])
def test_a_message_received_at_qos_2_before_the_cut(present):
    """Identifier 5 again: in the same session it is the same message; in a new one, another."""

    def one(conn):
        conn.send(publish("in", b"first", 2, 5))
        conn.expect(PUBREC)
        conn.close()

    def two(conn):
        conn.send(publish("in", b"second", 2, 5, flags=0x0C if present else 4))
        assert conn.expect(PUBREC).reason == 0
        conn.send(ack(PUBREL, 5))
        assert conn.expect(PUBCOMP).reason == 0
        conn.send(publish("in", b"third", 2, 5))  # the identifier is free again
        assert conn.expect(PUBREC).reason == 0
        conn.serve()

    with Server(login(one), login(two, present=present)) as server, Board(server.port) as board:
        board.run("c.connect(False)")
        board.error("while True: c.wait_msg()")
        assert board.get("c.connect(False)") is bool(present)
        board.run("until(lambda: log[-1][1] == b'third')\nc.disconnect()")
        got = [payload for _, payload in board.log()]
        server.finish()
    assert got == ([b"first", b"third"] if present else [b"first", b"second", b"third"])


def test_requests_of_the_old_connection_are_forgotten():
    """A SUBSCRIBE that was not answered is nobody's to answer later: its identifier is free, its slot too."""

    def silent(conn):
        conn.expect(wire.SUBSCRIBE)
        conn.close()

    scripts = [login(silent), login(silent), login(silent), login(lambda conn: conn.serve(), present=1)]
    with Server(*scripts) as server, Board(server.port, receive_maximum=1) as board:
        for _ in range(3):
            board.run("c.connect(False)")
            assert board.error("c.subscribe('a/b', 1, note)").type == "OSError"
        board.run("c.connect(False)\nc.subscribe('a/b', 1, note)\nc.publish('x', b'', qos=2)\nc.disconnect()")
        last = server.finish()[-1]
    assert last.names() == ["CONNECT", "SUBSCRIBE", "PUBLISH", "PUBREL", "DISCONNECT"]


@pytest.mark.parametrize("republish", [False, True])
def test_a_real_broker_that_forgot(republish):
    """mosquitto, killed with a message at QoS 1 and one at QoS 2 on their way, nothing saved."""
    with (
        Broker(tls=False) as broker,
        Proxy(broker.plain_port) as proxy,
        Board(proxy.port, "forgotten", republish=republish) as board,
    ):
        board.run("c.connect(False)")
        proxy.stop_after(0)
        board.start("for q in (1, 2): c.publish('gone/t', b'%d' % q, qos=q, wait=False)\nsettle()")
        proxy.wait_seen(OUT, PUBLISH, 2)
        broker.kill()
        proxy.cut()
        assert board.error().type == "OSError"
        broker.start()
        with Peer(broker.plain_port) as witness:
            witness.subscribe("gone/#")
            assert board.get("c.connect(False)") is False
            board.run("settle()\nc.publish('gone/t', b'END', qos=2)\nc.disconnect()")
            got = witness.payloads()
        log = list(board.log())
    if republish:
        assert got == [b"1", b"2"] and log == []
    else:
        assert got == [] and log == [("unsent", (b"gone/t", b"1")), ("unsent", (b"gone/t", b"2"))]


def test_receive_connect_says_clean_start():
    """clean_session is Clean Start [MQTT-3.1.2-4], and the expiry that goes with it: None asks for ever."""
    seen = []

    def script(conn):
        seen.append(receive_connect(conn))
        conn.send(wire.connack(0))
        conn.serve()

    with Server(script, script, script) as server, Board(server.port) as board:
        board.run("c.connect(False)\nc.disconnect()\nc.connect(True)\nc.disconnect()")
        board.run("c._engine.terms.session_expiry = 77\nc.connect(False)\nc.disconnect()")
        server.finish()
    assert [(p.connect["clean"], p.prop(0x11)) for p in seen] == [(False, 0xFFFFFFFF), (True, None), (False, 77)]
