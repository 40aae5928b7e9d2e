"""Servers that are too slow, fall silent, or send too much: every wait has a deadline, every buffer an end.

Each case: the right typed error in time, no MemoryError, and the same client object connects anew and
publishes. The client runs in MicroPython, without authentication, where it matters with a small heap.
"""

import pytest
from harness import wire
from harness.aio import AioBoard
from harness.attack import attack, gave_up, survived
from harness.cases import login, say
from harness.logins import receive_connect
from harness.remote import Board
from harness.scripts import Server
from harness.wire import ack, publish, string

ECONNRESET, ETIMEDOUT = 104, 110
PROTOCOL = "ProtocolError"
CONNECT_AND_WAIT = [["connect"], ["wait_msg"]]
SMALL_HEAP = 400 * 1024  # bytes: far less than what the peers here send or claim


# Time ------------------------------------------------------------------------------------------------------


def test_no_connack():
    outcome = attack(lambda conn: receive_connect(conn), timeout=1)
    assert outcome.error["oserror"] and outcome.error["errno"] == ETIMEDOUT
    assert 900 <= outcome.ms < 2000
    survived(outcome)


def test_connect_has_its_own_deadline():
    """connect(clean_session, timeout) bounds this call, whatever the client's `timeout` is."""
    outcome = attack(lambda conn: receive_connect(conn), steps=[["connect", True, 1]], timeout=4)
    assert outcome.error["errno"] == ETIMEDOUT and 900 <= outcome.ms < 2000
    survived(outcome)


def test_one_byte_every_1500_ms():
    """A slow link is not a broken one: what counts is that something comes in `timeout` seconds."""
    message = publish("t", b"m")
    script = login(lambda conn: conn.trickle(message, 1.5))
    steps = [["connect"], ["receive", 1], ["disconnect"]]
    outcome = attack(script, steps=steps, timeout=3)
    assert "error" not in outcome.steps[-1], outcome.steps
    assert outcome.end["messages"] == [["t", "m"]]
    survived(outcome)


def test_one_byte_at_a_time():
    """Every packet of a whole session in segments of one byte."""

    def act(conn):
        s = conn.expect(wire.SUBSCRIBE)
        conn.trickle(ack(wire.SUBACK, s.pid, 1))
        to = (wire.SUBSCRIPTION_ID, s.prop(wire.SUBSCRIPTION_ID))
        conn.trickle(publish("t", b"x" * 200, 1, 3, to) + publish("t", b"second", 0, 1, to))
        conn.expect(wire.PUBACK)
        p = conn.expect(wire.PUBLISH)
        conn.trickle(ack(wire.PUBACK, p.pid))
        conn.serve()

    steps = [
        ["connect"],
        ["subscribe", "t", 1, "collect"],
        ["receive", 2],
        ["publish", "t", "m", False, 1],
        ["disconnect"],
    ]
    outcome = attack(login(act), steps=steps)
    assert "error" not in outcome.steps[-1], outcome.steps
    assert outcome.end["messages"] == [["t", "x" * 200], ["t", "second"]]
    survived(outcome)


def test_trickle_does_not_extend_a_deadline():
    """`timeout` bounds a publish as a whole, though a byte of its PUBACK comes every 400 ms."""

    def act(conn):
        p = conn.expect(wire.PUBLISH)
        conn.trickle(ack(wire.PUBACK, p.pid, 0, (wire.REASON_STRING, "x" * 30)), 0.4)

    outcome = attack(login(act), steps=[["connect"], ["publish", "t", "m", False, 1]], timeout=1)
    assert outcome.error["errno"] == ETIMEDOUT and 900 <= outcome.ms < 2000, outcome.error
    survived(outcome)


HALF_OPEN = [["wait_msg"], ["idle", 9000], ["flood", "t", 100, 9000]]


@pytest.mark.parametrize("step", HALF_OPEN, ids=["wait_msg", "check_msg", "publishing-qos-0"])
def test_half_open(step):
    """The peer is gone and TCP does not know: a ping after keep alive, the end when it is not answered in
    time."""
    outcome = attack(login(), steps=[["connect"], step], client={"keepalive": 2}, timeout=1)
    e = outcome.error
    assert e["oserror"] and e["errno"] == ETIMEDOUT, e
    assert "ping" in e["text"].lower(), f"the text does not name the step: {e['text']}"
    assert 2000 <= outcome.ms < 4500, outcome.ms
    assert "PINGREQ" in outcome.first.names()
    survived(outcome)


@pytest.mark.parametrize(
    ("keepalive", "pairs"), [pytest.param(1, [], id="ours"), pytest.param(60, [(0x13, 1)], id="servers")]
)
def test_keep_alive_is_kept(keepalive, pairs):
    """A ping a second while the application only looks in; the broker's Server Keep Alive overrides ours
    (3.2.2.3.14)."""
    script = login(lambda conn: conn.serve(), *pairs)
    steps = [["connect"], ["idle", 3500], ["disconnect"]]
    outcome = attack(script, steps=steps, client={"keepalive": keepalive})
    assert "error" not in outcome.steps[-1], outcome.steps
    assert outcome.first.error is None
    assert 3 <= len(outcome.first.all(wire.PINGREQ)) <= 5
    survived(outcome)


FLOOD = """
global count
count = 0
def take(topic, msg):
    global count
    count += 1
    time.sleep_ms(3)
c.set_callback(take)
"""


@pytest.mark.parametrize("kind", ["blocking", "asyncio"])
def test_keep_alive_while_messages_come_without_a_pause(kind):
    """A device that is slower than its messages: it sends something all the same [MQTT-3.1.2-20], and the answer may
    stand behind all of them."""

    def script(conn):
        conn.send(publish("t", b"m") * 1200)
        conn.serve()

    options = {"keepalive": 1, "timeout": 0.4}
    with Server(login(script)) as server:
        if kind == "blocking":
            with Board(server.port, **options) as board:
                board.run("c.connect()\nimport time\n" + FLOOD)
                board.run("while count < 1200: c.wait_msg()\nc.disconnect()")
        else:
            with AioBoard(server.port, **options) as board:
                board.run("import time\n" + FLOOD + "await c.connect()\nawait until(lambda: count == 1200, 9000)")
                assert board.get("c.epoch") == 1, board.events()
                board.run("await c.disconnect()")
        (conn,) = server.finish()
    assert len(conn.all(wire.PINGREQ)) >= 3


def test_server_stops_reading():
    """A write that gets stuck half-way: the deadline holds, and no half packet stays behind a living
    connection."""
    script = login(lambda conn: conn.stall())
    steps = [["connect"], ["publish_big", "t", 6_000_000, 0]]
    outcome = attack(script, steps=steps, timeout=1, rcvbuf=8192, heap=32_000_000)
    assert outcome.error["oserror"] and outcome.error["errno"] == ETIMEDOUT, outcome.error
    assert 900 <= outcome.ms < 2500, outcome.ms
    assert outcome.first.names() == ["CONNECT"], "something was sent behind half a packet"
    assert outcome.first.broken.startswith("the client's last packet was cut off")
    outcome.first.broken = None
    survived(outcome)


# Packets too large -----------------------------------------------------------------------------------------

HUGE = 268_435_455


def head(kind, size, body=b"", flags=0):
    """The start of a packet that claims to be of `size` bytes."""
    return bytes([kind << 4 | flags]) + wire.varint(size) + body


def test_publish_of_256_mb():
    """It is drained, not stored: no MemoryError, no allocation by what the peer claims; then the peer
    leaves."""

    def act(conn):
        conn.send(head(wire.PUBLISH, HUGE, string("t") + b"\0"), bytes(100_000))
        conn.close()

    outcome = attack(login(act), steps=CONNECT_AND_WAIT, heap=SMALL_HEAP)
    assert outcome.error["oserror"] and outcome.error["errno"] == ECONNRESET, outcome.error
    assert outcome.end["messages"] == []
    survived(outcome)


@pytest.mark.parametrize("qos", [0, 1])
def test_publish_larger_than_the_heap(qos):
    """Drained, answered with 0x97 (QoS 1), counted; the connection lives and the next message comes."""

    def act(conn):
        body = string("t") + (b"\0\x05" if qos else b"") + b"\0"
        conn.send(head(wire.PUBLISH, len(body) + 3_000_000, body, qos << 1), bytes(3_000_000))
        conn.send(publish("t", b"the next", 1, 6))
        conn.serve()

    steps = [["connect"], ["receive", 1], ["counter", "oversized"], ["disconnect"]]
    outcome = attack(login(act), steps=steps, heap=SMALL_HEAP)
    assert "error" not in outcome.steps[-1], outcome.steps
    assert outcome.steps[2]["value"] == 1
    assert outcome.end["messages"] == [["t", "the next"]]
    answers = [(p.pid, p.reason) for p in outcome.first.all(wire.PUBACK)]
    assert answers == ([(5, 0x97)] if qos else []) + [(6, 0)]
    survived(outcome)


@pytest.mark.parametrize("kind", [wire.SUBACK, wire.PUBACK, wire.DISCONNECT])
def test_other_packets_of_256_mb(kind):
    """Too large for rx and no message: the end, with the argument to raise, and DISCONNECT 0x95."""
    outcome = attack(say(head(kind, HUGE), bytes(5000)), steps=CONNECT_AND_WAIT, heap=SMALL_HEAP)
    assert outcome.error["type"] == "ResourceError" and "rx_size" in outcome.error["text"], outcome.error
    gave_up(outcome.first, (0x95,))
    survived(outcome)


def test_connack_of_256_mb():
    def script(conn):
        receive_connect(conn)
        conn.send(head(wire.CONNACK, HUGE), bytes(5000))

    outcome = attack(script, heap=SMALL_HEAP)
    assert outcome.error["type"] == "ResourceError" and "rx_size" in outcome.error["text"], outcome.error
    survived(outcome)


def test_larger_than_announced():
    """3.1.2.11.4: a packet above the Maximum Packet Size that we announced is the broker's fault."""
    outcome = attack(say(publish("t", bytes(600))), steps=CONNECT_AND_WAIT, client={"max_packet": 500})
    assert outcome.first.received[0].prop(0x27) == 500
    assert outcome.error["type"] == PROTOCOL, outcome.error
    gave_up(outcome.first, (0x82, 0x95))
    survived(outcome)
