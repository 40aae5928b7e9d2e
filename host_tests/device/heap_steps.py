# For the tests of the heap: what a program on a board does once connected, in steps, each of which is run with the
# heap locked: a single byte is a MemoryError. And what is in use after them is what was in use before.
# Under the lock our own errors turn into MemoryError too: to see them, call the step by itself.
from micropython import heap_lock, heap_unlock

import gc
from time import ticks_add, ticks_diff, ticks_ms

from umqtt5 import MQTTClient
from umqtt5.props import encode

TOPIC = b"heap/out"
OTHER = b"heap/other"
TOPICS = [b"heap/topic/%d" % i for i in range(12)]  # more than there are aliases
MESSAGE = b"0123456789abcdef"
LONG = bytes(range(256)) * 2  # longer than tx: the payload goes out in a write of its own
PROPS = encode(message_expiry_interval=60, user_property=(("k", "v"),))
COUNT = 30
DEADLINE = 10000  # ms: for the broker's answers to one step

seen = 0  # messages that came into a handler whole
wrong = ""  # what a step found wrong: told when the heap is unlocked


def look(message):
    # A handler as on a board: it looks at the payload where it lies.
    global seen, wrong
    n = message.end - message.start
    expected = LONG if n == len(LONG) else MESSAGE
    for i in range(n):
        if message.buf[message.start + i] != expected[i]:
            wrong = "the payload"
    if n != len(expected):
        wrong = "its length"
    seen += 1


def look_too(message):
    look(message)


def until(client, n):
    """wait_msg() until n messages have come."""
    global wrong
    end = ticks_add(ticks_ms(), DEADLINE)
    while seen < n and not wrong:
        client.wait_msg()
        if ticks_diff(end, ticks_ms()) <= 0:
            wrong = "the time"


def check_until(client, done):
    """check_msg() until done(client)."""
    global wrong
    end = ticks_add(ticks_ms(), DEADLINE)
    while not done(client):
        client.check_msg()
        if ticks_diff(end, ticks_ms()) <= 0:
            wrong = "the time"
            return


def all_acknowledged(c):
    return not c._engine.session.in_flight()


def answered(c):
    return c._engine.pinged is None


def locked(step, client, times=COUNT):
    """step(client), `times` times, takes no byte of heap."""
    global wrong
    wrong = ""
    gc.collect()
    before = gc.mem_alloc()
    heap_lock()
    try:
        for _ in range(times):
            if not wrong:
                step(client)
    except MemoryError:
        wrong = "heap"
    finally:
        heap_unlock()
    after = gc.mem_alloc()
    assert not wrong, "%s: wrong is %s" % (step.__name__, wrong)
    assert after == before, "%s: %d bytes more in use" % (step.__name__, after - before)


# --- steps: what a program does, once


def publish_qos0(c):
    c.publish(TOPIC, MESSAGE)
    c.publish(OTHER, MESSAGE)  # another one: what is kept of the last does not help


def publish_qos1(c):
    c.publish(TOPIC, MESSAGE, False, 1)
    c.publish(OTHER, MESSAGE, False, 1)


def publish_qos2(c):
    c.publish(TOPIC, MESSAGE, False, 2)
    c.publish(OTHER, MESSAGE, False, 2)


def publish_props(c):
    for qos in range(3):
        c.publish(TOPIC, MESSAGE, False, qos, PROPS)
        c.publish(OTHER, MESSAGE, False, qos, props=PROPS)


def publish_retained(c):
    for qos in range(3):
        c.publish(TOPIC, MESSAGE, True, qos)


def publish_empty(c):
    for qos in range(3):
        c.publish(TOPIC, b"", True, qos)


def publish_many_topics(c):
    # Aliases are given, used, and taken away again.
    for topic in TOPICS:
        c.publish(topic, MESSAGE)
        c.publish(topic, MESSAGE, False, 1)


def publish_long(c):
    for qos in range(3):
        c.publish(TOPIC, LONG, False, qos, PROPS)


def publish_without_waiting(c):
    # The Receive Maximum is used up on the way: then it waits for one acknowledgement.
    for qos in range(1, 3):
        for _ in range(COUNT):
            c.publish(TOPIC, MESSAGE, False, qos, None, False)
    check_until(c, all_acknowledged)


def ping(c):
    c.ping()
    check_until(c, answered)


def nothing_there(c):
    global wrong
    if c.check_msg() is not None:
        wrong = "something"


def receive(c):
    for qos in range(3):
        n = seen
        c.publish(b"heap/in", MESSAGE, False, qos)
        until(c, n + 1)
        c.publish(b"heap/in", MESSAGE, False, qos, PROPS)
        until(c, n + 2)


def receive_long(c):
    for qos in range(3):
        n = seen
        c.publish(b"heap/in", LONG, False, qos)
        until(c, n + 1)


def receive_two(c):
    # Two subscriptions of ours match: a copy for each.
    for qos in range(3):
        n = seen
        c.publish(b"heap/in/both", MESSAGE, False, qos)
        until(c, n + 2)


SENDING = (publish_qos0, publish_qos1, publish_qos2, publish_props, publish_retained, publish_empty)
SENDING += (publish_many_topics, publish_long, publish_without_waiting, ping, nothing_there)
RECEIVING = (receive, receive_long, receive_two)


def everything(c, times=COUNT):
    """All steps; leaves no subscription behind."""
    for step in SENDING:
        locked(step, c, 5 if step is publish_without_waiting else times)
    c.subscribe("heap/in/#", 2, look)
    c.subscribe("heap/+/both", 2, look_too)
    for step in RECEIVING:
        locked(step, c, times)
    publishers(c, times)
    c.unsubscribe("heap/in/#")
    c.unsubscribe("heap/+/both")


def publishers(c, times=COUNT):
    for qos in range(3):
        for props in (None, PROPS):
            p = c.publisher(TOPIC, qos, False, props)
            q = c.publisher(OTHER, qos, True, props)

            def publish_by_publisher(c, p=p, q=q):
                p.publish(MESSAGE)
                q.publish(LONG)

            locked(publish_by_publisher, c, times)
    c.publish(OTHER, b"", True)  # no retained message for others


def made(host, port, *login, **options):
    """A connected client."""
    client = MQTTClient("heap", host, port, *login, **options)
    client.connect()
    return client
