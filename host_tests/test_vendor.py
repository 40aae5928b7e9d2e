"""Upstream's umqtt, as it is fetched at set-up: checked by hash, and working on this MicroPython against a broker."""

import hashlib
import json
import shutil
import subprocess
import tarfile

import pytest
from harness.micropython import execute, interpreter

from tools import vendor
from tools.vendor import VendorError


def test_it_is_there_and_asked_for_only_once():
    files = vendor.vendor()
    before = {name: path.stat().st_mtime_ns for name, path in files.items()}
    # An index that does not exist is not asked: all is there already.
    again = vendor.vendor(indexes=["http://127.0.0.1:9/"])
    assert {name: path.stat().st_mtime_ns for name, path in again.items()} == before
    assert set(files) == {"umqtt/simple.py", "umqtt/robust.py"}


def test_what_is_missing_or_changed_is_fetched_anew(tmp_path):
    shutil.copytree(vendor.FOLDER, tmp_path, dirs_exist_ok=True)
    (tmp_path / "umqtt" / "robust.py").write_text("print('changed')")
    files = vendor.vendor(tmp_path)
    for path in files.values():
        assert path.read_bytes() == (vendor.FOLDER / path.relative_to(tmp_path)).read_bytes()
    assert sorted(p.name for p in (tmp_path / "umqtt").iterdir()) == ["robust.py", "simple.py"]


def index_with(tmp_path, content):
    """A package index in a folder, with an archive of the right name."""
    name = "micropython-umqtt.simple-1.3.4"
    page = tmp_path / "simple" / "micropython-umqtt.simple"
    page.mkdir(parents=True)
    file = tmp_path / "simple.py"
    file.write_text(content)
    with tarfile.open(page / f"{name}.tar.gz", "w:gz") as tar:
        tar.add(file, f"{name}/umqtt/simple.py")
    (page / "index.html").write_text(f'<a href="{name}.tar.gz">{name}.tar.gz</a>')
    (page.parent / "index.html").write_text('<a href="micropython-umqtt.simple/">micropython-umqtt.simple</a>')
    return f"file://{page.parent}/"


def test_an_archive_with_another_hash_is_not_used(tmp_path):
    index = index_with(tmp_path, "print('not the real one')")
    with pytest.raises(VendorError, match=r"simple==1.3.4: the index gave an archive with sha256 [0-9a-f]{64}, "):
        vendor.vendor(tmp_path / "out", indexes=[index])
    assert not (tmp_path / "out").exists()


def test_no_index_is_one_clear_error_without_its_address(tmp_path, capfd):
    with pytest.raises(VendorError, match=r"could not be fetched .* is there a network\?.*pip config list") as error:
        vendor.vendor(tmp_path, indexes=["http://user:s3cret@127.0.0.1:9/simple"])
    assert "s3cret" not in str(error.value) + "".join(capfd.readouterr())


def test_the_index_is_that_of_pip(monkeypatch):
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/mine")
    monkeypatch.setenv("PIP_EXTRA_INDEX_URL", "http://127.0.0.1:9/second http://127.0.0.1:9/third")
    assert vendor._pip_indexes() == [f"http://127.0.0.1:9/{name}" for name in ("mine", "second", "third")]
    monkeypatch.delenv("PIP_INDEX_URL")
    assert vendor._pip_indexes()[1:] == ["http://127.0.0.1:9/second", "http://127.0.0.1:9/third"]


SCRIPT = """\
import json, sys
sys.path.insert(0, %r)
host, port = json.loads(sys.stdin.readline())
from umqtt.%s import MQTTClient
got = []
c = MQTTClient("vendored-%s", host, port, keepalive=30)
c.set_callback(lambda topic, msg: got.append([topic.decode(), msg.decode()]))
c.connect()
c.subscribe(b"vendored/in", 1)
c.publish(b"vendored/in", b"zero")
c.publish(b"vendored/in", b"one", qos=1)
c.publish(b"vendored/out", b"kept", retain=True)
while len(got) < 2:
    c.wait_msg()
c.ping()
c.check_msg()
c.disconnect()
print(json.dumps(got))
"""


@pytest.mark.parametrize("which", ["simple", "robust"])
def test_it_runs_unchanged_on_this_micropython(which, broker_host, plain_port, tmp_path):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT % (str(vendor.FOLDER), which, which))
    vendor.vendor()
    command, env = interpreter()
    done = execute([*command, str(script)], env, json.dumps([broker_host, plain_port]) + "\n", 30)
    assert done.code == 0, done.show()
    assert done.lines == [[["vendored/in", "zero"], ["vendored/in", "one"]]]
    seen = ["mosquitto_sub", "-h", broker_host, "-p", str(plain_port), "-t", "vendored/out", "-C", "1", "-W", "10"]
    assert subprocess.run(seen, capture_output=True, text=True, timeout=20).stdout == "kept\n"


def test_the_hashes_are_those_of_what_is_there():
    for name, (_, _, _, file_hash) in vendor._PARTS.items():
        assert hashlib.sha256((vendor.FOLDER / name).read_bytes()).hexdigest() == file_hash
