import re

import pytest

from ccnet import InputError
from ccnet.data.catalog import DATASETS
from ccnet.data.pairs import find_pairs, find_root

LAYOUTS = {
    "camvid": {
        "train": [("train/a b.jpg", "trainannot/a b.png", "a b"), ("train/c.png", "trainannot/c.png", "c")],
        "val": [("val/图.JPG", "valannot/图.png", "图")],
    },
    "ade20k": {
        "train": [("images/training/x_1.jpg", "annotations/training/x_1.png", "x_1")],
        "val": [("images/validation/v_1.jpg", "annotations/validation/v_1.png", "v_1")],
    },
    "voc2012": {
        "train": [("JPEGImages/2007_1.jpg", "SegmentationClass/2007_1.png", "2007_1")],
        "val": [("JPEGImages/2007_2.jpg", "SegmentationClass/2007_2.png", "2007_2")],
    },
    "cityscapes": {
        split: [
            (
                f"leftImg8bit/{split}/ulm/ulm_0_leftImg8bit.png",
                f"gtFine/{split}/ulm/ulm_0_gtFine_labelIds.png",
                "ulm_ulm_0",
            )
        ]
        for split in ("train", "val")
    },
    "pascal_context": {
        "train": [("JPEGImages/2008_8.jpg", "trainval/2008_8.mat", "2008_8")],
        "val": [("JPEGImages/2008_2.jpg", "trainval/2008_2.mat", "2008_2")],
    },
    "coco_stuff": {
        split: [(f"images/{split}2017/0009.jpg", f"annotations/{split}2017/0009.png", "0009")]
        for split in ("train", "val")
    },
    "folder": {split: [(f"images/{split}/a.jpeg", f"labels/{split}/a.png", "a")] for split in ("train", "val")},
}


def touch(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()


@pytest.fixture(params=LAYOUTS)
def laid_out(request, tmp_path):
    """A dataset's layout, a folder that holds it one level down, and its expected pairs."""
    root = tmp_path / "wrapped"
    for split, pairs in LAYOUTS[request.param].items():
        for image, label, _ in pairs:
            touch(root / image)
            touch(root / label)
        for kind in ("Segmentation", "Main"):
            listing = root / f"ImageSets/{kind}/{split}.txt"
            listing.parent.mkdir(parents=True, exist_ok=True)
            listing.write_text("".join(f"{name}\n" for *_, name in pairs))
    return DATASETS[request.param].layout, tmp_path, LAYOUTS[request.param]


def test_every_layout_is_found_and_paired(laid_out):
    layout, folder, expected = laid_out
    root = find_root(layout, folder)
    assert root == folder / "wrapped"
    for split, pairs in expected.items():
        found = [(pair.image, pair.label, pair.name) for pair in find_pairs(layout, root, split)]
        assert found == sorted((root / image, root / label, name) for image, label, name in pairs)


@pytest.mark.parametrize(
    ("dataset", "image", "label"),
    [
        ("folder", "images/train/{}.jpg", "labels/train/{}.png"),
        ("voc2012", "JPEGImages/{}.jpg", "SegmentationClass/{}.png"),
        ("cityscapes", "leftImg8bit/train/ulm/{}_leftImg8bit.png", "gtFine/train/ulm/{}_gtFine_labelIds.png"),
        ("lip", "deep/train_images/{}.jpg", "train_segmentations/{}.png"),
    ],
)
def test_a_missing_partner_is_listed_where_it_is_expected(tmp_path, dataset, image, label):
    for path in (image.format("whole"), label.format("whole"), image.format("图 1"), label.format("图_2")):
        touch(tmp_path / path)
    (tmp_path / "ImageSets/Segmentation").mkdir(parents=True)
    (tmp_path / "ImageSets/Segmentation/train.txt").write_text("whole\n图_2\n", encoding="utf-8")
    found = {(str(pair.image), str(pair.label)) for pair in find_pairs(DATASETS[dataset].layout, tmp_path, "train")}
    expected = {
        (image.format("whole"), label.format("whole")),
        (image.format("图_2").rpartition(".")[0] + ".*", label.format("图_2")),
        (image.format("图 1"), label.format("图 1")),
    }
    unlisted = {pair for pair in expected if dataset == "voc2012" and "图 1" in pair[0]}
    assert found == {(str(tmp_path / image), str(tmp_path / label)) for image, label in expected - unlisted}


@pytest.mark.parametrize("images", ["", "TrainVal_images/", "TrainVal_images/TrainVal_images/"])
@pytest.mark.parametrize("labels", ["", "TrainVal_parsing_annotations/", "LIP/TrainVal_parsing_annotations/"])
def test_lip_is_found_however_its_zips_were_unpacked(tmp_path, images, labels):
    image, label = tmp_path / f"{images}val_images/a.jpg", tmp_path / f"{labels}val_segmentations/a.png"
    for path in (image, label, tmp_path / "Testing_images/b.jpg"):
        touch(path)
    layout = DATASETS["lip"].layout
    (pair,) = find_pairs(layout, find_root(layout, tmp_path), "val")
    assert (pair.image, pair.label) == (image, label)
    with pytest.raises(InputError, match=r"/train_images: no such folder"):
        find_pairs(layout, tmp_path, "train")


def test_what_mmsegmentations_converter_wrote_beside_cocos_label_maps_is_passed_over(tmp_path):
    for name in ("images/val2017/000139.jpg", "annotations/val2017/000139.png"):
        touch(tmp_path / name)
    touch(tmp_path / "annotations/val2017/000139_labelTrainIds.png")
    (pair,) = find_pairs(DATASETS["coco_stuff"].layout, tmp_path, "val")
    assert pair.label == tmp_path / "annotations/val2017/000139.png"


def test_a_split_without_one_whole_pair_is_refused(laid_out):
    layout, folder, expected = laid_out
    image, label, _ = expected["val"][0]
    (folder / "wrapped" / label).unlink()
    with pytest.raises(InputError, match=f"no image has its label map: .*{re.escape(image)} and .*{label}"):
        find_pairs(layout, folder / "wrapped", "val")
    touch(folder / "wrapped" / label)
    (folder / "wrapped" / image).unlink()
    with pytest.raises(InputError, match=r"no images for the val split|no image has its label map"):
        find_pairs(layout, folder / "wrapped", "val")


def test_other_files_are_passed_over(tmp_path):
    for name in (
        "images/train/a.jpg",
        "labels/train/a.png",
        "images/train/notes.txt",
        "labels/train/.DS_Store",
    ):
        touch(tmp_path / name)
    for name in ("images/train/._a.jpg", "images/train/.ipynb_checkpoints/a.jpg", "labels/train/__MACOSX/a.png"):
        touch(tmp_path / name)
    (tmp_path / "images/train/frames.jpg").mkdir()
    assert [pair.name for pair in find_pairs(DATASETS["folder"].layout, tmp_path, "train")] == ["a"]


def test_what_macos_adds_to_an_archive_is_no_dataset(laid_out):
    layout, folder, expected = laid_out
    for image, label, _ in expected["train"]:
        for path in (folder / "__MACOSX/wrapped" / image, folder / "__MACOSX/wrapped" / label):
            touch(path.with_name(f"._{path.name}"))
    assert find_root(layout, folder) == folder / "wrapped"


def test_two_images_for_one_label_are_refused(tmp_path):
    for name in ("images/train/a.jpg", "images/train/a.png", "labels/train/a.png"):
        touch(tmp_path / name)
    with pytest.raises(InputError, match="keep one"):
        find_pairs(DATASETS["folder"].layout, tmp_path, "train")


def test_names_stay_unique_when_slashes_go(tmp_path):
    for kind, suffix in (("images", "jpg"), ("labels", "png")):
        for name in ("a/b_c", "a_b/c"):
            touch(tmp_path / f"{kind}/train/{name}.{suffix}")
    with pytest.raises(InputError, match="would both be called a_b_c"):
        find_pairs(DATASETS["folder"].layout, tmp_path, "train")


def test_what_was_looked_for_is_said(tmp_path):
    layout = DATASETS["ade20k"].layout
    with pytest.raises(InputError, match=r"nowhere: no such folder"):
        find_root(layout, tmp_path / "nowhere")
    with pytest.raises(InputError, match=r"found no folders images/training and annotations/training"):
        find_root(layout, tmp_path)
    (tmp_path / "images/training").mkdir(parents=True)
    (tmp_path / "annotations/training").mkdir(parents=True)
    with pytest.raises(InputError, match=r"images/training: no images for the train split .*\.jpg"):
        find_pairs(layout, tmp_path, "train")
    with pytest.raises(InputError, match=r"images/validation: no such folder"):
        find_pairs(layout, tmp_path, "val")


def test_a_missing_list_is_named(tmp_path):
    for name in ("JPEGImages/a.jpg", "SegmentationClass/a.png"):
        touch(tmp_path / name)
    with pytest.raises(InputError, match=r"ImageSets/Segmentation/val\.txt: no such file"):
        find_pairs(DATASETS["voc2012"].layout, tmp_path, "val")
