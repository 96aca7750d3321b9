import json
import subprocess
from pathlib import Path

import pytest

from ccnet import InputError, cli, warmup
from ccnet.data.shards import ShardReader
from ccnet.toolkit import cache_home
from tests import tiny


def kernels() -> dict[Path, int]:
    return {file: file.stat().st_mtime_ns for file in (cache_home() / "jittor").glob("jt*/**/jit/*.so")}


@pytest.mark.slow
def test_a_training_compiles_nothing_that_was_warmed_up(tmp_path, capsys):
    """Of another crop and number of classes, with a loading process, checkpoints, and its evaluation."""
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "settings.json").write_text(json.dumps(tiny.settings(pretrained="0" * 64).as_dict()))
    warmup.run(runs=[folder], device="cpu")
    assert capsys.readouterr().out.startswith(f"{folder}: ready, ")
    assert list(folder.iterdir()) == [folder / "settings.json"]
    before = kernels()
    shard, weights = tiny.shard(tmp_path / "train.h5", range(6), size=(70, 90)), tmp_path / "weights.safetensors"
    train = ["train", "--settings", folder / "settings.json", "--shards", shard, "--checkpoints", tmp_path / "saved",
             "--out", weights, "--history", tmp_path / "history.csv", "--checkpoint-every", "0"]  # fmt: skip
    for change in ("data.crop_size=49", "schedule.steps=5", "model.pretrained=null"):
        train += ["--set", change]
    evaluate = ["evaluate", "--weights", weights, "--shards", shard, "--out", tmp_path / "metrics.json"]
    for command in (train, evaluate):
        assert cli.main([*map(str, command), "--device", "cpu"]) == 0
    assert kernels() == before


@pytest.mark.parametrize(("device", "problems", "side"), [
    ("cpu", {}, 64), ("auto", {"GPU": "none"}, 64), ("auto", {}, 49), ("cuda", {}, 49),
])  # fmt: skip
def test_on_cuda_it_is_the_runs_own_crop(tmp_path, monkeypatch, device, problems, side):
    """There kernels are keyed on shapes, of the crops in training and of the images in evaluation."""
    (tmp_path / "settings.json").write_text(json.dumps(tiny.settings(crop_size=49).as_dict()))
    monkeypatch.setattr(warmup.cuda, "problems", lambda driver, toolkit: problems)
    done = []

    def run(command, **options):
        image, label = ShardReader([Path(command[command.index("--shards") + 1])])[0]
        done.append((command[3], image.shape, label.shape, f"data.crop_size={side}" in command))
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(warmup.subprocess, "run", run)
    warmup.run(runs=[tmp_path], device=device)
    assert done == [("train", (side, side, 3), (side, side), True), ("evaluate", (side, side, 3), (side, side), False)]


def test_what_cannot_be_warmed_up_is_named(tmp_path, monkeypatch):
    with pytest.raises(InputError, match=r"nowhere/settings.json: not a readable settings.json"):
        warmup.run(runs=[tmp_path / "nowhere"])
    (tmp_path / "settings.json").write_text(json.dumps(tiny.settings().as_dict()))
    with pytest.raises(InputError, match=r"could not be warmed up: ccnet train failed, as it says above"):
        warmup.run(runs=[tmp_path], device="abacus")
