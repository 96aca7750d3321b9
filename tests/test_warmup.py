import json
from pathlib import Path

import pytest

from ccnet import InputError, cli, warmup
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


def test_what_cannot_be_warmed_up_is_named(tmp_path, monkeypatch):
    with pytest.raises(InputError, match=r"nowhere/settings.json: not a readable settings.json"):
        warmup.run(runs=[tmp_path / "nowhere"])
    (tmp_path / "settings.json").write_text(json.dumps(tiny.settings().as_dict()))
    with pytest.raises(InputError, match=r"could not be warmed up: ccnet train failed, as it says above"):
        warmup.run(runs=[tmp_path], device="abacus")
