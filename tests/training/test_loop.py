import csv
import json
import math
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from ccnet import InputError, Restart
from ccnet.commands import train
from ccnet.data.shards import ShardReader
from ccnet.training import loop
from ccnet.training.memory import Growth
from ccnet.training.trainer import Trainer
from ccnet.training.validation import Measurement, Validation
from ccnet.weights.checkpoints import Checkpoints
from tests import tiny

MEASURED = {"validate_every": 6, "validate_images": 3}


@pytest.fixture(scope="module")
def val(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.shard(tmp_path_factory.mktemp("val") / "val.h5", range(20, 26), split="val")


def run(trained: tiny.Trained, val: Path, out: Path, **changes) -> list[dict[str, str]]:
    """Train with other settings; the rows of the history."""
    path = out / "settings.json"
    path.write_text(json.dumps(tiny.settings(**MEASURED, **changes).as_dict()))
    train.run(settings=path, shards=trained.shards, val_shards=[val], checkpoints=out / "checkpoints", workers=0,
              out=out / "weights.safetensors", history=out / "history.csv", device="cpu")  # fmt: skip
    with open(out / "history.csv", newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> list[float | None]:
    """The mIoUs that measurements are to give; None for one that is interrupted."""
    values: list[float | None] = []

    def measure(self, model, stop) -> Measurement | None:
        value = values.pop(0)
        return None if value is None else Measurement(value, [])

    monkeypatch.setattr(Validation, "measure", measure)
    return values


def test_measuring_changes_no_weight_and_is_logged(trained, val, tmp_path):
    rows = run(trained, val, tmp_path)
    assert {row["step"]: bool(row["mean_iou"]) for row in rows} == {
        "6": True, "10": False, "12": True, "18": True, "20": False, "24": True}  # fmt: skip
    assert all(0 < float(row["mean_iou"]) < 1 for row in rows if row["mean_iou"])
    ours, theirs = load_file(tmp_path / "weights.safetensors"), load_file(trained.weights)
    assert all(np.array_equal(ours[name], theirs[name]) for name in theirs)
    assert (tmp_path / "weights_best.safetensors").exists()
    assert list((tmp_path / "events").iterdir())


@pytest.mark.parametrize(("keep", "other"), [("best", "last"), ("last", "best")])
def test_the_best_weights_are_kept_beside_the_last(trained, val, tmp_path, answers, keep, other):
    answers += [0.1, 0.4, 0.3, 0.2]
    run(trained, val, tmp_path, keep=keep)
    files = {keep: tmp_path / "weights.safetensors", other: tmp_path / f"weights_{other}.safetensors"}
    last = load_file(trained.weights)
    found = {name: load_file(path) for name, path in files.items()}
    assert all(np.array_equal(found["last"][name], last[name]) for name in last)
    assert not all(np.array_equal(found["best"][name], last[name]) for name in last)


def test_the_other_weights_of_an_earlier_training_go(trained, val, tmp_path, answers):
    answers += [0.1, 0.4, 0.3, 0.2] * 2
    run(trained, val, tmp_path, keep="last")
    assert (tmp_path / "weights_best.safetensors").exists()
    run(trained, val, tmp_path, keep="best")
    assert [path.name for path in tmp_path.glob("weights_*")] == ["weights_last.safetensors"]


def test_other_val_images_do_not_train_again_unless_they_decide(trained, val, tmp_path, answers, capsys):
    other = tiny.shard(tmp_path / "other.h5", range(30, 34), split="val")
    answers += [0.1, 0.4, 0.3, 0.2]
    run(trained, val, tmp_path)
    run(trained, other, tmp_path)
    assert "continuing from step 24 of 24" in capsys.readouterr().err
    answers += [0.1, 0.4, 0.3, 0.2] * 2
    run(trained, val, tmp_path, keep="best")
    run(trained, other, tmp_path, keep="best")
    said = capsys.readouterr().err
    assert "continuing" not in said
    assert "its checkpoints (2, " in said
    assert answers == []


def test_an_miou_that_is_no_number_is_told(trained, val, tmp_path, answers, capsys):
    answers += [0.1, math.nan, 0.3, 0.2]
    rows = run(trained, val, tmp_path)
    assert "val's mIoU is not a number: no pixel of the measured images is labelled" in capsys.readouterr().err
    assert [row["mean_iou"] for row in rows if row["step"] == "12"] == [""]


def test_training_ends_when_patience_does(trained, val, tmp_path, answers):
    answers += [0.1, 0.3, 0.2]
    rows = run(trained, val, tmp_path, patience=1)
    assert rows[-1]["step"] == "18"
    answers.clear()  # what is finished is not measured again
    assert run(trained, val, tmp_path, patience=1) == rows


def test_a_measurement_that_was_interrupted_is_made_up_for(trained, val, tmp_path, answers, monkeypatch):
    answers += [0.1, None]

    def interrupted(self, done: bool = True):
        return not answers

    monkeypatch.setattr(loop.Interruption, "asked", property(interrupted, lambda self, value: None))
    with pytest.raises(KeyboardInterrupt):
        run(trained, val, tmp_path)
    monkeypatch.undo()
    rows = run(trained, val, tmp_path)
    whole = tmp_path / "whole"
    whole.mkdir()
    undisturbed = run(trained, val, whole)
    assert [row["step"] for row in rows] == [row["step"] for row in undisturbed]
    assert [row["loss"] for row in rows] == [row["loss"] for row in undisturbed]
    assert [row["mean_iou"] for row in rows[2:]] == [row["mean_iou"] for row in undisturbed[2:]]


def test_a_loss_that_is_no_number_names_the_batch_and_the_last_good_checkpoint(trained, val, tmp_path, monkeypatch):
    step = Trainer.step

    def poisoned(self, images, labels):
        if self.done == 7:
            self.model.head.attention.gamma.assign(self.model.head.attention.gamma * math.nan)
        return step(self, images, labels)

    monkeypatch.setattr(Trainer, "step", poisoned)
    reader = ShardReader(trained.shards)
    names = loop.Batches(reader, tiny.settings().data, seed=3, first_step=0, steps=24, workers=0).names(7)
    assert len(names) == 2
    with pytest.raises(InputError) as error:
        run(trained, val, tmp_path)
    said = str(error.value)
    assert "is nan at step 8: lower learning_rate" in said
    assert f"its images: {', '.join(names)}" in said
    assert said.endswith("no checkpoint was saved before")


def test_the_last_good_checkpoint_is_named(trained, tmp_path):
    with Checkpoints(tmp_path, "a") as store:
        one = loop.Loop(None, None, store, None, None, Growth(), 60)  # type: ignore[arg-type]
        assert one._last_good() == "no checkpoint was saved before"
        store.save(Trainer(tiny.settings(), 4).checkpoint())
        assert one._last_good() == f"the last good checkpoint: {tmp_path / 'a_step_00000000.safetensors'}"


def test_memory_that_grew_saves_and_restarts(trained, val, tmp_path, monkeypatch):
    monkeypatch.setattr(Growth, "passed", lambda self: True)
    with pytest.raises(Restart):
        run(trained, val, tmp_path)
    assert [path.stem[-8:] for path in (tmp_path / "checkpoints").glob("*.safetensors")] == ["00000001"]


def test_measuring_needs_images_of_the_same_classes(trained, tmp_path):
    path = tmp_path / "settings.json"
    path.write_text(json.dumps(tiny.settings(**MEASURED).as_dict()))
    given = {"settings": path, "shards": trained.shards, "checkpoints": tmp_path, "out": tmp_path / "w",
             "history": tmp_path / "h"}  # fmt: skip
    with pytest.raises(InputError, match="validate_every needs images of val: name their shards with --val-shards"):
        train.run(**given)
