"""publish(wait=False): as many messages on their way as the broker's Receive Maximum allows (4.9), and then it waits;
what nobody waits for is told to on_event. And what else bounds a publish: our own table, the broker's Maximum Packet
Size, Maximum QoS and Retain Available.
"""

import pytest
from harness import wire
from harness.cases import login
from harness.observer import Subscriber
from harness.remote import Board
from harness.scripts import Server, complete, nothing
from harness.wire import PUBACK, PUBCOMP, PUBLISH, PUBREC, PUBREL, ack

FIVE = "for i in range(5): c.publish('t/%d' % i, b'%d' % i, qos=qos, wait=False)"


def run(script, code, *granted, told=(), **options):
    """(the server's connection, the board's log) after the board ran `code` between connect() and disconnect()."""
    with Server(login(script, *granted)) as server, Board(server.port, **options) as board:
        board.run("c.connect()")
        board.run(code, **dict(told))
        log = board.log()
        board.run("c.disconnect()")
        return server.finish()[0], list(log)


def topics(conn):
    return [p.topic.decode() for p in conn.all(PUBLISH)]


def test_qos_1_up_to_the_receive_maximum():
    """Three, then one for each acknowledgement, whichever it is for."""

    def script(conn):
        p = [conn.expect(PUBLISH) for _ in range(3)]
        nothing(conn)
        conn.send(ack(PUBACK, p[1].pid))
        p.append(conn.expect(PUBLISH))
        nothing(conn)
        conn.send(ack(PUBACK, p[0].pid), ack(PUBACK, p[3].pid))
        p.append(conn.expect(PUBLISH))
        nothing(conn)
        conn.send(ack(PUBACK, p[2].pid), ack(PUBACK, p[4].pid))

    conn, log = run(script, FIVE + "\nsettle()", (0x21, 3), told={"qos": 1})
    assert topics(conn) == [f"t/{i}" for i in range(5)] and log == []


def test_messages_without_end_do_not_hold_it_up():
    """It reads on behind an acknowledgement, but not for as long as messages come."""

    def script(conn):
        p = [conn.expect(PUBLISH) for _ in range(3)]
        conn.send(ack(PUBACK, p[0].pid), ack(PUBACK, p[1].pid), *[wire.publish("m", b"")] * 500)
        p += [conn.expect(PUBLISH) for _ in range(2)]
        conn.send(*(ack(PUBACK, q.pid) for q in p[2:]))

    count = "seen = []\nc.set_callback(lambda topic, msg: seen.append(msg))\n"
    _, log = run(script, count + FIVE + "\nlog.append(len(seen))\nsettle()", (0x21, 3), told={"qos": 1})
    assert len(log) == 1 and log[0] < 10


def test_qos_2_counts_until_pubcomp():
    """PUBREC frees no place, PUBCOMP does, and so does a PUBREC that refuses."""

    def script(conn):
        p = [conn.expect(PUBLISH) for _ in range(3)]
        conn.send(*(ack(PUBREC, q.pid) for q in p[:2]))
        assert [conn.expect(PUBREL).pid for _ in range(2)] == [q.pid for q in p[:2]]
        nothing(conn)
        conn.send(ack(PUBCOMP, p[1].pid))
        p.append(conn.expect(PUBLISH))
        nothing(conn)
        conn.send(ack(PUBREC, p[2].pid, 0x97))
        p.append(conn.expect(PUBLISH))
        conn.send(ack(PUBCOMP, p[0].pid))
        for q in p[3:]:
            complete(conn, q)

    conn, log = run(script, FIVE + "\nsettle()", (0x21, 3), told={"qos": 2})
    assert topics(conn) == [f"t/{i}" for i in range(5)]
    assert log == [("refused", (b"t/2", 0x97))]


def test_qos_0_and_others_are_not_counted():
    def script(conn):
        p = conn.expect(PUBLISH)
        assert conn.expect(PUBLISH).qos == 0
        s = conn.expect(wire.SUBSCRIBE)
        conn.send(ack(wire.SUBACK, s.pid, 0))
        nothing(conn)
        conn.send(ack(PUBACK, p.pid))

    code = "c.publish('a', b'', qos=1, wait=False)\nc.publish('b', b'')\nc.subscribe('s/s')\nsettle()"
    conn, log = run(script, code, (0x21, 1))
    assert topics(conn) == ["a", "b"] and log == []


@pytest.mark.parametrize("qos", [1, 2])
def test_our_own_table_is_a_bound_too(qos):
    """receive_maximum=2 of ours, the broker would take 65535."""

    def script(conn):
        for n in (2, 2, 1):
            p = [conn.expect(PUBLISH) for _ in range(n)]
            nothing(conn, 0.1)
            if qos == 2:
                conn.send(*(ack(PUBREC, q.pid) for q in p))
                assert [conn.expect(PUBREL).pid for _ in p] == [q.pid for q in p]
                nothing(conn, 0.1)
            conn.send(*(ack(PUBACK if qos == 1 else PUBCOMP, q.pid) for q in p))

    conn, log = run(script, FIVE + "\nsettle()", receive_maximum=2, told={"qos": qos})
    assert topics(conn) == [f"t/{i}" for i in range(5)] and log == []


def test_no_more_in_flight_than_the_table_has():
    """2.2.1: packet identifiers in flight are distinct, whatever is mixed."""

    def script(conn):
        p = [conn.expect(PUBLISH) for _ in range(20)]
        assert len({q.pid for q in p}) == 20
        nothing(conn, 0.1)
        conn.send(*(ack(PUBACK if q.qos == 1 else PUBREC, q.pid) for q in p))
        conn.serve()

    code = """
        for i in range(20): c.publish("t", b"%d" % i, qos=1 + i % 2, wait=False)
        c.publish("t", b"20", qos=1)
        while c._engine.session.in_flight(): c._turn(c._deadline())  # the script still answers: do not leave
        """
    conn, _ = run(script, code)
    assert [p.payload for p in conn.all(PUBLISH)] == [b"%d" % i for i in range(21)]


def test_waiting_for_the_receive_maximum_has_a_deadline():
    """The message that found no place is not sent, and not kept; the error says so in time."""

    def script(conn):
        p = conn.expect(PUBLISH)
        while conn.next(2):
            pass
        assert p.topic == b"t/0"

    with Server(login(script, (0x21, 1))) as server, Board(server.port, timeout=0.5) as board:
        board.run("c.connect()")
        error = board.error(FIVE, qos=1)
        (conn,) = server.finish()
    assert (error.type, error.errno) == ("OSError", 110)
    assert topics(conn) == ["t/0"]


@pytest.mark.parametrize("reason", [0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99])
@pytest.mark.parametrize(("qos", "kind"), [(1, PUBACK), (2, PUBREC)])
def test_refusals(qos, kind, reason):
    """Told where nobody waits, raised where somebody does; the connection goes on, no place is lost."""

    def script(conn):
        for _ in range(2):
            p = conn.expect(PUBLISH)
            conn.send(ack(kind, p.pid, reason, (0x1F, "full"), (0x26, ("k", "v"))))
        complete(conn, conn.expect(PUBLISH))

    code = """
        c.publish("a", b"", qos=qos, wait=False)
        settle()
        try:
            c.publish("b", b"", qos=qos)
        except errors.Refused as e:
            log.append((e.reason, e.said, c.answer))
        c.publish("c", b"", qos=qos)
        """
    conn, log = run(script, code, (0x21, 1), told={"qos": qos})
    assert topics(conn) == ["a", "b", "c"]
    answer = {"reason_string": "full", "user_property": (("k", "v"),)}
    assert log == [("refused", (b"a", reason)), (reason, "full", answer)]
    assert "PUBREL" not in conn.names()[:4], "[MQTT-4.3.3-4]: no PUBREL after a refusal"


def test_no_matching_subscribers_is_no_refusal():
    def script(conn):
        p = conn.expect(PUBLISH)
        conn.send(ack(PUBACK, p.pid, 0x10))
        p = conn.expect(PUBLISH)
        conn.send(ack(PUBREC, p.pid, 0x10))
        conn.send(ack(PUBCOMP, conn.expect(PUBREL).pid))

    _, log = run(script, "c.publish('a', b'', qos=1)\nc.publish('b', b'', qos=2, wait=False)\nsettle()")
    assert log == []


def test_inside_a_handler_nothing_waits():
    """The table full: ResourceError; the broker's Receive Maximum used up: the same, with its figure."""

    def script(conn):
        conn.send(wire.publish("in", b"", 0))
        p = [conn.expect(PUBLISH) for _ in range(2)]
        nothing(conn)
        conn.send(*(ack(PUBACK, q.pid) for q in p))

    code = """
        def handler(topic, msg):
            try:
                for i in range(3): c.publish("out/%d" % i, b"", qos=1)
            except errors.ResourceError as e:
                log.append(str(e))
        c.set_callback(handler)
        until(lambda: log)
        settle()
        """
    conn, log = run(script, code, (0x21, 2))
    assert topics(conn) == ["out/0", "out/1"]
    assert len(log) == 1 and "the broker's 2" in log[0]


def test_maximum_packet_size_of_the_broker():
    """Refused here, with both figures, at each QoS; exactly that large goes out."""
    code = """
        for qos in range(3):
            for n in (84, 85):
                try:
                    c.publish("t", bytes(n - (2 if qos else 0)), qos=qos)
                except ValueError as e:
                    log.append(str(e))
        try:
            c.subscribe("f" * 100)
        except ValueError as e:
            log.append(str(e))
        """
    conn, log = run(lambda conn: conn.serve(), code, (0x27, 90))
    sizes = [2 + len(p.body) for p in conn.received[1:-1] if p.type == PUBLISH]
    assert sizes == [90, 90, 90]
    assert len(log) == 4 and all("90" in text for text in log)
    assert all("91" in text for text in log[:3])
    assert "SUBSCRIBE" not in conn.names()


def test_what_the_broker_does_not_take_is_refused_here():
    code = """
        for args in (("t", b"", False, 2), ("t", b"", True, 0)):
            try:
                c.publish(*args)
            except ValueError as e:
                log.append(str(e))
        c.publish("t", b"", False, 1)
        """
    conn, log = run(lambda conn: conn.serve(), code, (0x24, 1), (0x25, 0))
    assert len(log) == 2 and len(conn.all(PUBLISH)) == 1


@pytest.mark.parametrize("qos", [1, 2])
def test_a_pipeline_against_mosquitto(broker, qos):
    """200 messages, mosquitto's Receive Maximum is 20: all arrive, in order."""
    topic = f"pipeline/{qos}"
    # The witness at QoS 1: at QoS 2 mosquitto 2.0.11 may send it more than its Receive Maximum, and it leaves.
    with Subscriber(broker, topic, qos=1) as witness, Board(broker.plain_port, f"pipe{qos}") as board:
        board.run("c.connect()")
        code = "for i in range(200): c.publish(topic, b'%d' % i, qos=qos, wait=False)\nsettle()\nc.disconnect()"
        board.run(code, topic=topic, qos=qos)
        got = [m["payload"] for m in witness.messages(200)]
    assert got == [str(i) for i in range(200)]


WATCHED = """
import select
class Watched:
    def __init__(self, sock):
        self.sock = sock
        self.write = sock.write
        self.close = sock.close
    def setsockopt(self, *option):
        log.append(option[2])
        self.sock.setsockopt(*option)
c.connect()
sock = c.sock
c._events = select.POLLIN  # nothing else is waited for: the poll object goes on with the stream itself
c._poll.modify(sock, select.POLLIN)
c.sock = Watched(sock)
c.wait_msg()
"""


@pytest.mark.parametrize("lwip", [False, True])
def test_acknowledgements_may_wait_for_others_in_the_stack(lwip):
    """Until something else goes out. But no option is set later on a board with extmod/modlwip.c, whose socket module
    has a reset(): it does not look whether the connection has been reset."""

    def script(conn):
        conn.send(wire.publish("t", b"", 1, 7))
        assert conn.expect(PUBACK).pid == 7
        assert conn.expect(PUBLISH).payload == b"x"

    with Server(login(script)) as server, Board(server.port) as board:
        if lwip:
            board.run("import umqtt5.transport as t\nclass Socket:\n    reset = 1")
            watched = WATCHED.replace("sock = c.sock\n", "sock = c.sock\nt.socket = Socket\n", 1)
        else:
            watched = WATCHED
        board.run(watched)
        board.run("c.publish('t', b'x')")
        assert board.log()[1:] == (() if lwip else (0, 1))
        board.run("c.disconnect()")
        server.finish()
