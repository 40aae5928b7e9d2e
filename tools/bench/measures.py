"""What `make bench` measures, each as a dict for JSON. Everything that was timed has its limit timed in turn with it.

Medians of ratios: each round gives one, of things that ran within the same few milliseconds. A single time says
nothing on a machine that does other things too.
"""

import statistics

from tools.bench import running, smallest
from tools.demo.capture import TO_BROKER, TO_CLIENT, Capture
from tools.demo.packets import packets

_ITERATIONS, _PBKDF2_ROUNDS = 4096, 51
# In several processes: how fast two programs wake each other is decided when they start, and for a while.
_SPEED_RUNS, _SPEED_ROUNDS = 5, 11
_LOGIN_ROUNDS, _LOGINS = 15, 20


def measure():
    """Everything. BenchError, BrokerError, CompileError."""
    with running.library() as lib, running.broker() as broker:
        return {
            "pbkdf2": pbkdf2(lib),
            "speed": speed(lib, broker),
            "counts": counts(lib, broker),
            "login": login(lib, broker),
            "smallest heap": smallest_heap(lib, broker),
        }


def _spread(values):
    """{"median", "middle half": [low, high]} of ratios."""
    values = sorted(values)
    quarter = len(values) // 4
    low, high = values[quarter], values[-1 - quarter]
    return {"median": round(statistics.median(values), 4), "middle half": [round(low, 4), round(high, 4)]}


def pbkdf2(lib):
    """Our PBKDF2 against twice as many bare hashes as it has iterations."""
    told = {"iterations": _ITERATIONS, "rounds": _PBKDF2_ROUNDS}
    found = running.run_json("pbkdf2", lib, told)
    ratio = _spread(ours / limit for ours, limit in found)
    return told | {"ratio": ratio, "ms": round(statistics.median(ours for ours, _ in found) / 1000, 2)}


def speed(lib, broker):
    """{what: {"rates": {who: messages a second}, "to umqtt", "to bare": {who: ratio of rates}}}."""
    told = {"host": broker.host, "port": broker.plain_port, "pid": broker.pid, "rounds": _SPEED_ROUNDS}
    found = {}
    with running.apart(broker):
        for _ in range(_SPEED_RUNS):
            for what, rounds in running.run_json("speed", lib, told).items():
                found.setdefault(what, []).extend(rounds)
    made = {}
    for what, rounds in found.items():
        names = ("ours", "umqtt.simple", "bare", "ours, publisher()")[: len(rounds[0])]
        columns = {name: column for name, column in zip(names, zip(*rounds, strict=True), strict=True) if all(column)}
        made[what] = one = {"rates": {}, "to umqtt": {}, "to bare": {}}
        for name, column in columns.items():
            one["rates"][name] = round(1e6 / statistics.median(column))
            for other, key in (("umqtt.simple", "to umqtt"), ("bare", "to bare")):
                if other in columns and name != other:
                    pairs = zip(columns[other], column, strict=True)
                    one[key][name] = _spread(theirs / its for theirs, its in pairs)
    return made


def _told(broker):
    keys = [running.SALT.hex(), running.ITERATIONS, *(key.hex() for key in running.scram_keys())]
    return {"host": broker.host, "user": running.USER, "keys": keys}


def counts(lib, broker):
    """{what: {who: {"writes", "bytes out", "bytes in", "heap"}}}, each for one message. Exact."""
    ports = {"port": broker.plain_port, "tls_port": broker.tls_port, "ca": str(broker.ca_der)}
    names = ("writes", "bytes out", "bytes in", "heap")
    found = running.run_json("counts", lib, _told(broker) | ports)
    return {
        what: {who: dict(zip(names, figures, strict=True)) for who, figures in found[what].items()}
        for what in sorted(found)
    }


def login(lib, broker):
    """{"scram": {"packets", "bytes", "round trips", "cpu us"}, "password": the same, "cpu ratio"}."""
    with Capture(broker.host, broker.port) as scram, Capture(broker.host, broker.password_port) as password:
        told = _told(broker) | {"port": scram.port, "password_port": password.port, "password": running.PASSWORD}
        running.run_json("login", lib, told | {"rounds": 0, "each": 0})
        made = {"scram": _wire(scram.links[0]), "password": _wire(password.links[0])}
    told |= {"port": broker.port, "password_port": broker.password_port, "rounds": _LOGIN_ROUNDS, "each": _LOGINS}
    found = running.run_json("login", lib, told)
    for name, used in found.items():
        made[name]["cpu us"] = round(statistics.median(used))
    made["cpu ratio"] = _spread(s / p for s, p in zip(found["scram"], found["password"], strict=True))
    return made


def _wire(link):
    """One login on the wire, up to CONNACK. Each packet of the client's waits for one of the broker's."""
    out = [p for p in packets(link.bytes[TO_BROKER]) if p.name != "DISCONNECT"]
    came = packets(link.bytes[TO_CLIENT])
    size = len(link.bytes[TO_BROKER]) + len(link.bytes[TO_CLIENT]) - 2  # DISCONNECT
    return {"packets": len(out) + len(came), "bytes": size, "round trips": len(out)}


def smallest_heap(lib, broker):
    """The smallest heap for a day's work, in KB, from files and from a ROMFS; and how many messages each way."""
    rom = smallest.image(lib)
    kb = {"KB": smallest.smallest(broker, lib), "KB romfs": smallest.smallest(broker, lib, rom)}
    return kb | {"messages": smallest.MESSAGES}
