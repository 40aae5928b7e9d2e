"""Collects the tests that run inside MicroPython, and starts the broker that host tests and device tests
share.

host_tests/device/test_*.py are never imported here: each `def test_...` becomes one pytest item for
MicroPython, and one more for CPython if its file has the line `# runs under CPython too`. Parameters are
pytest fixtures with JSON-able values.
"""

import ast
import json
import re
import types

import pytest

pytest_plugins = ["host_tests.conformance.plugin"]
pytest.register_assert_rewrite("harness")

from harness.micropython import DEVICE, execute, interpreter  # noqa: E402  (assertions are rewritten first)

from tools.bench import running  # noqa: E402

DEADLINE = 60  # seconds for one device test
BOTH = re.compile(r"^# runs under CPython too\b", re.MULTILINE)
USERS = {"device1": "s3cret-of-device1", "device2": "s3cret-of-device2"}


# Tests that run inside MicroPython ------------------------------------------------------------------------


def run_test(path, function, name, arguments):
    """Run one function of a device file in the interpreter `name`; if it does not pass, fail with all of
    its output."""
    command, env = interpreter(name)
    command = [*command, str(DEVICE / "run_one.py"), path.stem, function]
    result = execute(command, env, json.dumps(arguments), DEADLINE)
    passed = result.out.rstrip().endswith(json.dumps({"passed": function}))
    if result.hung or result.code or not passed or "Traceback" in result.out + result.err:
        pytest.fail(f"{path.name}::{function} in {name}: {result.show()}", pytrace=False)


class DeviceModule(pytest.Module):
    """A device file, as a module of functions with the same names, parameters and lines, that run it
    elsewhere."""

    def _getobj(self):
        text = self.path.read_text()
        names = ["micropython", "cpython"] if BOTH.search(text) else ["micropython"]
        tests = []
        for node in ast.parse(text).body:
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                node.decorator_list = []
                given = ", ".join(f"{a.arg!r}: {a.arg}" for a in node.args.args)
                node.body = ast.parse(f"_run({node.name!r}, _interpreter, {{{given}}})").body
                node.args.args.append(ast.arg("_interpreter"))
                tests.append(node)
        for node in tests:
            for inner in ast.walk(node):
                ast.copy_location(inner, node)
        module = types.ModuleType(self.path.stem)
        module.__file__ = str(self.path)
        module._run = lambda function, name, arguments: run_test(self.path, function, name, arguments)
        code = ast.fix_missing_locations(ast.Module(tests, []))
        exec(compile(code, str(self.path), "exec"), module.__dict__)
        for node in tests:
            function = getattr(module, node.name)
            setattr(module, node.name, pytest.mark.parametrize("_interpreter", names)(function))
        return module


def pytest_pycollect_makemodule(module_path, parent):
    if module_path.parent == DEVICE:
        return DeviceModule.from_parent(parent, path=module_path)
    return None


# The broker -----------------------------------------------------------------------------------------------


def start():
    from tools.devbroker import Broker

    with Broker() as broker:
        for name, password in USERS.items():
            broker.add_user(name, password, iterations=4096)
        broker.add_password_user("plain", "s3cret-of-plain")  # now: it drops SASL clients
        yield broker


@pytest.fixture(scope="session")
def broker():
    """The dev broker (mosquitto, Cyrus SASL and GNU SASL) with the users of USERS. Tests must not restart
    it."""
    yield from start()


@pytest.fixture
def own_broker():
    """A dev broker for one test, which may restart, stop or kill it."""
    yield from start()


@pytest.fixture(scope="module")
def bench_lib():
    """A folder with all that the bench's scripts import, compiled."""
    with running.library() as folder:
        yield folder


@pytest.fixture(scope="module")
def quiet_broker():
    """The bench's broker, which logs little."""
    with running.broker() as made:
        yield made


@pytest.fixture(scope="session")
def passwords():
    """The passwords of the broker's users, by name."""
    return USERS


@pytest.fixture(scope="session")
def broker_host(broker):
    return broker.host


@pytest.fixture(scope="session")
def broker_port(broker):
    """Cyrus SASL behind plain TCP."""
    return broker.port


@pytest.fixture(scope="session")
def gsasl_port(broker):
    return broker.gsasl_port


@pytest.fixture(scope="session")
def plain_port(broker):
    """Anonymous, no plugin: for independent observers."""
    return broker.plain_port


@pytest.fixture(scope="session")
def password_port(broker):
    return broker.password_port


@pytest.fixture(scope="session")
def tls_port(broker):
    return broker.tls_port


@pytest.fixture(scope="session")
def ca_der(broker):
    """The path of the broker's CA certificate, DER."""
    return str(broker.ca_der)


@pytest.fixture(scope="session")
def other_ca_der(broker):
    """The path of a CA certificate that did not sign the broker's."""
    return str(broker.other_ca_der)
