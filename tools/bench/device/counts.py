# Exact figures of a connected client, ours and umqtt.simple's: calls of write, bytes on the wire and bytes of heap,
# for each message. Prints one JSON line: {what: {who: [writes, bytes out, bytes in, bytes of heap], ...}, ...}.
#
# Heap is counted with the garbage collector switched off, the others in another pass, through a stream that counts.
import gc
import json
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
    """A stream that counts: calls of write, bytes out, bytes in."""

    def __init__(self, stream):
        self.stream = stream
        self.writes = self.out = self.came = 0

    def write(self, *args):
        n = self.stream.write(*args)
        self.writes += 1
        self.out += n or 0
        return n

    def readinto(self, *args):
        n = self.stream.readinto(*args)
        self.came += n or 0
        return n

    def read(self, *args):
        data = self.stream.read(*args)
        self.came += len(data or b"")
        return data

    def setblocking(self, flag):
        self.stream.setblocking(flag)


def measure(what, who, client, step):
    """One line of figures: step(), N times over."""
    step()  # what is made once (an alias, a table of names) is there
    gc.collect()
    gc.disable()
    before = gc.mem_alloc()
    for _ in range(N):
        step()
    heap = gc.mem_alloc() - before
    gc.enable()
    stream = client.sock
    client.sock = c = Counting(stream)
    for _ in range(N):
        step()
    client.sock = stream
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
    for qos in range(3):
        what = "publish QoS %d" % qos
        measure(what, who, client, lambda qos=qos: client.publish(TOPIC, MESSAGE, False, qos))
    if not names:
        for qos in range(3):
            publisher = client.publisher(TOPIC, qos)
            measure("publisher() QoS %d" % qos, who, client, lambda p=publisher: p.publish(MESSAGE))
            receiving(who, client, lambda topic, qos: client.subscribe(topic, qos, take), qos)
        measure("check_msg(), nothing there", who, client, client.check_msg)

        def ping():
            client.ping()
            while client._engine.pinged is not None:
                client._turn(None)

        measure("ping and its answer", who, client, ping)
    client.disconnect()


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
