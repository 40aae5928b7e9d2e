"""pytest plugin: gives tests the specification's tables, and writes down what became of each test.

One line in conftest.py loads it: pytest_plugins = ["host_tests.conformance.plugin"]. The fixtures hold JSON-able
values, so that tests inside MicroPython can ask for them too.
"""

import json
import time
from pathlib import Path

import pytest

from host_tests.conformance import spec

RESULTS = Path("build/conformance/results.json")  # {"started": s since 1970, "tests": {node id: "passed", ...}}


@pytest.fixture(scope="session")
def spec_properties():
    """The table of properties, see spec.properties()."""
    return spec.properties()


@pytest.fixture(scope="session")
def spec_packets():
    return spec.packets()


@pytest.fixture(scope="session")
def client_reasons():
    """{packet: [reason codes]} that a client may send."""
    return spec.reasons_from("Client")


@pytest.fixture(scope="session")
def server_reasons():
    """{packet: [reason codes]} that a server may send."""
    return spec.reasons_from("Server")


class Recorder:
    """Outcomes by node id. A test has passed if its call did, and neither set-up nor tear-down failed."""

    def __init__(self, root):
        self.path = root / RESULTS
        self.started = time.time()
        self.tests = {}

    def pytest_runtest_logreport(self, report):
        if report.outcome != "passed":
            self.tests[report.nodeid] = "xfailed" if hasattr(report, "wasxfail") else report.outcome
        elif report.when == "call":
            self.tests.setdefault(report.nodeid, "passed")

    def pytest_sessionfinish(self):
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.write_text(json.dumps({"started": self.started, "tests": self.tests}, indent=0))


def pytest_configure(config):
    # Not in a worker of xdist: its reports come to the controller.
    if not hasattr(config, "workerinput") and not config.option.collectonly:
        config.pluginmanager.register(Recorder(config.rootpath), "conformance-recorder")
