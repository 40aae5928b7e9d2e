"""A session that goes on after its connection, or its broker, was lost in the middle of an exchange.

Real mosquitto, behind a proxy that stops the traffic after any packet, or after any byte: nothing is lost, nothing
is doubled at QoS 2, the order is kept, and what is sent again is what 4.4 says. The witness on the broker's other
side is not the library under test. mosquitto 2.0.11 writes its database only when told to: the traffic is held,
SIGUSR1, the file waited for, and then kill -9; otherwise it is the broker that forgets.
"""

import itertools

import pytest
from harness import wire
from harness.peer import Peer
from harness.proxy import IN, OUT, Proxy, wait_for
from harness.remote import Board, described

from tools.devbroker import Broker

PACKETS = {1: 2, 2: 4}  # of an exchange, by QoS
POINTS = [
    pytest.param(qos, count, point, id=f"qos{qos}-{count}msg-after{point}")
    for qos, count in ((1, 1), (2, 1), (1, 3), (2, 3))
    for point in range(PACKETS[qos] * count + 1)
]
FOREVER = 0xFFFFFFFF
_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def mortal():
    """A broker that these tests may kill."""
    with Broker(tls=False) as broker:
        yield broker


def reborn(broker, proxy):
    """kill -9 and start again, with all that it knew; the traffic is held."""
    broker.save()
    broker.kill()
    broker.start()
    proxy.cut()


def only_cut(broker, proxy):
    proxy.cut()


ENDS = pytest.mark.parametrize("interrupt", [reborn, only_cut], ids=["killed", "cut"])


def first_times(payloads):
    """Each payload where it stands first: the order of messages that may come twice."""
    return list(dict.fromkeys(payloads))


def check(qos, got, sent):
    """Nothing lost, the order kept; nothing doubled at QoS 2."""
    if qos == 2:
        assert got == sent
    else:
        assert first_times(got) == sent


def to_be_resent(link):
    """What the next connection must begin with, by what the proxy saw of this one (4.4): PUBREL where PUBREC came,
    PUBLISH with DUP where nothing came; nothing where the exchange was over."""
    came = {kind: set() for kind in (wire.PUBACK, wire.PUBREC, wire.PUBCOMP)}
    for p in link.packets(IN):
        came.setdefault(p.type, set()).add(p.pid)
    out = []
    for data in link.seen(OUT, wire.PUBLISH):
        pid = wire.split(data)[0].pid
        if pid in came[wire.PUBACK] or pid in came[wire.PUBCOMP]:
            continue
        out.append(f"PUBREL {pid}" if pid in came[wire.PUBREC] else f"PUBLISH {pid} dup")
    return out


@ENDS
@pytest.mark.parametrize(("qos", "count", "point"), POINTS)
def test_publishing(mortal, interrupt, qos, count, point):
    name = f"out{next(_numbers)}"
    topic, sent = f"resume/{name}", [b"%d" % i for i in range(count)]
    whole = point == PACKETS[qos] * count
    # clean=False: mosquitto 2.0.11 saves no session that began with Clean Start, whatever its expiry.
    with Peer(mortal.plain_port, "w" + name, clean=False, expiry=FOREVER) as witness:
        witness.subscribe(topic)
        witness.leave()
    with Proxy(mortal.plain_port) as proxy, Board(proxy.port, name) as board:
        assert board.get("c.connect(False)") is False
        proxy.stop_after(point)
        board.start(
            "for m in sent: c.publish(topic, m, qos=qos, wait=False)\nsettle()", topic=topic, sent=sent, qos=qos
        )
        proxy.wait_seen(OUT, wire.PUBLISH, count)
        proxy.wait_stopped(more=not whole)
        if whole:
            board.wait()
        interrupt(mortal, proxy)
        if not whole:
            assert board.error().type == "OSError"
        assert board.get("c.connect(False)") is True, "the session is gone"
        board.run("settle()\nc.publish(topic, b'END', qos=qos)\nc.disconnect()")
        first, second = proxy.links
        expected = to_be_resent(first)
        assert expected or whole
        again = second.packets(OUT)[: len(expected)]
        assert described(again) == expected
        payloads = {p.pid: p.payload for p in (wire.split(data)[0] for data in first.seen(OUT, wire.PUBLISH))}
        for p in again:
            if p.type == wire.PUBLISH:  # with its full topic: an alias means nothing in a new connection
                assert (p.topic, p.payload, p.props, p.qos) == (topic.encode(), payloads[p.pid], [], qos)
    with Peer(mortal.plain_port, "w" + name, clean=False) as witness:
        assert witness.present
        check(qos, witness.payloads(), sent)


@ENDS
@pytest.mark.parametrize(("qos", "count", "point"), POINTS)
def test_receiving(mortal, interrupt, qos, count, point):
    name = f"in{next(_numbers)}"
    topic, sent = f"resume/{name}", [b"%d" % i for i in range(count)]
    whole = point == PACKETS[qos] * count
    with Proxy(mortal.plain_port) as proxy, Board(proxy.port, name) as board:
        board.run("c.connect(False)\nc.subscribe(topic, 2, note)", topic=topic)
        proxy.stop_after(point)
        with Peer(mortal.plain_port) as sender:
            for m in sent:
                sender.publish(topic, m, qos)
        board.start("while True: c.wait_msg()")
        proxy.wait_stopped(more=not whole)
        interrupt(mortal, proxy)
        assert board.error().type == "OSError"
        assert board.get("c.connect(False)") is True, "the session is gone"
        with Peer(mortal.plain_port) as sender:
            sender.publish(topic, b"END", qos)
        board.run("until(lambda: log and log[-1][1] == b'END')")
        assert {entry[0] for entry in board.get("log")} == {topic.encode()}, "the handler found again"
        got = [entry[1] for entry in board.log()]
        check(qos, got[:-1], sent)
        # Acknowledged, each of them: the broker has nothing left to send.
        board.run("c.disconnect()")
        proxy.wait_ended()
        board.run("c.connect(False)\nc.subscribe('other', 0)")
        assert board.log() == ()
        board.run("c.disconnect()")


def measured(proxy, sizes):
    """So many bytes have passed each way. The last may still be on their way when the board is done."""
    wait_for(lambda: {way: proxy.link.sizes(way) for way in sizes} == sizes, what=f"an exchange of {sizes} bytes")


def test_publishing_cut_after_every_byte(broker):
    """One message at QoS 1 and one at QoS 2, again and again; the connection ends one byte later each time."""
    piece = """
        def publish():
            c.publish(topic, b"1-%d" % n, qos=1, wait=False)
            c.publish(topic, b"2-%d" % n, qos=2, wait=False)
            settle()
        publish()
        """
    topic = "resume/bytes/out"
    with (
        Peer(broker.plain_port) as witness,
        Proxy(broker.plain_port) as proxy,
        Board(proxy.port, "bytes-out", topic_aliases=0) as board,
    ):
        witness.subscribe(topic)
        board.run("c.connect(False)")
        board.run(piece, topic=topic, n=100)
        sizes = {OUT: 2 * (2 + 2 + len(topic) + 2 + 1 + 5) + 4, IN: 3 * 4}
        measured(proxy, sizes)
        board.run("c.publish(topic, b'END', qos=2)")
        assert witness.payloads() == [b"1-100", b"2-100"]
        cuts = [(way, at) for way, size in sizes.items() for at in range(size)]
        for n, (way, at) in enumerate(cuts, 101):
            proxy.cut_at(way, at)
            board.start("publish()", n=n)
            assert board.error().type == "OSError", (way, at)
            assert board.get("c.connect(False)") is True
            board.run("settle()\nc.publish(topic, b'END', qos=2)")
            got = witness.payloads()
            assert [m for m in got if m[:1] == b"2"] == [b"2-%d" % n], (way, at)
            assert first_times(got) == [b"1-%d" % n, b"2-%d" % n], (way, at)
        assert len(proxy.links) == 1 + len(cuts)


def test_receiving_cut_after_every_byte(broker):
    topic = "resume/bytes/in"
    with (
        Peer(broker.plain_port) as sender,
        Proxy(broker.plain_port) as proxy,
        Board(proxy.port, "bytes-in") as board,
    ):
        board.run("c.connect(False)\nc.subscribe(topic, 2, note)", topic=topic)

        def send(n):
            sender.publish(topic, b"1-%d" % n, 1)
            sender.publish(topic, b"2-%d" % n, 2)

        def received(last):
            board.run("until(lambda: log and log[-1][1] == last)", last=last)
            # An exchange of our own behind it: then the acknowledgements have passed.
            board.run("c.publish('x', b'', qos=1)")
            return [entry[1] for entry in board.log()]

        send(100)
        assert received(b"2-100") == [b"1-100", b"2-100"]
        # 2: the Subscription Identifier; 8 and 5: our own exchange, whose PUBACK says that nobody listens
        sizes = {OUT: 3 * 4 + 8, IN: 2 * (2 + 2 + len(topic) + 2 + 1 + 2 + 5) + 4 + 5}
        measured(proxy, sizes)
        cuts = [(OUT, at) for at in range(3 * 4)] + [(IN, at) for at in range(sizes[IN] - 5)]
        for n, (way, at) in enumerate(cuts, 101):
            proxy.cut_at(way, at)
            send(n)
            board.start("while True: c.wait_msg()")
            assert board.error().type == "OSError", (way, at)
            assert board.get("c.connect(False)") is True
            sender.publish(topic, b"END", 2)
            got = received(b"END")
            assert [m for m in got if m[:1] == b"2"] == [b"2-%d" % n], (way, at)
            assert first_times(got) == [b"1-%d" % n, b"2-%d" % n, b"END"], (way, at)
        assert len(proxy.links) == 1 + len(cuts)
