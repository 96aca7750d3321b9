import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ccnet import InputError
from ccnet.data import splits
from ccnet.data.pairs import Pair


def pairs(names, root=Path("/mine")):
    return [Pair(name.replace("/", "_"), root / f"images/{name}.jpg", root / f"labels/{name}.png") for name in names]


def names(divided):
    return {split: [pair.name for pair in listed] for split, listed in divided.pairs.items()}


@given(
    st.sets(st.text("abc/", min_size=1, max_size=6).map(lambda name: name.strip("/") or "x"), min_size=20), st.randoms()
)
def test_a_share_depends_on_names_alone(found, chance: random.Random):
    unique = list({name.replace("/", "_"): name for name in sorted(found)}.values())
    share = 0.4
    few, shuffled = unique[: len(unique) // 2], chance.sample(unique, len(unique))

    def val(listed):
        return {pair.name for pair in pairs(listed) if splits._position(pair.name) < share}

    assert val(shuffled) == val(unique)
    assert val(few) == val(unique) & {pair.name for pair in pairs(few)}


def test_a_share_is_about_what_it_says(tmp_path):
    divided = splits.divide({"": pairs(map(str, range(2000)), tmp_path)}, tmp_path, 0.2)
    assert len(divided.pairs["val"]) == pytest.approx(400, abs=60)
    assert len(divided.pairs["train"]) + len(divided.pairs["val"]) == 2000
    assert divided.how == "val_share 0.2 of the images by the SHA-256 of their names"
    again = splits.divide({"train": pairs(map(str, range(2000)), tmp_path)}, tmp_path, 0.2)
    assert names(again) == names(divided)


@pytest.mark.parametrize(
    "line",
    [
        "{name}",
        "{name}.jpg",
        "images/{name}.jpg",
        "./images/{name}",
        "  {name}.jpg  ",
        "{name}\r",
        "images\\{name}.jpg",
        "\ufeff{name}",
    ],
)
@pytest.mark.parametrize("name", ["a b", "a.b", "sub/c", "图"])
def test_lists_may_name_images_in_many_ways(tmp_path, line, name):
    (tmp_path / "train.txt").write_text(line.format(name=name) + "\n\n", encoding="utf-8")
    divided = splits.divide({"": pairs([name, "x", "y"], tmp_path)}, tmp_path, None)
    assert names(divided) == {"train": [name.replace("/", "_")], "val": ["x", "y"]}
    assert divided.how == "train.txt; val: the images in no list"
    assert divided.remarks == [f"{tmp_path}: val is the 2 images that no list names"]


def test_a_list_means_the_image_whose_path_is_nearest(tmp_path):
    (tmp_path / "val.txt").write_text("a.jpg\nsite/b\n")
    divided = splits.divide({"": pairs(["a", "site/a", "site/b", "other/b"], tmp_path)}, tmp_path, None)
    assert names(divided)["val"] == ["a", "site_b"]


def test_a_name_that_several_images_have_is_not_guessed(tmp_path):
    found = [
        Pair(f"{place}_a", tmp_path / place / f"a.{suffix}", tmp_path / place / "a.json")
        for place, suffix in (("x", "jpg"), ("y", "png"), ("z", "jpg"))
    ]
    for line, message in (("a", "several images are called 'a'"), ("a.jpg", "several images are called 'a.jpg'")):
        (tmp_path / "val.txt").write_text(f"x/a.jpg\n{line}")
        with pytest.raises(InputError, match=rf"val\.txt, line 2: {message}: state more of the path$"):
            splits.divide({"": found}, tmp_path, None)
    (tmp_path / "val.txt").write_text("a.png")
    assert names(splits.divide({"": found}, tmp_path, None)) == {"train": ["x_a", "z_a"], "val": ["y_a"]}


@pytest.mark.parametrize("validation", ["val", "valid", "validation"])
def test_all_lists_leave_the_others_out(tmp_path, validation):
    for split, listed in {"train": "a\nb\na\n", validation: "c", "test": "d"}.items():
        (tmp_path / f"{split}.txt").write_text(listed)
    divided = splits.divide({"": pairs("abcdef", tmp_path)}, tmp_path, None)
    assert names(divided) == {"train": ["a", "b"], "val": ["c"], "test": ["d"]}
    assert divided.remarks == [f"{tmp_path}: 2 images are in no list and are left out"]


def test_a_share_is_taken_from_the_list_of_train(tmp_path):
    (tmp_path / "train.txt").write_text("\n".join(map(str, range(50))))
    divided = splits.divide({"": pairs(map(str, range(60)), tmp_path)}, tmp_path, 0.3)
    assert {name for listed in names(divided).values() for name in listed} == set(map(str, range(50)))
    assert list(divided.pairs) == ["train", "val"]


def test_folders_need_no_word(tmp_path):
    own = {"test": pairs("c"), "val": pairs("b"), "train": pairs("a")}
    assert splits.divide(own, tmp_path, None) == splits.Divided(dict(reversed(own.items())), None, [])


WRONG = {
    "no val": ({"train": "a"}, {}, None, "has no val split: set dataset.val_share (0.2: a fifth of the images)"),
    "nothing divided": ({"": "ab"}, {}, None, "has no val split: set dataset.val_share"),
    "a val and a share": ({"train": "a", "val": "b"}, {}, 0.2, "has a val split of its own: dataset.val_share must"),
    "a list and a share": ({"": "ab"}, {"train": "a", "val": "b"}, 0.2, "has a val split of its own"),
    "a name that is not there": (
        {"": "ab"},
        {"train": "a\n\nz\nq"},
        None,
        "train.txt, line 3: there is no image 'z' (and 1 more): mend the list, or add the image",
    ),
    "lists that overlap": (
        {"": "abc"},
        {"train": "a\nb", "val": "b\nc"},
        None,
        "val.txt: names b, which train.txt names too: an image has one split",
    ),
    "an empty list": ({"": "ab"}, {"train": "", "val": "a\nb"}, None, "no pair is left for the train split (train"),
    "a share that gives none": ({"": "a"}, {}, 0.0001, "no pair is left for the val split (val_share"),
    "a share of all": ({"": "ab"}, {}, 1.5, "dataset.val_share 1.5: must be above 0 and below 1"),
    "an empty folder": ({"train": "a", "val": ""}, {}, None, "left for the val split (as the source has it)"),
    "val alone": ({"val": "a"}, {}, None, "has no train split, only val"),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_is_said_in_one_line(tmp_path, case):
    found, lists, share, reason = WRONG[case]
    for split, listed in lists.items():
        (tmp_path / f"{split}.txt").write_text(listed)
    with pytest.raises(InputError) as caught:
        splits.divide({split: pairs(listed, tmp_path) for split, listed in found.items()}, tmp_path, share)
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_list_that_is_no_text_is_named(tmp_path):
    (tmp_path / "val.txt").write_bytes(b"\xff\xfe")
    with pytest.raises(InputError, match=r"val\.txt: not a list of names, one a line in UTF-8"):
        splits.divide({"": pairs("ab", tmp_path)}, tmp_path, None)
