import json

import pytest

from ccnet import InputError
from ccnet.data.index import Index, Listed, portable

INDEX = Index(
    dataset="mine", layout="folder", class_names=["a", "b"], palette=[(1, 2, 3), (4, 5, 6)], label_table={300: 1},
    colour_table={"1 2 3": 0, "0 0 0": 255}, splitting="train.txt", pairs={"train": [Listed("x", "x.jpg", "x.png")]},
)  # fmt: skip


def test_it_is_read_as_it_was_written(tmp_path):
    INDEX.write(tmp_path / "index.json")
    assert Index.read(tmp_path / "index.json") == INDEX
    coding = INDEX.coding()
    assert (coding.values, coding.colours) == ({300: 1}, {(1, 2, 3): 0, (0, 0, 0): 255})


@pytest.mark.parametrize(
    "wrong",
    [
        {"palette": [(256, 0, 0)]},
        {"label_table": {65536: 0}},
        {"label_table": {-1: 0}},
        {"label_table": {0: 256}},
        {"colour_table": {"1 2 256": 0}},
        {"colour_table": {"1 2": 0}},
        {"colour_table": {"1 2 3": -1}},
    ],
)
def test_numbers_out_of_range_are_refused_by_name(tmp_path, wrong):
    (tmp_path / "index.json").write_text(json.dumps(INDEX.model_dump() | wrong))
    with pytest.raises(InputError, match=rf"index\.json: {next(iter(wrong))}[^\n]*: fetch the dataset again$"):
        Index.read(tmp_path / "index.json")


@pytest.mark.parametrize("text", ["", "[]", '{"pairs": {}}', '{"class_names": 3, "palette": [], "pairs": {}}'])
def test_anything_else_is_refused_by_name(tmp_path, text):
    (tmp_path / "index.json").write_text(text)
    with pytest.raises(InputError, match=r"index\.json: [^\n]*: fetch the dataset again$"):
        Index.read(tmp_path / "index.json")


def test_a_split_that_is_not_there_is_named(tmp_path):
    with pytest.raises(InputError, match=r"has no split 'val', only train"):
        INDEX.of("val", tmp_path / "index.json")


def test_paths_below_are_relative(tmp_path):
    assert portable(tmp_path / "out/a.png", tmp_path / "out") == "a.png"
    assert portable(tmp_path / "a.png", tmp_path / "out") == str(tmp_path / "a.png")
