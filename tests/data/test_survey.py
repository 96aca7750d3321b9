"""What is seen of each pair, and which pairs are shown."""

import numpy as np
import pytest

from ccnet.data import survey
from ccnet.data.duplicates import difference_hash
from tests.drawn import Drawn, label, picture


def surveyed(drawn: Drawn) -> list[survey.Surveyed]:
    drawn.write()
    return survey.survey(drawn.index, drawn.folder)


def test_each_pair_is_counted_and_hashed(tmp_path):
    found = surveyed(Drawn(tmp_path, train=2, val=1))
    assert [(pair.split, pair.name, pair.reason) for pair in found] == [
        ("train", "0", None),
        ("train", "1", None),
        ("val", "0", None),
    ]
    content = found[2].content
    assert content is not None
    assert (content.size, content.label_size) == ((64, 48), (64, 48))
    assert content.pixels.tolist() == [int((label(2) == value).sum()) for value in (0, 1, 2, 3, 255)]
    assert content.classes.tolist() == [0, 1, 2, 3]
    assert (content.hash == difference_hash(picture(2))).all()


def test_a_pair_that_cannot_be_used_is_kept_with_its_reason(tmp_path):
    drawn = Drawn(tmp_path)
    (tmp_path / "images/train/0.png").unlink()
    drawn.paint("train/1", label(1)[1:])
    missing, mismatched, sound = surveyed(drawn)[:3]
    assert missing.content is None
    assert "there is no such image" in (missing.reason or "")
    assert mismatched.content is not None
    assert "is 64×48, its label" in (mismatched.reason or "")
    assert sound.reason is None


def test_a_label_is_the_same_in_another_encoding(tmp_path):
    drawn = Drawn(tmp_path, train=2, val=1)
    drawn.paint("train/0", label(5))
    drawn.paint("train/1", label(5))
    path = tmp_path / "labels/train/1.png"
    path.write_bytes(path.read_bytes() + b"a trailer that decoders skip")
    first, second, other = (pair.content for pair in surveyed(drawn))
    assert first is not None
    assert second is not None
    assert other is not None
    assert first.label_digest == second.label_digest != other.label_digest


def test_rare_classes_are_chosen_first_and_the_rest_evenly():
    pixels = np.zeros((100, 3), int)
    pixels[:, 0] = 1000
    pixels[[17, 63], 1] = 5, 500  # the pair that shows most of it
    pixels[41, 2] = 9
    chosen = survey.sample(pixels, 6)
    assert {41, 63} <= set(chosen)
    assert chosen == sorted(set(chosen))
    assert len(chosen) == 6
    assert max(np.diff([0, *chosen, 99])) < 50
    assert survey.sample(pixels, 6) == chosen


@pytest.mark.parametrize(("pairs", "count", "expected"), [(3, 24, 3), (24, 24, 24), (30, 24, 24), (1, 1, 1), (5, 0, 0)])
def test_as_many_are_chosen_as_there_are(pairs, count, expected):
    chosen = survey.sample(np.random.default_rng(0).integers(0, 2, (pairs, 40)), count)
    assert len(set(chosen)) == len(chosen) == expected


@pytest.mark.parametrize(
    ("available", "expected"),
    [([367, 101], [12, 12]), ([100, 3], [21, 3]), ([40, 9, 3], [12, 9, 3]), ([2, 1], [2, 1]), ([], [])],
)
def test_splits_share_as_evenly_as_they_can(available, expected):
    assert survey.quotas(available, 24) == expected
