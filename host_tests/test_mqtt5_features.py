"""What else MQTT 5.0 has for a client, against a real mosquitto: wills with a delay, session expiry, assigned client
identifiers, subscription options, shared subscriptions, message expiry, the payload format indicator.

Server Keep Alive is in test_hostile_limits.py, redirection in test_redirect.py, requests in test_request.py.
"""

import time

import pytest
from harness import wire
from harness.cases import login
from harness.peer import Peer
from harness.proxy import Proxy
from harness.remote import Board
from harness.scripts import Server

FOREVER = 0xFFFFFFFF


# Wills -----------------------------------------------------------------------------------------------------


def test_will_delay(broker):
    """The connection breaks: the will comes after its delay; not at all where the client is back before."""
    code = """
        c.set_last_will(topic, b"gone", True, 1, {"will_delay_interval": 1, "message_expiry_interval": 100})
        c.connect(False)
        """
    with (
        Peer(broker.plain_port) as peer,
        Proxy(broker.plain_port) as one,
        Proxy(broker.plain_port) as two,
        Board(one.port, "will-gone") as gone,
        Board(two.port, "will-back") as back,
    ):
        peer.subscribe("delayed/#", 1, 8)  # Retain As Published
        gone.run(code, topic="delayed/gone")
        back.run(code, topic="delayed/back")
        cut = time.monotonic()
        one.cut()
        two.cut()
        assert back.error("c.wait_msg()").type == "OSError"
        assert back.get("c.connect(False)") is True
        p = peer.receive()
        assert time.monotonic() - cut >= 0.9, "before its delay"
        assert (p.topic, p.payload, p.qos, p.flags & 1) == (b"delayed/gone", b"gone", 1, 1)
        assert [key for key, _ in p.props] == [0x02], "the delay is the broker's own affair"
        # The other one's would have come by now: both were cut together, and mosquitto looks once a second.
        time.sleep(1.1)
        back.run("c.disconnect()")
        peer.sync()
        assert peer.queue == []
        peer.publish("delayed/gone", retain=True)


@pytest.mark.parametrize(("reason", "comes"), [(0, False), (4, True)])
def test_will_at_disconnect(broker, reason, comes):
    with Peer(broker.plain_port) as peer, Board(broker.plain_port, "will-left") as board:
        peer.subscribe("left/#")
        board.run("c.set_last_will('left/t', 'gone', qos=2)\nc.connect()\nc.disconnect(reason)", reason=reason)
        peer.publish("left/end", b"END")
        assert peer.payloads() == ([b"gone"] if comes else [])


def test_will_of_another_connect(broker):
    """set_last_will() counts from the next connect() on."""
    with Peer(broker.plain_port) as peer, Board(broker.plain_port, "will-new") as board:
        peer.subscribe("newer/#")
        board.run("c.set_last_will('newer/1', b'')\nc.connect()\nc.set_last_will('newer/2', b'')\nc.disconnect(4)")
        board.run("c.connect()\nc.disconnect(4)")
        assert [peer.receive().topic for _ in range(2)] == [b"newer/1", b"newer/2"]


# Sessions --------------------------------------------------------------------------------------------------


def present(board, clean=False):
    return board.get("c.connect(clean)", clean=clean)


def test_session_expiry_at_disconnect(broker):
    with Board(broker.plain_port, "expiry") as board:
        assert present(board) is False
        board.run("c.disconnect()")
        assert present(board) is True, "None: for ever"
        board.run("c.disconnect(session_expiry=0)")
        assert present(board) is False, "given up at DISCONNECT"
        board.run("c.disconnect()")
        board.make(broker.plain_port, "expiry", session_expiry=1)
        assert present(board) is True
        board.run("c.disconnect(session_expiry=1000)")
        time.sleep(2.2)  # longer than CONNECT's 1 s, in mosquitto's whole seconds; a look would resume the session
        assert present(board) is True, "made longer at DISCONNECT"
        board.run("c.disconnect()")  # 1 s again
        time.sleep(2.2)
        assert present(board) is False, "expired"
        board.run("c.disconnect(session_expiry=0)")


@pytest.mark.parametrize("expiry", [0, None])
def test_no_session_expiry_after_none(broker, expiry):
    """3.14.2.2.2: after 0 in CONNECT only 0; the connection goes on."""
    with Board(broker.plain_port, "expiry0", session_expiry=expiry) as board:
        board.run("c.connect()")
        assert board.error("c.disconnect(session_expiry=5)").type == "ValueError"
        board.run("c.publish('still', b'', qos=1)\nc.disconnect(session_expiry=0)")


def test_assigned_client_identifier(broker):
    """Kept for the reconnect: the session is found again."""
    with Proxy(broker.plain_port) as proxy, Board(proxy.port, "", session_expiry=60) as board:
        assert present(board, clean=True) is False
        name = board.get("c.client_id")
        assert len(name) > 8 and board.get("c.connack['assigned_client_identifier']") == name.decode()
        board.run("c.subscribe('assigned/t', 1, note)\nc.disconnect()")
        with Peer(broker.plain_port) as peer:
            peer.publish("assigned/t", b"while away", 1)
        assert present(board) is True
        board.run("until(lambda: log)")
        assert [entry[1] for entry in board.log()] == [b"while away"]
        assert board.get("c.client_id") == name
        board.run("c.disconnect(session_expiry=0)")
        said = [wire.split(link.passed[0][1])[0].connect["client_id"] for link in proxy.links]
    assert said == [b"", name]


# Subscriptions ---------------------------------------------------------------------------------------------


def test_no_local_and_retain_as_published(broker):
    code = """
        c.connect()
        c.subscribe("opt/" + name, 2, lambda m: log.append((m.payload, m.retain)), **options)
        c.publish("opt/" + name, b"mine", True, 2)
        """
    with Peer(broker.plain_port) as peer, Board(broker.plain_port, "options") as board:
        for i, (no_local, as_published) in enumerate(((False, False), (False, True), (True, False), (True, True))):
            board.run(code, name=str(i), options={"no_local": no_local, "retain_as_published": as_published})
            peer.publish(f"opt/{i}", b"theirs", 2, retain=True)
            peer.publish(f"opt/{i}", b"END", 2)
            board.run("until(lambda: log and log[-1][0] == b'END')\nc.disconnect()")
            expected = [(b"mine", as_published)] * (not no_local) + [(b"theirs", as_published), (b"END", False)]
            assert list(board.log()) == expected, (no_local, as_published)
            peer.publish(f"opt/{i}", retain=True)


@pytest.mark.parametrize(("handling", "comes"), [(0, (True, True)), (1, (True, False)), (2, (False, False))])
def test_retain_handling(broker, handling, comes):
    """0: at each SUBSCRIBE, 1: at a new subscription only, 2: never."""
    topic = f"handling/{handling}"
    with Peer(broker.plain_port) as peer, Board(broker.plain_port, f"handling{handling}") as board:
        peer.publish(topic, b"kept", 1, retain=True)
        board.run("c.connect()")
        got = []
        for _ in range(2):
            board.run("c.subscribe(topic, 1, note, retain_handling=h)", topic=topic, h=handling)
            peer.publish(topic, b"END", 1)
            board.run("until(lambda: log and log[-1][1] == b'END')")
            got.append([entry[1] for entry in board.log()] == [b"kept", b"END"])
        peer.publish(topic, retain=True)
        board.run("c.disconnect()")
    assert tuple(got) == comes


def test_shared_subscription(broker):
    """Two clients of one group: each message to one of them; a third one, of another group, gets all."""
    names = ("share1", "share2", "share3")
    with (
        Peer(broker.plain_port) as peer,
        Board(broker.plain_port, names[0]) as one,
        Board(broker.plain_port, names[1]) as two,
        Board(broker.plain_port, names[2]) as three,
    ):
        boards = {one: "$share/g/shared/+", two: "$share/g/shared/+", three: "$share/h/shared/#"}
        for board, filter in boards.items():
            board.run("c.connect()\nc.subscribe(filter, 2, note)\nc.subscribe('end/shared', 2, note)", filter=filter)
        for i in range(20):
            peer.publish("shared/t", b"%d" % i, 2)
        peer.publish("end/shared", b"END", 2)
        got = []
        for board in boards:
            board.run("until(lambda: log and log[-1][1] == b'END')\nc.disconnect()")
            got.append([int(entry[1]) for entry in board.log()[:-1]])
    assert got[0] and got[1], "one of the group got nothing"
    assert sorted(got[0] + got[1]) == list(range(20)) and got[2] == list(range(20))


def test_overlapping_subscriptions(broker):
    """One copy a subscription: each handler once; and one handler less after unsubscribe()."""
    code = """
        c.connect()
        for f in ("over/#", "over/+", "over/t"):
            c.subscribe(f, 2, lambda m, f=f: log.append((f, m.payload)))
        """
    with Peer(broker.plain_port) as peer, Board(broker.plain_port, "overlap") as board:
        board.run(code)
        peer.publish("over/t", b"1", 2)
        board.run("until(lambda: len(log) == 3)")
        assert sorted(board.log()) == [("over/#", b"1"), ("over/+", b"1"), ("over/t", b"1")]
        assert board.get("c.unsubscribe('over/+')") == 0
        peer.publish("over/t", b"2", 2)
        peer.publish("over/END", b"END", 2)
        board.run("until(lambda: log[-1:] == [('over/#', b'END')])\nc.disconnect()")
        assert sorted(board.log()) == [("over/#", b"2"), ("over/#", b"END"), ("over/t", b"2")]


# Messages --------------------------------------------------------------------------------------------------


def test_message_expiry(broker):
    """Both ways: what has expired while the receiver was away does not come; what has not says how long it has."""
    with Board(broker.plain_port, "expiring") as board:
        with Peer(broker.plain_port, "expiring-peer", clean=False, expiry=FOREVER) as peer:
            peer.subscribe("expiry/out")
            peer.leave()
        board.run("c.connect(False)\nc.subscribe('expiry/in', 2, lambda m: log.append((m.payload, m.props)))")
        for expiry in (1, 100, None):
            props = expiry and {"message_expiry_interval": expiry}
            board.run("c.publish('expiry/out', str(expiry), qos=2, props=props)", expiry=expiry, props=props)
        board.run("c.disconnect()")
        with Peer(broker.plain_port) as sender:
            for expiry in (1, 100):
                sender.publish("expiry/in", b"%d" % expiry, 2, (0x02, expiry))
            sender.publish("expiry/in", b"END", 2)
        time.sleep(2.2)  # longer than 1 s, in whole seconds: what waits in the broker cannot be looked at
        assert board.get("c.connect(False)") is True
        board.run("until(lambda: log and log[-1][0] == b'END')\nc.disconnect(session_expiry=0)")
        (payload, props), end = board.log()
        assert (payload, end[0]) == (b"100", b"END")
        assert 90 <= props["message_expiry_interval"] <= 98 and "message_expiry_interval" not in end[1]
    with Peer(broker.plain_port, "expiring-peer", clean=False) as peer:
        got = [(p.payload, p.prop(0x02)) for p in (peer.receive(), peer.receive())]
    assert [payload for payload, _ in got] == [b"100", b"None"]
    assert 90 <= got[0][1] <= 98 and got[1][1] is None


@pytest.mark.parametrize("qos", [0, 1, 2])
def test_payload_format_indicator(qos):
    """Checked where the handler asks for it: what claims to be UTF-8 and is not is refused with 0x99."""
    good = ["".encode(), "grün".encode(), b"a\0b", "𝄞".encode()]
    bad = [b"\xff", b"\xed\xa0\x80", b"\xc0\x80", "ü".encode()[:1], b"ok\xf4\x90\x80\x80"]
    messages = [(data, 1, True) for data in good] + [(data, 1, False) for data in bad]
    messages += [(data, 0, True) for data in bad] + [(data, None, True) for data in bad]

    def script(conn):
        for pid, (data, indicator, _) in enumerate(messages, 1):
            pairs = [] if indicator is None else [(0x01, indicator)]
            conn.send(wire.publish("format", data, qos, pid, *pairs))
            if qos:
                p = conn.next()
                answers.append((p.pid, p.reason))
                if qos == 2 and p.reason < 0x80:
                    conn.send(wire.ack(wire.PUBREL, pid))
                    conn.expect(wire.PUBCOMP)
        conn.send(wire.publish("format", b"END"))
        conn.serve()

    code = """
        def handler(m):
            m.check_format()
            log.append(m.payload)
        c.on("format", handler)
        c.connect()
        until(lambda: log[-1:] == [b"END"])
        c.disconnect()
        """
    answers = []
    with Server(login(script)) as server, Board(server.port) as board:
        board.run(code)
        assert list(board.log()) == [data for data, _, fine in messages if fine] + [b"END"]
        server.finish()
    if qos:
        assert answers == [(i, 0 if fine else 0x99) for i, (_, _, fine) in enumerate(messages, 1)]


def test_text_of_a_message(broker):
    with Peer(broker.plain_port) as peer, Board(broker.plain_port, "text") as board:
        code = """
            def handler(m):
                try:
                    log.append(m.text)
                except ValueError as e:
                    log.append(type(e).__name__)
            c.connect()
            c.subscribe("text/t", 0, handler)
            """
        board.run(code)
        for data in ("grün".encode(), b"", b"\xff"):
            peer.publish("text/t", data)
        board.run("until(lambda: len(log) == 3)\nc.disconnect()")
        assert board.log() == ("grün", "", "UnicodeError")


def test_a_rejected_message_is_dealt_with(broker):
    """Reject: mosquitto regards it as delivered, also in the next connection."""
    code = """
        from umqtt5 import Reject
        def handler(m):
            log.append(m.payload)
            if m.payload != b"END": raise Reject(0x83, {"reason_string": "no"})
        c.on("reject/#", handler)
        c.connect(False)
        """
    with Peer(broker.plain_port) as peer, Proxy(broker.plain_port) as proxy, Board(proxy.port, "rejecting") as board:
        board.run(code)
        board.run("c.subscribe('reject/t', 2, handler)")
        for qos in (1, 2):
            peer.publish("reject/t", b"%d" % qos, qos)
        board.run("until(lambda: len(log) == 2)\nc.disconnect()")
        proxy.wait_ended()
        peer.publish("reject/t", b"END", 2)
        assert board.get("c.connect(False)") is True
        board.run("until(lambda: log[-1] == b'END')\nc.disconnect(session_expiry=0)")
        assert board.log() == (b"1", b"2", b"END")
