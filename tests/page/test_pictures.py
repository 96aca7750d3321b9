"""Pictures are of the images that the runs have predicted, by the runs that have."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ccnet import InputError
from ccnet.data.shards import ShardReader, write_shard
from ccnet.page import pictures
from ccnet.results import Metrics, Run
from tests import tiny

PALETTE = [tuple(colour) for colour in tiny.PALETTE]
WORST = {"worst": {"name": "val 2", "mean_iou": 0.1}, "best": {"name": "elsewhere", "mean_iou": 0.9}}


@pytest.fixture
def reader(tmp_path: Path) -> ShardReader:
    records = [tiny.record(f"val {number}", *tiny.draw(number)) for number in range(8)]
    write_shard(tmp_path / "val.h5", records, class_names=tiny.CLASSES, palette=tiny.PALETTE, split="val")
    return ShardReader([tmp_path / "val.h5"])


def run(folder: Path, *predicted: int, shape: tuple[int, int] = (40, 48), **changed) -> Run:
    (folder / "examples").mkdir(parents=True)
    for number in predicted:
        Image.fromarray(np.ones(shape, np.uint8)).convert("P").save(folder / "examples" / f"val {number}.png")
    metrics = Metrics(mean_iou=0, pixel_accuracy=0, mean_accuracy=0, per_class={}, confusion=[], protocol={}, **changed)
    return Run(folder.name, folder, {}, [], metrics, {})


def test_images_of_all_runs_come_first(reader, tmp_path):
    found = pictures.compared(reader, [run(tmp_path / "a", 0, 3, 5), run(tmp_path / "b", 3, 5, 6)], PALETTE)
    assert [each["name"] for each in found["examples"]] == ["val 3", "val 5", "val 0", "val 6"]
    assert [each is None for each in found["examples"][2]["outcomes"]] == [False, True]
    assert found["seen"] == [0, 1, 2]


def test_extremes_are_shown_where_their_predictions_were_kept(reader, tmp_path):
    runs = [run(tmp_path / "a", 0, 2, extremes=WORST), run(tmp_path / "b", 0, extremes=WORST), run(tmp_path / "c", 0)]
    (worst,), *rest = pictures.extremes(reader, runs, PALETTE)
    assert (worst["kind"], worst["name"], worst["mean_iou"]) == ("worst", "val 2", 0.1)
    assert [view for view, _ in worst["views"]] == ["image", "truth", "prediction", "errors"]
    assert rest == [[], []]


def test_the_legend_has_the_classes_of_all_pictures(reader, tmp_path, monkeypatch):
    monkeypatch.setattr(pictures, "at_most", lambda columns: 0)
    found = pictures.shown(reader, [run(tmp_path / "a", 2, extremes=WORST)], PALETTE)
    assert (found["examples"], found["seen"]) == ([], [0, 1, 2])


def test_a_prediction_of_another_size_is_refused(reader, tmp_path):
    with pytest.raises(InputError, match=r"val 2\.png: \(8, 8\) is not the label map's \(40, 48\); evaluate again"):
        pictures.extremes(reader, [run(tmp_path / "a", 2, shape=(8, 8), extremes=WORST)], PALETTE)


def test_of_many_images_evenly_spaced_ones_are_shown(reader, tmp_path, monkeypatch):
    monkeypatch.setattr(pictures, "at_most", lambda columns: 3)
    found = pictures.compared(reader, [run(tmp_path / "a", 0, 1, 2, 3, 4)], PALETTE)
    assert [each["name"] for each in found["examples"]] == ["val 0", "val 2", "val 4"]


def test_crops_are_of_the_confused_pairs_images_where_kept(reader, tmp_path):
    pair = {"truth": "wall", "prediction": "door", "images": ["val 2", "val 3", "elsewhere"]}
    found = pictures.confused(reader, run(tmp_path / "a", 2, confused=[pair]), tiny.CLASSES)
    assert list(found) == [("wall", "door")]
    assert [name for name, _ in found["wall", "door"]] == ["val 2"]
    assert pictures.confused(reader, run(tmp_path / "b", 2), tiny.CLASSES) == {}
