import numpy as np
import pytest

from ccnet.data.frequency import class_weights, median_frequency
from ccnet.data.shards import ShardReader, write_shard
from tests import tiny


def shard(path, *maps: np.ndarray) -> ShardReader:
    records = [
        tiny.record(str(number), np.zeros((*label.shape, 3), np.uint8), label) for number, label in enumerate(maps)
    ]
    write_shard(path, records, class_names=tiny.CLASSES, palette=tiny.PALETTE, split="train")
    return ShardReader([path])


def test_weights_are_median_over_own_frequency(tmp_path):
    """Class 0: 60 of 200 pixels; 1: 120 of 200; 2: 20 of the 100 pixels of the only image with it; 3: never."""
    one, two = np.zeros(100, np.uint8), np.zeros(100, np.uint8)
    one[40:80], one[80:] = 1, 2
    two[20:] = 1
    weights = median_frequency(shard(tmp_path / "a.h5", one.reshape(10, 10), two.reshape(10, 10)))
    assert weights == pytest.approx([0.3 / 0.3, 0.3 / 0.6, 0.3 / 0.2, 1])


def test_ignored_pixels_do_not_count(tmp_path):
    label = np.full((10, 10), 255, np.uint8)
    label[0], label[1, :5] = 0, 1
    weights = median_frequency(shard(tmp_path / "a.h5", label))
    assert weights[:2] == pytest.approx([0.5 / (2 / 3), 0.5 / (1 / 3)])


def test_without_labels_all_weigh_alike(tmp_path):
    assert median_frequency(shard(tmp_path / "a.h5", np.full((4, 4), 255, np.uint8))).tolist() == [1, 1, 1, 1]


def test_the_square_root_lies_between_none_and_all(tmp_path):
    label = np.zeros((10, 10), np.uint8)
    label[0] = 1
    reader = shard(tmp_path / "a.h5", label)
    weights = class_weights(reader, "median_frequency")
    assert weights.tolist() == median_frequency(reader).tolist()
    assert class_weights(reader, "sqrt_median_frequency") == pytest.approx(np.sqrt(weights))
