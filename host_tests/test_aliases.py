"""Topic aliases both ways (3.3.2.3.4). Outgoing ones as a proxy sees them on the wire before a real mosquitto, whose
other side says which topics it understood; incoming ones from a scripted server, since mosquitto 2.0.11 sends none.
That what is resent carries its full topic is in test_resume.py.
"""

import pytest
from harness import wire
from harness.cases import login
from harness.peer import Peer
from harness.proxy import OUT, Proxy
from harness.remote import Board
from harness.scripts import Server
from harness.wire import PUBACK, PUBLISH, PUBREC, publish

ALIAS = 0x23


def seen(packets):
    """[(topic as sent, alias or None)] of PUBLISH packets."""
    return [(p.topic.decode(), p.prop(ALIAS)) for p in packets if p.type == PUBLISH]


PUBLISHED = """
if same:  # one object for each topic, as most programs have it
    kept = {}
    for t in topics: kept[t] = t.encode()
    topics = [kept[t] for t in topics]
c.connect()
for i in range(len(topics)): c.publish(topics[i], str(i), qos=qos)
c.disconnect()
"""


def published(broker, topics, qos=0, same=True, **options):
    """What went over the wire, after the broker's other side has seen the same topics and numbers in order."""
    with (
        Peer(broker.plain_port) as witness,
        Proxy(broker.plain_port) as proxy,
        Board(proxy.port, "alias", **options) as board,
    ):
        witness.subscribe("#")
        board.run(PUBLISHED, topics=topics, qos=qos, same=same)
        got = [witness.receive() for _ in topics]
        proxy.wait_ended()
        assert [(p.topic.decode(), p.payload.decode()) for p in got] == [(t, str(i)) for i, t in enumerate(topics)]
        return seen(proxy.link.packets(OUT))


SAME = pytest.mark.parametrize("same", [True, False], ids=["one-object", "equal-objects"])


@SAME
@pytest.mark.parametrize("qos", [0, 1, 2])
def test_given_by_itself_to_a_topic_that_is_used_again(broker, qos, same):
    """The first use is plain, the second one gives the alias, from the third on it stands alone."""
    topics = ["alias/a", "alias/a", "alias/a", "alias/b", "alias/a", "alias/b", "alias/b"]
    assert published(broker, topics, qos, same) == [
        ("alias/a", None),
        ("alias/a", 1),
        ("", 1),
        ("alias/b", None),
        ("", 1),
        ("alias/b", 2),
        ("", 2),
    ]


@SAME
def test_the_one_used_least_recently_gives_way(broker, same):
    topics = ["t/aa", "t/aa", "t/bb", "t/bb", "t/aa", "t/cc", "t/cc", "t/aa", "t/bb", "t/bb", "t/aa", "t/cc"]
    assert published(broker, topics, same=same, topic_aliases=2) == [
        ("t/aa", None),
        ("t/aa", 1),
        ("t/bb", None),
        ("t/bb", 2),
        ("", 1),
        ("t/cc", None),  # instead of t/bb, which was used before t/aa
        ("t/cc", 2),
        ("", 1),
        ("t/bb", None),  # instead of t/cc
        ("t/bb", 2),
        ("", 1),
        ("t/cc", None),
    ]


@SAME
def test_a_topic_used_once_does_not_make_an_older_use_look_newer(broker, same):
    """t/aa is used right before t/cc comes, t/bb is not: t/bb gives way."""
    topics = ["t/aa", "t/aa", "t/bb", "t/aa", "t/cc", "t/aa"]
    assert published(broker, topics, same=same, topic_aliases=2) == [
        ("t/aa", None),
        ("t/aa", 1),
        ("t/bb", None),
        ("", 1),
        ("t/cc", None),
        ("", 1),
    ]


def test_topics_too_short_to_gain(broker):
    """The property takes three bytes; and topic_aliases=0 is none at all."""
    assert published(broker, ["abc"] * 3 + ["abcd"] * 3) == [("abc", None)] * 3 + [
        ("abcd", None),
        ("abcd", 1),
        ("", 1),
    ]
    assert published(broker, ["abcd"] * 3, topic_aliases=0) == [("abcd", None)] * 3


@SAME
def test_more_topics_than_aliases_round_and_round(broker, same):
    """Eight aliases of ours, ten of mosquitto's, twelve topics in turn: never a wrong topic, never an alias above."""
    topics = [f"round/{i % 12}" for i in range(40)] + [f"round/{i % 5}" for i in range(40)]
    sent = published(broker, topics, same=same)
    assert {alias for _, alias in sent} <= {None, *range(1, 9)}
    assert sum(topic == "" for topic, _ in sent) >= 25


@pytest.mark.parametrize("maximum", [0, 1, 3])
def test_never_above_the_broker_s_maximum(maximum):
    with (
        Server(login(lambda conn: conn.serve(), (0x22, maximum))) as server,
        Board(server.port) as board,
    ):
        board.run("c.connect()\nfor i in range(30): c.publish('maximum/%d' % (i // 2 % 5), b'')")
        board.run("for i in range(30): c.publish('maximum/%d' % (i // 3 % 5), b'')\nc.disconnect()")
        (conn,) = server.finish()
    used = {alias for _, alias in seen(conn.received)} - {None}
    assert used == set(range(1, maximum + 1))
    check_as_a_receiver(conn)


def check_as_a_receiver(conn):
    """No alias before its topic: what the server makes of them is what was meant."""
    table = {}
    for p in conn.all(PUBLISH):
        if p.topic:
            table[p.prop(ALIAS)] = p.topic
        else:
            assert p.prop(ALIAS) in table, "an alias that was never given a topic"


def test_a_new_connection_starts_without(broker):
    with Proxy(broker.plain_port) as proxy, Board(proxy.port, "alias-new") as board:
        for clean in (False, False, True):
            board.run("c.connect(clean)\nfor i in range(3): c.publish('new/t', b'')\nc.disconnect()", clean=clean)
            proxy.wait_ended()
            assert seen(proxy.link.packets(OUT)) == [("new/t", None), ("new/t", 1), ("", 1)]


def test_a_publish_that_failed_gives_no_alias():
    """Too large for the broker, or for tx: the alias was not sent, and must not be used."""
    code = """
        c.connect()
        c.publish("topic/t", b"0")
        for args in (("topic/t", bytes(100)), ("topic/t", b"", False, 0, {"user_property": (("k", "v" * 40),)})):
            try:
                c.publish(*args)
            except (ValueError, errors.ResourceError) as e:
                log.append(type(e).__name__)
        c.publish("topic/t", b"1")
        c.publish("topic/t", b"2")
        c.disconnect()
        """
    granted = [(0x22, 5), (0x27, 90)]
    with (
        Server(login(lambda conn: conn.serve(), *granted)) as server,
        Board(server.port, tx_size=32) as board,
    ):
        board.run(code)
        assert board.log() == ("ValueError", "ResourceError")
        (conn,) = server.finish()
    assert seen(conn.received) == [("topic/t", None), ("topic/t", 1), ("", 1)]


def test_with_properties_of_the_caller_s(broker):
    """Alias and other properties in one packet; the receiver gets those, not the alias."""
    with (
        Peer(broker.plain_port) as witness,
        Proxy(broker.plain_port) as proxy,
        Board(proxy.port, "alias-props") as board,
    ):
        witness.subscribe("props/#")
        code = "for i in range(3): c.publish('props/t', b'', qos=2, props={'content_type': 'x/y'})"
        board.run("c.connect()\n" + code + "\nc.disconnect()")
        assert [(p.topic, p.props) for p in (witness.receive() for _ in range(3))] == [(b"props/t", [(3, "x/y")])] * 3
        proxy.wait_ended()
        assert [p.props for p in proxy.link.packets(OUT) if p.type == PUBLISH] == [
            [(3, "x/y")],
            [(ALIAS, 1), (3, "x/y")],
            [(ALIAS, 1), (3, "x/y")],
        ]


# Incoming --------------------------------------------------------------------------------------------------


def test_incoming():
    """Given, used at each QoS, given anew; the message is what it would be with its topic, and so is a copy of it."""

    def script(conn):
        conn.send(publish("in/one", b"0", 0, 1, (ALIAS, 1)), publish("in/two", b"1", 1, 5, (ALIAS, 3)))
        conn.send(publish("", b"2", 0, 1, (ALIAS, 1)), publish("", b"3", 2, 6, (ALIAS, 3)))
        conn.send(
            publish("in/three", b"4", 0, 1, (ALIAS, 1)), publish("", b"5", 1, 7, (0x26, ("k", "v")), (ALIAS, 1))
        )
        conn.send(publish("", b"6", 0, 1, (ALIAS, 3)), publish("in/one", b"7"))
        assert [conn.expect(kind).pid for kind in (PUBACK, PUBREC, PUBACK)] == [5, 6, 7]
        conn.serve()

    code = """
        copies = []
        def handler(m):
            log.append((m.topic, m.payload))
            copies.append(m.copy())
        c.on("in/#", handler)
        c.connect()
        until(lambda: len(log) == 8)
        log.append([(m.topic, m.payload, m.props.get("user_property")) for m in copies])
        c.disconnect()
        """
    with Server(login(script)) as server, Board(server.port, topic_alias_maximum=3) as board:
        board.run(code)
        *got, copies = board.log()
        (conn,) = server.finish()
    topics = [b"in/one", b"in/two", b"in/one", b"in/two", b"in/three", b"in/three", b"in/two", b"in/one"]
    expected = [(topic, b"%d" % i) for i, topic in enumerate(topics)]
    assert got == expected
    user = [None] * 5 + [(("k", "v"),)] + [None] * 2
    assert list(copies) == [(*entry, u) for entry, u in zip(expected, user, strict=True)]
    assert conn.received[0].prop(0x22) == 3


def test_incoming_ones_end_with_their_connection():
    """An alias of the last connection means nothing in the next."""
    use = [publish("in/t", b"0", 0, 1, (ALIAS, 2)), publish("", b"1", 0, 1, (ALIAS, 2))]

    def first(conn):
        conn.send(*use)
        conn.serve()

    def second(conn):
        conn.send(use[1])
        assert conn.expect(wire.DISCONNECT).reason == 0x82

    with Server(login(first), login(second, present=1)) as server, Board(server.port, topic_alias_maximum=2) as board:
        board.run("c.connect(False)\nuntil(lambda: len(log) == 2)\nc.disconnect()")
        assert board.log() == ((b"in/t", b"0"), (b"in/t", b"1"))
        board.run("c.connect(False)")
        assert board.error("while True: c.wait_msg()").type == "ProtocolError"
        assert board.log() == ()
        server.finish()
