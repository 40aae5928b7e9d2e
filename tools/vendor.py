"""Fetches upstream's umqtt.simple and umqtt.robust into build/vendor/umqtt/, checked by hash.

    python -m tools.vendor

They are the yardstick of the drop-in test and of the benchmark, and go onto a board whose board.toml says
`umqtt = true`. They must never be committed, changed, or taken from anywhere but a package index.

The archive of umqtt.simple has no setup.py, so pip refuses it; setuptools' own downloader fetches it, from
the index that this machine's pip is configured for.
"""

import argparse
import contextlib
import hashlib
import io
import os
import subprocess
import sys
import tarfile
import tempfile
import warnings
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "build" / "vendor"

# What is asked of the index: archive's hash, the one file in it that is kept, that file's hash.
_PARTS = {
    "umqtt/simple.py": (
        "micropython-umqtt.simple==1.3.4",
        "b6a2520239e3992c63a7de9370ee9b3d9d27819a90359c521f1c0f7ccab8d12f",
        "micropython-umqtt.simple-1.3.4/umqtt/simple.py",
        "8555d2f654deb8eb0d724f79b0811a78cc94029d070f3d96bbd74288653d63a5",
    ),
    "umqtt/robust.py": (
        "micropython-umqtt.robust==1.0",
        "22a1b8c8e1128281efb13b3020927d07e33c5b747869da2cd77d37983a9ea002",
        "micropython-umqtt.robust-1.0/umqtt/robust.py",
        "950d64b9aaa369a9bcc30d2142ba6c03f10e7ed6083cdc2d3921cedee747ffff",
    ),
}


class VendorError(Exception):
    """It could not be fetched, or is not what it should be; the text says why and what to do."""


def vendor(folder=FOLDER, indexes=None):
    """Makes sure that folder/umqtt/{simple,robust}.py are there and right; {"umqtt/simple.py": Path, ...}.

    Asks the network only for what is missing. indexes: package indexes to ask, instead of pip's. Raises
    VendorError.
    """
    folder = Path(folder)
    for name, (requirement, archive_hash, member, file_hash) in _PARTS.items():
        target = folder / name
        if target.is_file() and _sha256(target.read_bytes()) == file_hash:
            continue
        with tempfile.TemporaryDirectory() as place:
            archive = _download(requirement, place, indexes or _pip_indexes())
            got = _sha256(archive.read_bytes())
            if got != archive_hash:
                raise VendorError(
                    f"{requirement}: the index gave an archive with sha256 {got}, "
                    f"expected is {archive_hash}. Not used; look at your index."
                )
            with tarfile.open(archive) as tar:
                data = tar.extractfile(member).read()
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.with_suffix(".part")
        partial.write_bytes(data)
        partial.replace(target)
    return {name: folder / name for name in _PARTS}


def _sha256(data):
    return hashlib.sha256(data).hexdigest()


def _pip_indexes():
    """The indexes that pip would ask, in its order; None stands for setuptools' default, which is pip's."""
    command = [sys.executable, "-m", "pip", "config", "list"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    settings = {}
    for line in done.stdout.splitlines():  # global.index-url='...': files first, the environment wins
        key, _, value = line.partition("=")
        section, _, name = key.rpartition(".")
        if name not in settings or section == ":env:":
            settings[name] = value.strip("'\"").replace("\\n", " ")
    if "cert" in settings:
        os.environ.setdefault("SSL_CERT_FILE", settings["cert"])
    return [settings.get("index-url"), *settings.get("extra-index-url", "").split()]


def _download(requirement, place, indexes):
    """The archive's Path; the first index that has it."""
    # setuptools warns of its own age, and of every index in full: an address may hold a password.
    with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
        warnings.simplefilter("ignore")
        from distutils.errors import DistutilsError

        from setuptools.package_index import PackageIndex

        reason = "not found"
        for index in indexes:
            try:
                found = PackageIndex(*([index] if index else [])).download(requirement, place)
            except (DistutilsError, OSError) as e:
                reason = type(e).__name__  # not its text: the address again
                continue
            if found and Path(found).is_file():
                return Path(found)
    raise VendorError(
        f"{requirement} could not be fetched from the package index ({reason}): is there a network? "
        "The index is the one of `pip config list`."
    )


def main():
    argparse.ArgumentParser(prog="python -m tools.vendor", description=__doc__.partition("\n")[0]).parse_args()
    try:
        for path in vendor().values():
            print(path.relative_to(ROOT))
    except VendorError as e:
        print(f"vendor: {e}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
