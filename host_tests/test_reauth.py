"""Re-authentication by the blocking client in MicroPython: against the real broker (mosquitto 2.0.11 with Cyrus SASL
and GNU SASL), which takes no other packet meanwhile and refuses by CONNACK; and what a scripted server sees of it.
"""

import pytest
from harness import wire
from harness.cases import GOOD
from harness.peer import Peer
from harness.proxy import IN, OUT, Proxy, wait_for
from harness.reauth import (
    BUSY,
    SLOW,
    after_login,
    begun,
    between,
    forged,
    honest_again,
    proof,
    rounds,
    scripted,
    slowly,
    success,
    with_pings,
)
from harness.remote import Board
from harness.scripts import Server, subscribed
from harness.wire import PUBACK, PUBLISH

PORTS = ["port", "gsasl_port"]
both = pytest.mark.parametrize("port", PORTS)

CONNECTED = """
from usasl.scram import ScramSHA256
c = MQTTClient(name, "127.0.0.1", port, keepalive=60, auth=ScramSHA256(user, password), timeout=3, **options)
c.set_callback(lambda topic, msg: log.append((topic, msg)))
c.connect()
"""


SEEN = """
seen = bytearray(5000)
def note_it(topic, msg):
    seen[int(msg)] = 1
c.set_callback(note_it)
"""


def connect(board, port, name, **options):
    values = {"user": "device1", "password": "s3cret-of-device1", "name": name, "options": options}
    board.run(CONNECTED, port=port, **values)


# The real broker ---------------------------------------------------------------------------------------------


@both
def test_twenty_in_a_row(broker, port):
    """With messages before and after each, at every QoS, both ways; by password and then by keys."""
    topic = f"reauth/twenty/{port}"
    with Peer(broker.plain_port) as peer, Board() as board:
        peer.subscribe(topic)
        connect(board, getattr(broker, port), f"twenty-{port}")
        board.run("c.subscribe(topic, 2)", topic=topic)
        board.run(
            """
            for i in range(20):
                if i == 10:
                    new = ScramSHA256("device1", keys=c._engine.terms.mechanism._keys)
                    c.reauthenticate(new)
                c.publish(topic, b"before %d" % i, qos=i % 3)
                c.reauthenticate()
                c.publish(topic, b"after %d" % i, qos=i % 3)
            until(lambda: len(log) >= 40)
            c.disconnect()
            """,
            topic=topic,
        )
        expected = {b"%b %d" % (word, i) for i in range(20) for word in (b"before", b"after")}
        assert {m for _, m in board.log()} == expected
        assert {peer.receive().payload for _ in range(40)} == expected


@both
def test_wrong_new_credentials(broker, port):
    """Refused, by CONNACK 0x87 in this broker: the connection ends; the next connect() is by the old ones."""
    with Board() as board:
        connect(board, getattr(broker, port), f"wrong-{port}")
        e = board.error("c.reauthenticate(ScramSHA256('device1', password))", password="not-the-password")
        assert (e.type, e.reason) == ("AuthError", 0x87), e
        assert e.text.startswith("SCRAM-SHA-256: ") and "password" in e.text and "not-the-password" not in str(e)
        assert board.error("c.publish('t', b'm')").type == "OSError"
        board.run("c.connect(); c.publish('t', b'm', qos=1); c.reauthenticate(); c.disconnect()")


def test_another_user(broker):
    """New credentials are those of the next login, and its MQTT User Name."""
    with Board() as board:
        connect(board, broker.port, "another")
        board.run("c.reauthenticate(ScramSHA256('device2', password))", password="s3cret-of-device2")
        board.run("c.publish('t', b'm', qos=1); c.disconnect(); c.connect(); c.reauthenticate()")
        assert board.get("c._engine.terms.user") == b"device2"
        lines = [line for line in broker.log_text().splitlines() if "as another " in line]
        assert [line.rpartition("u'")[2] for line in lines] == ["device1').", "device2')."], lines


def test_unknown_user_and_another_method(broker):
    with Board() as board:
        connect(board, broker.port, "unknown")
        text = board.error("from usasl.scram import ScramSHA1\nc.reauthenticate(ScramSHA1('device1', 'x'))").text
        assert "SCRAM-SHA-1" in text and "SCRAM-SHA-256" in text
        board.run("c.publish('t', b'still up', qos=1)")
        e = board.error("c.reauthenticate(ScramSHA256('nobody', 'x'))")
        assert (e.type, e.reason) == ("AuthError", 0x87)


@both
def test_by_the_timer(broker, port):
    """While the application waits, and while it looks in now and then; and it goes on publishing."""
    with Proxy(getattr(broker, port)) as proxy, Board() as board:
        connect(board, proxy.port, f"timer-{port}", reauth_every=1)
        board.run("until(lambda: c._engine.authenticating)\nuntil(lambda: not c._engine.authenticating)")
        assert rounds(proxy) == 1
        board.run("c.subscribe('reauth/timer', 1)")
        board.start("c.wait_msg()")
        wait_for(lambda: rounds(proxy) >= 2, 10, "a re-authentication in wait_msg()")
        with Peer(broker.plain_port) as peer:
            # mosquitto 2.0.11 keeps back what comes during one, till the next message.
            wait_for(lambda: peer.publish("reauth/timer", b"m", 1) and not board.busy(), 5, "the message")
        board.wait()
        had = rounds(proxy)
        board.run(BUSY, ms=1500)
        assert rounds(proxy) > had
        board.run("c.disconnect()")


def test_messages_that_come_meanwhile(broker):
    """None is lost at QoS 1 while one re-authentication follows the other, nor is an acknowledgement."""
    with Peer(broker.plain_port) as peer, Proxy(broker.port) as proxy, Board() as board:
        connect(board, proxy.port, "meanwhile")
        board.run("c.subscribe('reauth/in', 1)")
        board.run(SEEN)
        board.start("for _ in range(20):\n    c.reauthenticate()\n    for _ in range(20):\n        c.check_msg()")
        count = 0
        while board.busy():
            if (
                count < 4990 and count - len(proxy.link.seen(IN, PUBLISH)) < 100
            ):  # the broker itself drops beyond 1000
                peer.publish("reauth/in", b"%d" % count, 1)
                count += 1
        board.wait()
        # What this broker keeps back goes out with the next message.
        board.start("until(lambda: seen[-1])")
        peer.publish("reauth/in", b"4999", 1)
        board.wait()
        assert board.get("sum(seen)") == count + 1 and board.get("sum(seen[:count])", count=count) == count
        assert count >= 20 and rounds(proxy) == 20
        assert between(proxy) == []
        board.run("c.publish('t', b'm', qos=1); c.disconnect()")
        wait_for(lambda: len(proxy.link.packets(OUT, {PUBACK})) >= count + 1, what="every acknowledgement")


def test_this_broker_takes_no_packet_in_between(broker):
    """Why packets are held by default; and the text says so."""
    with Board() as board:
        connect(board, broker.port, "between", reauth_hold=False)
        board.run("c.reauthenticate()")  # nothing else goes out: it is well
        e = board.error(
            """
            from time import ticks_ms
            e = c._engine
            e.reauthenticate(None, ticks_ms())
            while e.auth_busy():
                e.work(ticks_ms())
            c._flush(None)
            c.publish("t", b"m", qos=1)
            """
        )
        assert (e.type, e.reason) == ("AuthError", 0x82) and "reauth_hold=True" in e.text, e


# A scripted server -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("qos", [0, 1, 2])
def test_a_publish_waits_until_it_is_over(qos):
    """One started by the timer, a publish() right behind it."""

    def then(conn):
        slowly(conn)
        assert conn.expect(PUBLISH).payload == b"held"
        conn._read -= 1
        conn.serve()

    with scripted(then) as server, Board() as board:
        connect(board, server.port, "held", reauth_every=1)
        board.run("until(lambda: c._engine.held)")
        board.run("c.publish('t', b'held', qos=qos)", qos=qos)
        assert not board.get("c._engine.held or c._engine.authenticating"), "it returned before it was out"
        board.run("c.disconnect()")
        server.finish()


def test_so_do_publishers_subscribe_and_disconnect():
    def then(conn):
        for kind in (PUBLISH, wire.SUBSCRIBE, wire.UNSUBSCRIBE, wire.DISCONNECT):
            slowly(conn, seconds=0.15)
            p = conn.expect(kind)
            if kind == wire.SUBSCRIBE:
                conn.send(wire.ack(wire.SUBACK, p.pid))
            elif kind == wire.UNSUBSCRIBE:
                conn.send(wire.ack(wire.UNSUBACK, p.pid))

    with scripted(then) as server, Board() as board:
        connect(board, server.port, "all", reauth_every=1)
        board.run("p = c.publisher('t')")
        for code in ("p.publish(b'm')", "c.subscribe('t')", "c.unsubscribe('t')", "c.disconnect()"):
            board.run("until(lambda: c._engine.held)\n" + code)
        server.finish()


def test_what_a_handler_publishes_and_acknowledges_waits():
    packets = [wire.publish("in", b"%d" % i, 1, i + 1) for i in range(12)]

    def then(conn):
        slowly(conn, packets)
        names = [conn.next().name for _ in range(24)]
        assert names == ["PUBLISH", "PUBACK"] * 12
        conn.serve()

    with scripted(then) as server, Board() as board:
        connect(board, server.port, "handler")
        board.run("c.on('in', lambda m: c.publish('out', m.payload))")
        board.run("c.reauthenticate(); c.disconnect()")
        server.finish()


def test_not_held_they_flow():
    def then(conn):
        x = begun(conn, GOOD)
        conn.send(wire.publish("in", b"m", 1, 7))
        assert conn.expect(PUBACK).pid == 7
        assert conn.expect(PUBLISH).payload == b"flows"
        proof(conn, GOOD, x=x)
        conn.send(success(GOOD, x.honest))
        conn.serve()

    with scripted(then) as server, Board() as board:
        connect(board, server.port, "flow", reauth_every=1, reauth_hold=False)
        board.run("until(lambda: log)")
        board.run("c.publish('t', b'flows')")
        board.run("until(lambda: not c._engine.authenticating)\nc.disconnect()")
        server.finish()


@pytest.mark.parametrize("hold", [True, False])
def test_keep_alive_does_not_end_it(hold):
    with scripted(lambda conn: with_pings(conn, hold)) as server, Board() as board:
        connect(board, server.port, "alive")
        board.run(
            "c._engine.terms.keepalive = c._engine.keepalive = 1; c._engine.terms.reauth_hold = hold", hold=hold
        )
        board.run("c.reauthenticate(); c.publish('t', b'm', qos=1); c.disconnect()")
        server.finish()


def test_our_own_computing_does_not_count_against_a_deadline():
    """Neither in a login, nor in a re-authentication, nor in an operation that waits while one runs."""

    def then(conn):
        honest_again(conn, GOOD)
        sub = conn.expect(wire.SUBSCRIBE)
        honest_again(conn, GOOD)
        conn.send(wire.ack(wire.SUBACK, sub.pid))
        conn.serve()

    with Server(after_login(GOOD, lambda conn: conn.serve()), after_login(GOOD, then)) as server, Board() as board:
        connect(board, server.port, "slow", reauth_hold=False)
        board.run(SLOW + "c._engine.terms.mechanism = Slow(user, password)\nfrom time import ticks_ms")
        board.run("c.disconnect(); c.connect(); c.reauthenticate()")
        board.run("c._engine.reauthenticate(None, ticks_ms()); c.subscribe('t')")
        board.run("c.disconnect()")
        server.finish()


def test_one_at_a_time_and_outside_of_handlers():
    def then(conn):
        conn.send(wire.publish("in", b"m"))
        honest_again(conn, GOOD)
        conn.serve()

    with scripted(then) as server, Board() as board:
        connect(board, server.port, "once")
        board.run(
            """
            def handler(m):
                try:
                    c.reauthenticate()
                except RuntimeError as e:
                    log.append(str(e))
            c.on("in", handler)
            c.wait_msg()
            from time import ticks_ms
            c._engine.reauthenticate(None, ticks_ms())
            """
        )
        assert len(board.log()) == 1
        assert board.error("c.reauthenticate()").type == "RuntimeError"
        board.run("until(lambda: not c._engine.authenticating)\nc.disconnect()")
        server.finish()


def test_not_without_auth(broker):
    with Board(port=broker.plain_port) as board:
        board.run("c.connect()")
        assert board.error("c.reauthenticate()").type == "ValueError"
        board.run("c.publish('t', b'm', qos=1); c.disconnect()")
        assert board.error("c.reauthenticate()").type == "OSError"


def test_what_has_come_is_read_before_the_time_is_looked_at(broker):
    """PINGRESP lies there, and the application, which slept, has not read it."""
    with Board() as board:
        connect(board, broker.port, "slept")
        board.run(
            """
            import select, time
            c.ping()
            there = select.poll()
            there.register(c.sock, select.POLLIN)
            assert there.poll(5000)
            c._engine.pinged = time.ticks_add(c._engine.pinged, -60000)
            c.reauthenticate()
            c.publish("t", b"m", qos=1)
            c.disconnect()
            """
        )


def test_one_that_fails_while_a_request_waits():
    """By the timer: the error of request() is its own, and the connection is closed."""

    def then(conn):
        subscribed(conn)
        conn.expect(PUBLISH)
        forged(conn)

    with scripted(then, after_login(GOOD, lambda conn: conn.serve())) as server, Board() as board:
        connect(board, server.port, "asking", reauth_every=1)
        assert board.error("c.request('t', b'')").type == "NotProven"
        assert board.get("c.sock is None")
        board.run("c.connect(); c.publish('t', b'm', qos=1); c.disconnect()")
        first, _ = server.finish()
        assert first.ended == "fin" and first.names()[-1] == "DISCONNECT"
