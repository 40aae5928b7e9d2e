"""What a user sees of an error that nobody caught, as the last line on the board's terminal: cause and cure.

MicroPython prints it by the class's __repr__, and args alone where there is none. host_tests/device/test_shown.py has
sys.print_exception().
"""

import json

import pytest
from harness.micropython import execute, interpreter, run_device

LOGIN = """
import json, sys
told = json.loads(sys.stdin.read())
from umqtt5 import MQTTClient
from usasl.scram import ScramSHA256
c = MQTTClient("uncaught", told["host"], told["port"], keepalive=30, auth=ScramSHA256("device1", told["password"]%s))
c.connect()
"""
RAISES = {
    "umqtt5.errors": {
        'MQTTError("it failed")': "it failed",
        'MalformedPacket("PINGRESP")': "the broker broke the protocol: PINGRESP 0x81 Malformed Packet",
        'ProtocolError("PUBACK")': "the broker broke the protocol: PUBACK 0x82 Protocol Error",
        'Refused("SUBACK", 0x87)': "SUBACK 0x87 Not authorized",
        'NotProven("no proof", None, None, "M")': "M: no proof",
        'ResourceError("needs tx_size=9")': "needs tx_size=9",
        'Disconnected(0x8B, "bye")': "DISCONNECT 0x8B Server shutting down (the broker says: bye)",
    },
    "usasl.crypto": {
        'SASLError("keys_count", b"5", 6)': "the server asks for 5 iterations, the keys are for 6: provision again",
        'ServerNotProven("nothing known")': "nothing known",
    },
}
CASES = [(module, source, text) for module, errors in RAISES.items() for source, text in errors.items()]


def ends(tmp_path, source, told=None):
    """The last line that MicroPython prints of a script, which must end with an uncaught error; and all of it."""
    script = tmp_path / "main.py"
    script.write_text(source)
    command, env = interpreter()
    result = execute([*command, str(script)], env, json.dumps(told), 30)
    assert result.code == 1 and not result.hung and "Traceback" in result.out + result.err, result.show()
    return (result.out + result.err).rstrip().splitlines()[-1], result.show()


@pytest.mark.parametrize(
    ("module", "source", "text"), CASES, ids=[source.partition("(")[0] for _, source, _ in CASES]
)
def test_every_kind_ends_a_script_with_its_text(tmp_path, module, source, text):
    name = source.partition("(")[0]
    line, _ = ends(tmp_path, f"from {module} import {name}\nraise {source}\n")
    assert line == f"{name}: {text}"


def test_a_wrong_password_is_told_with_its_usual_cause(tmp_path, broker):
    told = {"host": broker.host, "port": broker.port, "password": "hunter2-hunter2"}
    line, output = ends(tmp_path, LOGIN % "", told)
    assert line.startswith("AuthError: SCRAM-SHA-256: CONNACK 0x87 Not authorized; usually: wrong password"), output
    assert "hunter2" not in output


def test_a_rule_of_the_mechanism_is_told_with_its_cure(tmp_path, broker, passwords):
    told = {"host": broker.host, "port": broker.port, "password": passwords["device1"]}
    line, output = ends(tmp_path, LOGIN % ", min_iterations=5000", told)
    assert line.startswith("AuthError: SCRAM-SHA-256: the server asks for 4096 iterations; min_iterations is 5000"), (
        line
    )
    assert passwords["device1"] not in output


@pytest.mark.parametrize(
    "source", ["MQTTError('text')", "AuthError('AUTH', 0x87)", "Disconnected(0x8B)", "SASLError('salt')"]
)
def test_with_no_memory_left_it_is_told_by_its_name(tmp_path, source):
    lines = ("import micropython", "from umqtt5.errors import *", "from usasl.crypto import SASLError")
    line, _ = ends(tmp_path, "\n".join((*lines, f"error = {source}", "micropython.heap_lock()", "raise error")))
    assert line == source.partition("(")[0]


def test_a_str_topic_warns_of_nothing():
    # The unix port warns, at each one, of bytes that are compared with a str.
    result = run_device("run_one.py", {}, "test_short_ways", "test_topics_of_both_kinds_in_turn")
    assert "passed" in result.out and not result.err, result.show()
