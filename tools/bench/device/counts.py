# Exact figures of a connected client, ours and umqtt.simple's: calls of write, bytes on the wire and bytes of heap,
# for each message. Prints one JSON line: {what: {who: [writes, bytes out, bytes in, bytes of heap], ...}, ...}.
#
# Heap is counted with the garbage collector switched off, the others by a stream that counts.
import gc
import json
import select
import sys

from bare import Bare, publish
from umqtt.simple import MQTTClient as Umqtt
from umqtt5 import MQTTClient

TOPIC = b"bench/house/kitchen"
MESSAGE = b'{"t": 21.5, "h": 48, "n": 123}'
N = 20

told = json.loads(sys.stdin.read())
HOST, PORT = told["host"], told["port"]
seen = 0
found = {}


class Counting:
    """A stream that counts: calls of write, bytes out, bytes in. It allocates nothing."""

    def __init__(self, stream):
        self.stream = stream
        self.writes = self.out = self.came = 0

    def write(self, buf, off=None, n=None):
        if off is None:
            n = self.stream.write(buf)
        elif n is None:
            n = self.stream.write(buf, off)
        else:
            n = self.stream.write(buf, off, n)
        self.writes += 1
        self.out += n or 0
        return n

    def readinto(self, buf, n):
        n = self.stream.readinto(buf, n)
        self.came += n or 0
        return n

    def read(self, n):
        data = self.stream.read(n)
        self.came += len(data or b"")
        return data

    def setblocking(self, flag):
        self.stream.setblocking(flag)

    def setsockopt(self, level, option, value):
        self.stream.setsockopt(level, option, value)

    def close(self):
        self.stream.close()


def measure(what, who, client, step):
    """One line of figures: step(), N times over."""
    for _ in range(2):
        step()  # what is made once (an alias, a table of names) is there
    c = client.sock
    gc.collect()
    gc.disable()
    c.writes = c.out = c.came = 0
    before = gc.mem_alloc()
    for _ in range(N):
        step()
    heap = gc.mem_alloc() - before
    gc.enable()
    found.setdefault(what, {})[who] = [n / N for n in (c.writes, c.out, c.came, heap)]


def take(message):
    global seen
    seen += 1


def take_umqtt(topic, msg):
    global seen
    seen += 1


def receiving(who, client, subscribe, qos):
    """One message comes and is taken. What publishes it allocates nothing."""
    topic = b"bench/in/%d" % qos
    subscribe(topic, qos)
    data = publish(topic, MESSAGE, qos)

    def step():
        global seen
        seen = 0
        feeder.deliver(data, qos)
        while not seen:
            client.wait_msg()

    measure("receive QoS %d" % qos, who, client, step)


def ours(who, port, *names, **options):
    """Connect and measure all, or only what `names` says."""
    client = MQTTClient("counts", HOST, port, **options)
    client.connect()
    ping(client)  # nothing is read ahead
    # The poll object knows the stream below: it waits for what comes, and need never be told otherwise.
    client._poll.modify(client.sock, select.POLLIN)
    client._events = select.POLLIN
    client.sock = Counting(client.sock)
    client._listen()
    for qos in range(3):
        what = "publish QoS %d" % qos
        measure(what, who, client, lambda qos=qos: client.publish(TOPIC, MESSAGE, False, qos))
    if not names:
        for qos in range(3):
            publisher = client.publisher(TOPIC, qos)
            measure("publisher() QoS %d" % qos, who, client, lambda p=publisher: p.publish(MESSAGE))
            receiving(who, client, lambda topic, qos: client.subscribe(topic, qos, take), qos)
        ping(client)  # what was still on its way has come
        measure("check_msg(), nothing there", who, client, client.check_msg)
        measure("ping and its answer", who, client, lambda: ping(client))
    client.sock = client.sock.stream
    client.disconnect()


def ping(client):
    client.ping()
    while client._engine.pinged is not None:
        client._turn(None)


def tls():
    """The same over TLS, after a login by SCRAM."""
    from usasl.scram import ScramSHA256

    with open(told["ca"], "rb") as f:
        params = {"cadata": f.read(), "server_hostname": "localhost"}
    salt, count, client_key, server_key = told["keys"]
    keys = (bytes.fromhex(salt), count, bytes.fromhex(client_key), bytes.fromhex(server_key))
    mechanism = ScramSHA256(told["user"], keys=[keys])
    ours("ours, TLS", told["tls_port"], ssl=True, ssl_params=params, auth=mechanism)


def theirs():
    client = Umqtt("counts", HOST, PORT)
    client.set_callback(take_umqtt)
    client.connect()
    client.sock.setsockopt(6, 1, 1)  # TCP_NODELAY: not a thing that is counted here, but quick
    client.sock = Counting(client.sock)
    for qos in range(2):
        what = "publish QoS %d" % qos
        measure(what, "umqtt.simple", client, lambda qos=qos: client.publish(TOPIC, MESSAGE, False, qos))
        receiving("umqtt.simple", client, client.subscribe, qos)
    client.disconnect()


feeder = Bare(HOST, PORT, b"bench-feeder")
ours("ours", PORT, topic_aliases=0)
ours("ours, topic alias", PORT, "publish")
tls()
theirs()
print(json.dumps(found))
