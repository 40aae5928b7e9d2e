"""Provisioning, as `make provision` runs it, against the dev broker and against brokers that it must refuse.

The command itself is run (python -m tools.provision): all that it prints is searched for secrets.
"""

import base64
import json
import os
import pty
import select
import socket
import stat
import subprocess
import sys
import time

import pytest
from harness import wire
from harness.logins import scram
from harness.provisioning import DEADLINE, PASSWORD, ROOT, USER, Place, asking, log_in, spellings
from harness.scram import Credentials
from harness.scripted import ScriptedServer

import tools.provision  # noqa: F401  with it, the shims
from tools.devbroker import Broker
from tools.provision import saslprep_changes


@pytest.fixture(scope="module")
def own():
    """A broker whose users these tests change."""
    with Broker() as broker:
        broker.add_user(USER, PASSWORD, iterations=4096)
        yield broker


@pytest.fixture
def place(tmp_path):
    return Place(tmp_path)


@pytest.fixture
def free_port():
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


# What it writes ---------------------------------------------------------------------------------------------


def test_writes_keys_that_log_in_and_no_password(own, place):
    place.settings(own.port)
    code, text = place.run()
    assert code == 0, text
    assert "the broker has proven" in text and USER in text and "4096" in text
    whole = json.loads(place.file.read_text())
    entry = whole["auth"].pop("keys")[0]
    assert whole == {
        "format": 1,
        "mqtt": {"host": "127.0.0.1", "port": own.port, "client_id": "board-1", "keepalive": 60},
        "auth": {"method": "SCRAM-SHA-256", "user": USER, "min_iterations": 4096, "max_iterations": 20000},
    }
    known = Credentials(USER, PASSWORD, base64.b64decode(entry["salt"]), entry["iterations"])
    assert base64.b64decode(entry["client_key"]) == known.client_key
    assert base64.b64decode(entry["server_key"]) == known.server_key
    content = place.file.read_text()
    assert USER in content  # the search below can find something
    for hidden in spellings(PASSWORD):
        assert hidden not in content
    assert stat.S_IMODE(place.file.stat().st_mode) == 0o600
    assert stat.S_IMODE(place.out.stat().st_mode) == 0o700
    assert [p.name for p in place.out.iterdir()] == ["UNIX.json"]
    log_in(place.file).disconnect()


def test_tls(own, place):
    place.settings(own.tls_port, host="localhost", mqtt=f'tls = {{ ca = "{own.ca_pem}" }}')
    code, text = place.run()
    assert code == 0, text
    assert json.loads(place.file.read_text())["mqtt"]["tls"] == {"ca": "ca.der"}
    ca = place.out / "UNIX.ca.der"
    assert ca.read_bytes() == own.ca_der.read_bytes()
    ca.rename(place.out / "ca.der")  # where the board has it
    log_in(place.file).disconnect()


def test_tls_to_a_port_without_it(own, place):
    place.settings(own.port, host="localhost", mqtt=f'tls = {{ ca = "{own.ca_pem}" }}')
    text = place.refused()
    assert "is this the broker's TLS port?" in text and "None" not in text


def test_ca_beside_the_toml_and_gone_again_without_tls(own, place):
    (place.folder / "my.der").write_bytes(own.ca_der.read_bytes())
    place.settings(own.tls_port, host="localhost", mqtt='tls = { ca = "my.der" }')
    assert place.run()[0] == 0
    place.settings(own.port)
    assert place.run()[0] == 0
    assert [p.name for p in place.out.iterdir()] == ["UNIX.json"]


def test_gsasl_and_sha1_and_several_boards(own, place):
    own_table = f'[board.RPI_PICO_W.mqtt]\nclient_id = "pico"\nport = {own.gsasl_port}\n'
    wifi = '[wifi]\nssid = "net"\nkey = "wifi-key"\n'
    place.settings(own.port, auth='method = "SCRAM-SHA-1"', more=own_table + wifi)
    assert place.run()[0] == 0
    assert "wifi" not in json.loads(place.file.read_text())  # UNIX has none
    log_in(place.file).disconnect()
    place.file = place.out / "RPI_PICO_W.json"
    code, text = place.run(board="RPI_PICO_W", secret="wifi-key")
    assert code == 0, text
    whole = json.loads(place.file.read_text())
    assert whole["wifi"] == {"ssid": "net", "key": "wifi-key"}
    assert whole["mqtt"]["client_id"] == "pico" and whole["mqtt"]["port"] == own.gsasl_port
    log_in(place.file).disconnect()


def test_a_board_that_is_connected_is_left_alone(own, place):
    place.settings(own.port)
    assert place.run()[0] == 0
    client = log_in(place.file)
    assert place.run()[0] == 0
    client.ping()
    client.publish("provision/test", "still here", qos=1)
    # Under the board's own client id provisioning would end its session (mosquitto 2.0.11 would not even throw
    # the board off: logins that were left half-way make it forget who has the id).
    assert "as board-1-prov (" in own.log_text()
    began = len(own.log_text())
    assert place.run()[0] == 0
    client.publish("provision/test", "still here", qos=1)
    assert "as board-1 (" not in own.log_text()[began:]
    client.disconnect()


def test_key_rotation(own, place):
    user = "rotated"
    place.settings(own.port, user=user)
    salts = []
    for turn in range(3):
        own.add_user(user, PASSWORD, iterations=4096 + turn)
        for _ in range(2):  # the same salt again: no further entry
            assert place.run()[0] == 0
            salts = [*salts, place.entries()[0]["salt"]] if place.entries()[0]["salt"] not in salts else salts
            assert [entry["salt"] for entry in place.entries()] == salts[::-1][:2]
    log_in(place.file).disconnect()
    # Another user's keys are not taken over, nor ones below min_iterations.
    place.settings(own.port)
    assert place.run()[0] == 0 and len(place.entries()) == 1
    own.add_user(user, PASSWORD, iterations=4096)
    place.settings(own.port, user=user)
    assert place.run()[0] == 0
    own.add_user(user, PASSWORD, iterations=5000)
    place.settings(own.port, user=user, auth="min_iterations = 5000")
    assert place.run()[0] == 0 and len(place.entries()) == 1


def test_an_old_file_that_is_broken_is_replaced(own, place):
    place.settings(own.port)
    assert place.run()[0] == 0
    for broken in ("", "{}", place.file.read_text().replace('"salt": "', '"salt": "!')):
        place.file.write_text(broken)
        assert place.run()[0] == 0
        assert len(place.entries()) == 1
        log_in(place.file).disconnect()


def test_neither_secrets_file_can_be_committed():
    names = [
        "boards/secrets.toml",
        "secrets.toml",
        "build/secrets/UNIX.json",
        "build/secrets/UNIX.ca.der",
        "build/secrets/.UNIX-draft/secrets.json",
        "boards/UNIX/secrets.json",
    ]
    done = subprocess.run(
        ["git", "check-ignore", "--no-index", *names], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.stdout.split() == names
    done = subprocess.run(["git", "check-ignore", "--no-index", "boards/secrets.example.toml"], cwd=ROOT, check=False)
    assert done.returncode == 1  # the form itself is not ignored


# Where the password comes from ------------------------------------------------------------------------------


def test_password_from_the_environment(own, place):
    place.settings(own.port, password=None)
    assert place.run(environment={"UMQTT5_PASSWORD": PASSWORD})[0] == 0
    place.settings(own.port, password="a stale one")
    assert place.run(environment={"UMQTT5_PASSWORD": PASSWORD})[0] == 0


def test_no_password_and_no_terminal(own, place):
    place.settings(own.port, password=None)
    text = place.refused()
    assert "UMQTT5_PASSWORD" in text and "auth.password" in text and USER in text
    place.settings(own.port, password="")
    assert "auth.password: empty" in place.refused()


def test_password_is_asked_for_at_the_terminal(own, place):
    place.settings(own.port, password=None)
    command = [sys.executable, "-m", "tools.provision", "UNIX", "--secrets", place.toml, "--out", place.out]
    env = {k: v for k, v in os.environ.items() if k != "UMQTT5_PASSWORD"}
    env["PYTHONPATH"] = os.pathsep.join(str(ROOT / part) for part in ("", "tools/shims", "lib"))
    terminal, end = pty.openpty()
    process = subprocess.Popen(command, env=env, cwd=ROOT, stdin=end, stdout=end, stderr=end, start_new_session=True)
    os.close(end)
    shown, typed, deadline = b"", False, time.monotonic() + DEADLINE
    try:
        while time.monotonic() < deadline:
            if select.select([terminal], [], [], 0.2)[0]:
                try:
                    shown += os.read(terminal, 4096)
                except OSError:  # the other end is closed
                    break
            if not typed and b"Password of " + USER.encode() in shown:
                os.write(terminal, PASSWORD.encode() + b"\n")
                typed = True
        assert process.wait(timeout=DEADLINE) == 0, shown
    finally:
        process.kill()
        process.wait()
        os.close(terminal)
    assert typed and PASSWORD.encode() not in shown and b"written" in shown
    log_in(place.file).disconnect()


# What it refuses --------------------------------------------------------------------------------------------


def test_wrong_password_keeps_the_old_file(own, place):
    place.settings(own.port)
    assert place.run()[0] == 0
    place.settings(own.port, password="not-this-one")
    text = place.refused(secret="not-this-one")
    assert text.startswith(f"wrong password of {USER}") and "0x87" in text


def test_unknown_user(own, place):
    place.settings(own.port, user="nobody-here")
    text = place.refused()
    assert "nobody-here" in text and "unknown user" in text


def test_method_not_offered(place):
    with Broker(mechs=("SCRAM-SHA-1",), tls=False) as broker:
        broker.add_user(USER, PASSWORD)
        place.settings(broker.port)
        text = place.refused()
    assert "does not offer SCRAM-SHA-256" in text and "0x8C" in text


def test_broker_without_enhanced_authentication(own, place):
    place.settings(own.plain_port)
    assert "SCRAM-SHA-256" in place.refused()


@pytest.mark.parametrize("echo", [True, False])
def test_broker_that_lets_in_without_authentication(place, echo):
    """EMQX where the listener has no authenticator."""

    def open_door(conn):
        conn.expect(wire.CONNECT)
        conn.send(wire.connack(0, *([(wire.METHOD, "SCRAM-SHA-256")] if echo else [])))

    with ScriptedServer(open_door) as server:
        place.settings(server.port)
        text = place.refused()
        server.finish()
    assert "lets clients in without" in text


def test_broker_that_does_not_prove_itself(place):
    """It knows the salt, but not the keys: it takes any proof and signs with rubbish."""
    known = Credentials(USER, PASSWORD)

    rogue = scram(known, final=lambda x: b"v=" + base64.b64encode(bytes(32)))
    unsigned = scram(known, final=lambda x: None)
    for last in (rogue, unsigned):
        with ScriptedServer(asking(known), asking(known), last) as server:
            place.settings(server.port)
            text = place.refused()
            server.finish()
        assert f"did not prove that it knows {USER}'s keys" in text
    # The positive control: the same server, honest.
    with ScriptedServer(asking(known), asking(known), scram(known)) as server:
        place.settings(server.port)
        assert place.run()[0] == 0
        server.finish()


@pytest.mark.parametrize(("iterations", "argument"), [(1000, "min_iterations"), (20001, "max_iterations")])
def test_iteration_count_out_of_bounds(own, place, iterations, argument):
    own.add_user("counted", PASSWORD, iterations=iterations)
    place.settings(own.port, user="counted")
    text = place.refused()
    assert f" {iterations} " in text and argument in text
    place.settings(own.port, user="counted", auth=f"{argument} = {iterations}")
    assert place.run()[0] == 0


def test_changing_salt(own, place):
    # GNU SASL makes up a new salt for every login of a user that it does not know.
    place.settings(own.gsasl_port, user="nobody-here")
    text = place.refused()
    assert "another salt" in text and "each login" in text


def test_broker_not_reachable(place, free_port):
    place.settings(free_port)
    assert f"127.0.0.1:{free_port} not reachable" in place.refused()
    place.settings(1883, host="no-such-host.invalid")
    assert "no-such-host.invalid:1883 not reachable" in place.refused()


def test_silent_broker(place):
    with ScriptedServer(lambda conn: conn.expect(wire.CONNECT)) as server:
        place.settings(server.port)
        began = time.monotonic()
        text = place.refused("--timeout", "0.5")
        assert time.monotonic() - began < 10
        server.finish()
    assert "not reachable" in text and "AUTH or CONNACK" in text


def test_broker_that_hangs_up(place):
    def hang_up(conn):
        conn.expect(wire.CONNECT)
        conn.close()

    with ScriptedServer(hang_up) as server:
        place.settings(server.port)
        assert "closed the connection" in place.refused()
        server.finish()


def test_wrong_ca(own, place):
    place.settings(own.tls_port, host="localhost", mqtt=f'tls = {{ ca = "{own.other_ca_der}" }}')
    text = place.refused()
    assert "certificate" in text and "mqtt.tls.ca" in text
    place.settings(own.port, host="localhost", mqtt=f'tls = {{ ca = "{own.ca_pem}" }}')
    place.refused("--timeout", "2")
    place.settings(own.tls_port, host="localhost", mqtt='tls = { ca = "missing.pem" }')
    assert "mqtt.tls.ca" in place.refused()
    place.settings(own.tls_port, host="localhost", mqtt='tls = { ca = "secrets.toml" }')
    assert "not a certificate" in place.refused()


# secrets.toml -----------------------------------------------------------------------------------------------

MQTT = '[mqtt]\nhost = "h"\nclient_id = "c"\n'
AUTH = f'[auth]\nuser = "u"\npassword = "{PASSWORD}"\n'


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (MQTT + f'[auth]\nuser = "u"\npassword = "{PASSWORD}\n', ("line 6 (password)", "not TOML")),
        (MQTT + f"[auth]\nuser = u\npassword = {PASSWORD}\n", ("line 5 (user)", "not TOML")),
        (MQTT + "[auth\n", ("line 4", "not TOML")),
        (MQTT + MQTT + AUTH, ("line 4", "not TOML")),
        (MQTT + AUTH + 'passwrod = "x"\n', ("line 7: auth.passwrod", "unknown name")),
        (MQTT + AUTH + "[colour]\n", ("line 7: colour", "unknown name")),
        ('hots = "h"\n' + MQTT + AUTH, ("line 1: hots", "unknown name")),
        (MQTT + 'port = "1883"\n' + AUTH, ("line 4: mqtt.port", "whole number")),
        (MQTT + "port = 70000\n" + AUTH, ("line 4: mqtt.port", "1 to 65535")),
        (MQTT + "keepalive = true\n" + AUTH, ("line 4: mqtt.keepalive", "whole number")),
        (MQTT + "tls = true\n" + AUTH, ("line 4: mqtt.tls", "table")),
        (MQTT + "tls = {}\n" + AUTH, ("line 4: mqtt.tls", "ca is missing")),
        (MQTT + "tls = { insecure = true }\n" + AUTH, ("line 4: mqtt.tls.insecure", "unknown name")),
        ('[mqtt]\nclient_id = "c"\n' + AUTH, ("mqtt.host is missing",)),
        (MQTT + '[auth]\npassword = "x"\n', ("auth.user is missing",)),
        (AUTH, ("mqtt.host is missing",)),
        ('mqtt = "x"\n' + AUTH, ("line 1: mqtt", "table")),
        (MQTT.replace('"h"', '""') + AUTH, ("line 2: mqtt.host", "empty")),
        (MQTT + AUTH + 'method = "PLAIN"\n', ("line 7: auth.method", "SCRAM-SHA-256")),
        (MQTT + AUTH + "max_iterations = 5\n", ("line 7: auth.max_iterations", "min_iterations=4096")),
        (MQTT + AUTH + "[board.UNIX.mqtt]\nprot = 1\n", ("line 8: board.UNIX.mqtt.prot", "unknown name")),
        (MQTT + AUTH + "[board.UNIX.mqtt]\nprot = 1\n[board.UNIX]\n", ("line 8: board.UNIX.mqtt.prot",)),
        (MQTT + AUTH + "[board.UNIX.mqtt]\nport = 0\n", ("line 8: board.UNIX.mqtt.port", "1 to 65535")),
        (MQTT + AUTH + "[board]\nUNIX = 3\n", ("line 8: board.UNIX", "table")),
        (MQTT + AUTH + "[board.UNIXX.mqtt]\nport = 1\n", ("line 7: board.UNIXX", "no such board")),
        (MQTT.replace('"h"', '"mqtt://h"') + AUTH, ("line 2: mqtt.host", "a name or an address alone")),
        (MQTT.replace('"h"', '"h:1883"') + AUTH, ("line 2: mqtt.host", "mqtt.port")),
        (MQTT + AUTH + '[board.UNIX.mqtt]\nhost = "h/"\n', ("line 8: board.UNIX.mqtt.host", "alone")),
    ],
)
def test_broken_toml_names_line_and_key(place, text, expected):
    place.write(text)
    error = place.refused()
    assert error.startswith("secrets.toml")
    for part in expected:
        assert part in error


def test_files_and_folders_in_the_way(own, place):
    place.settings(own.port)
    (place.folder / "file").write_text("")
    assert place.refused("--out", place.folder / "file") == f"{place.folder}/file: File exists"
    place.toml.unlink()
    place.toml.mkdir()
    assert place.refused() == f"{place.toml}: Is a directory"


def test_no_toml(place):
    assert "secrets.example.toml" in place.refused()


def test_unknown_board(place):
    place.settings(1)
    assert "UNIX" in place.refused(board="NO_SUCH_BOARD")
    assert "RPI_PICO_W, UNIX" in place.refused(board="../boards/UNIX")


def test_wifi_is_asked_for_where_the_board_has_it(place):
    place.settings(1)
    assert "wifi.ssid is missing" in place.refused(board="ESP32_GENERIC")


def test_the_example_is_whole(place):
    text = (ROOT / "boards/secrets.example.toml").read_text()
    place.write(text)
    assert "ca.pem" in place.refused()  # all is right but for the CA, which is not there


# Warnings ---------------------------------------------------------------------------------------------------


def test_secrets_that_others_can_read(own, place):
    place.settings(own.port)
    for mode, warned in ((0o600, False), (0o640, True), (0o604, True)):
        place.toml.chmod(mode)
        code, text = place.run()
        assert code == 0 and ("chmod 600" in text) == warned


def test_passwords_that_saslprep_would_change(own, place):
    assert saslprep_changes("a\u00adb") and saslprep_changes("\u2168") and saslprep_changes("a\u00a0b")
    assert saslprep_changes("A\u030a")
    assert not saslprep_changes("p\u00e4ssw\u00f6rd") and not saslprep_changes("pencil !~")
    for password, warned in (("a\u00adb-long", True), ("p\u00e4ssw\u00f6rd", False)):
        own.add_user("prep", password)
        place.settings(own.port, user="prep", password=password)
        code, text = place.run(secret=password)
        assert code == 0, text
        assert ("SASLprep" in text) == warned


def test_user_names_that_emqx_cannot_take(own, place):
    own.add_user("a=b,c", PASSWORD)
    place.settings(own.port, user="a=b,c")
    code, text = place.run()
    assert code == 0 and "EMQX" in text
