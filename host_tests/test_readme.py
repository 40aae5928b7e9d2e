"""README.md: its programs run as printed, and its table "When it does not log in" says what the library says.

Of the programs only names are put in the place of others: where the broker is, and the password.
"""

import re
import socket
import subprocess
from contextlib import ExitStack

import pytest
from harness import wire
from harness.micropython import ROOT, execute, interpreter
from harness.peer import Peer
from harness.scripted import ScriptedServer

TEXT = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"^```python\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
DEADLINE = 20


def block(word, *replace):
    """The one program that has this word, with (old, new), ... replaced."""
    (found,) = [text for text in BLOCKS if word in text]
    for old, new in replace:
        assert found.count(old) == 1, old
        found = found.replace(old, new)
    return found


# The programs -----------------------------------------------------------------------------------------------


@pytest.fixture
def start(tmp_path):
    """start(source): MicroPython runs it; killed at the end of the test."""
    with ExitStack() as stack:

        def start(source):
            (tmp_path / "program.py").write_text(source)
            command, env = interpreter()
            process = subprocess.Popen(
                [*command, "program.py"],
                env=env,
                cwd=tmp_path,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
            stack.callback(process.wait, DEADLINE)
            stack.callback(process.kill)
            return process

        yield start


def test_all_programs_are_known_here():
    # The third is the middle of docs/asyncio.md's, which test_asyncio_page.py runs too; the last a sketch.
    assert len(BLOCKS) == 4 and "def exchange(self)" in BLOCKS[3]


def test_the_first_program(start, broker, passwords):
    source = block(
        "21.5", ('"broker.local"', f'"{broker.host}", {broker.port}'), ('"the password"', repr(passwords["device1"]))
    )
    with Peer(broker.plain_port) as peer:
        peer.subscribe("kitchen/temperature")
        process = start(source)
        assert peer.receive().payload == b"21.5"
        for _ in range(100):  # one may come before the program waits
            peer.publish("kitchen/lamp", b"on")
            try:
                assert process.wait(0.1) == 0
                break
            except subprocess.TimeoutExpired:
                pass
        assert set(process.communicate(timeout=DEADLINE)[0].splitlines()) == {"b'on'"}


def test_the_asyncio_program(start, broker, passwords):
    before = """
import asyncio
from usasl.scram import ScramSHA256
user = "device1"
async def join():
    print("join")
def on_command(message):
    print("command", message.payload)
"""
    source = block("async for", ('"broker",', f'"{broker.host}", {broker.port},'), ("keys=keys", "password=password"))
    with Peer(broker.plain_port) as peer:
        peer.subscribe("status")
        process = start(before + f"password = {passwords['device1']!r}\n{source}\nasyncio.run(main())\n")
        assert peer.receive().payload == b"online"
        peer.publish("command/led", b"on", 1)
        assert [process.stdout.readline().strip() for _ in range(2)] == ["join", "command b'on'"]
        peer.publish("status", b"", retain=True)


# When it does not log in ------------------------------------------------------------------------------------

_SECTION = TEXT[TEXT.index("### When it does not log in") :]
ROWS = [row.split("|")[1] for row in re.findall(r"^\| `.*$", _SECTION[: _SECTION.index("\n## ")], re.MULTILINE)]
SAYS = [word for row in ROWS for word in re.findall("`(.*?)`", row)]

BLOCKING = """
c = MQTTClient("me", HOST, PORT, **options)
try:
    c.connect()
    c.wait_msg()
except Exception as e:
    print("%s: %s" % (type(e).__name__, e))
"""
ASYNCIO = """
import asyncio
def told(name, value):
    if name in ("lost", "failed") and not done.is_set():
        print("%s: %s" % (type(value).__name__, value))
        done.set()
async def connect():
    try:
        await MQTTClient("me", HOST, PORT, on_event=told, **options).connect()
    except Exception as e:
        told("failed", e)
async def main():
    task = asyncio.create_task(connect())
    await done.wait()
done = asyncio.Event()
asyncio.run(main())
"""
SCRAM = "from usasl.scram import ScramSHA256\noptions['auth'] = ScramSHA256('device1', %s)\n"
KEYS = "keys=[(b's' * 16, 4096, b'c' * 32, b's' * 32)]"
TLS = "options['ssl'] = True; options['ssl_params'] = {'cadata': open(%r, 'rb').read(), 'server_hostname': %r}\n"


def _says(text):
    """A script: whoever connects gets these bytes, and is left."""

    def script(conn):
        conn.expect(wire.CONNECT)
        conn.sock.sendall(text)
        conn.close()

    return script


def _silent(conn):
    conn.expect(wire.CONNECT)
    conn.wait_closed()


def _closed_port():
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


# What the table's first column quotes -> [(attribute of the broker, a port, or a server's script; program before)].
SITUATIONS = {
    "looking up": [("a b", "")],
    "connecting to": [(None, "")],
    "TLS handshake": [
        ("port", TLS % ("CA", "localhost")),
        ("tls_port", TLS % ("OTHER", "localhost")),
        ("tls_port", TLS % ("CA", "another.example")),
    ],
    "waiting for AUTH or CONNACK": [("tls_port", ""), (_silent, "options['timeout'] = 0.3\n"), (_says(b""), "")],
    "closed by the broker": [(_says(wire.connack()), "")],
    "the broker broke the protocol": [
        (_says(b"HTTP/1.1 400 Bad Request\r\n\r\n"), ""),
        (_says(b"SSH-2.0-x\r\n"), ""),
    ],
    "SCRAM-SHA-256: CONNACK 0x87": [("port", SCRAM % "'wrong'"), ("gsasl_port", SCRAM % "'wrong'")],
    "SCRAM-SHA-256: CONNACK 0x8C": [("plain_port", SCRAM % "'any'"), ("password_port", SCRAM % "'any'")],
    "the keys are for another salt": [("port", SCRAM % KEYS)],
    "NotProven": [(_says(wire.connack()), SCRAM % KEYS), (_says(wire.connack()), SCRAM % "'any'")],
    "CONNACK of MQTT 3.1.1": [(_says(b"\x20\x02\x00\x01"), ""), (_says(b"\x20\x02\x00\x00"), "")],
}
CASES = [
    pytest.param(says, *case, id=f"{says}-{i}") for says, cases in SITUATIONS.items() for i, case in enumerate(cases)
]


def test_every_row_has_its_situation():
    assert set(SAYS) - {"NOT OUR BROKER"} == set(SITUATIONS)  # that one is main.py's word for NotProven
    assert 'print("NOT OUR BROKER:"' in (ROOT / "boards" / "common" / "main.py").read_text()


@pytest.mark.parametrize("client", ["umqtt5", "umqtt5.aio"])
@pytest.mark.parametrize(
    ("says", "where", "before"), CASES, ids=[f"{says}-{i}" for i, (says, _, _) in enumerate(CASES)]
)
def test_it_says_what_the_table_says(broker, tmp_path, client, says, where, before):
    with ExitStack() as stack:
        host, port = "127.0.0.1", _closed_port()
        if callable(where):
            port = stack.enter_context(ScriptedServer(where)).port
        elif where and " " in where:
            host = where
        elif where:
            port = getattr(broker, where)
        for name, path in (("CA", broker.ca_der), ("OTHER", broker.other_ca_der)):
            before = before.replace(f"open('{name}'", f"open('{path}'")
        program = ASYNCIO if client.endswith("aio") else BLOCKING
        head = f"from {client} import MQTTClient\nHOST, PORT, options = {host!r}, {port}, {{'keepalive': 30}}\n"
        (tmp_path / "program.py").write_text(head + before + program)
        command, env = interpreter()
        result = execute([*command, str(tmp_path / "program.py")], env, "", DEADLINE)
    assert result.code == 0 and result.out.count("\n") == 1 and says in result.out, result.show()
