"""Re-authentication by umqtt5.robust in MicroPython: by the timer against the real broker, packets held meanwhile;
and one that is refused, after which it connects anew.
"""

from harness import wire
from harness.cases import GOOD
from harness.logins import honest
from harness.proxy import Proxy
from harness.reauth import BUSY, after_login, begun, between, proof, refuses, rounds, success
from harness.remote import Board
from harness.scripts import Server, nothing
from harness.wire import PUBLISH

MAKE = """
from umqtt5.robust import MQTTClient
from umqtt5.retry import Backoff
from umqtt5.outbox import Outbox
from usasl.scram import ScramSHA256
if options.pop("outbox", None):
    options["outbox"] = Outbox()
c = MQTTClient("robust", "127.0.0.1", port, keepalive=60, auth=ScramSHA256(user, password), timeout=3,
               backoff=Backoff(0.02, 0.1, 0.05, 0.1), on_event=told, **options)
c.set_callback(lambda topic, msg: log.append((topic, msg)))
c.connect()
log.clear()
"""


def connect(board, port, **options):
    board.run(MAKE, port=port, user="device1", password="s3cret-of-device1", options=options)


def test_by_the_timer(broker):
    with Proxy(broker.port) as proxy, Board() as board:
        connect(board, proxy.port, reauth_every=1)
        board.run(BUSY, ms=2500)
        assert rounds(proxy) >= 2 and between(proxy) == []
        assert board.log() == ()
        board.run("until(lambda: not c._engine.authenticating)\nc.disconnect()")


def test_a_publish_waits_until_it_is_over():
    """Also one from the outbox. It returns when it is out, nothing is copied meanwhile."""

    def then(conn):
        for _ in range(2):
            x = begun(conn, GOOD)
            nothing(conn, 0.2)
            proof(conn, GOOD, x=x)
            conn.send(success(GOOD, x.honest))
            p = conn.expect(PUBLISH)
            if p.qos:
                conn.send(wire.ack(wire.PUBACK if p.qos == 1 else wire.PUBREC, p.pid))
            if p.qos == 2:
                conn.send(wire.ack(wire.PUBCOMP, conn.expect(wire.PUBREL).pid))
        conn.serve()

    for outbox in (False, True):
        with Server(after_login(GOOD, then)) as server, Board() as board:
            connect(board, server.port, reauth_every=1, outbox=outbox)
            for qos in (0, 2):
                board.run("until(lambda: c._engine.held)\nc.publish('t', b'm', qos=qos)", qos=qos)
                if not outbox:
                    assert not board.get("c._engine.held"), "it returned before it was out"
            board.run("c.disconnect()")
            server.finish()


def test_messages_that_stream_in_do_not_hold_up_the_outbox():
    """Room in flight has come while all was held back. wait_msg() finds a message each time, and has nothing to wait
    for: what the outbox holds goes out all the same."""

    def then(conn):
        p = conn.expect(PUBLISH)
        x = begun(conn, GOOD)
        conn.send(wire.ack(wire.PUBACK, p.pid))
        proof(conn, GOOD, x=x)
        # One write: when reauthenticate() has returned, all three are there.
        conn.send(success(GOOD, x.honest), *[wire.publish("in", b"m")] * 3)
        assert conn.expect(PUBLISH).payload == b"2"
        conn.serve()

    with Server(after_login(GOOD, then)) as server, Board() as board:
        connect(board, server.port, outbox=True, receive_maximum=1)
        code = """
        c.publish("t", b"1", qos=1, wait=False)
        c._outbox.put(b"t", b"2", 2)
        c.reauthenticate()
        c.wait_msg()
        result = len(c._outbox), len(log)
        log.clear()
        c.disconnect()
        """
        assert board.run(code) == (0, 1)
        server.finish()


def test_a_refusal():
    """By a call: AuthError, and the next call connects anew, by what it has logged in with before."""
    with Server(after_login(GOOD, refuses), honest(GOOD)) as server, Board() as board:
        connect(board, server.port)
        e = board.error("c.reauthenticate()")
        assert (e.type, e.reason) == ("AuthError", 0x87), e
        board.run("c.publish('t', b'm', qos=1)\nc.disconnect()")
        server.finish()


def test_after_a_refusal_it_waits():
    """The next login is as late as after a refused one, or a program that tries again would hammer the broker."""
    ms = []
    with Server(*[after_login(GOOD, refuses)] * 2, honest(GOOD)) as server, Board() as board:
        connect(board, server.port)
        board.run("c._backoff.long_first = c._backoff.long_cap = 0.4\nfrom time import ticks_ms, ticks_diff")
        for _ in range(2):
            assert board.error("c.reauthenticate()").type == "AuthError"
            ms.append(board.run("began = ticks_ms()\nc.reconnect()\nresult = ticks_diff(ticks_ms(), began)"))
        board.run("c.disconnect()")
        server.finish()
        told = [name for name, _ in board.log()]
    assert min(ms) >= 200, ms  # chance takes up to half of it
    assert told == ["lost", "reconnected"] * 2


def test_a_refusal_by_the_timer():
    """No call raises it: a device would stay silent for ever. on_event hears of it, and it connects anew."""
    for call in ("c.check_msg()", "c.publish('t', b'm', qos=1)", "c.subscribe('t')"):
        with Server(after_login(GOOD, until_again), honest(GOOD)) as server, Board() as board:
            connect(board, server.port, reauth_every=1)
            board.run(f"while not log: {call}")
            board.run(
                "c._engine.terms.reauth_every = 1000000\nc.check_msg()\nc.publish('t', b'm', qos=1)\nc.disconnect()"
            )
            server.finish()
            assert [(n, "AuthError" in str(v) or v) for n, v in board.log()] == [
                ("lost", True),
                ("reconnected", False),
            ]


def until_again(conn):
    """Serve, and refuse when the re-authentication comes."""
    while (p := conn.next()).type != wire.AUTH:
        if p.type == PUBLISH:
            conn.send(wire.ack(wire.PUBACK, p.pid))
        if p.type == wire.SUBSCRIBE:
            conn.send(wire.ack(wire.SUBACK, p.pid))
    conn.send(wire.disconnect(0x87))
    conn.close()
