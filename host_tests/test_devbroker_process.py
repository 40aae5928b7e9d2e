"""The dev broker's process: what survives a restart, its listeners, its ports and its commands."""

import base64
import fcntl
import json
import os
import re
import select
import signal
import socket
import ssl
import stat
import subprocess
import sys
import termios
from pathlib import Path

import pytest
from harness.observer import mosquitto

from host_tests.devbroker_wire import PASSWORD, Refused, Wire, exchange, login, ports, publish
from tools.devbroker import Broker, BrokerError

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def broker():
    with Broker() as running:
        running.add_user("device1", PASSWORD)
        yield running


# -- what survives


def test_credentials_survive_a_restart_and_a_kill(tmp_path):
    with Broker(state_dir=tmp_path, tls=False) as broker:
        broker.add_user("device1", PASSWORD)
        kept = broker.users_path.read_bytes()
        numbers = broker.port, broker.gsasl_port

        def told():
            return [login(broker, broker.port), login(broker, broker.gsasl_port)]

        before, pid = told(), broker.pid
        broker.restart()
        assert told() == before and broker.pid != pid
        broker.kill()
        assert broker.pid is None
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection((broker.host, broker.port), 5)
        broker.start()
        assert told() == before
        assert (broker.port, broker.gsasl_port) == numbers
    with Broker(state_dir=tmp_path, tls=False) as broker:  # another life, other ports
        assert [login(broker, broker.port), login(broker, broker.gsasl_port)] == before
        assert broker.users_path.read_bytes() == kept


def subscriber(broker, topic, *more):
    """mosquitto_sub on the plain port, as JSON lines; it ends after one message or ten seconds."""
    words = mosquitto("sub", broker, "-t", topic, "-C", "1", "-W", "10", "-q", "1", "-F", "%j", *more)
    return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def test_retained_messages_are_there_after_save_and_kill():
    with Broker(tls=False) as broker:
        broker.add_user("device1", PASSWORD)
        with Wire(broker, broker.port) as wire:
            exchange(wire, "SCRAM-SHA-256", "device1", PASSWORD)
            publish(wire, "kept", b"7", retain=True)
            broker.save()
            publish(wire, "lost", b"8", retain=True)
            broker.kill()
        broker.start()
        with subscriber(broker, "#") as listening:
            message = json.loads(listening.communicate(timeout=15)[0])
        assert (message["topic"], message["payload"]) == ("kept", "7")


def test_a_message_crosses_from_one_listener_to_the_others(broker):
    with subscriber(broker, "cross/#", "-i", "crossing") as listening:
        broker.wait_for_log("Sending SUBACK to crossing")
        with Wire(broker, broker.port) as wire:
            exchange(wire, "SCRAM-SHA-256", "device1", PASSWORD)
            assert publish(wire, "cross/1", b"hello") == 0
        assert b'"payload":"hello"' in listening.communicate(timeout=15)[0]


def test_rules_see_the_sasl_name():
    """acl_file's %u is whom SASL proved, whatever user name stands in CONNECT."""
    with Broker(tls=False, acl="pattern readwrite users/%u/#\n") as broker:
        broker.add_user("device1", PASSWORD)
        for port in ports(broker).values():
            with Wire(broker, port) as wire:
                exchange(wire, "SCRAM-SHA-256", "device1", PASSWORD)
                assert publish(wire, "users/device1/a", b"") in (0, 0x10)
                assert publish(wire, "users/boss/a", b"") == 0x87


# -- the other listeners


def test_password_listener():
    with Broker(tls=False) as broker:
        broker.add_user("device1", PASSWORD)

        def reason(user, password):
            with Wire(broker, broker.password_port) as wire:
                wire.connect(user=user, password=password)
                return wire.read()[1][1]

        assert reason("plain", "first") == 0x87
        with Wire(broker, broker.port, "stays") as wire:
            exchange(wire, "SCRAM-SHA-256", "device1", PASSWORD)
            broker.add_password_user("plain", "first")
            assert reason("plain", "first") == 0 and reason("plain", "second") == 0x87
            broker.add_password_user("plain", "second")
            broker.add_password_user("other", "third")
            assert reason("plain", "first") == 0x87 and reason("plain", "second") == 0
            assert reason("other", "third") == 0 and reason(None, None) == 0x87
            # mosquitto 2.0.11 then asks for passwords anew, and SASL clients have none.
            with pytest.raises(EOFError):
                wire.read()
        login(broker, broker.port)
        login(broker, broker.gsasl_port)


def test_plain_listener_takes_anybody(broker):
    with Wire(broker, broker.plain_port) as wire:
        wire.connect()
        assert wire.read()[1][1] == 0
    with Wire(broker, broker.plain_port) as wire:
        wire.connect("SCRAM-SHA-256", b"n,,n=device1,r=abcdefgh")
        assert wire.refusal() == 0x8C


def test_tls_listener(broker):
    context = ssl.create_default_context(cafile=broker.ca_pem)
    for name in ("localhost", "127.0.0.1"):
        raw = socket.create_connection((broker.host, broker.tls_port), 5)
        with context.wrap_socket(raw, server_hostname=name) as stream:
            assert stream.version() in ("TLSv1.2", "TLSv1.3")
    with Wire(broker, broker.tls_port, context=context) as wire:
        exchange(wire, "SCRAM-SHA-256", "device1", PASSWORD)
    der = ssl.create_default_context(cadata=broker.ca_der.read_bytes())
    Wire(broker, broker.tls_port, context=der).socket.close()
    stranger = ssl.create_default_context(cadata=broker.other_ca_der.read_bytes())
    with pytest.raises(ssl.SSLCertVerificationError):
        Wire(broker, broker.tls_port, context=stranger)
    for key in broker.ca_pem.parent.glob("*.key"):
        assert stat.S_IMODE(key.stat().st_mode) == 0o600


# -- the process


def test_two_brokers_at_once(broker):
    with Broker(tls=False) as second:
        second.add_user("device1", "another")
        login(second, second.port, password="another")
        login(broker, broker.port)
        with pytest.raises(Refused):
            login(second, second.port)


def test_one_broker_a_folder(tmp_path):
    with (
        Broker(state_dir=tmp_path, tls=False),
        pytest.raises(BrokerError, match="another dev broker works in"),
        Broker(state_dir=tmp_path, tls=False),
    ):
        pass


def test_a_port_that_is_taken():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        number = taken.getsockname()[1]
        with (
            pytest.raises(BrokerError, match=r"is taken: end what uses it, or choose others \(.* --port N\)"),
            Broker(tls=False, ports={"port": number}),
        ):
            pass


def test_ports_taken_between_picking_and_binding(monkeypatch):
    """The race that cannot be closed: the next set of ports is tried."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        pick, picked = Broker._pick_ports, []

        def picks_badly_at_first(self):
            pick(self)
            picked.append(self.gsasl_port)
            if len(picked) == 1:
                self.gsasl_port = taken.getsockname()[1]

        monkeypatch.setattr(Broker, "_pick_ports", picks_badly_at_first)
        with Broker(tls=False) as broker:
            broker.add_user("device1", PASSWORD)
            login(broker, broker.gsasl_port)
        assert len(picked) == 2


def test_a_broker_that_dies_is_not_overlooked():
    with pytest.raises(BrokerError, match="ended by itself with code -11"), Broker(tls=False) as broker:
        os.kill(broker.pid, signal.SIGSEGV)
        broker.wait()


def test_a_temporary_folder_is_removed():
    with Broker(tls=False) as broker:
        folder = broker.state_dir
        assert folder.is_dir()
    assert not folder.exists()


def test_no_secret_in_the_log(broker):
    """After all of the above: neither passwords nor stored keys, nor anything that SASL exchanged."""
    login(broker, broker.port)
    log = broker.log_text()
    assert "sasl: device1 logged in (cyrus)" in log  # the positive control
    secrets = {PASSWORD, base64.b64encode(PASSWORD.encode()).decode()}
    for line in broker.users_path.read_text().splitlines():
        secrets |= set(re.split(r"[$:]", line)[3:])
    assert len(secrets) > 8 and not [secret for secret in secrets if secret in log]


# -- the commands


def command(*arguments, **more):
    environment = {key: value for key, value in os.environ.items() if key != "UMQTT5_PASSWORD"}
    environment |= more.pop("env", {})
    return subprocess.run(
        [sys.executable, "-m", "tools.devbroker", *map(str, arguments)],
        cwd=ROOT,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_adduser_and_users_commands(tmp_path):
    secret = {"UMQTT5_PASSWORD": PASSWORD}
    done = command("adduser", "device1", "--state", tmp_path, "--iterations", 5000, env=secret)
    assert done.returncode == 0, done.stderr
    path = tmp_path / "users.txt"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    listed = command("users", "--state", tmp_path)
    assert "SCRAM-SHA-512" in listed.stdout and "5000" in listed.stdout
    shown = done.stdout + done.stderr + listed.stdout
    assert PASSWORD not in shown + path.read_text()
    for line in path.read_text().splitlines():
        assert not [part for part in re.split(r"[$:]", line)[3:] if part in shown]
    with Broker(state_dir=tmp_path, tls=False) as broker:
        assert login(broker, broker.port)[1] == "5000"
        # A change under a running broker holds at once.
        assert command("adduser", "device1", "--state", tmp_path, env={"UMQTT5_PASSWORD": "new"}).returncode == 0
        assert login(broker, broker.gsasl_port, password="new")[1] == "4096"
        with pytest.raises(Refused):
            login(broker, broker.port)


def test_adduser_for_the_mechanisms_that_keep_a_secret_in_clear(tmp_path):
    secret = {"UMQTT5_PASSWORD": PASSWORD}
    done = command("adduser", "device1", "--state", tmp_path, "--digest-md5", env=secret)
    told = command("adduser", "bearer", "--state", tmp_path, "--token", env=secret)
    listed = command("users", "--state", tmp_path)
    assert "SCRAM-SHA-256" in done.stdout and "DIGEST-MD5" in done.stdout
    assert "TOKEN" in told.stdout and "SCRAM" not in told.stdout and "iterations" not in told.stdout
    assert "DIGEST-MD5" in listed.stdout and "TOKEN" in listed.stdout
    assert PASSWORD not in done.stdout + told.stdout + listed.stdout
    lines = (tmp_path / "users.txt").read_text().splitlines()
    assert f"device1:{PASSWORD}" in lines and f"bearer:TOKEN${PASSWORD}" in lines


def test_adduser_without_a_password(tmp_path):
    done = command("adduser", "device1", "--state", tmp_path)
    assert done.returncode == 1 and "UMQTT5_PASSWORD" in done.stderr and not (tmp_path / "users.txt").exists()


@pytest.mark.parametrize("typed, works", [("pw\npw\n", "pw"), ("pw\nother\n", None), ("\n", "random")])
def test_adduser_asks_at_the_terminal(tmp_path, typed, works):
    """A real terminal (a pty): what is typed is not echoed; a random password is shown once and works."""
    environment = {key: value for key, value in os.environ.items() if key != "UMQTT5_PASSWORD"}
    ours, theirs = os.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "tools.devbroker", "adduser", "device1", "--state", str(tmp_path)],
        cwd=ROOT,
        env=environment | {"TERM": "dumb"},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # else getpass finds no terminal
    )
    os.close(theirs)
    shown, answers = b"", typed.encode().splitlines(keepends=True)
    try:
        while select.select([ours], [], [], 20)[0]:
            try:
                part = os.read(ours, 4096)
            except OSError:  # the terminal's other end is closed
                break
            shown += part
            if part.rstrip().endswith(b":") and answers:
                os.write(ours, answers.pop(0))
        code = process.wait(10)
    finally:
        process.kill()
        os.close(ours)
    if works is None:
        assert code == 1 and b"differ" in shown and not (tmp_path / "users.txt").exists()
        return
    assert code == 0, shown
    if works == "random":
        works = re.search(rb"shown this once: (\S+)", shown).group(1).decode()
        assert len(works) == 22  # 128 bits in base64
    else:
        assert b"pw" not in shown
    with Broker(state_dir=tmp_path, tls=False) as broker:
        login(broker, broker.port, password=works)


def test_run_command_ends_in_good_order(tmp_path):
    with Broker(tls=False) as free:  # a stretch of free ports: those of a broker that has ended
        first = free.port
    process = subprocess.Popen(
        [sys.executable, "-m", "tools.devbroker", "run", "--state", str(tmp_path), "--port", str(first)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    try:
        shown = b""
        while b"Ctrl-C ends it" not in shown:
            assert select.select([process.stdout], [], [], 30)[0], shown
            part = os.read(process.stdout.fileno(), 4096)
            assert part, shown
            shown += part
        socket.create_connection(("127.0.0.1", first), 5).close()
        process.send_signal(signal.SIGINT)
        assert process.wait(15) == 0
    finally:
        process.kill()
        process.stdout.close()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", first), 5)
