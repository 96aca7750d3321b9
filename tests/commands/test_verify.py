import json

import numpy as np
import pytest

from ccnet import InputError
from ccnet.commands import verify
from ccnet.data import labels
from ccnet.data.shards import Record, Skipped, write_shard

CLASSES = ["road", "sky", "sheep"]
PALETTE = [[1, 1, 1], [2, 2, 2], [3, 3, 3]]


def write(path, split, arrays, skipped=()):
    """A shard of the given label maps, and of what was skipped; its images are never looked at."""
    records = [
        Record(str(number), b"jpeg" * 50, labels.encode(array), *array.shape[::-1], labels.histogram(array, 3))
        for number, array in enumerate(arrays)
    ]
    write_shard(path, [*records, *skipped], class_names=CLASSES, palette=PALETTE, split=split)
    return path


@pytest.fixture
def shards(tmp_path):
    road, sky, void = (np.full((4, 6), value, np.uint8) for value in (0, 1, 255))
    tall = np.full((6, 2), 2, np.uint8)
    return [
        write(tmp_path / "train-0.h5", "train", [road, sky, void], [Skipped("c", "c.png: torn")]),
        write(tmp_path / "train-1.h5", "train", [tall, road], [Skipped("b", "b.png: the file is empty")]),
        write(tmp_path / "val-0.h5", "val", [sky]),
    ]


def test_labels_json_sums_the_shards_of_each_split(shards, tmp_path):
    verify.run(shards=shards, out=tmp_path / "labels.json")
    written = json.loads((tmp_path / "labels.json").read_text())
    assert (written["class_names"], written["palette"]) == (CLASSES, PALETTE)
    assert written["splits"]["train"] == {
        "images": 5,
        "pixels": [48, 24, 12],
        "ignored_share": 24 / 108,
        "sizes": {"6x4": 4, "2x6": 1},
        "absent": [],
        "skipped": [{"name": "b", "reason": "b.png: the file is empty"}, {"name": "c", "reason": "c.png: torn"}],
    }
    assert written["splits"]["val"] == {
        "images": 1,
        "pixels": [0, 24, 0],
        "ignored_share": 0.0,
        "sizes": {"6x4": 1},
        "absent": ["road", "sheep"],
        "skipped": [],
    }


def test_shares_are_printed_and_absent_classes_warned_of(shards, tmp_path, capsys):
    verify.run(shards=shards, out=tmp_path / "labels.json")
    printed = capsys.readouterr()
    assert "sky                28.57    100.00" in printed.out
    assert "pairs skipped          2         0" in printed.out
    assert "warning: never in val: road, sheep" in printed.err


def test_one_flipped_bit_fails_and_names_the_shard(shards, tmp_path):
    data = bytearray(shards[1].read_bytes())
    data[data.index(b"jpeg" * 10) + 20] ^= 1
    shards[1].write_bytes(data)
    with pytest.raises(InputError, match=r"train-1\.h5: its contents do not match its checksum"):
        verify.run(shards=shards, out=tmp_path / "labels.json")
    assert not (tmp_path / "labels.json").exists()


def test_a_split_without_images_is_refused(tmp_path):
    empty = write(tmp_path / "val-0.h5", "val", [])
    with pytest.raises(InputError, match=r"the val shards hold no image at all: .*val-0\.h5"):
        verify.run(shards=[empty], out=tmp_path / "labels.json")


def test_a_split_of_which_all_was_skipped_is_refused(tmp_path):
    shards = [write(tmp_path / f"val-{name}.h5", "val", [], [Skipped(name, f"{name}.png: torn")]) for name in "ba"]
    with pytest.raises(InputError, match=r"nothing is left of the val split: all 2 pairs were skipped.*a\.png: torn"):
        verify.run(shards=shards, out=tmp_path / "labels.json")
    assert not (tmp_path / "labels.json").exists()
