# Receiving takes no heap, whichever way a handler is found, whatever the size of the message and however it comes,
# against the real broker. Exact: see heap_steps.py.
import select

import heap_steps
from heap_steps import (
    LONG,
    MESSAGE,
    RECEIVING,
    all_acknowledged,
    check_until,
    locked,
    look,
    look_too,
    made,
    publish_long,
    publish_qos1,
    publish_qos2,
    receive,
    receive_long,
    until,
)
from umqtt5 import MQTTClient

# --- which handler


def by_filter(c):
    """Handlers that are found by their filter: none has a Subscription Identifier."""
    c.subscribe("heap/in/#", 2)
    c.subscribe("heap/+/both", 2)
    c.on("heap/in", look)
    c.on("heap/in/both", look)


def test_handlers_found_by_filter(broker_host, plain_port):
    c = made(broker_host, plain_port)
    by_filter(c)
    for step in RECEIVING:
        locked(step, c)
    c.disconnect()


def test_handlers_in_a_resumed_session(broker_host, plain_port):
    # Another life of the device made the session: its identifiers may be others, so filters decide.
    c = MQTTClient("heap-resumed", broker_host, plain_port, session_expiry=60)
    c.connect(False)
    c.subscribe("heap/in/#", 2, look)
    c.disconnect()
    c = MQTTClient("heap-resumed", broker_host, plain_port, session_expiry=60)
    assert c.connect(False)
    c.on("heap/in/#", look)
    for step in (receive, receive_long, publish_qos2):
        locked(step, c)
    c.disconnect(session_expiry=0)


def test_many_subscriptions(broker_host, plain_port):
    c = made(broker_host, plain_port)
    for i in range(30):
        c.subscribe("heap/other/%d/+" % i, i % 3, look)
    c.subscribe("heap/in/#", 2, look)
    c.subscribe("heap/+/both", 2, look_too)
    for step in RECEIVING:
        locked(step, c)
    c.disconnect()


def test_a_handler_that_publishes(broker_host, plain_port):
    def answer(message):
        for qos in range(3):
            c.publish(b"heap/in", MESSAGE, False, qos)

    def ask_and_answer(c):
        n = heap_steps.seen
        for qos in range(3):
            c.publish(b"heap/ask", MESSAGE, False, qos)
        until(c, n + 9)
        check_until(c, all_acknowledged)

    c = made(broker_host, plain_port)
    c.subscribe("heap/ask", 2, answer)
    c.subscribe("heap/in", 2, look)
    locked(ask_and_answer, c)
    c.disconnect()


def test_messages_too_large_are_drained(broker_host, plain_port):
    def publish_large(c):
        drained[0] += 3
        for qos in range(3):
            c.publish(b"heap/in", LONG, False, qos)
        check_until(c, all_drained)

    def all_drained(c):
        return c.oversized == drained[0]

    drained = [0]
    c = made(broker_host, plain_port, rx_size=100)
    c.subscribe("heap/in", 2, look)
    locked(publish_large, c)
    locked(receive, c)
    c.disconnect()


# --- pieces


class Sips:
    """A stream that reads and writes at most n bytes at a time."""

    def __init__(self, stream, n):
        self.stream = stream
        self.n = n

    def readinto(self, buf, n):
        return self.stream.readinto(buf, min(n, self.n))

    def write(self, buf, off, n=None):
        if n is None:
            off, n = 0, off
        return self.stream.write(buf, off, min(n, self.n))

    def close(self):
        self.stream.close()


def test_packets_that_come_and_go_in_pieces(broker_host, plain_port):
    # rx is left by 16 views, 64 or 256 bytes from each other: pieces of less and more than that.
    for rx_size in (1024, 4000):
        c = made(broker_host, plain_port, rx_size=rx_size)
        c.subscribe("heap/in/#", 2, look)
        c.subscribe("heap/+/both", 2, look_too)
        sock = c.sock
        c._events = select.POLLIN  # nothing else is waited for: the poll object goes on with the stream itself
        c._poll.modify(sock, select.POLLIN)
        for n in (1, 3, 50, 100, 300):
            c.sock = Sips(sock, n)
            c._listen()
            for step in RECEIVING + (publish_qos1, publish_qos2, publish_long):
                locked(step, c, 3)
        c.sock = sock
        c._listen()
        c.disconnect()
