"""Messages of every awkward size, at every QoS, both ways, through a real mosquitto; the other side is mosquitto's
own mosquitto_pub and mosquitto_sub. One client for all of it: what one message leaves behind would spoil the next.
"""

import subprocess

import pytest
from harness import wire
from harness.observer import Subscriber
from harness.peer import Peer
from harness.proxy import Proxy
from harness.remote import Board

RX, TX = 17000, 300
# Lengths of a length: 127 | 128 and 16383 | 16384, of payload and (below) of the whole packet.
SIZES = [0, 1, 127, 128, 16383, 16384]


def payload(size):
    """Bytes of all values, other ones for each size. The board makes its own: device/client_remote.py."""
    return bytes((size + i * 7 + i // 256) & 0xFF for i in range(size))


# Without a handler: then there is no Subscription Identifier in a message either.
RECEIVE = """
c.connect()
c.set_callback(lambda topic, msg: log.append((len(msg), msg == payload(len(msg)))))
c.subscribe(topic, 2)
"""


def beside(topic, qos):
    """Bytes of a PUBLISH's remaining length that are not payload: topic, packet identifier, no properties."""
    return 2 + len(topic) + (2 if qos else 0) + 1


@pytest.mark.parametrize("qos", [0, 1, 2])
def test_published_sizes(broker, qos):
    topic = f"sizes/out/{qos}"
    rest = beside(topic, qos)
    sizes = [*SIZES, *(n - rest for n in (127, 128, 16383, 16384))]
    # The whole packet just below tx, filling it, and one byte too large for it: then it goes out in two writes.
    sizes += [TX - 3 - rest + n for n in (-1, 0, 1)] + [RX - 1, RX, RX + 1]
    with (
        subprocess_subscriber(broker, topic, qos) as seen,
        Board(broker.plain_port, f"sizes-out{qos}", tx_size=TX) as board,
    ):
        board.run("c.connect()")
        for size in sizes:
            board.run("c.publish(topic, payload(size), False, qos)", topic=topic, size=size, qos=qos)
        got = seen(len(sizes))
    assert [len(p) for _, p in got] == sizes
    assert got == [(qos, payload(size)) for size in sizes]


class subprocess_subscriber(Subscriber):
    """mosquitto_sub that gives (QoS, payload) of binary messages."""

    def __init__(self, broker, topic, qos):
        super().__init__(broker, topic, 2)
        self._command[self._command.index("%j")] = "%q %x"
        self._qos = qos

    def __enter__(self):
        super().__enter__()
        return self._read

    def _read(self, count):
        found = []
        while len(found) < count:
            line = self._process.stdout.readline()
            assert line, f"mosquitto_sub saw only {len(found)} of {count} messages"
            qos, _, data = line.rstrip("\n").partition(" ")
            found.append((int(qos), bytes.fromhex(data)))
        return found


@pytest.mark.parametrize("qos", [0, 1, 2])
def test_received_sizes(broker, qos):
    """Up to a packet whose body fills rx to the last byte."""
    topic = f"sizes/in/{qos}"
    sizes = [*SIZES, *(n - beside(topic, qos) for n in (127, 128, 16383, 16384, RX - 1, RX))]
    with Board(broker.plain_port, f"sizes-in{qos}", rx_size=RX) as board:
        board.run(RECEIVE, topic=topic)
        for size in sizes:
            mosquitto_pub(broker, topic, payload(size), qos)
        board.run("until(lambda: len(log) >= n)", n=len(sizes))
        assert board.log() == tuple((size, True) for size in sizes)
        assert board.get("c.oversized") == 0


def mosquitto_pub(broker, topic, payload, qos):
    """mosquitto_pub -n: an empty message; -s: standard input is one message."""
    command = ["mosquitto_pub", "-V", "mqttv5", "-h", broker.host, "-p", str(broker.plain_port), "-t", topic]
    command += ["-q", str(qos), "-s" if payload else "-n"]
    subprocess.run(command, input=payload, check=True, timeout=20)


@pytest.mark.parametrize("qos", [0, 1, 2])
def test_too_large_for_rx(broker, qos):
    """Drained, counted, told; refused with 0x97 at QoS 1, accepted and dropped at QoS 2, where mosquitto 2.0.11 goes
    deaf after some refusals. The connection goes on, also after many more of them than our Receive Maximum."""
    rx, maximum, topic = 600, 4, f"sizes/big/{qos}"
    fits = rx - beside(topic, qos)
    # One that fits after each that does not; then many in a row.
    large = [fits + 1, rx, rx + 1, 2 * rx, 2 * rx + 1, 16384, 70000]
    sizes = [n for size in large for n in (size, fits)] + [rx] * 3 * maximum + [fits]
    with (
        Proxy(broker.plain_port) as proxy,
        Board(proxy.port, f"big{qos}", rx_size=rx, receive_maximum=maximum) as board,
        Peer(broker.plain_port) as peer,
    ):
        board.run(RECEIVE, topic=topic)
        for size in sizes:
            peer.publish(topic, payload(size), qos)
        board.run("until(lambda: len(log) >= n)", n=len(sizes))
        expected = [(n, True) if n == fits else ("oversized", beside(topic, qos) + n) for n in sizes]
        assert list(board.log()) == expected
        assert board.get("c.oversized") == len(sizes) - sizes.count(fits)
        board.run("c.publish('sizes/after', b'all is well', qos=1)")
        board.run("settle()\nc.disconnect()")
        acks = proxy.link.packets("out", {wire.PUBACK, wire.PUBREC})
        assert {p.type for p in acks} == ({wire.PUBACK if qos == 1 else wire.PUBREC} if qos else set())
        refused = 0x97 if qos == 1 else 0
        assert [p.reason for p in acks] == ([0 if n == fits else refused for n in sizes] if qos else [])


@pytest.mark.parametrize("qos", [1, 2])
def test_a_backlog_much_longer_than_our_receive_maximum(broker, qos):
    """Messages that waited for us: mosquitto 2.0.11 sends far more at QoS 2 than our Receive Maximum allows, and none
    may be lost or doubled for that."""
    topic, count, receive_maximum = f"sizes/backlog/{qos}", 150, 4
    with (
        Board(broker.plain_port, f"backlog{qos}", receive_maximum=receive_maximum) as board,
        Peer(broker.plain_port) as peer,
    ):
        # At most 1000 wait in mosquitto, of which none may be thrown away here.
        board.run("c.connect(False)\nc.subscribe(topic, 2, lambda m: log.append(m.payload))", topic=topic)
        board.run("c.disconnect()")
        for i in range(count):
            peer.publish(topic, b"%d" % i, qos)
        assert board.get("c.connect(False)") is True
        board.run("until(lambda: len(log) >= n)\nc.disconnect(session_expiry=0)", n=count)
        assert list(board.log()) == [b"%d" % i for i in range(count)]


def test_a_large_publish(broker):
    """mosquitto names no Maximum Packet Size, and takes what is far larger than tx. Where a broker names one:
    test_pipelining.py."""
    with Board(broker.plain_port, "large", tx_size=64) as board, Peer(broker.plain_port) as peer:
        peer.subscribe("sizes/large")
        board.run("c.connect()\nc.publish('sizes/large', bytes(300000), qos=2)")
        assert peer.receive().payload == bytes(300000)
