"""umqtt5.robust: umqtt.robust's class, which reconnects by itself; with an outbox and a store where they are wanted.

Inside MicroPython, against a broker that is killed and against scripted servers. test_chaos.py has what is lost or
doubled (nothing); here is what the calls do.
"""

import socket

import pytest
from harness.cases import login
from harness.peer import Peer
from harness.proxy import OUT, Proxy
from harness.remote import Board
from harness.scripts import Server, subscribed
from harness.wire import CONNECT, DISCONNECT, PUBACK, PUBLISH, SUBSCRIBE, ack, connack, publish

from tools.devbroker import Broker

MAKE = """
from umqtt5.robust import MQTTClient
from umqtt5.retry import Backoff
from umqtt5.outbox import Outbox
from umqtt5.store import Store, StoreError

class Client(MQTTClient):
    waits = []
    def delay(self, i):
        self.waits.append(i)
        super().delay(i)

def make(client_id="robust", server="127.0.0.1", **more):
    global c
    more.setdefault("timeout", 3)
    c = Client(client_id, server, port, keepalive=10, backoff=Backoff(0.02, 0.1, 0.02, 0.1), on_event=told, **more)
    c.waits.clear()
    c.set_callback(lambda topic, msg: log.append((topic, msg)))
    names["c"] = c  # for until() and settle()
"""


@pytest.fixture
def board():
    with Board() as board:
        board.run("import __main__\nnames = __main__.names\n" + MAKE, port=0)
        yield board


@pytest.fixture(scope="module")
def mortal():
    with Broker(tls=False) as broker:
        yield broker


def names(log):
    return [entry[0] for entry in log]


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as s:
        return s.getsockname()[1]


def test_subscriptions_are_restored_only_where_the_session_is_gone(board, mortal):
    with Proxy(mortal.plain_port) as proxy, Peer(mortal.plain_port) as sender:
        board.run("make()\nc.connect()\nc.subscribe('r/a', 1, note)\nc.subscribe('r/b', 2)", port=proxy.port)
        board.run("c.on('r/c', note)")  # registered only: nothing is ever sent for it
        proxy.cut()
        board.run("c.publish('x', b'', qos=1)")
        assert proxy.link.packets(OUT, {SUBSCRIBE}) == []
        proxy.cut()
        mortal.kill()  # without its word: the session is gone
        mortal.start()
        board.start("c.wait_msg()\nresult = list(log)")
        proxy.wait_seen(OUT, SUBSCRIBE, 2)
        assert [p.filters[0] for p in proxy.link.packets(OUT, {SUBSCRIBE})] == [(b"r/a", 1), (b"r/b", 2)]
        sender.sock.close()
        with Peer(mortal.plain_port) as sender:
            sender.publish("r/a", b"here", 1)
            found = board.wait()
        assert names(found) == ["connected", "lost", "reconnected", "lost", "reconnected", b"r/a"]
        assert [entry[1] for entry in found if "connected" in str(entry[0])] == [False, True, False]


def test_what_the_next_broker_does_not_take_is_told(board):
    """No wildcards there: the other subscription is made, and calls go on."""

    def first(conn):
        subscribed(conn)
        subscribed(conn)
        conn.close()

    def second(conn):
        assert subscribed(conn).filters[0][0] == b"b"
        conn.serve()

    greet = login(second, (0x28, 0))
    with Server(login(first), greet) as server:
        code = """
        make()
        c.connect()
        c.subscribe("a/#")
        c.subscribe("b")
        until(lambda: names["log"][-1][0] == "reconnected")
        c.publish("t", b"", qos=1)
        c.disconnect()
        """
        board.run(code, port=server.port)
        assert [entry for entry in board.log() if entry[0] == "refused"] == [("refused", (b"a/#", 0xA2))]
        server.finish()


def test_an_attempt_after_the_clock_has_wrapped(board, plain_port):
    """The last one failed so long ago that the difference of two ticks has the other sign."""
    code = """
        import time
        make(outbox=Outbox())
        c.connect()
        c._close()
        c._pause(OSError(104))
        c._failed_at = time.ticks_add(time.ticks_ms(), 1 << 28)
        c.check_msg()
        result = [c.sock is not None]
        c._close()
        c._pause(OSError(104))
        c._failed_at = time.ticks_add(time.ticks_ms(), 1 << 28)
        began = time.ticks_ms()
        c.delay(1)
        result.append(time.ticks_diff(time.ticks_ms(), began) < 1000)
        """
    board.start(code, port=plain_port)
    assert board.wait(5) == (True, True)


def test_a_broker_that_comes_late(board, mortal):
    """Power-up without a broker is normal; back-off from the first attempt on; `timeout` ends it."""
    port = free_port()
    error = board.error("make(timeout=1)\nc.connect(timeout=0.3)", port=port)
    assert error.type == "OSError"
    assert board.get("c.waits")[:3] == (1, 2, 3)
    assert set(names(board.log())) == {"failed"}
    mortal.kill()
    try:
        board.start("make()\nresult = c.connect()", port=mortal.plain_port)
    finally:
        mortal.start()
    assert board.wait() is False


def test_a_permanent_refusal(board):
    """Raised at the very first login; later it is an event and a further attempt."""
    refuse = lambda conn: (conn.expect(CONNECT), conn.send(connack(0x86)))  # noqa: E731
    with Server(refuse) as server:
        error = board.error("make()\nc.connect()", port=server.port)
        server.finish()
    assert (error.type, error.reason) == ("AuthError", 0x86)

    def serve(conn):
        conn.expect(PUBLISH)
        conn.close()

    def again(conn):
        p = conn.expect(PUBLISH)
        conn.send(ack(PUBACK, p.pid))
        conn.expect(DISCONNECT)

    board.log()
    with Server(login(serve), refuse, login(again, present=1)) as server:
        board.run("make()\nc.connect()\nc.publish('t', b'x', qos=1)\nc.disconnect()", port=server.port)
        server.finish()
    assert names(board.log()) == ["connected", "lost", "failed", "reconnected"]


def test_a_list_of_brokers(board, broker):
    board.run(
        "make(server=[('127.0.0.1', other), ('127.0.0.1', port)])\nc.connect()\nc.publish('t', b'', qos=1)",
        port=broker.plain_port,
        other=free_port(),
    )
    assert names(board.log()) == ["failed", "connected"]


def test_a_handlers_own_error(board):
    """An OSError of a handler's is no end of a connection."""

    def serve(conn):
        subscribed(conn)
        conn.send(publish("t", b"x", 1, 7))
        conn.expect(DISCONNECT)

    code = """
        def failing(topic, msg): raise OSError(5, "the sensor")
        make()
        c.connect()
        c.set_callback(failing)
        c.subscribe("t", 1)
        try:
            c.wait_msg()
        except OSError as e:
            result = e.args[1]
        c.disconnect()
        """
    with Server(login(serve)) as server:
        assert board.run(code, port=server.port) == "the sensor"
        server.finish()


def test_flush_in_a_handler(board):
    """It would wait there."""

    def serve(conn):
        p = conn.expect(PUBLISH)
        conn.send(publish("t", b"x"), ack(PUBACK, p.pid))
        conn.expect(DISCONNECT)

    code = """
        make()
        def flushing(topic, msg):
            try:
                c.flush()
            except RuntimeError as e:
                log.append(str(e))
        c.set_callback(flushing)
        c.connect()
        c.publish("t", b"1", qos=1)
        log.pop(0)  # "connected"
        c.disconnect()
        """
    with Server(login(serve)) as server:
        board.run(code, port=server.port)
        server.finish()
    assert board.log() == ("not inside a message handler",)


def test_debug_and_log(board):
    code = """
        make()
        c.connect()
        lines = []
        c.log = lambda again, e: lines.append((again, repr(e)))
        c.sock.close()
        c.publish("t", b"", qos=1)
        result = lines, MQTTClient.DELAY, MQTTClient.DEBUG
        """

    def serve(conn):
        conn.next(5)

    def again(conn):
        conn.send(ack(PUBACK, conn.expect(PUBLISH).pid))
        conn.next(5)

    with Server(login(lambda conn: None), login(again, present=1)) as server:
        lines, delay, debug = board.run(code, port=server.port)
    assert [line[0] for line in lines] == [False] and "OSError" in lines[0][1]
    assert (delay, debug) == (2, False)


def test_offline_with_an_outbox(board, broker):
    """publish() and check_msg() do not wait for a connection; all goes out in order when there is one."""
    with Proxy(broker.plain_port) as proxy, Peer(broker.plain_port) as witness:
        witness.subscribe("robust/box")
        code = """
            make(outbox=Outbox(3, full="oldest"))
            c.connect()
            c._brokers[0] = None
            c.port = nobody
            c.sock.close()
            for i in range(5):
                c.publish("robust/box", b"%d" % i, qos=2)
                assert c.check_msg() is None
            result = len(c._outbox)
            """
        assert board.run(code, port=proxy.port, nobody=free_port()) == 3
        dropped = [entry for entry in board.log() if entry[0] == "dropped"]
        assert dropped == [("dropped", b"robust/box")], "0 is in flight already"
        board.run("c.port = port\nc.flush(5)\nc.publish('robust/box', b'END', qos=2)")
        assert witness.payloads() == [b"0", b"2", b"3", b"4"]


@pytest.mark.parametrize("qos", [0, 1, 2])
@pytest.mark.parametrize("how", ["closed", "cut"])
def test_a_publisher_goes_on_in_the_next_connection(board, broker, qos, how):
    """What its object has encoded is good for each connection; one that is gone is no error of its caller's."""
    with Proxy(broker.plain_port) as proxy, Peer(broker.plain_port) as witness:
        witness.subscribe("robust/p")
        board.run("make()\nc.connect()\np = c.publisher('robust/p', qos)\np.publish(b'0')", port=proxy.port, qos=qos)
        board.run("c.publish('x', b'', qos=1)")
        for n in range(1, 4):
            if how == "cut":
                proxy.cut()
                # At QoS 0 a board can write into a stream whose end it has not seen: that is lost, and no fault.
                board.run("import time\ntime.sleep_ms(30)\nc.check_msg()")
            else:
                board.run("c.sock.close()")
            board.run("p.publish(b'%d' % n)\nc.publish('x', b'', qos=1)", n=n)
        board.run("c.publish('robust/p', b'END', qos=qos)\nc.disconnect()")
        assert witness.payloads() == [b"0", b"1", b"2", b"3"]
        assert names(board.log()).count("reconnected") == 3


def test_a_publisher_does_not_overtake_the_outbox(board, broker):
    with Proxy(broker.plain_port) as proxy, Peer(broker.plain_port) as witness:
        witness.subscribe("robust/o")
        code = """
            make(outbox=Outbox(9))
            c.connect()
            p = c.publisher("robust/o")
            p.publish(b"0")
            c._brokers[0] = None
            c.port = nobody
            c.sock.close()
            for n in range(1, 4):
                p.publish(b"%d" % n)
            assert len(c._outbox) == 3
            c.port = port
            p.publish(b"4")
            c.flush(5)
            p.publish(b"END")
            """
        board.run(code, port=proxy.port, nobody=free_port())
        assert witness.payloads() == [b"0", b"1", b"2", b"3", b"4"]


def test_deep_sleep(board, broker, tmp_path):
    """flush(), disconnect with a session expiry, and a wake-up that resumes the session without subscribing."""
    path = str(tmp_path / "store")
    with Proxy(broker.plain_port) as proxy, Peer(broker.plain_port) as sender:
        life = """
            make("sleeper", store=Store(path))
            c.on("sleep/#", note)
            result = c.connect()
            c.subscribe("sleep/#", 2, note)
            """
        assert board.get("1") == 1
        assert board.run(life, port=proxy.port, path=path) is False
        board.run("c.publish('out', b'1', qos=2)\nc.flush(5)\nc.disconnect(session_expiry=1000)")
        proxy.wait_ended()
        sender.publish("sleep/a", b"while asleep", 2)
        with Board() as again:
            again.run("import __main__\nnames = __main__.names\n" + MAKE, port=proxy.port)
            assert again.run(life, path=path) is True
            again.run("until(lambda: len(log) > 1)")
            assert again.log()[1][:2] == (b"sleep/a", b"while asleep")
            assert proxy.link.packets(OUT, {SUBSCRIBE}) == []
            # Another filter, and the same one with another QoS, are asked for.
            again.run("c.subscribe('sleep/#', 1, note)\nc.subscribe('more', 1, note)\nc.unsubscribe('more')")
            assert len(proxy.link.packets(OUT, {SUBSCRIBE})) == 2
            again.run("c.disconnect()")
        with Board() as third:
            third.run("import __main__\nnames = __main__.names\n" + MAKE, port=proxy.port)
            result = "result = (c._store.has(c._subscription(b'sleep/#', 1, None, {})),"
            result += " c._store.has(c._subscription(b'more', 1, None, {})))"
            assert third.run(life.replace(", 2, note", ", 1, note") + result, path=path) == (True, False)


def test_a_full_flash(board, broker, tmp_path):
    """It is told, not retried for ever; and nothing goes out that is not kept."""
    code = """
        make("full", store=Store(path))
        c.connect()
        import umqtt5.log
        def full(*_): raise OSError(28)
        umqtt5.log.open = full
        c._store.log._close()
        try:
            c.publish("t", b"x", qos=2)
        except StoreError as e:
            result = str(e)
        del umqtt5.log.open
        c.publish("t", b"x", qos=2)
        c.disconnect()
        """
    path = str(tmp_path / "store")
    text = board.run(code, port=broker.plain_port, path=path)
    assert path in text and "full" in text


def test_clean_session_ends_with_disconnect(board, broker):
    """As umqtt's users expect; a lost connection does not end it."""
    with Proxy(broker.plain_port) as proxy:
        board.run("make('clean')\nc.connect()\nc.sock.close()\nc.publish('t', b'', qos=1)", port=proxy.port)
        assert [entry for entry in board.log() if "connected" in entry[0]] == [
            ("connected", False),
            ("reconnected", True),
        ]
        board.run("c.disconnect()")
        proxy.wait_ended()
        assert board.get("c.connect(False)") is False


def test_umqtt_robust_program_runs(board, broker):
    """umqtt.robust's own example, in outline."""
    code = """
        from umqtt5.robust import MQTTClient as Plain
        c = Plain("umqtt_client", "127.0.0.1", port)
        c.DEBUG = True
        seen = []
        c.set_callback(lambda topic, msg: seen.append((topic, msg)))
        if not c.connect(clean_session=False):
            c.subscribe(b"foo_topic")
        c.publish(b"foo_topic", b"hello")
        while not seen:
            c.wait_msg()
        c.disconnect()
        result = seen
        """
    assert board.run(code, port=broker.plain_port) == ((b"foo_topic", b"hello"),)
