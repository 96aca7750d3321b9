"""Which pairs are judged suspicious; the pages of tests/commands/test_inspect.py plant a fault of each kind."""

import shutil
from pathlib import Path

import numpy as np
from PIL import ImageEnhance

from ccnet.data import findings, survey
from ccnet.data.findings import Findings
from tests.drawn import Drawn, label, picture


def found(drawn: Drawn) -> Findings:
    drawn.write()
    return findings.find(survey.survey(drawn.index, drawn.folder))


def names(pairs) -> list[str]:
    return [f"{pair.split}/{pair.name}" for pair in pairs]


def copy(drawn: Drawn, seed: int, pair: str, contrast: float) -> None:
    """Give a pair the picture of `seed` with another contrast."""
    ImageEnhance.Contrast(picture(seed)).enhance(contrast).save(drawn.folder / f"images/{pair}.png")


def test_a_clean_set(tmp_path: Path):
    clean = found(Drawn(tmp_path, test=2))
    assert not any((clean.undecodable, clean.mismatched, clean.uniform, clean.repeated, clean.twins))
    assert clean.absent == {"train": [], "val": [], "test": []}
    assert {(twin.pair.split, twin.other.split) for twin in clean.nearest} == {
        ("val", "train"),
        ("test", "train"),
        ("test", "val"),
    }
    assert [twin.distance for twin in clean.nearest] == sorted(twin.distance for twin in clean.nearest)


def test_a_pixel_is_told_from_more(tmp_path: Path):
    drawn = Drawn(tmp_path)
    for number, ids in enumerate(
        [label(0)[1:, 1:], label(1)[:, 1:], label(2)[2:], np.kron(label(3), np.ones((2, 2), np.uint8))]
    ):
        drawn.paint(f"train/{number}", ids)
    mismatched = found(drawn).mismatched
    assert [findings.difference(pair) for pair in mismatched] == [(-1, -1), (-1, 0), (0, -2), (64, 48)]
    assert [findings.by_a_pixel(pair) for pair in mismatched] == [True, True, False, False]


def test_classes_of_unusable_pairs_do_not_count(tmp_path: Path):
    drawn = Drawn(tmp_path, val=2)
    drawn.paint("val/0", label(0)[1:])
    drawn.paint("val/1", label(0, (0, 2)))
    assert found(drawn).absent == {"train": [], "val": [1, 3]}


def test_twins_are_grouped_by_their_splits_nearest_first(tmp_path: Path):
    drawn = Drawn(tmp_path, test=3)
    copy(drawn, 0, "val/0", 0.2)
    copy(drawn, 1, "val/1", 0.98)
    copy(drawn, 7, "test/0", 0.7)  # 7: that of val/1, before it became a copy
    copy(drawn, 8, "test/1", 0.7)
    twins = found(drawn).twins
    assert {splits: [names(twin[:2]) for twin in near] for splits, near in twins.items()} == {
        ("val", "train"): [["val/1", "train/1"], ["val/0", "train/0"]],
        ("test", "val"): [["test/1", "val/2"]],
    }


def test_a_file_in_two_splits_is_repeated_and_no_twin(tmp_path: Path):
    drawn = Drawn(tmp_path)
    for pair in ("train/3", "val/2"):
        shutil.copy(tmp_path / "images/train/0.png", tmp_path / f"images/{pair}.png")
    both = found(drawn)
    assert [names(group) for group in both.repeated] == [["train/0", "train/3", "val/2"]]
    assert both.twins == {}


def test_pictures_of_one_scene_in_val_are_twins_of_earlier_ones(tmp_path: Path):
    drawn = Drawn(tmp_path)
    for number, contrast in enumerate((1.0, 0.9, 0.8, 0.7)):
        copy(drawn, 99, f"val/{number}", contrast)
    twins = found(drawn).twins
    assert list(twins) == [("val", "val")]
    assert sorted(names(twin.pair for twin in twins["val", "val"])) == ["val/1", "val/2", "val/3"]


def test_train_may_repeat_itself(tmp_path: Path):
    drawn = Drawn(tmp_path)
    copy(drawn, 0, "train/1", 0.9)
    assert found(drawn).twins == {}


def test_one_split_alone_has_nothing_to_be_compared_with(tmp_path: Path):
    alone = found(Drawn(tmp_path, val=0))
    assert (alone.twins, alone.nearest) == ({}, [])
