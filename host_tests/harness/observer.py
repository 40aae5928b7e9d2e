"""Independent witnesses of what a broker sees: mosquitto's own clients, and a raw question for a user's salt.

They never import the library under test.
"""

import base64
import itertools
import json
import socket
import subprocess
import time

from harness import wire
from harness.scram import Credentials

_numbers = itertools.count(1)


def mosquitto(what, broker, *more):
    """The command line of mosquitto_sub or mosquitto_pub (what: "sub", "pub"), at a broker's plain port."""
    return [f"mosquitto_{what}", "-V", "mqttv5", "-h", broker.host, "-p", str(broker.plain_port), *more]


class Subscriber:
    """mosquitto_sub on a broker's plain port; inside `with` it is subscribed. `messages(n)` waits for n of
    them."""

    def __init__(self, broker, topic, qos=1, seconds=30):
        self.broker, self.name = broker, f"witness{next(_numbers)}"
        more = ("-i", self.name, "-t", topic, "-q", str(qos), "-F", "%j", "-W", str(seconds))
        self._command = mosquitto("sub", broker, *more)

    def __enter__(self):
        self._process = subprocess.Popen(self._command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        self.broker.wait_for_log(f"Sending SUBACK to {self.name}")
        return self

    def __exit__(self, *exc):
        self._process.terminate()
        self._process.communicate(timeout=10)

    def messages(self, count):
        """The next `count` messages: dicts with topic, qos, retain, payload (text). Ends at the time limit
        at last."""
        found = []
        while len(found) < count:
            line = self._process.stdout.readline()
            if not line:
                raise AssertionError(f"mosquitto_sub saw only {found} of {count} messages")
            if line.startswith("{"):
                m = json.loads(line)
                payload = m["payload"] or ""  # an empty one is null
                message = {"topic": m["topic"], "qos": m["qos"], "retain": m["retain"], "payload": payload}
                found.append(message)
        return found


def send(broker, topic, payload, qos=0, retain=False):
    """mosquitto_pub on the plain port."""
    more = ["-t", topic, "-m", payload, "-q", str(qos), *(["-r"] if retain else [])]
    subprocess.run(mosquitto("pub", broker, *more), check=True, timeout=20)


def stored(host, port, user, password, method="SCRAM-SHA-256", hash_name="sha256"):
    """Credentials with the salt and count that the broker names for this user: the first half of a login."""
    connect = wire.string("MQTT") + b"\x05\x02\x00\x3c"
    connect += wire.props((wire.METHOD, method), (wire.DATA, f"n,,n={user},r=the-question-of-a-test".encode()))
    connect += wire.string(f"asking{next(_numbers)}")
    with socket.create_connection((host, port), 10) as sock:
        sock.sendall(wire.packet(wire.CONNECT, connect))
        answer, end = b"", time.monotonic() + 10
        while (packet := wire.split(answer)[0]) is None and time.monotonic() < end:
            answer += sock.recv(4096) or b"\xe0\x00"
    assert packet is not None and packet.type == wire.AUTH, f"the broker did not ask for a proof: {packet}"
    values = dict(part.split(b"=", 1) for part in packet.prop(wire.DATA).split(b","))
    return Credentials(user, password, base64.b64decode(values[b"s"]), int(values[b"i"]), hash_name)
