# Messages a second: ours, umqtt.simple's and a bare socket's, side by side and in turn against one broker. Prints one
# JSON line: {measure: [[microseconds a message: ours, umqtt's, bare, ...], one list a round]}; null: it has no such
# thing. What it takes to get the messages to the client, and until the broker has read them, is not timed.
import gc
import json
import os
import sys
from time import ticks_diff, ticks_us

import handlers
from bare import Bare, publish
from umqtt.simple import MQTTClient as Umqtt
from umqtt5 import MQTTClient

TOPIC = b"bench/house/kitchen"
MESSAGE = b'{"t": 21.5, "h": 48, "n": 123}'
COLD = 300  # with those timed: less than fits into the broker's socket while it sleeps
WINDOW = 20  # the broker's Receive Maximum, and our table

told = json.loads(sys.stdin.read())
HOST, PORT, ROUNDS = told["host"], told["port"], told["rounds"]


def timed(function, n, alone):
    """Microseconds for each of n messages. alone: the broker sleeps meanwhile. To wake it up costs the writer more
    time than all that the client does, or nothing where it is awake already: that would be the kernel's figure. And
    the first messages are not timed then: `kill` has emptied the processor's caches."""
    gc.collect()
    if alone:
        os.system("kill -STOP %d" % told["pid"])
    try:
        if alone:
            function(COLD)
        start = ticks_us()
        function(n)
        return ticks_diff(ticks_us(), start) / n
    finally:
        if alone:
            os.system("kill -CONT %d" % told["pid"])


def rounds(contestants, n, drain, before=None, alone=False):
    """[[us a message, by contestant], ...]. n: how many messages in a round, by contestant."""
    found = []
    k = len(contestants)
    for r in range(ROUNDS + 1):
        row = [None] * k
        for j in range(k):
            i = (r + j) % k  # another one begins each time
            if contestants[i]:
                if before:
                    before(i, n[i] + (COLD if alone else 0))
                row[i] = timed(contestants[i], n[i], alone)
                drain[i]()
        found.append(row)
    return found[1:]  # the first warms up


# --- publishing

ours = MQTTClient("bench-ours", HOST, PORT)
ours.connect()
umqtt = Umqtt("bench-umqtt", HOST, PORT)
umqtt.set_callback(handlers.take_umqtt)
umqtt.connect()
bare = Bare(HOST, PORT, b"bench-bare")


def drain_ours():
    drain(ours)


def drain(client):
    client.ping()
    while client._engine.pinged is not None:
        client.check_msg()


def drain_umqtt():
    umqtt.ping()
    umqtt.wait_msg()


def ours0(n):
    publish = ours.publish
    for _ in range(n):
        publish(TOPIC, MESSAGE)


def publisher0(n):
    publish = publisher.publish
    for _ in range(n):
        publish(MESSAGE)


def umqtt0(n):
    publish = umqtt.publish
    for _ in range(n):
        publish(TOPIC, MESSAGE)


def ours1(n):
    publish = ours.publish
    for _ in range(n):
        publish(TOPIC, MESSAGE, False, 1)


def umqtt1(n):
    publish = umqtt.publish
    for _ in range(n):
        publish(TOPIC, MESSAGE, False, 1)


def pipeline(n):
    client = ours  # not a bound method: called with more than four arguments MicroPython takes a list from the heap
    for _ in range(n):
        client.publish(TOPIC, MESSAGE, False, 1, None, False)
    session = ours._engine.session
    while session.in_flight():
        ours._turn(None)


publisher = ours.publisher(TOPIC)
packet0 = publish(TOPIC, MESSAGE)
packet1 = publish(TOPIC, MESSAGE, 1)
ack = bare.ack_size(packet1)
window = [publish(TOPIC, MESSAGE, 1, i + 1) for i in range(WINDOW)]
drains = [drain_ours, drain_umqtt, bare.drain, drain_ours]
found = {}
found["publish QoS 0"] = rounds(
    [ours0, umqtt0, lambda n: bare.publish0(packet0, n), publisher0], [600] * 4, drains, alone=True
)
found["publish QoS 1, in turn"] = rounds(
    [ours1, umqtt1, lambda n: bare.publish1(packet1, ack, n)], [200, 2, 200], drains
)
found["publish QoS 1, pipelined"] = rounds(
    [pipeline, None, lambda n: bare.pipeline1(window, ack, n)], [400, 0, 400], drains
)


# --- receiving: all of it lies in the client's socket when the clock starts, and the broker sleeps

MESSAGES = 400
taker = MQTTClient("bench-taker", HOST, PORT, receive_maximum=COLD + MESSAGES)
taker.connect()
feeder = Bare(HOST, PORT, b"bench-feeder")


def receive_ours(n):
    handlers.seen = 0
    wait_msg = taker.wait_msg
    for _ in range(n):
        wait_msg()
    assert handlers.seen == n


def receive_umqtt(n):
    handlers.seen = 0
    wait_msg = umqtt.wait_msg
    for _ in range(n):
        wait_msg()
    assert handlers.seen == n


for qos in range(2):
    names = [b"bench/%s/%d" % (name, qos) for name in (b"ours", b"othr", b"bare")]
    # The Subscription Identifier of our handler is in what comes to us; and in what comes to the bare socket.
    taker.subscribe(names[0], qos, handlers.take)
    umqtt.subscribe(names[1], qos)
    bare.subscribe(names[2], qos, 1)
    # A witness gets all of it too, each message behind the one for the client: mosquitto serves "#" last.
    witness = Bare(HOST, PORT, b"bench-witness%d" % qos)
    witness.subscribe(b"bench/+/%d/#" % qos, 0)
    sizes = [len(publish(name, MESSAGE, qos)) for name in names]

    def feed(i, n, names=names, qos=qos, witness=witness):
        data = publish(names[i], MESSAGE, qos)
        for _ in range(n):
            feeder.deliver(data, qos)
        for _ in range(n):
            witness.answer(0x30)

    size = len(publish(names[2], MESSAGE, qos)) + 2
    if qos:
        at = 4 + len(names[2])  # where the packet identifier stands
        limit = lambda n, size=size, at=at: bare.receive1(size, at, n)  # noqa: E731
    else:
        limit = lambda n, size=size: bare.receive0(size, n)  # noqa: E731
    contestants = [receive_ours, receive_umqtt, limit]
    drains[0] = lambda: drain(taker)
    found["receive QoS %d" % qos] = rounds(contestants, [MESSAGES] * 3, drains, feed, alone=True)

print(json.dumps(found))
