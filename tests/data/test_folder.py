import json

import pytest

from ccnet import InputError
from ccnet.data import folder
from ccnet.data.folder import Choices
from tests.data.test_coco import contents


def lay(root, *files):
    for name in files:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def find(root, **choices):
    return folder.find(root, Choices(**choices), root.with_name(f"{root.name} scratch"))


def shown(found):
    return {
        split: [(pair.name, *(path.relative_to(found.root).as_posix() for path in (pair.image, pair.label)))
                for pair in pairs]
        for split, pairs in found.pairs.items()
    }  # fmt: skip


LAYOUTS = {
    "as before": ("images/{split}/{name}.jpg", "labels/{split}/{name}.png"),
    "nested": ("images/{split}/ulm/{name}.JPG", "labels/{split}/ulm/{name}.PNG"),
    "masks": ("images/{split}/{name}.jpg", "masks/{split}/{name}.tif"),
    "LabelMe": ("images/{split}/{name}.jpg", "images/{split}/{name}.json"),
    "LabelMe alone": ("{split}/{name}.jpg", "{split}/{name}.json"),
    "LabelMe apart": ("images/{split}/{name}.jpg", "labels/{split}/{name}.json"),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("validation", ["val", "valid", "validation"])
def test_folders_divide_the_pairs(tmp_path, layout, validation):
    expected = {}
    for split, own, listed in (("train", "train", "ab"), ("val", validation, "cd"), ("test", "test", "e")):
        places = [[path.format(split=own, name=name) for path in LAYOUTS[layout]] for name in listed]
        lay(tmp_path / "wrapped", *[path for pair in places for path in pair])
        prefix = "ulm_" if layout == "nested" else ""
        expected[split] = [(prefix + name, *pair) for name, pair in zip(listed, places, strict=True)]
    found = find(tmp_path)
    assert found.root == tmp_path / "wrapped"
    assert shown(found) == expected
    assert (found.splitting, found.remarks) == (None, [])


ENDINGS = {
    "labels end": (["1", "2", "12"], ["1_mask", "2_mask", "12_mask"], ("", "_mask")),
    "after a hyphen": (["a", "b"], ["a-seg", "b-seg"], ("", "-seg")),
    "both end": (["1_sat", "2_sat"], ["1_mask", "2_mask"], ("_sat", "_mask")),
    "twice": (["ulm_0_left_8bit", "ulm_1_left_8bit"], ["ulm_0_gt_ids", "ulm_1_gt_ids"], ("_left_8bit", "_gt_ids")),
    "images end": (["a_rgb", "b_rgb"], ["a", "b"], ("_rgb", "")),
}  # fmt: skip


@pytest.mark.parametrize("case", ENDINGS)
def test_endings_are_found_and_said(tmp_path, case):
    images, labels, (image_ending, label_ending) = ENDINGS[case]
    lay(tmp_path, *[f"images/{name}.jpg" for name in images], *[f"labels/{name}.png" for name in labels])
    found = find(tmp_path, val_share=0.5) if len(images) > 2 else listed(tmp_path, images)
    pairs = [pair for split in found.pairs.values() for pair in split]
    assert {(pair.image.stem, pair.label.stem) for pair in pairs} == set(zip(images, labels, strict=True))
    assert found.remarks[0] == (
        f"{tmp_path}/labels: X{image_ending} is paired with X{label_ending} (dataset.image_ending and label_ending)"
    )


def listed(root, images):
    (root / "train.txt").write_text(images[0])
    return find(root)


def test_endings_that_are_not_clear_are_to_be_chosen(tmp_path):
    for name in "ab":
        lay(tmp_path, f"images/train/{name}.jpg", f"images/val/{name}.jpg")
        for split in ("train", "val"):
            lay(tmp_path, *[f"labels/{split}/{name}{ending}.png" for ending in ("_color", "_ids", "_inst")])
    with pytest.raises(
        InputError, match=r"labels/train: label files end in '_color' \(2\), '_ids' \(2\), '_inst' \(2\): ch"
    ):
        find(tmp_path)
    assert [pair.label.name for pair in find(tmp_path, label_ending="_ids").pairs["val"]] == ["a_ids.png", "b_ids.png"]


def test_the_same_names_are_pairs_whatever_lies_beside(tmp_path):
    lay(tmp_path, *[f"{place}/{split}/{name}" for split in ("train", "val") for place, name in
                    (("images", "a.jpg"), ("labels", "a.png"), ("labels", "a_color.png"))])  # fmt: skip
    found = find(tmp_path)
    assert [pair.name for pair in found.pairs["train"]] == ["a", "a_color"]  # the gate says that it has no image
    assert found.remarks == []


def test_missing_partners_are_listed_where_they_are_expected(tmp_path):
    lay(tmp_path, "images/train/a.jpg", "images/train/b.jpg", "images/val/c.jpg")
    lay(tmp_path, "labels/train/a.png", "labels/train/d.png", "labels/val/c.png")
    assert shown(find(tmp_path))["train"] == [
        ("a", "images/train/a.jpg", "labels/train/a.png"),
        ("b", "images/train/b.jpg", "labels/train/b.png"),
        ("d", "images/train/d.*", "labels/train/d.png"),
    ]


@pytest.mark.parametrize(
    "files",
    [
        ["{split}/_annotations.coco.json"],  # Roboflow
        ["annotations/instances_{split}2017.json"],  # COCO
        ["instances_{split}.json"],
    ],
)
def test_cocos_files_say_their_split(tmp_path, files):
    for split, name in (("train", "a.jpg"), ("val" if "2017" in files[0] else "valid", "b.jpg")):
        path = tmp_path / files[0].format(split=split)
        lay(tmp_path, f"{path.parent.relative_to(tmp_path)}/{name}" if "coco" in files[0] else f"images/{name}")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(contents(name)))
    found = find(tmp_path)
    assert [(split, pair.name) for split, pairs in found.pairs.items() for pair in pairs] == [
        ("train", "a"),
        ("val", "b"),
    ]
    assert found.categories == ["door", "wall"]
    assert all(pair.image.exists() and pair.label.exists() for pairs in found.pairs.values() for pair in pairs)


def test_one_file_of_cocos_is_divided_as_any_set(tmp_path):
    names = [f"{number}.jpg" for number in range(10)]
    lay(tmp_path, *[f"images/{name}" for name in names])
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations/instances_default.json").write_text(json.dumps(contents(*names)))  # CVAT
    found = find(tmp_path, val_share=0.5)
    assert sum(len(pairs) for pairs in found.pairs.values()) == 10
    (tmp_path / "result.json").write_text(json.dumps(contents(*names)))
    with pytest.raises(InputError, match=r"has several of COCO's files that name no split, such as annotations/inst"):
        find(tmp_path, val_share=0.5)


def test_what_is_there_is_said_where_nothing_fits(tmp_path):
    lay(tmp_path, *[f"photos/{number}.jpg" for number in range(3)], "truth/a/0.png", "truth/a/1.png", "notes.txt")
    with pytest.raises(InputError) as caught:
        find(tmp_path)
    assert str(caught.value) == (
        f"{tmp_path}: found no images with labels, masks, annotations; it has . (1 .txt), photos (3 .jpg),"
        " truth/a (2 .png)"
    )
    with pytest.raises(InputError, match="nowhere: no such folder"):
        find(tmp_path / "nowhere")


@pytest.mark.parametrize("choices", [{}, {"label_ending": "_gt"}])
def test_names_that_never_agree_are_shown(tmp_path, choices):
    lay(tmp_path, "images/a.jpg", "images/b.jpg", "labels/x.png", "labels/y.png")
    with pytest.raises(
        InputError, match=r"no image has its label map: sought, for one, .*a\.jpg and .*labels/a.*x\.png"
    ):
        find(tmp_path, val_share=0.5, **choices)


def test_a_split_without_a_folder_of_label_maps_is_named(tmp_path):
    lay(tmp_path, "images/train/a.jpg", "images/val/b.jpg", "labels/val/b.png")
    with pytest.raises(
        InputError, match=r"labels/train: no such folder, though there is .*images/train: add the label"
    ):
        find(tmp_path)


def test_labelme_beside_images_in_the_folder_itself(tmp_path):
    lay(tmp_path, *[f"{number}.{suffix}" for number in range(20) for suffix in ("jpg", "json")])
    found = find(tmp_path, val_share=0.5)
    assert sum(map(len, found.pairs.values())) == 20


def test_two_folders_for_a_split_are_refused(tmp_path):
    lay(tmp_path, *[f"{kind}/{split}/a.{suffix}" for split in ("train", "val", "valid") for kind, suffix in
                    (("images", "jpg"), ("labels", "png"))])  # fmt: skip
    with pytest.raises(InputError, match="images: has val and valid, two folders for the val split: join them"):
        find(tmp_path)


def test_hidden_folders_and_other_forms_of_unicode_do_not_part_pairs(tmp_path):
    for split in ("train", "val"):
        lay(tmp_path, f"images/{split}/caf\u00e9.jpg", f"labels/{split}/cafe\u0301.png")
        lay(tmp_path, f"images/{split}/.ipynb_checkpoints/x.jpg", f"labels/{split}/._caf\u00e9.png")
    assert [pair.name for pair in find(tmp_path).pairs["val"]] == ["caf\u00e9"]


def test_what_is_left_over_is_said(tmp_path):
    for number in range(30):
        lay(tmp_path, f"images/train/{number}.jpg", f"labels/train/{number}_0.png")
    lay(tmp_path, "labels/train/7_1.png", "images/val/a.jpg", "labels/val/a.png", "images/extra/b.jpg", "masks/c.png")
    remarks = find(tmp_path).remarks
    assert f"{tmp_path}/labels/train: 1 files do not end in _0 and are left out, such as 7_1" in remarks
    assert f"{tmp_path}/images: not used: extra" in remarks
    assert f"{tmp_path}/masks: not used: the labels are in {tmp_path}/labels/train" in remarks


def test_labels_of_another_format_give_way_to_masks(tmp_path):
    for split in ("train", "val"):
        lay(tmp_path, f"images/{split}/a.jpg", f"labels/{split}/a.txt", f"masks/{split}/a.png")
    assert find(tmp_path).pairs["train"][0].label == tmp_path / "masks/train/a.png"


def test_hidden_files_make_no_set(tmp_path):
    lay(tmp_path, "__MACOSX/set/images/train/._a.jpg", "__MACOSX/set/labels/train/._a.png")
    for split in ("train", "val"):
        lay(tmp_path, f"set/images/{split}/a.jpg", f"set/labels/{split}/a.png", f"set/images/{split}/.b/a.jpg")
    assert find(tmp_path).root == tmp_path / "set"
    assert shown(find(tmp_path))["val"] == [("a", "images/val/a.jpg", "labels/val/a.png")]


def test_a_folder_without_images_is_named(tmp_path):
    lay(tmp_path, "images/train/a.jpg", "labels/train/a.png", "labels/val/b.png")
    (tmp_path / "images/val").mkdir()
    with pytest.raises(InputError, match=r"images/val: no images for the val split \(looked for \.jpg"):
        find(tmp_path)
