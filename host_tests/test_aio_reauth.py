"""Re-authentication by the asyncio client in MicroPython: against the real broker (mosquitto 2.0.11 with Cyrus SASL
and GNU SASL), which takes no other packet meanwhile and refuses by CONNACK; and what a scripted server sees of it.
"""

import pytest
from harness import wire
from harness.aio import AioBoard
from harness.cases import GOOD
from harness.logins import honest
from harness.peer import Peer
from harness.proxy import OUT, Proxy, wait_for
from harness.reauth import (
    SLOW,
    between,
    closes,
    forged,
    honest_again,
    proof,
    refuses,
    rounds,
    scripted,
    silent,
    slowly,
    success,
    with_pings,
    without_proof,
)
from harness.scripts import Server, nothing, subscribed
from harness.wire import PUBACK, PUBLISH

AUTH = ("device1", "s3cret-of-device1")
both = pytest.mark.parametrize("port", ["port", "gsasl_port"])


def board_at(port, **options):
    return AioBoard(port, "aio-reauth", auth=AUTH, **options)


# The real broker ---------------------------------------------------------------------------------------------


@both
def test_while_twenty_tasks_publish(broker, port):
    """Ten in a row; no message is lost, at any QoS, either way; and nothing but AUTH goes out while one runs."""
    topic = f"aio/reauth/{port}"
    with Peer(broker.plain_port) as peer, Proxy(getattr(broker, port)) as proxy, board_at(proxy.port) as board:
        peer.subscribe(topic)
        board.run("await c.connect()\nawait c.subscribe(topic, 2, note)", topic=topic)
        board.run(
            """
            async def work(n):
                for i in range(10):
                    await c.publish(topic, b"%d/%d" % (n, i), qos=n % 3)
                    await asyncio.sleep_ms(3)
            tasks = [spawn(work(n)) for n in range(20)]
            for i in range(10):
                keys = c._engine.terms.mechanism._keys
                await c.reauthenticate(ScramSHA256("device1", keys=keys) if i == 5 else None)
                await asyncio.sleep_ms(3)
            await asyncio.gather(*tasks)
            await c.publish(topic, b"END", qos=1)
            await until(lambda: len(inbox) >= 201)
            assert not failed and c.epoch == 1
            """
        )
        assert rounds(proxy) == 10 and between(proxy) == []
        got = [peer.receive().payload for _ in range(201)]
        assert sorted(got) == sorted([b"END", *(b"%d/%d" % (n, i) for n in range(20) for i in range(10))])
        board.run("await c.disconnect()")


@both
def test_by_the_timer(broker, port):
    """The client idles; and while it publishes."""
    with Proxy(getattr(broker, port)) as proxy, board_at(proxy.port, reauth_every=1) as board:
        board.run("await c.connect()")
        wait_for(lambda: rounds(proxy) >= 2, 6, "two re-authentications by the timer")
        had = rounds(proxy)
        board.run(
            """
            end = time.ticks_add(time.ticks_ms(), 1500)
            while time.ticks_diff(end, time.ticks_ms()) > 0:
                for qos in range(3):
                    await c.publish("t", b"m", qos=qos)
                    assert c.healthy()
            await until(lambda: not c._engine.authenticating)
            assert c.epoch == 1
            """
        )
        assert rounds(proxy) > had and between(proxy) == []
        board.run("await c.disconnect()")


@both
def test_wrong_new_credentials(broker, port):
    """AuthError for the caller; then the client connects anew, by the old ones. The others only see it lost."""
    with board_at(getattr(broker, port)) as board:
        board.run("await c.connect()")
        e = board.error("await c.reauthenticate(ScramSHA256('device1', password))", password="not-the-password")
        assert (e.type, e.reason) == ("AuthError", 0x87), e
        assert e.text.startswith("SCRAM-SHA-256: ") and "password" in e.text and "not-the-password" not in str(e)
        board.run("await c.publish('t', b'm', qos=1)\nawait c.reauthenticate()\nassert c.epoch == 2")
        assert ("lost", "AuthError") in board.events()
        board.run("await c.disconnect()")
        assert board.error("await c.reauthenticate()").type == "OSError"


def test_what_is_refused_locally(broker):
    with board_at(broker.port) as board:
        board.run("await c.connect()")
        e = board.error("from usasl.scram import ScramSHA1\nawait c.reauthenticate(ScramSHA1('device1', 'x'))")
        assert e.type == "ValueError" and "SCRAM-SHA-1" in e.text
        # In one piece: the first may be over before the next line comes.
        e = board.error(
            """
            global first
            first = spawn(c.reauthenticate())
            await asyncio.sleep_ms(0)
            await c.reauthenticate()
            """
        )
        assert e.type == "RuntimeError" and "one is running" in e.text
        board.run("await first\nawait c.publish('t', b'm', qos=1)\nassert c.epoch == 1 and not failed")
        board.run("await c.disconnect()")
    with AioBoard(broker.plain_port) as board:
        board.run("await c.connect()")
        assert board.error("await c.reauthenticate()").type == "ValueError"
        board.run("await c.publish('t', b'm', qos=1)\nawait c.disconnect()")


def test_cancelled_it_goes_on(broker):
    with Proxy(broker.port) as proxy, board_at(proxy.port) as board:
        board.run(
            """
            await c.connect()
            t = asyncio.create_task(c.reauthenticate())
            await asyncio.sleep_ms(0)
            t.cancel()
            await c.publish("t", b"m", qos=1)
            await until(lambda: not c._engine.authenticating)
            await c.disconnect()
            """
        )
        assert rounds(proxy) == 1 and between(proxy) == []


# A scripted server -------------------------------------------------------------------------------------------


def test_all_waits_until_it_is_over():
    """Publishes at each QoS and of each size, SUBSCRIBE; and DISCONNECT."""

    def then(conn):
        slowly(conn)
        got = set()
        while len(got) < 6:
            p = conn.next()
            if p.type == PUBLISH:
                got.add((p.payload[:4], p.qos))
                if p.qos:
                    conn.send(wire.ack(PUBACK if p.qos == 1 else wire.PUBREC, p.pid))
            else:
                got.add(p.name)
                conn.send(wire.ack(wire.SUBACK if p.type == wire.SUBSCRIBE else wire.PUBCOMP, p.pid))
        expected = {(b"qos0", 0), (b"qos1", 1), (b"qos2", 2), (b"big\0", 0), "SUBSCRIBE", "PUBREL"}
        assert got == expected, got
        slowly(conn)
        conn.expect(wire.DISCONNECT)

    with scripted(then) as server, board_at(server.port) as board:
        board.run(
            """
            await c.connect()
            spawn(c.reauthenticate())
            await until(lambda: c._engine.held)
            calls = [c.publish("t", b"qos%d" % q, qos=q) for q in range(3)]
            await asyncio.gather(*calls, c.publish("t", b"big" + bytes(9000)), c.subscribe("s", 0))
            assert not c._engine.held
            spawn(c.reauthenticate())
            await until(lambda: c._engine.held)
            await c.disconnect()
            assert not failed
            """
        )
        server.finish()


def test_messages_that_come_meanwhile():
    """Their acknowledgements go out when it is over, and not before their message is dealt with; nor does one of
    theirs take the place of another's."""
    packets = [wire.publish("in", b"%d" % i, 1 + i % 2, i + 1) for i in range(12)]

    def then(conn):
        slowly(conn, packets)
        for i in range(12):
            name = "PUBREC" if i % 2 else "PUBACK"
            p = conn.next()
            assert (p.name, p.pid) == (name, i + 1), (p, i)
        assert conn.expect(PUBLISH).payload == b"all dealt with"
        conn._read -= 1
        conn.serve()

    with scripted(then) as server, board_at(server.port) as board:
        board.run(
            """
            global got
            got = []
            async def read():
                async for m in c:
                    got.append(m.payload)
            await c.connect()
            spawn(c.reauthenticate())
            await until(lambda: c._engine.held)
            spawn(read())
            await until(lambda: not c._engine.authenticating)
            await until(lambda: len(got) == 12)
            await c.publish("t", b"all dealt with", qos=2)
            await c.disconnect()
            """
        )
        server.finish()


def test_not_dealt_with_is_not_acknowledged():
    def then(conn):
        s = subscribed(conn)
        slowly(conn, [wire.publish("in", b"kept", 1, 7)])
        nothing(conn, 0.2)
        conn.send(wire.publish("other", b"m", 1, 8, (0x0B, s.prop(0x0B))))
        assert conn.expect(PUBACK).pid == 8
        assert conn.expect(PUBLISH).qos == 2
        conn._read -= 1
        conn.serve()

    with scripted(then) as server, board_at(server.port) as board:
        board.run("await c.connect()\nawait c.subscribe('other', 1, note)\nawait c.reauthenticate()")
        board.wait_for("inbox")
        board.run("await c.publish('t', b'm', qos=2)\nawait c.disconnect()")
        server.finish()


def test_an_outbox_waits_too():
    def then(conn):
        slowly(conn)
        assert conn.expect(PUBLISH).payload == b"from the outbox"
        conn._read -= 1
        conn.serve()

    with scripted(then) as server, AioBoard() as board:
        board.run("global Outbox\nfrom umqtt5.outbox import Outbox\nglobal options\noptions = {'outbox': Outbox()}")
        board.run(
            """
            global c
            c = MQTTClient("outbox", "127.0.0.1", port, auth=ScramSHA256(*auth), on_event=told, **options)
            await c.connect()
            spawn(c.reauthenticate())
            await until(lambda: c._engine.held)
            c._outbox.outbox.put(b"t", b"from the outbox", 0, b"", None)
            c._push()
            await until(lambda: not c._engine.held)
            await c.disconnect()
            """,
            port=server.port,
            auth=list(AUTH),
        )
        server.finish()


@pytest.mark.parametrize("hold", [True, False])
def test_keep_alive(hold):
    with (
        scripted(lambda conn: with_pings(conn, hold, b"flows")) as server,
        board_at(server.port, reauth_hold=hold) as board,
    ):
        board.run("await c.connect()\nc._engine.terms.keepalive = c._engine.keepalive = 1")
        board.run("spawn(c.reauthenticate())\nawait until(lambda: c._engine.authenticating)")
        board.run("await asyncio.sleep_ms(20)\nawait c.publish('t', b'flows')")
        board.run("await until(lambda: not c._engine.authenticating)\nassert c.epoch == 1 and not failed")
        board.run("await c.disconnect()")
        server.finish()


def test_our_own_computing():
    """It does not count against the deadline, other tasks run meanwhile, and the client stays healthy."""

    def then(conn):
        honest_again(conn, GOOD)
        conn.serve()

    with scripted(then) as server, board_at(server.port) as board:
        board.run("await c.connect()")
        board.run(
            SLOW
            + """
turns = 0
async def count():
    nonlocal turns
    while True:
        turns += 1
        assert c.healthy()
        await asyncio.sleep_ms(0)
t = spawn(count())
await c.reauthenticate(Slow("device1", "s3cret-of-device1"))
t.cancel()
assert turns > 25 and not failed, turns
await c.disconnect()
"""
        )
        server.finish()


ENDS = {"silent": (silent, "OSError"), "closes": (closes, "OSError"), "forged": (forged, "NotProven")}
ENDS["refuses"] = (refuses, "AuthError")


@pytest.mark.parametrize("how", ENDS)
@pytest.mark.parametrize("by_the_timer", [False, True])
def test_its_end_is_the_connections(how, by_the_timer):
    """The caller has the error, by the timer on_event; a task that waits to publish waits for the next connection,
    which comes by itself."""
    script, error = ENDS[how]
    every = {"reauth_every": 1} if by_the_timer else {}
    with scripted(script, honest(GOOD)) as server, board_at(server.port, timeout=1, **every) as board:
        board.run("await c.connect()")
        if by_the_timer:
            board.run("await until(lambda: events('lost'))\nc._engine.terms.reauth_every = 100000")  # no further one
        else:
            assert board.error("await c.reauthenticate()").type == error
        board.run("await c.publish('t', b'm', qos=1)\nassert c.epoch == 2\nawait c.disconnect()")
        assert [v for n, v in board.events() if n == "lost"] == [error]
        server.finish()
        assert server.connections[0].ended in ("fin", "reset")


def test_after_a_cut_its_packets_are_gone(broker):
    """A connection that breaks in the middle: the next one begins without what was held."""
    with Proxy(broker.port) as proxy, board_at(proxy.port) as board:
        board.run("await c.connect()")
        proxy.cut_at(OUT, 3)
        assert board.error("await c.reauthenticate()").type == "OSError"
        board.run("await c.publish('t', b'm', qos=2)\nawait c.reauthenticate()\nawait c.disconnect()")


def test_a_proof_that_comes_late():
    """server_proof="reauth": before connect() returns; messages before it are neither delivered nor acknowledged."""

    def then(conn):
        conn.send(wire.publish("early", b"1", 1, 1))
        honest_again(conn, GOOD)
        conn.expect(wire.PUBLISH)  # nothing has come since the proof
        conn.send(wire.publish("late", b"2", 1, 2))
        assert conn.expect(PUBACK).pid == 2
        conn.serve()

    def never(conn):
        proof(conn, GOOD)
        conn.send(success(GOOD, None))

    scripts = without_proof(GOOD, never), without_proof(GOOD, then)
    with Server(*scripts) as server, AioBoard() as board:
        board.run(
            """
            global c
            late = ScramSHA256(*auth, server_proof="reauth")
            c = MQTTClient("late", "127.0.0.1", port, auth=late, on_event=told, backoff=quick())
            c.set_callback(lambda topic, msg: inbox.append(topic))
            await c.connect(5)
            await c.publish("up", b"")
            await until(lambda: inbox)
            assert inbox == [b"late"], inbox
            assert events("failed") == 1 and log[0][0] == "failed", log
            await c.disconnect()
            """,
            port=server.port,
            auth=list(AUTH),
        )
        assert board.events()[0] == ("failed", "NotProven")
        server.finish()
