"""The size table (tools/size): its figures are exact and true, and nothing is loaded that is not used.

What a connected client takes while it publishes is device/test_heap.py's.
"""

import itertools
import json
import os
import subprocess
import sys

import pytest

from tools import mpy, thumb
from tools.size import __main__ as program
from tools.size import measure
from tools.size.configurations import BEFORE, configurations

CLIENT = {f"umqtt5.{name}" for name in ("codec", "errors", "login", "packets", "protocol", "reader", "session")}
CLIENT |= {"umqtt5", "umqtt5.driver", "umqtt5.quick", "umqtt5.simple", "umqtt5.transport"}
# With the first subscription; device/test_simple.py shows that a client which only publishes does without.
CLIENT |= {"umqtt5.message", "umqtt5.receive", "umqtt5.subscribe"}
SCRAM = {"usasl", "usasl.crypto", "usasl.scram"}
# The asyncio client's own files, but for those that are loaded by what they are for.
AIO = {f"umqtt5.{path.stem}" for path in (mpy.LIB / "umqtt5").glob("aio*.py")}
AIO -= {"umqtt5.aio_outbox", "umqtt5.aio_request"}
LOADED = {
    "blocking client": CLIENT,
    "+ SCRAM with keys": CLIENT | SCRAM | {"umqtt5.auth"},
    "+ SCRAM with password": CLIENT | SCRAM | {"umqtt5.auth", "usasl.derive"},
    "+ keys of secrets.json": CLIENT | SCRAM | {"umqtt5.auth", "umqtt5.secrets"},
    "usasl.scram alone": SCRAM,
    "asyncio client": CLIENT - {"umqtt5.driver", "umqtt5.simple"} | AIO | {"umqtt5.retry"},
    "umqtt.simple": {"umqtt", "umqtt.simple"},
    "umqtt.robust": {"umqtt", "umqtt.robust", "umqtt.simple"},
}


@pytest.fixture(scope="module")
def found():
    return measure.measure()


def test_the_same_figures_again_in_another_process(found):
    program = "import json; from tools.size.measure import measure; print(json.dumps(measure()))"
    path = os.pathsep.join(str(mpy.ROOT / part) for part in ("", "tools/shims", "lib"))
    env = os.environ | {"PYTHONPATH": path, "PYTHONHASHSEED": "1"}
    done = subprocess.run([sys.executable, "-c", program], env=env, capture_output=True, text=True, timeout=60)
    assert json.loads(done.stdout) == found, done.stderr


def test_every_module_is_listed_with_the_size_of_its_file(found, tmp_path):
    made = mpy.compile_files(mpy.sources(), tmp_path / "lib")
    sizes = {path.stat().st_size for path in made.values()}
    assert {sizes["mpy"] for sizes in found["modules"].values()} == sizes
    assert len(found["modules"]) == len(made)


@pytest.mark.parametrize("name", configurations())
def test_loaded_is_what_is_used(found, name):
    # No texts of errors, no names of reasons, no secrets file's reader; nothing of usasl without auth=.
    assert set(found["configurations"][name]["modules"]) == LOADED[name]


def test_the_mpy_loaded_is_the_sum_of_its_files(found, tmp_path):
    other = {f"umqtt/{name}.py": measure.UMQTT / f"{name}.py" for name in ("simple", "robust")}
    sizes = {name: path.stat().st_size for name, path in mpy.compile_files(other, tmp_path).items()}
    of = found["configurations"]
    assert of["umqtt.simple"]["mpy"] == sizes["umqtt/simple.mpy"]
    assert of["umqtt.robust"]["mpy"] == sum(sizes.values())
    for one in of.values():
        ours = [found["modules"][name]["mpy"] for name in one["modules"] if name in found["modules"]]
        assert not ours or one["mpy"] == sum(ours)


def test_what_machine_code_costs(found):
    assert found["thumb"] == thumb.figures()
    shown = program.markdown(found)
    for figure in (found["thumb"]["code"], found["thumb"]["instructions"]["compression"]):
        assert f"{figure:,}" in shown[shown.index("usasl.thumb, SHA-256") :]


def test_from_a_romfs_bytecode_takes_no_heap(found):
    all_of = {kind: sum(sizes[kind] for sizes in found["modules"].values()) for kind in ("heap", "romfs")}
    assert all_of["romfs"] < all_of["heap"] / 2
    for sizes in found["configurations"].values():
        assert sizes["romfs"].keys() == {"import", "connected", "used"} & sizes.keys()
        assert all(heap < sizes[step] for step, heap in sizes["romfs"].items())


def test_the_aims_hold_from_a_romfs(found):
    kb = 1024
    scram = found["configurations"]["+ SCRAM with keys"]["romfs"]
    assert scram["import"] <= 18 * kb
    assert scram["connected"] <= 22 * kb
    assert found["modules"]["usasl.scram"]["heap"] + found["modules"]["usasl.crypto"]["heap"] <= 4 * kb


def test_connecting_makes_the_buffers(found):
    tx_and_rx = 256 + 1024
    for name, sizes in found["configurations"].items():
        if "connected" in sizes:
            # umqtt makes none: it allocates at each message.
            made = 0 if name.startswith("umqtt.") else tx_and_rx
            assert sizes["import"] + made < sizes["connected"] <= sizes["used"]


def test_a_reading_is_exact(tmp_path):
    stubs = mpy.compile_files({"replay.py": measure.HERE / "device" / "replay.py"}, tmp_path)
    files = {"/stubs/replay.mpy": stubs["replay.mpy"].read_bytes()}
    before = BEFORE.format(mount="", nonce=b"", answers=[])
    steps = [before, "pass", "client = bytearray(1000)", "client = None", "print(sys.maxsize)"]
    heap, _, out = measure._run(files, steps)
    assert out.strip() == str(2**31 - 1)  # 32-bit words
    # 63 blocks of 16 bytes for the content and one for the object, and all of them back again.
    assert [b - a for a, b in itertools.pairwise(heap)] == [0, 64 * 16, -64 * 16, 0]


def test_a_step_that_fails_is_told():
    with pytest.raises(measure.SizeError, match="no module named 'nowhere'"):
        measure._run({}, ["import nowhere"])


def test_the_program_prints_markdown_and_writes_json(found, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(program, "JSON", tmp_path / "size.json")
    assert program.main(["--markdown"]) == 0
    assert json.loads((tmp_path / "size.json").read_text()) == found
    out = capsys.readouterr().out
    assert out.strip() == program.markdown(found)
    for name, sizes in found["modules"].items():
        assert f"| {name} | {sizes['mpy']:,} | {sizes['heap']:,} |" in out


def test_a_narrow_terminal_cuts_no_figure_off(found, monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr(measure, "measure", lambda: found)
    monkeypatch.setattr(program, "JSON", measure.BUILD / "size.json")
    assert program.main([]) == 0
    out = capsys.readouterr().out
    for _, _, rows in program.tables(found):
        for row in rows:
            assert any(all(cell in line for cell in row) for line in out.splitlines()), row


def test_the_readme_has_todays_sizes():
    from tools import readme

    today = program.markdown(measure.measure())
    assert readme.section(readme.README.read_text(), "size") == today, "run `make readme`"
