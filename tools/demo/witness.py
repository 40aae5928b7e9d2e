"""An independent look at what the broker passes on: Debian's mosquitto_sub and mosquitto_pub, on the listener
without authentication. It must never use the library under test.
"""

import shutil
import subprocess
import threading
import time
from dataclasses import dataclass

from tools.demo.lines import DemoError, Lines

_LIFE = 150  # s: mosquitto_sub ends by then even if nobody is left to end it
_NAME = "demo-witness"


@dataclass(frozen=True)
class Message:
    """at: time.monotonic(); topic: below the board's own ("reading"); payload: text."""

    at: float
    topic: str
    payload: str

    def __str__(self):
        return f"{self.topic} {self.payload}"


class Witness:
    """`with Witness(broker, "umqtt5/NAME/") as witness:` is subscribed to all below that prefix; `seen` is a Lines
    of Message."""

    def __init__(self, broker, prefix):
        self._broker, self._prefix = broker, prefix
        self._where = ["-V", "mqttv5", "-h", broker.host, "-p", str(broker.plain_port)]
        self.seen = Lines("mosquitto_sub")

    def __enter__(self):
        command = [_program("mosquitto_sub"), *self._where, "-i", _NAME, "-t", self._prefix + "#", "-q", "1"]
        # -R: nothing retained, which would be from an earlier run. Own session: Ctrl-C comes to us alone.
        self._process = subprocess.Popen(
            [*command, "-R", "-F", "%t %p", "-W", str(_LIFE)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
        )
        try:
            self._thread = threading.Thread(target=self._read, name="witness", daemon=True)
            self._thread.start()
            self._broker.wait_for_log(f"Sending SUBACK to {_NAME}")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        self._process.terminate()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(5)
        self._thread.join(5)
        self._process.stdout.close()

    def _read(self):
        for line in self._process.stdout:
            topic, _, payload = line.rstrip("\n").partition(" ")
            self.seen.add(Message(time.monotonic(), topic.removeprefix(self._prefix), payload))

    def publish(self, topic, payload):
        """mosquitto_pub, QoS 1: returns when the broker has it."""
        command = [_program("mosquitto_pub"), *self._where, "-t", self._prefix + topic, "-m", payload, "-q", "1"]
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=10)
        if done.returncode:
            raise DemoError(f"mosquitto_pub failed: {done.stderr.strip()[:200]}")


def _program(name):
    path = shutil.which(name)
    if not path:
        raise DemoError(f"{name} was not found: run `make setup`, or apt-get install mosquitto-clients")
    return path
