"""`make demo` as a user runs it, and the search on which its last word rests."""

import base64
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tools.demo import leaks, login
from tools.demo.lines import DemoError
from tools.demo.packets import NotReadable, packets, tls_records
from tools.demo.proof import prove
from tools.demo.show import Show

PASSWORD = "iD7-secret_of~16B"
USER = "demo-board-user"
SALT = b"sixteen bytes..."


def start(state, *arguments, program=("-m", "tools.demo"), **environment):
    command = [sys.executable, *program, "--state", str(state), *arguments]
    # A password in the environment is some other user's: the demo must not take it.
    env = {**os.environ, "TERM": "dumb", "UMQTT5_PASSWORD": "of another user", **environment}
    pipe = subprocess.PIPE
    return subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=pipe, stderr=subprocess.STDOUT, text=True, env=env
    )


def ended(process, timeout=100):
    """-> (exit code, output)."""
    try:
        output = process.communicate(timeout=timeout)[0]
    finally:
        process.kill()
        process.wait()
    return process.returncode, output


def left_over(state):
    """Processes that name the folder on their command line."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:  # it has just ended
            continue
        if str(state) in words and int(path.parent.name) != os.getpid():
            found.append(words)
    return found


def in_order(output, *texts):
    at = 0
    for text in texts:
        at = output.find(text, at)
        assert at >= 0, f"{text!r} is missing, or too early, in:\n{output}"


def password_in(state):
    return re.search(r'^password = "(.{22})"$', (state / "secrets.toml").read_text(), re.MULTILINE)[1]


def test_interrupted_and_then_in_full(tmp_path):
    process = start(tmp_path)
    for line in process.stdout:
        if line.startswith("[5/8]"):
            break
    process.send_signal(signal.SIGINT)
    code, output = ended(process, 30)
    assert (code, output.splitlines()[-1]) == (130, "demo: interrupted; all that it started was ended"), output
    assert left_over(tmp_path) == []

    began = time.monotonic()
    code, output = ended(start(tmp_path))
    assert code == 0, output
    assert time.monotonic() - began < 60
    in_order(
        output,
        "user demo-board-user, with a random password",
        "logged in with the derived keys; the broker has proven",
        "copied, 0 unchanged",
        "client-first, in CONNECT",
        "n=demo-board-user",
        "server-first, in AUTH",
        "i=4096",
        "client-final, in AUTH",
        "p=",
        "server-final, in CONNACK 0x00",
        "v=",
        "the board prints: connected, broker verified",
        "ok: the signature, reckoned again",
        'reading {"seq": 0,',
        'reading {"seq": 1,',
        "status interval 0.3",
        "ok: a reading each 0.",
        "the board prints: no connection:",
        "the board prints: connected, broker verified",
        "ok: a fresh SCRAM login",
        "status offline (its will, by the broker), then status online",
        "none is lost",
        "ok: the password is nowhere",
        "demo: all 8 steps held",
    )
    assert re.search(r"^ *password +nowhere +nowhere *$", output, re.MULTILINE)
    assert re.search(r"^ *SaltedPassword +nowhere +nowhere *$", output, re.MULTILINE)
    assert re.search(r"^ *client key +base64 in /secrets.json +nowhere *$", output, re.MULTILINE)
    assert re.search(r"^ *user name +plain in /secrets.json +plain in \d+ places *$", output, re.MULTILINE)
    assert password_in(tmp_path) not in output and "\x1b" not in output
    assert left_over(tmp_path) == []

    # What it leaves behind to look at is what it has searched, and only we may read it.
    (password, user), flash = (password_in(tmp_path).encode(), USER.encode()), leaks.files(tmp_path / "flash")
    wire = {path.name: path.read_bytes() for path in (tmp_path / "capture").iterdir()}
    assert "/main.py" in flash and any(user in data for data in wire.values())
    assert not any(password in data for data in [*flash.values(), *wire.values()])
    assert tmp_path.stat().st_mode & 0o077 == (tmp_path / "secrets.toml").stat().st_mode & 0o077 == 0


def test_over_tls(tmp_path):
    code, output = ended(start(tmp_path, "--tls"))
    assert code == 0, output
    in_order(
        output,
        "mosquitto with Cyrus SASL (over TLS)",
        "on the wire: TLS records only",
        "the board prints: connected, broker verified",
        'reading {"seq": 1,',
        "status interval 0.3",
        "none is lost",
        "TLS records, and nothing else",
        "ok: the password is nowhere",
        "demo: all 8 steps held",
    )
    assert "client-first" not in output and "r=" not in output
    assert re.search(r"^ *password +nowhere +nowhere *$", output, re.MULTILINE)
    assert re.search(r"^ *user name +plain in /secrets.json +nowhere *$", output, re.MULTILINE)
    assert re.search(r"^ *server's name +plain in /secrets.json +plain in \d+ places *$", output, re.MULTILINE)
    wire = b"".join(path.read_bytes() for path in (tmp_path / "capture").glob("*to-broker.bin"))
    assert b"localhost" in wire and b"SCRAM" not in wire and b"MQTT" not in wire
    assert left_over(tmp_path) == []


def test_a_step_that_fails_ends_it_with_one_line_and_code_1(tmp_path):
    code, output = ended(start(tmp_path, MICROPYTHON="/no/such/micropython"))
    assert code == 1
    assert re.fullmatch(
        r"demo: failed at 'flashing: .*': no MicroPython at /no.*make setup.*", output.splitlines()[-1]
    )
    assert "Traceback" not in output
    assert left_over(tmp_path) == []


# The board's file gets another ServerKey after provisioning: the broker will not be the one that it knows.
ANOTHER_BROKER = """
import base64, json, sys
from tools.demo import __main__, steps
real = steps.provision
def provision(*arguments, **more):
    path = real(*arguments, **more)
    secrets = json.loads(path.read_text())
    secrets["auth"]["keys"][0]["server_key"] = base64.b64encode(bytes(32)).decode()
    path.write_text(json.dumps(secrets))
    return path
steps.provision = provision
sys.exit(__main__.main(sys.argv[1:]))
"""


def test_a_broker_that_does_not_prove_itself_ends_it_at_once(tmp_path):
    began = time.monotonic()
    code, output = ended(start(tmp_path, program=["-c", ANOTHER_BROKER]))
    assert code == 1 and time.monotonic() - began < 15
    assert "'the board boots and logs in'" in output.splitlines()[-1]
    assert "it printed: NOT OUR BROKER" in output.splitlines()[-1]
    assert "broker verified" not in output
    assert left_over(tmp_path) == []


def test_a_second_demo_in_the_same_folder_is_refused(tmp_path):
    from tools.devbroker import Broker

    with Broker(tmp_path / "broker", tls=False):
        (tmp_path / "flash").mkdir()
        code, output = ended(start(tmp_path))
        assert code == 1 and (tmp_path / "flash").is_dir()
    assert "another dev broker works in" in output.splitlines()[-1]


def test_a_step_has_a_deadline(capsys):
    show = Show(1)
    began = time.monotonic()
    with pytest.raises(DemoError, match=r"not done within 0.2 s"), show.step("waiting", 0.2):
        time.sleep(20)
    assert time.monotonic() - began < 5
    assert show.where == "waiting"


# The search -----------------------------------------------------------------------------------------------

SECRET = bytes(range(200, 232))  # 32 bytes, no text


def hits(data, secret=SECRET):
    return {hit.form for hit in leaks.search({"it": secret}, {"there": b"before " + data + b" after"})}


@pytest.mark.parametrize("before", range(6))
@pytest.mark.parametrize("after", range(4))
@pytest.mark.parametrize("secret", [SECRET, SECRET[:31], SECRET[:30], b"password"])
@pytest.mark.parametrize("encode", [base64.b64encode, base64.urlsafe_b64encode])
def test_planted_base64_is_found_wherever_it_begins(before, after, secret, encode):
    assert hits(encode(os.urandom(before) + secret + os.urandom(after)), secret) == {"base64"}


def test_planted_plain_and_hex_are_found():
    assert hits(SECRET) == {"plain"}
    assert hits(SECRET.hex().encode()) == {"hex"}
    assert hits(SECRET.hex().upper().encode()) == {"hex"}
    assert hits(b"\0user\0" + PASSWORD.encode(), PASSWORD.encode()) == {"plain"}


def test_what_is_not_there_is_not_found():
    assert hits(os.urandom(5000) + base64.b64encode(os.urandom(5000)) + os.urandom(5000).hex().encode()) == set()
    assert hits(SECRET[:-1] + b"?") == set()
    assert hits(SECRET[:-1].hex().encode()) == set()
    assert hits(base64.b64encode(SECRET[:-1] + b"?")) == set()
    with pytest.raises(ValueError, match="too short"):
        leaks.search({"it": b"abc"}, {})


# The proof: the table must not hold if one thing is where it must not be, or a control is missing.


@pytest.fixture
def scene():
    """(keys, flash, wire) as they are after a good plain run."""
    salted = login.salted_password(PASSWORD, SALT, 4096)
    client_key, server_key = login.client_key(salted), os.urandom(32)
    keys = {"salt": SALT, "client_key": client_key, "server_key": server_key}
    keys = {name: base64.b64encode(value).decode() for name, value in keys.items()} | {"iterations": 4096}
    flash = {"/main.py": b"print()", "/secrets.json": f"{USER} SCRAM-SHA-256 {keys}".encode()}
    wire = {"connection 1, to broker": b"\x10" + f"SCRAM-SHA-256 n,,n={USER},r=".encode()}
    return keys, flash, wire


def test_the_proof_holds_for_a_good_run(scene, capsys):
    keys, flash, wire = scene
    prove(Show(1), PASSWORD, keys, USER, None, flash, wire)
    assert "ok: the password is nowhere" in capsys.readouterr().out


@pytest.mark.parametrize("form", [bytes, base64.b64encode, lambda data: data.hex().encode()])
@pytest.mark.parametrize("what", ["password", "SaltedPassword", "client key"])
@pytest.mark.parametrize("where", ["flash", "wire"])
def test_the_proof_fails_for_whatever_leaks(scene, capsys, form, what, where):
    keys, flash, wire = scene
    salted = login.salted_password(PASSWORD, SALT, 4096)
    leak = {"password": PASSWORD.encode(), "SaltedPassword": salted, "client key": login.client_key(salted)}[what]
    if (what, where) == ("client key", "flash"):
        flash["/secrets.json"] = flash["/secrets.json"].replace(keys["client_key"].encode(), b"")
    else:
        places = {"flash": flash, "wire": wire}[where]
        places["planted"] = b"\x82\x10" + form(leak)
    with pytest.raises(DemoError, match=rf"^{what} on the {where}: ") as error:
        prove(Show(1), PASSWORD, keys, USER, None, flash, wire)
    assert PASSWORD not in str(error.value) + capsys.readouterr().out


def test_the_proof_fails_without_its_controls(scene):
    keys, flash, wire = scene
    with pytest.raises(DemoError, match="user name on the wire: nowhere, but it must be there"):
        prove(Show(1), PASSWORD, keys, USER, None, flash, {"connection 1, to broker": b"SCRAM-SHA-256"})
    with pytest.raises(DemoError, match="not made of this password"):
        prove(Show(1), PASSWORD + "x", keys, USER, None, flash, wire)
    with pytest.raises(NotReadable, match="not the start of a TLS record"):
        prove(Show(1), PASSWORD, keys, USER, "localhost", flash, wire)
    hello = {"connection 1, to broker": b"\x16\x03\x01\x00\x09localhost"}
    flash["/secrets.json"] += b" localhost"
    prove(Show(1), PASSWORD, keys, USER, "localhost", flash, hello)
    hello["connection 1, to client"] = b"\x17\x03\x03\x00\x0f" + USER.encode()
    with pytest.raises(DemoError, match="user name on the wire: plain in connection 1, to client"):
        prove(Show(1), PASSWORD, keys, USER, "localhost", flash, hello)


# Reading the capture --------------------------------------------------------------------------------------


def test_packets_that_are_whole():
    auth = b"\xf0\x06\x18\x04\x16\x00\x01x"
    connack = b"\x20\x03\x00\x87\x00"
    found = packets(auth + connack + auth[:5])
    assert [(p.name, p.reason, p.data) for p in found] == [("AUTH", 0x18, b"x"), ("CONNACK", 0x87, None)]
    assert str(found[0]) == "AUTH 0x18"  # it goes into errors: no data
    assert packets(b"") == packets(auth[:1]) == []
    with pytest.raises(NotReadable):
        packets(b"\xf0\xff\xff\xff\xff\x01")
    with pytest.raises(NotReadable, match="ends too early"):
        packets(b"\xf0\x03\x18\x04\x16")
    with pytest.raises(NotReadable, match="unknown property 0x7E"):
        packets(b"\xf0\x04\x18\x02\x7e\x00")


def test_tls_records_and_nothing_else():
    record = b"\x17\x03\x03\x00\x02ab"
    assert tls_records(record * 3 + record[:6]) == 4
    assert tls_records(b"") == 0
    with pytest.raises(NotReadable, match="byte 7 "):
        tls_records(record + b"\x10\x0c\x00\x04MQTT")


# RFC 7677, section 3: the example.
RFC = login.Login(
    b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO",
    b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096",
    b"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=",
    b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=",
)


def test_the_signature_of_the_rfcs_example_holds_and_no_other():
    import hmac
    from dataclasses import replace

    salt = base64.b64decode("W22ZaJ0SNY7soEsUEjb6gQ==")
    server_key = hmac.digest(login.salted_password("pencil", salt, 4096), b"Server Key", "sha256")
    assert RFC.signed_with(server_key)
    assert not RFC.signed_with(server_key[::-1])
    assert not replace(RFC, server_first=RFC.server_first + b"0").signed_with(server_key)
    assert not replace(RFC, server_final=b"v=").signed_with(server_key)


def test_a_message_taken_apart():
    found = login.parts(RFC.client_first, login.STEPS[0][-1])
    assert [part for _, part in found] == ["n,,", "n=user", "r=rOprNGfwEbeRWgbNEkqO"]
    assert ",".join(part for _, part in login.parts(RFC.client_final, {})).encode() == RFC.client_final
