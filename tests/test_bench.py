import importlib.util
import json

import numpy as np
import pytest

from ccnet import bench, cli

CASE = bench.Case("made up", "matmul", {}, {"time": 0.5, "memory": 0.8, "floor": 1.6})


def clock(seconds: list[float], log: list[str], name: str):
    """A side whose runs take these seconds."""
    left = iter(seconds)
    return lambda: log.append(name) or next(left)


def sides() -> dict[str, dict]:
    """Three sides as `measure` reports them; ours is the median of an outlier, the best rival the second."""

    def side(seconds: list[float], peak: int, difference: float, flops: int | None = None) -> dict:
        memory = {"imported": 100, "built": 150, "peak": peak}
        return {"seconds": seconds, "memory": memory, "difference": difference, "flops": flops}

    return {
        "ccnet": side([9.0, 2.0, 3.0], 300, 0.0, 40),
        "PyTorch": side([12.0, 1.0, 13.0], 200, 1e-6),
        "PyTorch channels_last": side([4.0, 6.0, 50.0], 500, 3e-6),
    }


def test_sides_take_turns(monkeypatch):
    monkeypatch.setattr(bench.time, "sleep", lambda _: None)
    log: list[str] = []
    times = bench.take_turns({name: clock([1, 2, 3], log, name) for name in ("a", "b")}, 3)
    assert times == {"a": [1, 2, 3], "b": [1, 2, 3]}
    assert log == ["a", "b"] * 3


def test_medians_and_ratios():
    row = bench.summary(CASE, 2, sides(), peak=20.0)
    assert row["best"] == "PyTorch channels_last"
    assert [side["median"] for side in row["sides"].values()] == [3.0, 12.0, 6.0]
    assert (row["time_ratio"], row["memory_ratio"], row["floor_ratio"]) == (0.5, 0.5, 1.5)
    assert row["difference"] == 3e-6
    shown = bench.line(row).split()
    assert shown[2:] == ["2", "3000.0", "6000.0", "0.50", "≤", "0.50", "0", "0", "0.50", "≤", "0.80", "1.50", "≤",
                         "1.60", "3.0e-06", "PyTorch", "channels_last"]  # fmt: skip


def test_targets_are_for_two_threads():
    assert bench.summary(CASE, 1, sides(), peak=None)["targets"] == {}


@pytest.mark.parametrize(
    ("actual", "expected", "found"),
    [([1.0, 2.0], [1.0, 2.5], 0.2), ([1, 2, 3, 4], [1, 2, 3, 5], 0.25), ([[7]], [[7]], 0.0)],
    ids=str,
)
def test_difference(actual, expected, found):
    assert bench.difference([np.array(actual)], [np.array(expected)]) == pytest.approx(found)


def test_notes_on_growth_and_memory():
    cases = [bench._attention(8, 4, False), bench._attention(8, 4, False, "non_local")]
    rows = [bench.summary(case, 1, sides(), peak=None) for case in cases]
    rows[1]["sides"]["ccnet"]["memory"]["peak"] = 150 + 11 * 150
    growth, memory = bench.notes(rows)
    assert "93750000 ns a pixel, 7812500.00 ns by (H + W)" in growth
    assert "11.0 × criss-cross's" in memory


def test_without_pytorch_the_remedy_is_named(monkeypatch, capsys):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert cli.main(["bench"]) == 1
    assert capsys.readouterr().err.splitlines() == [
        "ccnet bench: error: bench compares with PyTorch, and it is not installed: pip install -e '.[bench]'"
    ]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--only", "resnet19"], "--only resnet19: no case"),
        (["--repeats", "0"], "--repeats 0"),
        (["--threads", "2", "0"], "--threads 2 0"),
    ],
    ids=str,
)
def test_what_cannot_be_timed_is_refused(options, said, tmp_path, capsys):
    pytest.importorskip("torch", reason="PyTorch is the other side: pip install -e '.[bench]'")
    assert cli.main(["bench", *options, "--out", str(tmp_path / "bench.json")]) == 1
    assert said in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_case_from_end_to_end(tmp_path, monkeypatch, capsys):
    pytest.importorskip("torch", reason="PyTorch is the other side: pip install -e '.[bench]'")
    options = {"block": "rcca", "channels": 16, "height": 9, "width": 5, "backward": True}
    monkeypatch.setattr(bench, "PRODUCT", bench.Case("product", "matmul", {"size": 16}, rivals=("PyTorch",)))
    monkeypatch.setattr(bench, "CASES", [bench.Case("criss-cross 9×5 both", "attention", options)])
    out = tmp_path / "bench.json"
    assert cli.main(["bench", "--threads", "1", "--repeats", "2", "--out", str(out)]) == 0
    found = json.loads(out.read_text())
    assert found["versions"]["torch"]
    first, second = found["cases"]
    assert [first["case"], second["case"]] == ["product", "criss-cross 9×5 both"]
    assert list(second["sides"]) == ["ccnet", "PyTorch", "PyTorch channels_last"]
    for side in second["sides"].values():
        assert len(side["seconds"]) == 2
        assert 0 < side["memory"]["imported"] <= side["memory"]["built"] <= side["memory"]["peak"]
    assert second["flops"] == 3 * 2 * 45 * ((2 * 2 + 16) * 16 + 14 * 18)
    assert second["difference"] < 1e-4
    assert "criss-cross 9×5 both" in capsys.readouterr().out


def test_a_side_that_dies_is_named(tmp_path):
    case = bench.Case("broken", "attention", {"block": "no such"})
    with bench.Contender(case, "ccnet", 1, tmp_path) as contender, pytest.raises(bench.InputError) as raised:
        contender.answer()
    assert "broken: ccnet ended with code 1 (TypeError:" in str(raised.value)
