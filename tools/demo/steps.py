"""The steps of the demo, in their order; each prints what it did and raises DemoError if it does not hold.

They must never show the password, or wait without a deadline.
"""

import base64
import json
import os
import re
import secrets
import shutil
import socket
from pathlib import Path

from tools.demo import leaks, login
from tools.demo.capture import TO_BROKER, Capture
from tools.demo.lines import DemoError, Lines
from tools.demo.packets import tls_records
from tools.demo.proof import prove
from tools.demo.witness import Witness
from tools.devbroker import Broker
from tools.devbroker.users import replace_file
from tools.flash import flash
from tools.provision import provision
from tools.vboard import VirtualBoard

BOARD = "UNIX"
CLIENT = "virtual-1"
USER = "demo-board-user"
PREFIX = f"umqtt5/{CLIENT}/"
SECURE_HOST = "localhost"  # a name, because TLS checks one
VERIFIED = "connected, broker verified"  # boards/common/main.py prints it after its own check
INTERVAL = "0.3"  # s: what the command asks for; main.py starts with 2
# After these the board waits for minutes, or has stopped: nothing good will follow. The last: a traceback's end.
HOPELESS = re.compile(r"NOT OUR BROKER|login refused|MQTT:|\w*(Error|Exception|Interrupt)\b")
STEPS = 8


class Demo:
    """One run. state: folder for all that it makes; stack: ends what was started."""

    def __init__(self, state, tls, show, stack):
        self.state, self.tls, self.show, self.stack = state, tls, show, stack
        self.password = secrets.token_urlsafe(16)  # 128 bits
        self.said = Lines("the board")  # what the virtual board prints on its own

    def run(self):
        self.start_broker()
        self.provision()
        self.flash()
        self.watch_login()
        self.watch_readings()
        self.command()
        self.cut()
        self.search()

    def start_broker(self):
        show = self.show
        with show.step("a broker, a user, and a proxy that records what passes", 60):
            self.state.mkdir(parents=True, exist_ok=True)
            self.state.chmod(0o700)  # the board's keys will lie in it
            self.broker = self.stack.enter_context(Broker(self.state / "broker", tls=self.tls))
            # The broker has locked the folder by now: no other demo works in it.
            for name in ("flash", "secrets", "capture"):
                shutil.rmtree(self.state / name, ignore_errors=True)
            self.broker.add_user(USER, self.password, mechanisms=(login.METHOD,))
            port = self.broker.tls_port if self.tls else self.broker.port
            self.capture = self.stack.enter_context(Capture(self.broker.host, port))
            over = "over TLS" if self.tls else "plain TCP"
            show.line(f"mosquitto with Cyrus SASL ({over}) on {self.broker.host}:{port}")
            show.line(f"user {USER}, with a random password of 128 bits; the broker keeps salted hashes of it")
            show.line(f"the proxy is on {self.broker.host}:{self.capture.port}: the board will know no other address")

    def provision(self):
        show = self.show
        with show.step("provisioning: the password becomes keys, on this computer", 45):
            settings = {"host": self.broker.host, "port": self.capture.port, "client_id": CLIENT, "keepalive": 60}
            if self.tls:
                settings["host"] = SECURE_HOST
                try:
                    socket.getaddrinfo(SECURE_HOST, self.capture.port, socket.AF_INET)
                except OSError:
                    raise DemoError("no address for localhost: apt-get install netbase, or put it into /etc/hosts")
            lines = ["# Made by `make demo`.", "[mqtt]"]
            lines += [f"{name} = {json.dumps(value)}" for name, value in settings.items()]
            if self.tls:
                lines.append(f"tls = {{ ca = {json.dumps(str(self.broker.ca_pem))} }}")
            lines += ["[auth]", f'user = "{USER}"', f'password = "{self.password}"', ""]
            self.toml = self.state / "secrets.toml"
            replace_file(self.toml, "\n".join(lines))
            path = provision(
                BOARD,
                secrets=self.toml,
                out=self.state / "secrets",
                say=show.line,
                warn=lambda text: show.line("warning: " + text, "yellow"),
            )
            (self.keys,) = json.loads(path.read_bytes())["auth"]["keys"]

    def flash(self):
        show = self.show
        with show.step("flashing: mpremote copies library, program and keys onto a virtual board", 120):
            board = VirtualBoard(self.state / "flash", log=self.said.add)
            self.board = self.stack.enter_context(board)
            show.line(f"MicroPython's unix port behind {board.port}, its flash is {self.named(board.flash_dir)}")
            self.witness = self.stack.enter_context(Witness(self.broker, PREFIX))  # before the board speaks
            self.before = len(self.capture.links)
            flash(BOARD, board.port, secrets_dir=self.state / "secrets", console=show.console)

    def watch_login(self):
        show = self.show
        with show.step("the board boots and logs in", 40):
            try:
                if self.tls:
                    self.watch_tls()
                else:
                    self.first_login = self.watch_scram(self.before, show.message)
                    show.console.print()
            except DemoError:
                self.verified(self.said.items)  # the board may have said why nothing was seen
                raise
            self.said.wait("the board's login", self.verified, 20)
            show.board(VERIFIED)
            if not self.tls:
                key = base64.b64decode(self.keys["server_key"])
                if not self.first_login.signed_with(key):
                    raise DemoError("the board says so, but the captured signature is not that of the user's key")
                show.good("the signature, reckoned again from the capture by this computer, is the same")

    @staticmethod
    def verified(lines):
        """Has the board said that the broker is verified? DemoError where it said that there is no hope."""
        for line in lines:
            if HOPELESS.match(line):
                raise DemoError(f"the board did not log in; it printed: {line}")
        return VERIFIED in lines

    def watch_scram(self, since, on_message):
        """Waits for the four messages of the board's login on a connection after the first `since`; -> Login."""
        for number, (_, name, *_) in enumerate(login.STEPS):

            def arrived(links, number=number):
                messages = login.so_far(links[since:], CLIENT)
                return messages if len(messages) > number else None

            messages = self.capture.wait(name, arrived, 20)
            on_message(number, messages[number])
        return login.Login(*messages)

    def watch_tls(self):
        def first_data(links):
            return links[self.before :] and links[self.before].bytes[TO_BROKER]

        data = self.capture.wait("the board's first TLS record", first_data, 20)
        tls_records(bytes(data))
        self.show.line("on the wire: TLS records only. The four SCRAM messages pass inside them, so they cannot")
        self.show.line("be shown here; `make demo` without TLS=1 shows them.")

    def readings(self, count, timeout, since=0):
        """Waits for `count` readings behind the first `since` messages: [(Message, seq)]."""

        def find(messages):
            found = self.all_readings(messages)
            return found[:count] if len(found) >= count else None

        return self.witness.seen.wait(f"reading number {count}", find, timeout, since)

    @staticmethod
    def all_readings(messages):
        return [(m, json.loads(m.payload)["seq"]) for m in list(messages) if m.topic == "reading"]

    def watch_readings(self):
        with self.show.step("its readings, as mosquitto_sub sees them", 30):
            for number in range(1, 3):
                message, _ = self.readings(number, 15)[-1]
                self.show.line(str(message))
            (first, _), (second, _) = self.readings(2, 1)
            self.pace = second.at - first.at

    def command(self):
        show = self.show
        with show.step("a command: mosquitto_pub tells it to send more often", 40):
            since = len(self.witness.seen.items)
            words = f"interval {INTERVAL}"
            self.witness.publish("command", words)
            show.line(f"command {words}")

            def answered(messages):
                return any((m.topic, m.payload) == ("status", words) for m in messages)

            self.witness.seen.wait(f"the status {words!r}", answered, 15, since)
            show.line(f"status {words}")

            def faster(messages):
                at = [m.at for m in messages if m.topic == "reading"][-4:]
                return len(at) == 4 and at[-1] - at[0] < 3 and at  # at 2 s each it would be 6

            at = self.witness.seen.wait("a faster pace", faster, 20, since)
            show.good(f"a reading each {(at[-1] - at[0]) / 3:.1f} s now, each {self.pace:.1f} s before")

    def cut(self):
        show = self.show
        with show.step("the proxy cuts the connection: the board must come back by itself", 40):
            since, links, said = len(self.witness.seen.items), len(self.capture.links), len(self.said.items)
            if not self.capture.cut():
                raise DemoError("the board has given up its connection before")
            self.said.wait("the board's second login", self.verified, 25, said)
            for line in self.said.items[said:]:
                if not line.startswith("sent "):
                    show.board(line)
                if line == VERIFIED:
                    break
            if not self.tls:
                again = self.watch_scram(links, lambda *_: None)
                if again.nonce == self.first_login.nonce:
                    raise DemoError("the board used the nonce of its first login again")
                show.good("a fresh SCRAM login, with nonces of its own")

            def statuses(messages):
                told = [m.payload for m in messages if m.topic == "status"]
                return told[:2] if len(told) > 1 else None

            told = self.witness.seen.wait("the board's will, and its return", statuses, 10, since)
            if told != ["offline", "online"]:
                raise DemoError(f"its status was {' and '.join(told)}, not offline and online")
            show.line("mosquitto_sub sees: status offline (its will, by the broker), then status online")
            self.readings(3, 15, since)
            numbers = {seq for _, seq in self.all_readings(self.witness.seen.items)}
            missing = sorted(set(range(max(numbers) + 1)) - numbers)
            if missing:
                raise DemoError(f"readings were lost: numbers {missing}")
            show.good(f"readings 0 to {max(numbers)} have all arrived: none is lost")

    def search(self):
        with self.show.step("is the password on the board, or on the wire?", 30):
            self.board.stop()  # from here on nothing changes any more
            self.capture.cut()
            self.capture.save(self.state / "capture")
            flash_files, wire = leaks.files(self.board.flash_dir), self.capture.streams()
            prove(self.show, self.password, self.keys, USER, SECURE_HOST if self.tls else None, flash_files, wire)
            if not leaks.search({"password": self.password.encode()}, {"host": self.toml.read_bytes()}):
                raise DemoError(f"the search does not even find the password in {self.toml}")
            here = [self.named(path) for path in (self.toml, self.state / "capture", self.board.flash_dir)]
            self.show.line("look yourself: password {}, wire {}/, flash {}/".format(*here))

    def named(self, path):
        """As short as it can be said."""
        return os.path.relpath(path) if path.is_relative_to(Path.cwd()) else str(path)
