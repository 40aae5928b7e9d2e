"""Chaos with a ledger: networks, brokers and devices that fail, and every message numbered and booked.

A client inside MicroPython, the real broker, and between them a proxy that does what networks do (harness/chaos.py).
The client gets its own messages back, so both directions are booked by the device; a witness that is not the library
under test books what the broker passed on. At QoS 1 nothing is lost, at QoS 2 each message comes exactly once; first
times come in order.
"""

import collections
import contextlib
import itertools
import json
import os
import random
import tempfile
import threading
import time
from pathlib import Path

import pytest
from harness import wire
from harness.chaos import IN, OUT, Chaos, Fault, after_each_cut_a_whole_one, every_byte, random_faults
from harness.micropython import Running
from harness.peer import Peer

from tools.devbroker import Broker

# Printed where a test fails; UMQTT5_SEED=... runs it again.
SEED = int(os.environ.get("UMQTT5_SEED") or random.SystemRandom().randrange(1 << 32))
CLIENTS = ["robust", "aio"]
_names = itertools.count(1)


class Run:
    """A device script that is told what to do; its JSON lines. Ends, or is killed, with the context."""

    def __init__(self, client, do, port, **told):
        name = f"chaos{next(_names):03}"
        self.told = {"do": do, "port": port, "id": name, "topic": name, **told}
        self._script = f"chaos_{client}.py"

    def __enter__(self):
        self._running = Running(self._script, "-X", "heapsize=16M")
        self.process = self._running.process
        self._running.tell(self.told)
        return self

    def __exit__(self, *_):
        self._running.kill()

    def line(self, seconds=30):
        """The next JSON line; None at the script's end."""
        line = self._running.line("{", seconds)
        return line and json.loads(line)

    def until(self, key, seconds=30):
        """The next line with this key."""
        while (line := self.line(seconds)) is not None:
            if key in line:
                return line
        raise AssertionError(f"it ended: {self._running.text()}")


class Witness:
    """Books all that the broker passes on about a topic."""

    def __init__(self, port, topic):
        self.peer, self.got = Peer(port, seconds=60), []
        self.peer.subscribe(topic, 2)
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self):
        with contextlib.suppress(AssertionError, OSError):
            while True:
                self.got.append(self.peer.receive().payload.decode())

    def until(self, payload, seconds=10):
        end = time.monotonic() + seconds
        while payload not in self.got[-200:]:
            assert time.monotonic() < end, f"the witness waits for {payload}; last: {self.got[-3:]}"
            time.sleep(0.005)
        self.peer.sock.close()
        return self.got


def messages(stream):
    """The PUBLISH and PUBREL packets in it; all its packets are shorter than 128 bytes."""
    at = 0
    while at + 2 <= len(stream) and (end := at + 2 + stream[at + 1]) <= len(stream):
        if stream[at] >> 4 in (wire.PUBLISH, wire.PUBREL):
            yield wire.parse(stream[at], bytes(stream[at + 2 : end]))
        at = end


def published_after_pubrel(chaos):
    """What the broker itself has doubled at QoS 2. mosquitto 2.0.11 marks what it has released before a reconnect as
    "PUBREL to be resent"; where the new connection ends before all of these are out, the rest are PUBLISH again in
    the next one [against MQTT-4.3.3-6], long after the client has given up the identifier, as it must."""
    released, sent, doubled = {}, {}, set()  # payloads by packet identifier
    for link in chaos.links:
        for packet in messages(link.came):
            if packet.type == wire.PUBLISH and packet.qos == 2:
                if packet.flags & 8 and released.get(packet.pid) == packet.payload:
                    doubled.add(packet.payload.decode())
                sent[packet.pid] = packet.payload
                released.pop(packet.pid, None)
            elif packet.type == wire.PUBREL and packet.pid in sent:
                released[packet.pid] = sent[packet.pid]
    return doubled


def check(got, sent, excused=()):
    """Nothing lost, nothing invented, the order of first times; at QoS 2 nothing doubled but what is excused."""
    twos = collections.Counter(m for m in got if m[0] == "2")
    assert not [m for m, count in twos.items() if count > 1 and m not in excused], twos.most_common(10)
    assert list(dict.fromkeys(got)) == sent, sorted(set(sent) ^ set(got))[:20]


@pytest.fixture(scope="module")
def mortal():
    """A broker that these tests may kill."""
    with Broker(tls=False) as broker:
        yield broker


@pytest.fixture
def quick_path(tmp_path):
    """A folder in RAM where there is one: a disk takes 10 ms for a flush, and little happens in a short life."""
    if not os.access("/dev/shm", os.W_OK):
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(dir="/dev/shm") as path:
        yield Path(path)


# --- every byte


def sizes_of_an_exchange(client, port, **login):
    """How many bytes go each way in one login and exchange."""
    with Chaos(port) as chaos, Run(client, "every_byte", chaos.port, count=1, **login) as run:
        run.until("got")
        return dict(chaos.last.bytes)


@pytest.mark.parametrize("client", CLIENTS)
def test_a_cut_after_every_byte(client, broker, passwords):
    """SCRAM login, QoS 1 and QoS 2 out and back, DISCONNECT: the connection ends after each byte of it, both ways."""
    login = {"user": "device1", "password": passwords["device1"]}
    sizes = sizes_of_an_exchange(client, broker.port, **login)
    assert sizes[OUT] > 280 and sizes[IN] > 200, sizes
    cuts = every_byte(sizes)

    def some(part):
        # The first connection only subscribes.
        faults = itertools.chain([None], after_each_cut_a_whole_one(part))
        with Chaos(broker.port, faults) as chaos:
            # A cut in DISCONNECT is noticed by nobody: the exchange behind it is the one that passes.
            count = len(part) + 4
            run = Run(client, "every_byte", chaos.port, count=count, **login)
            witness = Witness(broker.plain_port, run.told["topic"])
            with run:
                got = run.until("got", 60)["got"]
            sent = [f"{qos}-{n:05}" for n in range(count) for qos in (1, 2)]
            check(got, sent)
            check(witness.until(sent[-1]), sent)
            assert chaos.struck == {"cut": len(part)}, "each cut has happened"

    in_parallel(some, [cuts[i::3] for i in range(3)])


def in_parallel(function, arguments):
    errors = []

    def call(argument):
        try:
            function(argument)
        except BaseException as e:
            errors.append(e)

    threads = [threading.Thread(target=call, args=(a,)) for a in arguments]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    if errors:
        raise errors[0]


# --- ten thousand messages


@pytest.mark.parametrize("client", CLIENTS)
def test_ten_thousand_messages(client, broker):
    """At QoS 1 and at QoS 2, both at once, each through its own bad network."""
    print("seed", SEED)

    def flood(qos):
        rng = random.Random(SEED + qos)
        kinds = ["cut"] * 4 + ["reset", "half", "stall", "drip", "delay"]
        with Chaos(broker.plain_port, random_faults(rng, 3_000, kinds)) as chaos:
            run = Run(client, "flood", chaos.port, qos=qos, count=10_000, keepalive=2, timeout=2)
            witness = Witness(broker.plain_port, run.told["topic"])
            with run:
                got = run.until("got", 100)["got"]
            sent = [f"{qos}-{n:05}" for n in range(10_000)]
            excused = published_after_pubrel(chaos)
            print("doubled by the broker itself:", sorted(excused))
            check(got, sent, excused)
            check(witness.until(sent[-1]), sent)
            print(qos, chaos.count, "connections", chaos.struck, len(got) - len(sent), "doubled")
            assert chaos.count > 30 and chaos.struck["cut"] > 10

    in_parallel(flood, (1, 2))


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize("qos", [1, 2])
def test_a_broker_that_is_killed(client, qos, mortal):
    """kill -9 in the middle of it, with all it knew on its disk (mosquitto 2.0.11 keeps its word only then)."""
    with Chaos(mortal.plain_port) as chaos, Run(client, "flood", chaos.port, qos=qos, count=3000) as run:
        run.until("ready")
        kills = 0
        for part in range(1, 4):  # of a flood of at least 3000 * 22 bytes
            chaos.until(IN, part * 15_000)
            with chaos.held():
                mortal.save()
                mortal.kill()
                mortal.start()
            kills += run.process.poll() is None
        check(run.until("got", 60)["got"], [f"{qos}-{n:05}" for n in range(3000)])
        assert kills and chaos.count > kills


# --- the device is killed


@pytest.mark.parametrize("client", CLIENTS)
def test_a_device_that_is_killed(client, broker, quick_path):
    """It comes back on its store: what publish() had taken arrives exactly once, and what it received is counted
    exactly once."""
    print("seed", SEED)
    rng = random.Random(SEED)
    told = {"store": str(quick_path / "store"), "id": f"mortal-{client}", "topic": f"mortal-{client}"}
    accepted, sent = [], 0
    out, into = told["topic"] + "/out", told["topic"] + "/in"
    witness = Witness(broker.plain_port, out)
    with Peer(broker.plain_port) as sender:
        for life in range(25):
            with Run(client, "lives", broker.plain_port, life=life, end=None, **told) as run:
                run.until("ready")
                # Few: mosquitto queues 1000 at most for a client that is away.
                for _ in range(rng.randrange(30)):
                    sender.publish(into, b"%d" % sent, 2)
                    sent += 1
                time.sleep(rng.uniform(0, 0.03))  # how long this life lasts: chance, by the seed
            while (line := run.line()) is not None:
                assert "wrong" not in line, line
                accepted += [line["accepted"]] if "accepted" in line else []
        with Run(client, "lives", broker.plain_port, life="end", end=sent - 1, **told) as run:
            while (line := run.line()) is not None and "end" not in line:
                assert "wrong" not in line, line
            assert line and line["word"] == str(sent - 1), run.rest
    with Peer(broker.plain_port) as last:
        last.publish(out, b"END", 2)
    got = witness.until("END")[:-1]
    assert len(got) == len(set(got)), "doubled"
    assert not set(accepted) - set(got), "lost"
    assert sent > 100 and len(accepted) > 100, (sent, len(accepted))
    per_life = [[m for m in got if m.startswith(f"{life}-")] for life in range(25)]
    for life, messages in enumerate(per_life):
        assert messages == [f"{life}-{n}" for n in range(len(messages))], "the order"


# --- the rest


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize("way", [OUT, IN])
def test_a_black_hole_is_found(client, way, broker):
    """Within 1.5 x keep alive."""
    keepalive = 2
    fault = Fault("hole", way, 60)
    with Chaos(broker.plain_port, [fault]) as chaos, Run(client, "hole", chaos.port, keepalive=keepalive) as run:
        run.until("ready")
        fault.at = 0  # from now on, at its next byte
        run.until("down", 10)
        found = time.monotonic()
        assert chaos.struck == {"hole": 1}
        assert found - chaos.began < 1.5 * keepalive, found - chaos.began


@pytest.mark.parametrize("client", CLIENTS)
def test_nothing_leaks(client, broker, passwords):
    """500 connections later: no more heap than after ten, and no descriptor more. What the last connection but one
    had may not be gone yet: two blocks of 32 bytes; and a generator of quick.py's (300) where its address still lies
    in a register, since MicroPython's collector takes that for a reference. A block a connection would be 15 KB."""
    login = {"user": "device2", "password": passwords["device2"]}
    with Run(client, "reconnects", broker.port, count=500, **login) as run:
        line = run.until("late", 60)
    (heap, files), (late_heap, late_files) = line["early"], line["late"]
    assert late_heap <= heap + 400 and late_files == files, line
