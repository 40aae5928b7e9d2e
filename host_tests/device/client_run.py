# A client that does what the host tells it: a list of calls, and what became of each as one JSON line.
# The host knows the secrets and looks for them in these lines; this script must add none of its own.
#
# Told by standard input: {"client": keyword arguments, "auth": None or a mechanism's, "steps": [[call,
# ...], ...], "again": [...]}. A step that raises ends `steps`; `again` follows with the same client object,
# whatever happened.
import io
import json
import sys
import time

import umqtt5.errors as errors
from umqtt5 import MQTTClient

told = json.loads(sys.stdin.read())
messages = []
_CLASSES = (
    "MQTTError",
    "PeerError",
    "MalformedPacket",
    "ProtocolError",
    "Refused",
    "AuthError",
    "NotProven",
    "ResourceError",
    "Disconnected",
)


def plain(value):
    """A value that JSON can hold; bytes as text where they are, else as hex."""
    if isinstance(value, (bytes, bytearray, memoryview)):
        value = bytes(value)
        try:
            return value.decode()
        except Exception:
            return "hex:" + "".join(["%02x" % b for b in value])
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    return repr(value)


def given(value):
    """JSON to arguments: {"hex": "..."} stands for bytes, {"file": "..."} for the bytes of a file."""
    if isinstance(value, dict):
        if "hex" in value:
            text = value["hex"]
            return bytes([int(text[i : i + 2], 16) for i in range(0, len(text), 2)])
        if "file" in value:
            with open(value["file"], "rb") as f:
                return f.read()
        return {key: given(item) for key, item in value.items()}
    return value


def mechanism(spec):
    spec = dict(spec)
    if "source" in spec:
        names = {}
        exec(spec["source"], names)
        return names["auth"]
    module = __import__(spec.pop("module", "usasl.scram"), None, None, ("x",))
    kind = getattr(module, spec.pop("class", "ScramSHA256"))
    if "arguments" in spec:
        return kind(**given(spec["arguments"]))
    if "key" in spec:
        spec["key"] = given(spec["key"])
    if "keys" in spec:
        spec["keys"] = [(given(s), i, given(c), given(k)) for s, i, c, k in spec["keys"]]
    user = spec.pop("user")
    name = spec.pop("name", None)
    made = kind(user, spec.pop("password", None), **spec)
    if name:
        made.name = name
    return made


def note(topic, payload):
    messages.append([plain(topic), plain(payload)])


def collect(message):
    note(message.topic, message.payload)


def out_of_memory(message):
    collect(message)
    if len(messages) == 1:
        big = []
        while True:  # a real MemoryError, as an application's handler has it
            big.append(bytearray(65536))


def failing(message):
    collect(message)
    if len(messages) == 1:
        raise KeyError("the application's own fault")


def call(name, *args):
    if name == "connect":
        return client.connect(*args)
    if name == "subscribe":
        topic, qos, handler = args
        return client.subscribe(topic, qos, globals()[handler] if handler else None)
    if name == "publish":
        topic, msg, retain, qos = args
        return client.publish(topic, msg, retain, qos)
    if name == "publish_big":  # topic, bytes, QoS
        return client.publish(args[0], bytes(args[1]), False, args[2])
    if name == "publish_and_sleep":  # topic, ms: an application that only writes
        client.publish(args[0], b"x")
        return time.sleep_ms(args[1])
    if name == "flood":  # topic, ms between two, ms in all: QoS 0 only, looking for messages in between
        end = time.ticks_add(time.ticks_ms(), args[2])
        while time.ticks_diff(end, time.ticks_ms()) > 0:
            client.publish(args[0], b"x")
            client.check_msg()
            time.sleep_ms(args[1])
        return None
    if name == "reconnect":  # ms in which the broker may come back
        end = time.ticks_add(time.ticks_ms(), args[0])
        while True:
            try:
                return client.connect()
            except OSError:
                if time.ticks_diff(end, time.ticks_ms()) < 0:
                    raise
                time.sleep_ms(50)
    if name == "receive":  # messages to wait for with wait_msg
        while len(messages) < args[0]:
            client.wait_msg()
        return len(messages)
    if name == "idle":  # ms: an application that looks in now and then
        end = time.ticks_add(time.ticks_ms(), args[0])
        while time.ticks_diff(end, time.ticks_ms()) > 0:
            client.check_msg()
            time.sleep_ms(5)
        return None
    if name == "counter":
        return getattr(client, args[0])
    if name == "heap":
        import gc

        gc.collect()
        return gc.mem_alloc()
    return getattr(client, name)(*args)


def report(line):
    print(json.dumps(line))


def run(steps, which):
    for step in steps:
        line = {"in": which, "op": step[0]}
        start = time.ticks_ms()
        try:
            line["value"] = plain(call(*step))
        except Exception as e:
            line["ms"] = time.ticks_diff(time.ticks_ms(), start)
            trace = io.StringIO()
            if hasattr(sys, "print_exception"):
                sys.print_exception(e, trace)
            line["error"] = {
                "type": type(e).__name__,
                "isa": [n for n in _CLASSES if isinstance(e, getattr(errors, n))],
                "oserror": isinstance(e, OSError),
                "reason": getattr(e, "reason", None),
                "errno": getattr(e, "errno", None) if isinstance(e, OSError) else None,
                "text": str(e),
                "repr": repr(e) + repr(e.args),
                # In two pieces: the host takes the word for a crash of this script.
                "trace": trace.getvalue().replace("Traceback", "Trace-back"),
            }
            report(line)
            return
        line["ms"] = time.ticks_diff(time.ticks_ms(), start)
        report(line)


keywords = given(told["client"])
auth = mechanism(told["auth"]) if told.get("auth") else None
if auth:
    keywords["auth"] = auth
client = MQTTClient(keywords.pop("client_id", "c1"), keywords.pop("server"), **keywords)
if told.get("callback", True):
    client.set_callback(note)
run(told["steps"], "steps")
run(told.get("again") or [], "again")
report({"op": "end", "messages": messages, "repr": repr(client) + repr(auth)})
