"""boards/ and the packaging of lib/; and the board's program: provisioned, flashed, run against the real broker."""

import json
import re
import select
import shutil
import subprocess
import time
import tomllib
from pathlib import Path

import pytest
from harness.micropython import execute, interpreter
from harness.observer import mosquitto

from tools import board as boards
from tools import mpy
from tools.board import BoardError
from tools.flash import flash
from tools.provision import provision
from tools.vboard import VirtualBoard

BOARDS = boards.BOARDS


# board.toml, manifests, packaging -------------------------------------------------------------------------


def test_the_boards_that_there_are():
    assert {"ESP32_GENERIC", "RPI_PICO_W", "UNIX"} <= set(boards.names())
    for name in boards.names():
        board = boards.load(name)
        assert mpy.sources(modules=board.modules, exclude=board.exclude)
        assert board.wifi == (name != "UNIX")


@pytest.mark.parametrize(
    "line, message",
    [
        ("modul = []", "unknown name 'modul'; known are platform, march, modules"),
        ("name = 'X'", "unknown name 'name'"),
        ("umqtt = 1", "umqtt must be a bool"),
        ("modules = 'umqtt5'", "modules must be a list"),
        ("= 3", "is no TOML"),
    ],
)
def test_a_mistake_in_board_toml_is_an_error(line, message, tmp_path, monkeypatch):
    shutil.copytree(BOARDS / "UNIX", tmp_path / "UNIX")
    text = (tmp_path / "UNIX" / "board.toml").read_text()
    key = line.split(" ")[0]
    kept = "\n".join(row for row in text.splitlines() if not row.startswith(key + " ")) if key != "=" else text
    (tmp_path / "UNIX" / "board.toml").write_text(kept + "\n" + line + "\n")
    monkeypatch.setattr(boards, "BOARDS", tmp_path)
    with pytest.raises(BoardError, match=message):
        boards.load("UNIX")


def test_modules_can_be_chosen(tmp_path):
    assert list(mpy.sources(modules=["usasl.scram"])) == ["usasl/__init__.py", "usasl/scram.py"]
    assert "umqtt5/props.py" not in mpy.sources(exclude=["umqtt5.props"])
    assert mpy.sources(modules=[]) == {}
    with pytest.raises(mpy.CompileError, match=r"no module 'usasl.scarm'"):
        mpy.sources(modules=["usasl.scarm"])
    with pytest.raises(mpy.CompileError, match=r"exclude: 'usasl.scarm'"):
        mpy.sources(exclude=["usasl.scarm"])
    with pytest.raises(mpy.CompileError, match=r"^mpy-cross: usasl/__init__.py: no architecture 'esp32' .*them$"):
        mpy.compile_files(mpy.sources(modules=["usasl"]), tmp_path, "esp32")


def test_the_same_source_gives_the_same_mpy_anywhere(tmp_path):
    lib = shutil.copytree(mpy.LIB, tmp_path / "elsewhere")
    one = mpy.compile_files(mpy.sources(), tmp_path / "one")
    two = mpy.compile_files(mpy.sources(lib), tmp_path / "two")
    assert {n: p.read_bytes() for n, p in one.items()} == {n: p.read_bytes() for n, p in two.items()}


@pytest.mark.parametrize("name", boards.names())
def test_every_board_compiles_for_its_architecture(name, tmp_path):
    board = boards.load(name)
    assert mpy.compile_files(mpy.sources(modules=board.modules), tmp_path, board.march)


def test_package_json_lists_every_file():
    text = (mpy.LIB / "package.json").read_text()
    assert text == mpy.package_json(), "write it anew: python -m tools.mpy"


def test_mip_installs_the_library_from_package_json(tmp_path):
    """mpremote's mip, from this folder onto the virtual board: relative addresses work, and nothing is missing."""
    with VirtualBoard(tmp_path) as board:
        words = ["connect", board.port, "resume", "mip", "install", "--no-mpy", str(mpy.LIB / "package.json")]
        command = [str(boards.ROOT / "build/venv/bin/mpremote"), *words]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done
        installed = {p.relative_to(tmp_path / "lib").as_posix() for p in (tmp_path / "lib").rglob("*.py")}
        assert installed == set(mpy.sources())


@pytest.mark.parametrize("path", [mpy.LIB / "manifest.py", *sorted(BOARDS.glob("*/manifest.py"))])
def test_manifests_name_what_is_there(path):
    """Not built here: MicroPython's own sources are not at hand. What is named must exist."""
    named = []

    def include(name):
        if not name.startswith("$("):
            named.append(path.parent / name)

    words = {
        "metadata": lambda **_: None,
        "include": include,
        "package": lambda name, files=("__init__.py",), base_path=".": named.extend(
            path.parent / base_path / name / file for file in files
        ),
        "module": lambda name, base_path: named.append(path.parent / base_path / name),
    }
    exec(path.read_text(), words)
    assert named and all(p.is_file() for p in named), named


def test_secrets_example_is_what_provisioning_reads(tmp_path):
    from tools.provision import read_settings

    text = (BOARDS / "secrets.example.toml").read_text()
    tomllib.loads(text)
    example = tmp_path / "secrets.toml"
    example.write_text(text.replace('tls = { ca = "ca.pem" }', ""))  # there is no such CA here
    for board in ("RPI_PICO_W", "ESP32_GENERIC"):  # any board is the user that the README has made
        settings = read_settings(example, board, True)
        assert settings["mqtt"]["client_id"] == "greenhouse-1" and settings["auth"]["user"] == "device1"
    text, lines = re.subn(r"(?m)^# (?=\[board|\w+ = \"[a-z-]+2\")", "", example.read_text())
    assert lines == 4
    example.write_text(text)
    settings = read_settings(example, "RPI_PICO_W", True)
    assert settings["mqtt"]["client_id"] == "greenhouse-2" and settings["auth"]["user"] == "device2"
    settings = read_settings(example, "ESP32_GENERIC", True)
    assert settings["mqtt"]["client_id"] == "greenhouse-1" and settings["auth"]["user"] == "device1"


# wifi.py: no WiFi on the host, so MicroPython's network module is a scripted one. Not tried on hardware. ---------

NETWORK = """\
import sys, time
sys.path.insert(0, %r)
class network:
    STA_IF = 0
    STAT_WRONG_PASSWORD = -3
    STAT_NO_AP_FOUND = -2
    class WLAN:
        log = []
        script = %r
        def __init__(self, interface): pass
        def active(self, on): self.log.append("active")
        def config(self, **kw):
            self.log.append("pm")
            if %r: raise ValueError("unknown config param")
        def disconnect(self): self.log.append("disconnect")
        def connect(self, ssid, key): self.log.append("connect")
        def isconnected(self): return self.script[0] == 3
        def status(self): return self.script.pop(0) if len(self.script) > 1 else self.script[0]
        def ifconfig(self): return ("192.0.2.7", "", "", "")
sys.modules["network"] = network
import wifi
fed = []
start = time.ticks_ms()
try:
    print(wifi.connect("my net", "WIFIKEY", timeout=1, on_wait=lambda: fed.append(1)))
except OSError as e:
    print(e)
print(network.WLAN.log, len(fed) > 1, time.ticks_diff(time.ticks_ms(), start) < 2000)
"""
JOIN = "['active', 'pm', 'disconnect', 'connect'] True True"
FAIL = "['active', 'pm', 'disconnect', 'connect', 'disconnect'] True True"


@pytest.mark.parametrize(
    "script, esp32, first, log",
    [
        ([3], False, "192.0.2.7", "['active'] False True"),  # was there already
        ([0, 1, 1, 3], False, "192.0.2.7", JOIN),
        ([0, 1, -3, 1, 3], True, "192.0.2.7", JOIN),  # a "wrong key" that was only a weak signal
        (
            [0, 1, -3],
            False,
            "WiFi: wrong key for 'my net': correct [wifi] key in secrets.toml, provision, flash",
            FAIL,
        ),
        ([0, -2, 1], True, "WiFi: no access point 'my net' in reach (2.4 GHz only; ", FAIL),
        ([0, 1], False, "WiFi: no answer from 'my net' within 1 s", FAIL),
    ],
)
def test_wifi(script, esp32, first, log, tmp_path):
    (tmp_path / "script.py").write_text(NETWORK % (str(BOARDS / "common"), script, esp32))
    command, env = interpreter()
    done = execute([*command, str(tmp_path / "script.py")], env, "", 20)
    lines = done.out.splitlines()
    assert lines[0].startswith(first), done.show()
    assert lines[1] == log
    assert "WIFIKEY" not in done.out + done.err


# main.py --------------------------------------------------------------------------------------------------


@pytest.fixture
def provisioned(tmp_path, own_broker, passwords, monkeypatch, request):
    """A folder with UNIX.json for device1 at the test's own broker. Parameter: with TLS."""
    tls = getattr(request, "param", False)
    place = f'host = "localhost"\nport = {own_broker.tls_port}\ntls = {{ ca = "{own_broker.ca_pem}" }}\n'
    if not tls:
        place = f'host = "{own_broker.host}"\nport = {own_broker.port}\n'
    toml = tmp_path / "secrets.toml"
    toml.write_text(
        f'[mqtt]\n{place}client_id = "b1"\nkeepalive = 30\n[auth]\nmethod = "SCRAM-SHA-256"\nuser = "device1"\n'
    )
    toml.chmod(0o600)
    monkeypatch.setenv("UMQTT5_PASSWORD", passwords["device1"])
    provision("UNIX", toml, tmp_path / "secrets")
    return tmp_path / "secrets"


class Observer:
    """mosquitto_sub on umqtt5/#: an independent witness."""

    def __init__(self, broker):
        self.broker = broker
        words = mosquitto("sub", broker, "-t", "umqtt5/#", "-v", "-q", "1")
        self.process = subprocess.Popen(words, stdout=subprocess.PIPE)
        self.buffer = b""

    def __enter__(self):
        # Retained, so it comes whenever the subscription is there: from then on nothing is missed.
        publish(self.broker, "observer", "here", "-r")
        self.until("observer", lambda text: text == "here", keep=True)
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait(10)
        self.process.stdout.close()

    def until(self, topic, wanted, timeout=20, keep=False):
        """The payload of the first message on umqtt5/b1/<topic> for which wanted(payload) is true; keep: what came
        before it is still to be looked at."""
        end = time.monotonic() + timeout
        looked = 0
        while True:
            while looked < self.buffer.count(b"\n"):
                lines = self.buffer.split(b"\n")
                name, _, payload = lines[looked].decode().partition(" ")
                looked += 1
                if name == f"umqtt5/b1/{topic}" and wanted(payload):
                    self.buffer = b"\n".join((lines[: looked - 1] if keep else []) + lines[looked:])
                    return payload
            if not select.select([self.process.stdout], [], [], max(0, end - time.monotonic()))[0]:
                raise AssertionError(f"{topic} did not come; seen: {self.buffer.decode()}")
            self.buffer += self.process.stdout.read1(65536)


def publish(broker, topic, text, *more):
    words = mosquitto("pub", broker, "-q", "1", *more, "-t", f"umqtt5/b1/{topic}", "-m", text)
    subprocess.run(words, check=True, timeout=20)


def command(broker, text):
    publish(broker, "command", text)


def test_the_boards_program(provisioned, own_broker, tmp_path, passwords):
    """Provisioned, flashed, booted: it logs in, publishes, obeys, comes back after the broker was away."""
    with Observer(own_broker) as observer, VirtualBoard(tmp_path / "flash") as board:
        flash("UNIX", board.port, secrets_dir=provisioned)
        board.wait_for("connected, broker verified", 20)
        observer.until("status", lambda text: text == "online", keep=True)  # a task of its own says it
        first = json.loads(observer.until("reading", lambda _: True))
        assert first["seq"] == 0 and first["free"] > 0 and 0 <= first["uptime"] < 20
        command(own_broker, "interval 0.2")
        observer.until("status", lambda text: text == "interval 0.2")
        observer.until("reading", lambda text: json.loads(text)["seq"] >= 5)
        for said, answer in (
            ("led on", "led on"),
            ("led toggle", "led off"),
            ("interval 0", "interval: 0.1 to 86400 seconds"),
            ("interval nan", "interval: 0.1 to 86400 seconds"),
            ("jump high", "unknown command: jump high"),
            ("identify", "linux, MicroPython 1."),
        ):
            command(own_broker, said)
            observer.until("status", lambda text, answer=answer: text.startswith(answer))

        since = len(board.output())
        own_broker.kill()
        board.wait_for("no connection:", 20, since)
        own_broker.start()
        board.wait_for("connected, broker verified", 30, since)
    with Observer(own_broker) as observer:
        observer.until("status", lambda text: text == "offline")  # the will: the board was cut off
    said = board.output()
    assert "Traceback" not in said
    for secret in secrets_of(provisioned, passwords):
        assert secret not in said


def secrets_of(folder, passwords):
    keys = json.loads((folder / "UNIX.json").read_text())["auth"]["keys"][0]
    return [passwords["device1"], keys["client_key"], keys["server_key"]]


def test_refused_logins_are_told_apart_and_not_repeated_soon(provisioned, own_broker, tmp_path):
    path = provisioned / "UNIX.json"
    good = json.loads(path.read_text())
    for entry, text in (("client_key", "login refused: "), ("server_key", "NOT OUR BROKER: ")):
        bad = json.loads(json.dumps(good))
        bad["auth"]["keys"][0][entry] = "A" * 43 + "="
        path.write_text(json.dumps(bad))
        with VirtualBoard(tmp_path / entry) as board:
            flash("UNIX", board.port, secrets_dir=provisioned)
            since = board.wait_for(text, 20)
            since = board.wait_for("next attempt in ", 5, since)
            board.wait_for(" s", 5, since)
            assert 150 <= float(board.output()[since:].split(" ")[0]) <= 300
            assert "connected" not in board.output()


@pytest.mark.parametrize("provisioned", [False, True], indirect=True, ids=["tcp", "tls"])
def test_ctrl_c_takes_it_offline(provisioned, own_broker, tmp_path):
    with Observer(own_broker) as observer, VirtualBoard(tmp_path / "flash") as board:
        flash("UNIX", board.port, secrets_dir=provisioned)
        observer.until("status", lambda text: text == "online")
        flash("UNIX", board.port, secrets_dir=provisioned, reset=False)  # its first word is Ctrl-C
        observer.until("status", lambda text: text == "offline")


def test_main_and_wifi_name_no_secret_values():
    for name in ("main.py", "wifi.py"):
        text = Path(BOARDS / "common" / name).read_text()
        assert "print(wifi" not in text and "print(settings" not in text and "print(key" not in text
