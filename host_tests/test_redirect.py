"""Server redirection (4.11): followed only where the caller allows it, so often and no more; with the TLS and the
authentication that the client was made with, the other's name checked; and whatever a reference may be.
"""

import contextlib
import json
import socket
import ssl
import threading

import pytest
from harness import wire
from harness.aio import AioBoard
from harness.cases import GOOD, login
from harness.logins import honest, receive_connect
from harness.remote import Board
from harness.scripts import Server

REDIRECTS = pytest.mark.parametrize("reason", [0x9C, 0x9D], ids=["use-another", "moved"])
REFERENCE = 0x1C


def refuse(reason, reference):
    """A script: CONNACK with this reason and Server Reference (None: without one)."""

    def script(conn):
        receive_connect(conn)
        pairs = [] if reference is None else [(REFERENCE, reference)]
        conn.send(wire.connack(reason, *pairs))
        conn.close()

    return script


def leave(reason, reference):
    """A script: a login, then DISCONNECT with this reason and reference."""

    def script(conn):
        conn.send(wire.disconnect(reason, (REFERENCE, reference)))
        conn.close()

    return login(script)


def serve(conn):
    conn.serve()


def at(server):
    return f"127.0.0.1:{server.port}"


@REDIRECTS
def test_off_by_default(reason):
    with (
        Server() as other,
        Server(refuse(reason, at(other)), login(serve)) as server,
        Board(server.port) as board,
    ):
        error = board.error("c.connect()")
        assert (error.type, error.reason, error.server) == ("Refused", reason, at(other))
        board.run("c.connect()\nc.disconnect()")
        server.finish()
        assert other.finish() == []


@REDIRECTS
def test_followed_and_remembered_or_not(reason):
    """0x9C is for this time, 0x9D for good."""
    there = [login(serve)] * (2 if reason == 0x9D else 1)
    with (
        Server(*there) as other,
        Server(refuse(reason, at(other)), *([login(serve)] if reason == 0x9C else [])) as server,
        Board(server.port, "traveller", redirects=1) as board,
    ):
        board.run("c.connect()\nc.publish('t', b'', qos=1)\nc.disconnect()\nc.connect()\nc.disconnect()")
        server.finish()
        connections = other.finish()
    assert connections[0].names() == ["CONNECT", "PUBLISH", "DISCONNECT"]
    assert connections[0].received[0].connect["client_id"] == b"traveller"


@REDIRECTS
def test_after_the_login(reason):
    """DISCONNECT: the caller learns of it, and its next connect() goes there."""
    with (
        Server(login(serve)) as other,
        Server(leave(reason, at(other)), *([login(serve)] if reason == 0x9C else [])) as server,
        Board(server.port, redirects=1) as board,
    ):
        board.run("c.connect()")
        error = board.error("c.wait_msg()")
        assert (error.type, error.reason, error.server) == ("Disconnected", reason, at(other))
        board.run("c.connect()\nc.disconnect()")
        other.finish()
        if reason == 0x9C:
            board.run("c.connect()\nc.disconnect()")
        server.finish()


@REDIRECTS
def test_after_the_login_and_off(reason):
    with Server() as other, Server(leave(reason, at(other)), login(serve)) as server, Board(server.port) as board:
        board.run("c.connect()")
        assert board.error("c.wait_msg()").reason == reason
        board.run("c.connect()\nc.disconnect()")
        server.finish()
        assert other.finish() == []


@REDIRECTS
@pytest.mark.parametrize("limit", [1, 3])
def test_the_limit(reason, limit):
    """Round in a circle: so many hops, then the refusal."""
    with contextlib.ExitStack() as stack:
        holder = {}

        def script(conn):
            refuse(reason, holder["at"])(conn)

        server = stack.enter_context(Server(*[script] * (limit + 1)))
        holder["at"] = at(server)
        board = stack.enter_context(Board(server.port, redirects=limit))
        error = board.error("c.connect()")
        assert (error.type, error.reason) == ("Refused", reason)
        assert len(server.finish()) == limit + 1


def test_one_deadline_for_all_hops():
    def silent(conn):
        receive_connect(conn)

    with (
        Server(silent) as last,
        Server(refuse(0x9C, at(last))) as middle,
        Server(refuse(0x9C, at(middle))) as server,
        Board(server.port, redirects=5, timeout=0.7) as board,
    ):
        ms = board.run(
            """
            from time import ticks_ms, ticks_diff
            began = ticks_ms()
            try:
                c.connect()
            except OSError as e:
                assert e.errno == 110, e
            result = ticks_diff(ticks_ms(), began)
            """
        )
        assert 650 <= ms < 1300
        for s in (last, middle, server):
            s.finish()


def test_without_a_reference():
    with Server(refuse(0x9C, None), login(serve)) as server, Board(server.port, redirects=3) as board:
        error = board.error("c.connect()")
        assert (error.type, error.reason, error.server) == ("Refused", 0x9C, None)
        board.run("c.connect()\nc.disconnect()")
        server.finish()


def test_a_move_for_good_counts_when_the_login_there_has_succeeded():
    """Else whoever can forge one CONNACK could send the client away for ever."""

    def broken(conn):
        receive_connect(conn)
        conn.close()

    with (
        Server(broken) as other,
        Server(refuse(0x9D, at(other)), login(serve)) as server,
        Board(server.port, redirects=1) as board,
    ):
        assert board.error("c.connect()").type == "OSError"
        other.finish()
        board.run("c.connect()\nc.disconnect()")
        server.finish()


# References ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reference", "expected"),
    [
        ("host.example", ("host.example", 1234)),
        ("host.example:99", ("host.example", 99)),
        ("host.example:65535", ("host.example", 65535)),
        ("10.0.0.1:99", ("10.0.0.1", 99)),
        ("[fe80::1]:99", ("fe80::1", 99)),
        ("[fe80::1]", ("fe80::1", 1234)),
        ("first.example:99 second.example:100", ("first.example", 99)),  # 4.11: a list, separated by spaces
    ],
)
def test_forms_of_a_reference(reference, expected):
    with Board(1234) as board:
        code = "from umqtt5.redirect import follow\nc._engine.terms.redirect = (0x9C, reference)\n"
        code += "result = follow(c._engine, ('old', 1234, None))[0][:2]"
        assert board.run(code, reference=reference) == expected


GARBAGE = [
    "",
    " ",
    ":",
    ":99",
    "h:",
    "h:0",
    "h:65536",
    "h:-1",
    "h:x",
    "h:9 9",
    "[",
    "[]",
    "[]:5",
    "]:1",
    "[:1",
    "::1",
]
GARBAGE += ["h:1:2", "h:99999999999999999999", "\u2028:1", "h:\u0661", "mqtt://h", "/etc/passwd", "x" * 400, " h:1"]
CONTROLS = ["\x1b[2Jh", "h\x07:1", "\u009b2J", "h\n"]  # none may come into the text of an error
GARBAGE += CONTROLS


def test_garbage():
    """One of the errors that connect() may raise, in time; afterwards the client is as it was."""
    scripts = [script for reference in GARBAGE for script in (refuse(0x9D, reference), login(serve))]
    with Server(*scripts) as server, Board(server.port, redirects=1, timeout=2) as board:
        for reference in GARBAGE:
            error = board.error("c.connect()")
            assert error.type in ("ProtocolError", "OSError"), (reference, error.type, error.text)
            assert error.type == "ProtocolError" or reference not in CONTROLS, (reference, error.text)
            board.run("c.connect()\nc.disconnect()")
        server.finish()


def test_ipv6():
    """[::1]:port, where this machine has it."""
    if not socket.has_ipv6:
        pytest.fail("this machine has no IPv6")
    listener = socket.create_server(("::1", 0), family=socket.AF_INET6)
    port = listener.getsockname()[1]
    with listener, Server(refuse(0x9C, f"[::1]:{port}")) as server, Board(server.port, redirects=1) as board:
        board.start("c.connect()\nc.disconnect()")
        listener.settimeout(5)
        with listener.accept()[0] as sock:
            sock.settimeout(5)
            assert sock.recv(1) == b"\x10"
            sock.sendall(wire.connack(0))
            board.wait()
        server.finish()


# TLS and authentication ------------------------------------------------------------------------------------


class TLSServer:
    """Behind TLS with this certificate, each connection gets these bytes for its CONNECT. `first`: the first bytes
    of each connection that came through the handshake; `errors`: of handshakes."""

    def __init__(self, folder, answer, host="127.0.0.1"):
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(folder / "server.pem", folder / "server.key")
        self._listener = socket.create_server((host, 0))
        self._listener.settimeout(8)
        self.port = self._listener.getsockname()[1]
        self._answer, self.first, self.errors = answer, [], []
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def _serve(self):
        try:
            raw, _ = self._listener.accept()
            raw.settimeout(5)
            with self._context.wrap_socket(raw, server_side=True) as sock:
                self.first.append(sock.recv(2000)[:1])
                sock.sendall(self._answer)
                sock.recv(2000)
        except OSError as e:
            self.errors.append(str(e))

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._listener.close()

    def finish(self):
        self._thread.join(10)
        assert not self._thread.is_alive()


def tls_board(broker, port, name="localhost"):
    """A board whose client has TLS, SCRAM, and one redirect."""
    return f"""
        from usasl.scram import ScramSHA256
        with open({json.dumps(str(broker.ca_der))}, "rb") as f: ca = f.read()
        auth = ScramSHA256("device1", password)
        c = MQTTClient("tls-away", "{name}", {port}, keepalive=60, ssl=True, ssl_params={{"cadata": ca}},
            auth=auth, redirects=1, timeout=8)
        """


def test_tls_and_authentication_stay(broker, passwords):
    """From one broker behind TLS to another: a login by SCRAM there, which the other broker proves."""
    tls = broker.state_dir / "tls"
    with (
        TLSServer(tls, wire.connack(0x9C, (REFERENCE, f"localhost:{broker.tls_port}"))) as server,
        Board() as board,
    ):
        board.run(tls_board(broker, server.port), password=passwords["device1"])
        board.run("c.connect()\nc.publish('t', b'', qos=1)\nc.disconnect()")
        server.finish()
        assert server.first == [b"\x10"]


def test_never_to_plain_tcp(broker, passwords):
    """The other one speaks no TLS: it gets a TLS handshake from us, and nothing else."""
    tls = broker.state_dir / "tls"
    plain = socket.create_server(("127.0.0.1", 0))
    plain.settimeout(5)
    with (
        plain,
        TLSServer(tls, wire.connack(0x9D, (REFERENCE, f"localhost:{plain.getsockname()[1]}"))) as server,
        Board() as board,
    ):
        board.run(tls_board(broker, server.port), password=passwords["device1"])
        board.start("c.connect()")
        with plain.accept()[0] as sock:
            sock.settimeout(5)
            hello = sock.recv(2000)
            sock.sendall(wire.connack(0))
        error = board.error()
    assert hello[0] == 0x16 and b"MQTT" not in hello, "not a TLS handshake"
    assert error.type == "OSError" and "TLS" in error.text


def test_the_other_s_name_is_checked(broker, passwords):
    """A certificate for localhost and 127.0.0.1, shown by 127.0.0.2: the handshake fails, no CONNECT goes out."""
    tls = broker.state_dir / "tls"
    with (
        TLSServer(tls, wire.connack(0), host="127.0.0.2") as other,
        TLSServer(tls, wire.connack(0x9D, (REFERENCE, f"127.0.0.2:{other.port}"))) as server,
        Board() as board,
    ):
        board.run(tls_board(broker, server.port), password=passwords["device1"])
        error = board.error("c.connect()")
        assert error.type == "OSError" and "TLS" in error.text
        other.finish()
        assert other.first in ([], [b""]), "the client spoke to somebody else"


def test_the_other_must_prove_itself_too():
    """CONNACK 0x00 at once, without authentication: not proven, wherever we were sent to."""
    salt, iterations, client_key, server_key = GOOD.keys
    code = """
        from usasl.scram import ScramSHA256
        auth = ScramSHA256(user, keys=[keys])
        c = MQTTClient("away", "127.0.0.1", port, keepalive=60, auth=auth, redirects=1)
        """

    def unproven(conn):
        receive_connect(conn, GOOD)
        conn.send(wire.connack(0))

    def away(reference):
        def script(conn):
            receive_connect(conn, GOOD)
            conn.send(wire.connack(0x9C, (REFERENCE, reference)))
            conn.close()

        return script

    with (
        Server(unproven, honest(GOOD)) as other,
        Server(away(at(other)), away(at(other))) as server,
        Board() as board,
    ):
        board.run(code, user=GOOD.user, keys=[salt, iterations, client_key, server_key], port=server.port)
        assert board.error("c.connect()").type in ("NotProven", "ProtocolError")
        board.run("c.connect()\nc.publish('t', b'', qos=1)\nc.disconnect()")
        server.finish()
        assert other.finish()[1].names() == ["CONNECT", "AUTH", "PUBLISH", "DISCONNECT"]


# The asyncio client ----------------------------------------------------------------------------------------


@contextlib.contextmanager
def aio_away(broker, password, reference, reason=0x9C):
    """A board whose asyncio client has TLS, SCRAM, and one redirect; behind TLS a server sends it to `reference`."""
    with (
        TLSServer(broker.state_dir / "tls", wire.connack(reason, (REFERENCE, reference))) as server,
        AioBoard() as board,
    ):
        board.run(
            """
            global c
            with open(path, "rb") as f: ca = f.read()
            auth = ScramSHA256("device1", password)
            c = MQTTClient("aio-tls-away", "localhost", port, ssl=True, ssl_params={"cadata": ca}, auth=auth,
                redirects=1, timeout=8, backoff=quick(), on_event=told)
            """,
            path=str(broker.ca_der),
            password=password,
            port=server.port,
        )
        yield board
        server.finish()
        assert server.first == [b"\x10"]


def failed(board):
    """The text of the last attempt's error; the client is where it began."""
    board.wait_for("events('failed') == 2")  # the redirect was the first
    name, text, moved = board.get("type(log[1][1]).__name__, str(log[1][1]), c._moved")
    assert name == "OSError" and moved is None
    return text


def test_aio_tls_and_authentication_stay(broker, passwords):
    with aio_away(broker, passwords["device1"], f"localhost:{broker.tls_port}") as board:
        board.run("await c.connect()\nawait c.publish('t', b'', qos=1)")
        assert board.get("c._where()[1]") == broker.tls_port  # where nobody gets in without SCRAM
        board.run("await c.disconnect()")


def test_aio_never_to_plain_tcp(broker, passwords):
    with socket.create_server(("127.0.0.1", 0)) as plain:
        plain.settimeout(5)
        reference = f"localhost:{plain.getsockname()[1]}"
        with aio_away(broker, passwords["device1"], reference, 0x9D) as board:
            board.run("c.start()")
            with plain.accept()[0] as sock:
                sock.settimeout(5)
                hello = sock.recv(2000)
                sock.sendall(wire.connack(0))
            assert hello[0] == 0x16 and b"MQTT" not in hello, "not a TLS handshake"
            assert "TLS" in failed(board)


def test_aio_the_other_s_name_is_checked(broker, passwords):
    with TLSServer(broker.state_dir / "tls", wire.connack(0), host="127.0.0.2") as other:
        with aio_away(broker, passwords["device1"], f"127.0.0.2:{other.port}", 0x9D) as board:
            board.run("c.start()")
            assert "TLS" in failed(board)
        other.finish()
        assert other.first in ([], [b""]), "the client spoke to somebody else"
