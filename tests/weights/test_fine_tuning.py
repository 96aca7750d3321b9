"""What it is good for: weights that learnt the nine classes of the street scenes serve two other classes."""

import json
from pathlib import Path

import numpy as np
import pytest

from ccnet.commands import evaluate, settings, train
from ccnet.data import labels, streets
from ccnet.data.shards import Record, write_shard
from tests import tiny

SIDE, STEPS = 96, 60
MOVING = [streets.CLASS_NAMES.index(name) for name in ("car", "person")]


def shard(path: Path, seeds: range, split: str, *, two: bool) -> Path:
    """Street scenes, with their own classes or with two: what moves, and all else."""
    records = [streets.record(seed, (SIDE, SIDE), "PNG") for seed in seeds]
    names, palette = streets.CLASS_NAMES, streets.PALETTE
    if two:
        names, palette = ["fixed", "moving"], [(0, 0, 0), (255, 0, 0)]
        records = [merged(record) for record in records]
    write_shard(path, records, class_names=names, palette=palette, split=split)
    return path


def merged(record: Record) -> Record:
    label = labels.decode(record.label, record.name)
    two = np.where(label == labels.IGNORE, label, np.isin(label, MOVING)).astype(np.uint8)
    return record._replace(label=labels.encode(two), histogram=labels.histogram(two, 2))


def trained_on(shard: Path, folder: Path, steps: int, pretrained: Path | None = None) -> Path:
    """The weights of a training, maybe from other weights."""
    flat = tiny.flat(steps=steps, crop_size=64, batch_size=4, head_channels=32)
    settings.run(flat=flat, out=folder / "settings.json", pretrained=pretrained)
    train.run(settings=folder / "settings.json", shards=[shard], checkpoints=folder / "checkpoints", workers=0,
              out=folder / "weights.safetensors", history=folder / "history.csv", pretrained=pretrained,
              device="cpu")  # fmt: skip
    return folder / "weights.safetensors"


def mean_iou(weights_file: Path, shard: Path) -> float:
    out = weights_file.with_name("metrics.json")
    evaluate.run(weights_file=weights_file, shards=[shard], out=out, device="cpu")
    return json.loads(out.read_text())["mean_iou"]


@pytest.mark.slow
def test_other_weights_score_higher_on_two_other_classes_than_from_scratch(tmp_path, capsys):
    nine = shard(tmp_path / "nine.h5", range(48), "train", two=False)
    source = trained_on(nine, tmp_path / "source", 250)
    few = shard(tmp_path / "few.h5", range(100, 116), "train", two=True)
    val = shard(tmp_path / "val.h5", range(200, 224), "val", two=True)
    tuned = mean_iou(trained_on(few, tmp_path / "tuned", STEPS, source), val)
    scratch = mean_iou(trained_on(few, tmp_path / "scratch", STEPS), val)
    with capsys.disabled():
        print(f"\nmIoU of two classes after {STEPS} steps: {tuned:.3f} from other weights, {scratch:.3f} from scratch")
    assert tuned > scratch + 0.05
