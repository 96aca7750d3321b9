import ctypes
import importlib.util
import json

import numpy as np
import pytest

from ccnet import cli
from ccnet.commands import bench
from ccnet.contenders import cases, memory
from ccnet.machine import examine
from ccnet.machine.cuda import Driver, Gpu
from ccnet.machine.examine import Ran

DRIVER = Driver(13000, (Gpu("NVIDIA H200", 90),))
CASE = bench.Case("made up", "matmul", {}, {"time": 0.5, "memory": 0.8, "floor": 1.6})


@pytest.fixture(autouse=True)
def threads():
    """A contender sets PyTorch's threads, which may be those of Jittor too: give them back."""
    import torch

    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


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
    row = bench.summary(CASE, 2, sides(), peak=20.0) | {"left_out": {"PyTorch compile": "no compiler"}}
    assert row["best"] == "PyTorch channels_last"
    assert [side["median"] for side in row["sides"].values()] == [3.0, 12.0, 6.0]
    assert (row["time_ratio"], row["memory_ratio"], row["floor_ratio"]) == (0.5, 0.5, 1.5)
    assert row["difference"] == 3e-6
    shown = bench.line(row).split()
    assert shown[2:] == ["2", "3000.0", "6000.0", "0.50", "≤", "0.50", "0", "0", "0.50", "≤", "0.80", "1.50", "≤",
                         "1.60", "3.0e-06", "PyTorch", "channels_last", "(PyTorch", "12000.0,", "PyTorch", "compile",
                         "left", "out)"]  # fmt: skip


def test_targets_are_for_two_threads():
    assert bench.summary(CASE, 1, sides(), peak=None)["targets"] == {}


@pytest.mark.parametrize(
    ("actual", "expected", "found"),
    [([1.0, 2.0], [1.0, 2.5], 0.2), ([1, 2, 3, 4], [1, 2, 3, 5], 0.25), ([[7]], [[7]], 0.0)],
    ids=str,
)
def test_difference(actual, expected, found):
    assert bench.difference([np.array(actual)], [np.array(expected)]) == pytest.approx(found)


def test_notes_on_rates_growth_and_memory():
    pair = [cases._attention(8, 4, False), cases._attention(8, 4, False, "non_local")]
    pair[0].options["batch"] = 4
    rows = [bench.summary(case, 1, sides(), peak=None) | {"left_out": {}} for case in [*pair, cases.CUDA[3]]]
    rows[1]["sides"]["ccnet"]["memory"]["peak"] = 150 + 11 * 150
    rows[2]["left_out"] = {"PyTorch compile": "PyTorch compile ended with code 1"}
    growth, more, left_out, rate = bench.notes(rows)
    assert "23437500 ns a pixel, 1953125.00 ns by (H + W)" in growth
    assert "11.0 × criss-cross's" in more
    assert left_out == "left out: PyTorch compile ended with code 1"
    assert rate == "copy 512 MiB, threads: 1: 0.3579 GB/s, PyTorch 0.08948"


@pytest.mark.parametrize("device", cases.CASES)
def test_every_case_has_a_name_of_its_own_and_a_floor_timed_before_it(device):
    names = [case.name for case in cases.CASES[device]]
    assert len({*names}) == len(names)
    for number, case in enumerate(cases.CASES[device]):
        assert not case.floor or case.floor in names[: number + 1]
        assert len(case.name) < 37


def test_what_a_gpu_is_asked():
    found = {case.name: case for case in cases.CUDA}
    for side in (97, 128):
        for precision in ("float32", "bfloat16"):
            case = found[f"criss-cross {side}×{side} both {precision}"]
            assert case.options["batch"] == 8
            assert case.options["channels"] == 512
            assert case.options["precision"] == precision
            assert case.floor == f"matrix product 8192² {precision}"
    for network in ("resnet101", "van_base"):
        assert found[f"{network} training 512²"].options == {"network": network, "size": 512, "batch": 8}
        assert found[f"{network} inference 512²"].amount == (8, "images")
        assert "PyTorch channels_last compile" in found[f"{network} training 512²"].rivals
        autocast = found[f"{network} training 512² autocast"]
        assert not autocast.targets  # it is not the same mathematics
        assert all("autocast" in side for side in autocast.rivals)


@pytest.mark.parametrize(
    ("device", "driver", "failure", "chosen"),
    [
        ("cpu", DRIVER, "", "cpu"),
        ("auto", None, "not asked", "cpu"),
        ("auto", DRIVER, "", "cuda"),
        ("auto", DRIVER, "no CUDA toolkit", "cpu"),
        ("cuda", DRIVER, "", "cuda"),
    ],
)
def test_choice_of_the_device(device, driver, failure, chosen, monkeypatch, capsys):
    monkeypatch.setattr(bench.cuda, "find_driver", lambda: driver)
    monkeypatch.setattr(bench.examine, "convolve", lambda name: Ran("", failure))
    assert bench.choose(device) == chosen
    assert ("no CUDA toolkit" in capsys.readouterr().err) == (failure == "no CUDA toolkit")


def test_a_gpu_that_is_not_there_is_refused_before_anything_is_timed(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(bench.examine, "convolve", lambda name: Ran("", "no NVIDIA driver (libcuda.so.1)"))
    assert cli.main(["bench", "--device", "cuda", "--out", str(tmp_path / "bench.json")]) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err == "ccnet bench: error: --device cuda: no NVIDIA driver (libcuda.so.1); see ccnet doctor\n"


class Library:
    """libcuda on a GPU of 1000 bytes, of which 300 are free; `failing` answers with an error."""

    def __init__(self, failing: str = ""):
        self.failing, self.called = failing, []

    def __getattr__(self, name: str):
        def call(*arguments) -> int:
            self.called.append(name)
            if name == "cuMemGetInfo_v2":
                arguments[0]._obj.value, arguments[1]._obj.value = 300, 1000
            return 201 if name == self.failing else 0

        return call


def test_memory_of_a_gpu(monkeypatch):
    library = Library()
    monkeypatch.setattr(ctypes, "CDLL", lambda name: library)
    assert memory.of_gpu() == 700
    assert library.called[-1] == "cuCtxPopCurrent_v2"


def test_a_driver_that_does_not_answer_is_named(monkeypatch):
    monkeypatch.setattr(ctypes, "CDLL", lambda name: Library("cuMemGetInfo_v2"))
    with pytest.raises(bench.InputError, match="error 201"):
        memory.of_gpu()


@pytest.mark.parametrize(
    ("log", "said"),
    [
        (
            "Traceback:\ntorch._dynamo.exc.Unsupported: loops\n\nSet TORCHDYNAMO_VERBOSE=1",
            "torch._dynamo.exc.Unsupported: loops",
        ),
        ("first\nkilled\n", "killed"),
        ("", "nothing"),
    ],
)
def test_last_words(log, said):
    assert bench.last_words(log) == said


def test_without_pytorch_the_remedy_is_named(monkeypatch, capsys):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert cli.main(["bench"]) == 1
    assert capsys.readouterr().err.splitlines() == [
        "ccnet bench: error: bench compares with PyTorch, and it is not installed: pip install -e '.[bench]'"
    ]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--only", "resnet19", "--device", "cpu"], "--only resnet19: no case"),
        (["--repeats", "0"], "--repeats 0"),
        (["--threads", "2", "0"], "--threads 2 0"),
    ],
    ids=str,
)
def test_what_cannot_be_timed_is_refused(options, said, tmp_path, capsys):
    assert cli.main(["bench", *options, "--out", str(tmp_path / "bench.json")]) == 1
    assert said in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_bfloat16_is_a_rival_only_on_processors_that_have_it(tmp_path, monkeypatch, capsys):
    def measured(case, *_):
        ours, theirs, _ = sides().values()
        return {"ccnet": ours} | {side: {**theirs} for side in case.rivals}, {}

    monkeypatch.setattr(bench, "measure", measured)
    arguments = ["bench", "--device", "cpu", "--only", "autocast", "--out", str(tmp_path / "bench.json")]
    monkeypatch.setattr(examine, "processor_flags", lambda: ["avx512_bf16"])
    assert cli.main(arguments) == 0
    assert "resnet101 inference 512² autocast" in capsys.readouterr().out
    monkeypatch.setattr(examine, "processor_flags", lambda: ["avx2"])
    assert cli.main(arguments) == 1
    assert "--only autocast: no case" in capsys.readouterr().err


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def test_a_case_from_end_to_end(device, tmp_path, monkeypatch, capsys):
    options = {"block": "rcca", "batch": 2, "channels": 16, "height": 9, "width": 5, "backward": True,
               "precision": "float32"}  # fmt: skip
    product = bench.Case("product", "matmul", {"size": 16, "precision": "TF32"}, rivals=("PyTorch",))
    case = bench.Case("criss-cross 9×5 both", "attention", options, floor="product")
    monkeypatch.setattr(bench, "CASES", {device: [product, case, CASE]})
    out = tmp_path / "bench.json"
    arguments = ["--device", device, "--only", "criss", "--threads", "1", "--repeats", "2", "--out", str(out)]
    assert cli.main(["bench", *arguments]) == 0
    found = json.loads(out.read_text())
    assert found["versions"]["torch"]
    assert bool(found["machine"]["gpus"]) == (device == "cuda")
    first, second = found["cases"]
    assert [first["case"], second["case"]] == ["product", "criss-cross 9×5 both"]
    assert list(second["sides"]) == ["ccnet", "PyTorch", "PyTorch channels_last"]
    for side in second["sides"].values():
        assert len(side["seconds"]) == 2
        assert 0 < side["memory"]["imported"] <= side["memory"]["built"] <= side["memory"]["peak"]
    assert second["flops"] == 2 * 3 * 2 * 45 * ((2 * 2 + 16) * 16 + 14 * 18)
    assert second["difference"] < 1e-4
    assert "criss-cross 9×5 both" in capsys.readouterr().out


class Side:
    """A contender without a process; those whose names have "broken" in them die before their first run."""

    def __init__(self, case, side, device, threads, folder):
        self.side, self.output = side, folder / f"{side}.npz"
        np.savez(self.output, np.ones(3))

    def answer(self) -> dict:
        if "broken" in self.side:
            raise bench.InputError(f"{self.side} does not compile")
        return {"flops": 8}

    def run(self) -> float:
        return 1.0

    def end(self) -> dict:
        return {"imported": 0, "built": 1, "peak": 2}

    def __enter__(self):
        return self

    def __exit__(self, *_) -> None:
        pass


def test_a_rival_that_fails_is_left_out_with_its_reason(tmp_path, monkeypatch):
    monkeypatch.setattr(bench, "Contender", Side)
    case = bench.Case("some", "matmul", {}, rivals=("PyTorch broken", "PyTorch"))
    found, left_out = bench.measure(case, "cpu", 1, 2, tmp_path)
    assert list(found) == ["ccnet", "PyTorch"]
    assert left_out == {"PyTorch broken": "PyTorch broken does not compile"}
    assert bench.summary(case, 1, found, peak=None)["best"] == "PyTorch"


@pytest.mark.parametrize("sides", [("ccnet broken", "PyTorch"), ("ccnet", "PyTorch broken")], ids=str)
def test_without_us_or_without_a_rival_there_is_nothing_to_compare(sides, tmp_path, monkeypatch):
    monkeypatch.setattr(bench, "Contender", Side)
    monkeypatch.setattr(bench, "OURS", sides[0])
    with pytest.raises(bench.InputError, match="does not compile"):
        bench.measure(bench.Case("some", "matmul", {}, rivals=sides[1:]), "cpu", 1, 2, tmp_path)


@pytest.mark.parametrize("backward", [False, True])
def test_both_sides_compute_attention_in_bfloat16_as_if_on_a_gpu(backward, monkeypatch):
    """Our CUDA kernels in the emulation, beside what PyTorch does in float32."""
    from ccnet.contenders import ours, theirs
    from ccnet.contenders.__main__ import arrays
    from tests.ops.test_cuda import emulated_code, replace_code

    replace_code(monkeypatch, emulated_code)
    options = {"block": "rcca", "batch": 2, "channels": 16, "height": 9, "width": 5, "backward": backward}
    expected = arrays(theirs.Contender("", "cpu", 1).attention(**options, precision="float32")())
    for contender in (ours.Contender("", "cpu", 1), theirs.Contender("channels_last", "cpu", 1)):
        found = arrays(contender.attention(**options, precision="bfloat16")())
        assert len(found) == (8 if backward else 1)
        assert 1e-4 < bench.difference(found, expected) < 0.05


def test_both_sides_load_the_same_batches(tmp_path):
    from ccnet.contenders import ours, theirs
    from ccnet.contenders.__main__ import arrays

    bench.draw_dataset(tmp_path)
    found, expected = (
        arrays(side.Contender("", "cpu", 1).loader(workers=0, folder=str(tmp_path))()) for side in (ours, theirs)
    )
    assert [array.shape for array in found] == [(8, 3, 256, 256), (8, 256, 256)]
    assert bench.difference(found, expected) == 0


def test_both_sides_label_the_same_photos(tmp_path, monkeypatch):
    from ccnet.contenders import ours, theirs
    from ccnet.contenders.__main__ import arrays

    monkeypatch.setattr(bench, "PHOTOS", 2)
    bench.draw_dataset(tmp_path)
    found, expected = (arrays(side.Contender("", "cpu", 1).label(folder=str(tmp_path))()) for side in (ours, theirs))
    assert [array.shape for array in found] == [(360, 480), (375, 500)]
    assert bench.difference(found, expected) < 1e-3


@pytest.mark.parametrize("kind", ["inference", "training"])
def test_pytorch_in_bfloat16_by_autocast(kind):
    from ccnet.contenders import theirs
    from ccnet.contenders.__main__ import arrays

    plain, fast = (
        arrays(getattr(theirs.Contender(variant, "cpu", 1), kind)(network="resnet18", size=64, batch=2)())
        for variant in ("", "channels_last autocast")
    )
    assert 1e-5 < bench.difference(fast, plain) < 0.05


def test_pytorch_without_cuda_says_so():
    import torch

    if torch.cuda.is_available():
        pytest.skip("PyTorch has CUDA here")
    from ccnet.contenders import theirs

    with pytest.raises(bench.InputError, match="finds no CUDA here"):
        theirs.Contender("", "cuda", 1)


def test_a_side_that_dies_is_named(tmp_path):
    case = bench.Case("broken", "attention", {"block": "no such"})
    with bench.Contender(case, "ccnet", "cpu", 1, tmp_path) as contender, pytest.raises(bench.InputError) as raised:
        contender.answer()
    assert "broken: ccnet ended with code 1 (TypeError:" in str(raised.value)
