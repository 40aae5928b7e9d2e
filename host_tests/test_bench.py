"""The scripts of `make bench` run, each with few rounds; what is exact in the README's tables is what it says there.

How fast anything is, no test says: times are told, not tested.
"""

from tools.bench import chart, measures, table


def test_calls_and_bytes(quiet_broker, bench_lib):
    """One write a packet and no heap, over TLS too; and however fast the broker answers (ENOENT, once)."""
    found = measures.counts(bench_lib, quiet_broker)
    for qos, writes in enumerate((1, 1, 2)):
        for who in ("ours", "ours, topic alias", "ours, TLS"):
            figures = found[f"publish QoS {qos}"][who]
            assert (figures["writes"], figures["heap"]) == (writes, 0), (qos, who)
    for what, figures in found.items():
        assert figures["ours"]["heap"] == 0, what
    assert found["publish QoS 1"]["umqtt.simple"]["writes"] == 5  # it counts at all


def test_what_is_timed(quiet_broker, bench_lib, monkeypatch, tmp_path):
    for name in ("_PBKDF2_ROUNDS", "_SPEED_ROUNDS", "_LOGIN_ROUNDS"):
        monkeypatch.setattr(measures, name, 1)
    monkeypatch.setattr(measures, "_ITERATIONS", 50)
    monkeypatch.setattr(measures, "smallest_heap", lambda *_: {"KB": 1, "KB romfs": 1, "messages": 1})  # a minute
    found = measures.measure()
    assert found["login"]["scram"]["round trips"] == 2
    chart.draw(found, tmp_path / "bench.png")
    assert (tmp_path / "bench.png").stat().st_size > 1000
    text = table.markdown(found)
    for what in ("publish QoS 0", "receive QoS 1", "publish QoS 1, pipelined", "Login by SCRAM with keys"):
        assert what in text
