"""The host programs, called as their own first lines say, without what the Makefile sets."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
NAMES = ("bench", "bench.instructions", "conformance", "demo", "devbroker", "flash", "mpy", "provision", "readme")
NAMES += ("size", "vboard", "vendor")


@pytest.mark.parametrize("name", NAMES)
def test_help_is_all_that_help_does(name):
    files = [ROOT / "README.md", ROOT / "docs" / "bench.png", ROOT / "lib" / "package.json"]
    before = [file.stat().st_mtime_ns for file in files]
    env = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "MICROPYTHON")}
    command = [sys.executable, "-m", "tools." + name]
    done = subprocess.run([*command, "--help"], cwd=ROOT, env=env, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and done.stdout.startswith("usage: ") and not done.stderr, done
    done = subprocess.run([*command, "--no-such"], cwd=ROOT, env=env, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2 and "usage: " in done.stderr and "Traceback" not in done.stderr, done
    assert [file.stat().st_mtime_ns for file in files] == before
