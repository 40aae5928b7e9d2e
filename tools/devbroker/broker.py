"""One mosquitto process with all its listeners, for tests, the demo and `python -m tools.devbroker run`.

Binds 127.0.0.1 only. Ends only the process that it started. Every wait has a deadline.
"""

import base64
import fcntl
import hashlib
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

from tools.devbroker import build, certificates, users

HOST = "127.0.0.1"
START_TIMEOUT = 20  # s; under valgrind or on a busy machine it takes a while
STOP_TIMEOUT = 10  # s

# Attribute of Broker -> what listens there. The order is that of consecutive ports.
LISTENERS = {
    "port": "SASL, by Cyrus SASL",
    "gsasl_port": "SASL, by GNU SASL (no SCRAM-SHA-512)",
    "plain_port": "no authentication: anybody, any name (for mosquitto_sub, umqtt)",
    "password_port": "MQTT user name and password (passwords.txt, by mosquitto_passwd)",
    "tls_port": "SASL, by Cyrus SASL, behind TLS",
}


class BrokerError(RuntimeError):
    """The broker did not start, died, or did not do as told; the text has the end of its log."""


class Broker:
    """A dev broker; use it with `with`. Attributes port, gsasl_port, ... (LISTENERS) are the ports in use.

    state_dir: users, certificates and retained messages live here and survive; None: a temporary folder.
    tls: False saves making certificates (then tls_port is None).
    ports: None (free ones are picked), the first of five consecutive numbers, or a dict {"port": 1883, ...}.
    mechs: the SASL mechanisms to offer, e.g. ("SCRAM-SHA-256",); None: SCRAM-SHA-1, -256, -512.
    acl: text of an acl_file for the SASL listeners; None: everybody may do everything.
    reauth_timeout: minutes in which Cyrus' DIGEST-MD5 takes up an earlier login (RFC 2831 2.2); None: never.
    """

    host = HOST

    def __init__(self, state_dir=None, tls=True, ports=None, mechs=None, acl=None, reauth_timeout=None):
        self._temporary = state_dir is None
        if self._temporary:
            state_dir = tempfile.mkdtemp(prefix="umqtt5-broker-")
        self.state_dir = Path(state_dir).resolve()
        self.state_dir.mkdir(parents=True, exist_ok=True)
        self._mechs, self._acl, self._reauth_timeout = mechs, acl, reauth_timeout
        self._names = [name for name in LISTENERS if tls or name != "tls_port"]
        if isinstance(ports, int):
            ports = {name: ports + i for i, name in enumerate(self._names)}
        self._fixed_ports = dict(ports or {})
        unknown = set(self._fixed_ports) - set(self._names)
        if unknown:
            raise ValueError(f"ports: {', '.join(sorted(unknown))} unknown; there are {', '.join(self._names)}")
        for name in LISTENERS:
            setattr(self, name, None)
        self._process = None
        self._lock = None
        self._log_start = 0
        self.log_path = self.state_dir / "mosquitto.log"
        self.users_path = self.state_dir / "users.txt"
        self.database_path = self.state_dir / "mosquitto.db"
        self._passwords_path = self.state_dir / "passwords.txt"
        folder = self.state_dir / "tls"
        self.ca_pem, self.ca_der, self.other_ca_der = (
            folder / "ca.pem",
            folder / "ca.der",
            folder / "other_ca.der",
        )

    # -- the process

    def __enter__(self):
        try:
            self._own_the_folder()
            self.start()
        except BaseException:
            self._end(signal.SIGKILL)
            self._release_the_folder()
            raise
        return self

    def __exit__(self, kind, *_):
        code = self._process.poll() if self._process else None
        tail = self.log_tail()
        try:
            self._end(signal.SIGTERM)
        finally:
            self._release_the_folder()
        # A broker that crashed under a test that did not notice: the test must not pass.
        if kind is None and code is not None:
            raise BrokerError(f"mosquitto ended by itself with code {code}; the end of its log:\n{tail}")

    @property
    def pid(self):
        """Process id; None while it does not run."""
        return self._process.pid if self._process else None

    def start(self):
        """Starts mosquitto and returns when all listeners answer. BrokerError if they do not."""
        if self._process is not None:
            raise BrokerError("this broker runs already")
        plugin = build.plugin()
        if "tls_port" in self._names:
            certificates.make_all(self.state_dir / "tls")
        for path in (self.users_path, self._passwords_path):
            if not path.exists():
                users.replace_file(path, "")
        if self._acl is not None:
            users.replace_file(self.state_dir / "acl.txt", self._acl)
        again = self.port is not None  # a restart: clients know these ports
        for _ in range(5):
            if not again:
                self._pick_ports()
            self._write_config(plugin)
            if self._launch():
                return
            # Somebody took one of the ports between the picking and now.
            if again or self._fixed_ports:
                break
        numbers = ", ".join(str(getattr(self, name)) for name in self._names)
        raise BrokerError(
            f"one of the ports {numbers} is taken: end what uses it, or choose others "
            "(build/venv/bin/python -m tools.devbroker run --port N). "
            f"The end of mosquitto's log:\n{self.log_tail()}"
        )

    def wait(self):
        """Waits until the broker ends, which it does not do by itself."""
        self._process.wait()

    def restart(self):
        """Ends the broker in good order (SIGTERM) and starts it again: same ports, same state."""
        self._end(signal.SIGTERM)
        self.start()

    def kill(self):
        """SIGKILL: what was not saved is lost. start() brings it back on the same ports."""
        self._end(signal.SIGKILL)

    def save(self):
        """Has the broker write its retained messages and sessions (SIGUSR1), and waits until that is done."""

        def version():
            try:
                info = self.database_path.stat()
            except FileNotFoundError:
                return None
            return info.st_ino, info.st_mtime_ns

        before = version()
        self._signal(signal.SIGUSR1)
        # mosquitto writes a new file and renames it: another inode, complete at once.
        self._wait(lambda: version() not in (None, before), 10, "write its database")

    def _launch(self):
        """Starts the process. True: it is ready. False: a port was taken. BrokerError: anything else."""
        program = shutil.which("mosquitto", path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin")
        if program is None:
            raise BrokerError("mosquitto was not found: run `make setup`, or apt-get install mosquitto")
        with open(self.log_path, "ab") as log:
            self._log_start = log.tell()
            # Its own session: Ctrl-C at the terminal goes to us, and we end it in good order.
            self._process = subprocess.Popen(
                [*_wrapper(), program, "-c", str(self.state_dir / "mosquitto.conf")],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.state_dir,
                start_new_session=True,
            )
        try:
            self._wait(self._is_ready, START_TIMEOUT, "start")
        except BrokerError:
            self._end(signal.SIGKILL)
            if "Address already in use" in self.log_text(since_start=True):
                return False
            raise
        return True

    def _is_ready(self):
        # The line tells our process from another one that may have one of the ports.
        if not re.search(r"mosquitto version \S+ running", self.log_text(since_start=True)):
            return False
        for name in self._names:
            with socket.socket() as probe:
                probe.settimeout(1)
                if probe.connect_ex((HOST, getattr(self, name))):
                    return False
        return True

    def _wait(self, condition, timeout, what):
        deadline = time.monotonic() + timeout
        while not condition():
            if self._process.poll() is not None:
                raise BrokerError(
                    f"mosquitto ended with code {self._process.returncode} where it should {what}; "
                    f"the end of its log:\n{self.log_tail()}"
                )
            if time.monotonic() > deadline:
                raise BrokerError(f"mosquitto did not {what} within {timeout} s; its log:\n{self.log_tail()}")
            time.sleep(0.01)

    def _signal(self, number):
        if self._process is None:
            raise BrokerError("this broker does not run")
        self._process.send_signal(number)  # by its own id, and only if it was not reaped

    def _end(self, number):
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(number)
        try:
            process.wait(STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(STOP_TIMEOUT)
            raise BrokerError(f"mosquitto did not end within {STOP_TIMEOUT} s, and was killed")

    # -- the folder

    def _own_the_folder(self):
        lock = open(self.state_dir / "broker.lock", "w")  # noqa: SIM115 (held as long as the broker)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            lock.close()
            raise BrokerError(f"another dev broker works in {self.state_dir}: end it, or name another folder")
        self._lock = lock

    def _release_the_folder(self):
        if self._lock is not None:
            self._lock.close()
            self._lock = None
        if self._temporary:
            shutil.rmtree(self.state_dir, ignore_errors=True)

    # -- the configuration

    def _pick_ports(self):
        """Free ports, from below those that the kernel gives to clients: still free at a restart."""
        candidates = random.sample(range(20000, 30000), 200)
        for name in self._names:
            number = self._fixed_ports.get(name)
            while number is None:
                if not candidates:
                    raise BrokerError("found no free port between 20000 and 30000")
                candidate = candidates.pop()
                with socket.socket() as probe:
                    try:
                        probe.bind((HOST, candidate))
                        number = candidate
                    except OSError:
                        pass
            setattr(self, name, number)

    def _write_config(self, plugin):
        sasl = [
            "allow_anonymous false",
            f"plugin {plugin}",
            f"plugin_opt_users {self.users_path}",
        ]
        if self._mechs is not None:
            sasl.append(f"plugin_opt_mechs {' '.join(self._mechs)}")
        if self._reauth_timeout is not None:
            sasl.append(f"plugin_opt_reauth_timeout {self._reauth_timeout}")
        if self._acl is not None:
            sasl.insert(1, f"acl_file {self.state_dir / 'acl.txt'}")
        tls = self.state_dir / "tls"
        settings = {
            "port": [*sasl, "plugin_opt_backend cyrus"],
            "gsasl_port": [*sasl, "plugin_opt_backend gsasl"],
            "plain_port": ["allow_anonymous true"],
            "password_port": ["allow_anonymous false", f"password_file {self._passwords_path}"],
            "tls_port": [
                f"certfile {tls / 'server.pem'}",
                f"keyfile {tls / 'server.key'}",
                "tls_version tlsv1.2",  # and above
                *sasl,
                "plugin_opt_backend cyrus",
            ],
        }
        lines = [
            "# Made by tools/devbroker/broker.py at each start.",
            "per_listener_settings true",
            "persistence true",
            f"persistence_location {self.state_dir}/",
            f"persistence_file {self.database_path.name}",
            "log_dest stderr",
            "log_type all",
            "log_timestamp_format %Y-%m-%dT%H:%M:%S",
            "set_tcp_nodelay true",
        ]
        if os.geteuid() == 0:
            lines.append("user root")  # else mosquitto becomes the user mosquitto, who cannot read our files
        for name in self._names:
            lines += ["", f"# {LISTENERS[name]}", f"listener {getattr(self, name)} {HOST}", *settings[name]]
        (self.state_dir / "mosquitto.conf").write_text("\n".join(lines) + "\n")

    # -- users

    def add_user(self, name, password, iterations=4096, salt=None, mechanisms=tuple(users.SCRAM)):
        """A user of the SASL listeners, or new credentials for one; holds from the next login on."""
        users.add(self.users_path, name, password, iterations, salt, mechanisms)

    def remove_user(self, name):
        """KeyError if there is none."""
        users.remove(self.users_path, name)

    def users(self):
        """-> list of users.User: names, mechanisms, iteration counts."""
        return users.read(self.users_path)

    def add_password_user(self, name, password):
        """A user of password_port (mosquitto's password_file). Returns when the broker knows it.

        A running broker reads its configuration again (SIGHUP), and mosquitto 2.0.11 then drops all SASL
        clients: add these users before they connect.
        """
        users.check_name(name)
        salt = os.urandom(12)
        digest = hashlib.pbkdf2_hmac("sha512", password.encode(), salt, 101)
        salt64, digest64 = base64.b64encode(salt).decode(), base64.b64encode(digest).decode()
        lines = self._passwords_path.read_text().splitlines() if self._passwords_path.exists() else []
        lines = [line for line in lines if line.partition(":")[0] != name]
        lines.append(f"{name}:$7$101${salt64}${digest64}")  # mosquitto_passwd's format, PBKDF2-SHA512
        users.replace_file(self._passwords_path, "".join(f"{line}\n" for line in lines))
        if self._process is not None:
            self._signal(signal.SIGHUP)
            self._wait(lambda: self._password_works(name, password), 10, f"take the user {name}")

    def _password_works(self, name, password):
        """One MQTT 3.1.1 login, with a client id of its own."""

        def text(value):
            data = value.encode()
            return len(data).to_bytes(2, "big") + data

        body = b"\x00\x04MQTT\x04\xc2\x00\x0a" + text(f"devbroker-{os.getpid()}") + text(name) + text(password)
        size = len(body)
        header = bytes([0x10, size]) if size < 128 else bytes([0x10, size & 127 | 128, size >> 7])
        with socket.create_connection((HOST, self.password_port), 2) as probe:
            probe.sendall(header + body)
            answer = probe.recv(4)
            probe.sendall(b"\xe0\x00")
            return answer == b"\x20\x02\x00\x00"

    # -- the log

    def log_text(self, since_start=False):
        """The broker's log, of all its lives or since the last start."""
        try:
            with open(self.log_path, "rb") as log:
                log.seek(self._log_start if since_start else 0)
                return log.read().decode("utf-8", "replace")
        except FileNotFoundError:
            return ""

    def wait_for_log(self, text, timeout=10):
        """Waits until `text` is in the log since the last start, e.g. "Sending SUBACK to NAME"."""
        self._wait(lambda: text in self.log_text(since_start=True), timeout, f"log {text!r}")

    def log_tail(self, lines=15):
        return "\n".join(self.log_text(since_start=True).splitlines()[-lines:])


def _wrapper():
    """UMQTT5_BROKER_WRAPPER="valgrind --log-file=... " runs the broker under a checker."""
    return os.environ.get("UMQTT5_BROKER_WRAPPER", "").split()
