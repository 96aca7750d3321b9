import json

import numpy as np
import pytest

from ccnet import InputError
from ccnet.data import coco, polygons
from tests.data.test_polygons import outline


def contents(*file_names, categories=("wall", "door")):
    return {
        "images": [{"id": place, "file_name": name, "height": 8, "width": 8} for place, name in enumerate(file_names)],
        "categories": [{"id": 10 - place, "name": name} for place, name in enumerate(categories)],
        "annotations": [
            {"image_id": place, "category_id": 9, "segmentation": [outline(0, 0, place + 1, 1)]}
            for place in range(len(file_names))
        ],
    }


def write(root, contents, *images, name="annotations.json"):
    for image in images:
        (root / image).parent.mkdir(parents=True, exist_ok=True)
        (root / image).touch()
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(contents))
    return path


@pytest.mark.parametrize(
    ("stated", "place"),
    [
        ("a.jpg", "images/a.jpg"),
        ("a.jpg", "a.jpg"),
        ("images\\\\a.jpg", "images/a.jpg"),
        ("../../media/upload/1/a.jpg", "images/a.jpg"),
        ("one/a.jpg", "images/one/a.jpg"),
        ("/home/me/one/a.jpg", "images/one/a.jpg"),
    ],
)
def test_each_image_has_a_file_of_its_own(tmp_path, stated, place):
    stated = stated.replace("\\\\", "\\")
    path = write(tmp_path, contents(stated), place, "images/two/other.jpg")
    pairs, names = coco.extract(path, tmp_path, tmp_path / "out")
    assert names == ["door", "wall"]  # in the order of their ids
    (pair,) = pairs
    assert pair.image == tmp_path / place
    assert "/" not in pair.name
    label = polygons.decode(pair.label.read_bytes(), str(pair.label), names)
    assert np.argwhere(label == 0).tolist() == [[0, 0]]


def test_an_image_that_is_there_twice_is_told_by_its_path(tmp_path):
    path = write(tmp_path, contents("one/a.jpg", "two/a.jpg"), "images/one/a.jpg", "images/two/a.jpg")
    pairs = coco.extract(path, tmp_path, tmp_path / "out").pairs
    assert [(pair.name, pair.image) for pair in pairs] == [
        ("one_a", tmp_path / "images/one/a.jpg"),
        ("two_a", tmp_path / "images/two/a.jpg"),
    ]
    path.write_text(json.dumps(contents("a.jpg")))
    with pytest.raises(InputError, match=r"annotations\.json: a\.jpg may be .*one/a\.jpg or .*two/a\.jpg: state more"):
        coco.extract(path, tmp_path, tmp_path / "out")


def test_images_of_other_splits_are_not_taken(tmp_path):
    path = write(tmp_path, contents("0.jpg"), "train2017/0.jpg", name="annotations/instances_val2017.json")
    assert coco.extract(path, tmp_path, tmp_path / "out", "val").pairs[0].image == tmp_path / "0.jpg"
    write(tmp_path, contents("0.jpg"), "val2017/0.jpg")
    assert coco.extract(path, tmp_path, tmp_path / "out", "val").pairs[0].image == tmp_path / "val2017/0.jpg"


def test_of_cocos_files_for_a_split_the_instances_are_taken(tmp_path):
    for name in ("instances_train2017", "person_keypoints_train2017", "person_keypoints_val2017"):
        write(tmp_path, contents("a.jpg"), name=f"annotations/{name}.json")
    assert [path.stem for path in coco.files(tmp_path)] == ["instances_train2017", "person_keypoints_val2017"]


def test_only_a_category_without_annotations_may_repeat_a_name(tmp_path):
    drawn = contents("a.jpg", categories=("thing", "wall"))
    drawn["categories"].append({"id": 0, "name": "wall"})
    path = write(tmp_path, drawn, "a.jpg")
    assert coco.extract(path, tmp_path, tmp_path / "out").categories == ["wall", "thing"]
    drawn["annotations"].append(drawn["annotations"][0] | {"category_id": 0})
    path.write_text(json.dumps(drawn))
    with pytest.raises(InputError, match=r"annotations\.json: several categories are called wall: give each a name of"):
        coco.extract(path, tmp_path, tmp_path / "out")


def test_a_missing_image_is_left_to_the_gate(tmp_path):
    path = write(tmp_path, contents("a.jpg"))
    assert coco.extract(path, tmp_path, tmp_path / "out").pairs[0].image == tmp_path / "a.jpg"


def test_hidden_copies_of_images_are_passed_over(tmp_path):
    path = write(tmp_path, contents("a.jpg"), "images/a.jpg", "images/.thumbnails/a.jpg", "__MACOSX/images/a.jpg")
    assert coco.extract(path, tmp_path, tmp_path / "out").pairs[0].image == tmp_path / "images/a.jpg"


@pytest.mark.parametrize("stated", ["/etc/passwd.jpg", "../../../elsewhere/b.jpg"])
def test_an_image_outside_of_the_folder_is_not_taken(tmp_path, stated):
    (pair,) = coco.extract(write(tmp_path, contents(stated)), tmp_path, tmp_path / "out").pairs
    assert pair.image.parent == tmp_path
    assert pair.label.parent == tmp_path / "out"


def test_only_its_own_files_are_taken_for_annotations(tmp_path):
    write(tmp_path, contents("a.jpg"))
    write(tmp_path, contents("a.jpg"), name="annotations/instances_val2017.json")
    write(tmp_path, {"images": []}, name="captions.json")
    write(tmp_path, [], name="annotations/list.json")
    (tmp_path / "broken.json").write_text("{")
    write(tmp_path, contents("a.jpg"), name="annotations/._instances.json")
    write(tmp_path, contents("a.jpg"), name="more/UPPER.JSON")
    for number in range(coco.MOST + 1):  # LabelMe's: not opened
        write(tmp_path, contents("a.jpg"), name=f"labels/{number}.json")
    assert coco.files(tmp_path) == [
        tmp_path / name for name in ("annotations.json", "annotations/instances_val2017.json", "more/UPPER.JSON")
    ]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"annotations": [{"image_id": 0}]}, "an annotation without 'category_id'"),
        ({"images": [{"id": 0}], "annotations": []}, "an annotation without 'file_name'"),
        ({"annotations": [{"image_id": "0", "category_id": 9}]}, "an annotation of image '0', which is not among its"),
        ({"images": [{"id": 0, "file_name": "a.jpg"}] * 2}, "two of its images have the same id"),
        ({"categories": [{"id": 9, "name": "a"}, {"id": 9, "name": "b"}]}, "two of its categories have the same id"),
        ({"images": [{"id": 0, "file_name": "a" * 300}], "annotations": []}, "names no image"),
        ({"images": [{"id": 0, "file_name": ".."}], "annotations": []}, "file_name '..' names no image"),
        ({"images": [{"id": 0, "file_name": ""}], "annotations": []}, "names no image"),
        ({"images": [{"id": 0, "file_name": "a\0.jpg"}], "annotations": []}, r"file_name 'a\x00.jpg' names no image"),
        ({"annotations": 3}, "annotations.json: "),
        (
            {"annotations": [{"image_id": 0, "category_id": 4}]},
            "an annotation of category 4, which is not among its categories",
        ),
        ({"images": [{"id": 0, "file_name": "\ud800.jpg"}]}, "surrogates not allowed"),
        ({"images": [{"id": [0], "file_name": "a.jpg"}]}, "neither COCO's nor LabelMe's JSON (unhashable"),
        ({"categories": [{"id": 9, "name": "a"}, {"id": "x", "name": "b"}]}, "neither COCO's nor LabelMe's JSON ('<'"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(tmp_path, change, reason):
    path = write(tmp_path, contents("a.jpg") | change)
    with pytest.raises(InputError) as caught:
        coco.extract(path, tmp_path, tmp_path / "out")
    assert str(caught.value).startswith(str(path))
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)
