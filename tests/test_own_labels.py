"""One small set of pairs, written in each way in which people have theirs: the shards' labels are the same."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ccnet import InputError
from ccnet.commands import fetch, prepare, verify
from ccnet.data.shards import ShardReader
from tests.data.test_polygons import outline

NAMES = ["wall", "door", "floor"]
COLOURS = [(200, 40, 40), (40, 200, 40), (40, 40, 200)]
WIDTH, HEIGHT = 40, 32
SPLITS = {"train": ["a", "b c", "图"], "val": ["d", "e"]}
TABLE = "name,red,green,blue,value\nwall,200,40,40,17\ndoor,40,200,40,300\nfloor,40,40,200,65535\nignore,0,0,0,0\n"
COLOUR_TABLE = "".join(f"{line.rpartition(',')[0]}\n" for line in TABLE.splitlines())


def boxes(name: str) -> list[tuple[int, tuple[int, int, int, int]]]:
    """The class of each box (left, top, right, bottom), a later one over the earlier ones; what is left is ignored."""
    rng = np.random.default_rng(len(name) + ord(name[0]))
    left, top = int(rng.integers(2, 20)), int(rng.integers(2, 16))
    return [(0, (1, 1, WIDTH, HEIGHT)), (2, (1, 24, WIDTH, HEIGHT)), (1, (left, top, left + 9, top + 12))]


def label_of(name: str) -> np.ndarray:
    label = np.full((HEIGHT, WIDTH), 255, np.uint8)
    for value, (left, top, right, bottom) in boxes(name):
        label[top:bottom, left:right] = value
    return label


def coloured(name: str) -> np.ndarray:
    return np.array([*COLOURS, *[(0, 0, 0)] * 253], np.uint8)[label_of(name)]


def plain(path: Path, name: str) -> None:
    Image.fromarray(label_of(name)).save(path.with_suffix(".png"))


def rgba(path: Path, name: str) -> None:
    alpha = np.full((HEIGHT, WIDTH, 1), 255, np.uint8)
    Image.fromarray(np.concatenate([coloured(name), alpha], axis=2)).save(path.with_suffix(".png"))


def palette(path: Path, name: str) -> None:
    Image.fromarray(coloured(name)).quantize(8, dither=Image.Dither.NONE).save(path.with_suffix(".png"))


def sparse(path: Path, name: str) -> None:
    values = np.array([17, 300, 65535, *[0] * 253], np.uint16)
    Image.fromarray(values[label_of(name)]).save(path.with_suffix(".png"))


def tiff(path: Path, name: str) -> None:
    Image.fromarray(coloured(name)).save(path.with_suffix(".tif"))


def labelme(path: Path, name: str) -> None:
    shapes = [
        {"label": NAMES[value], "points": [box[:2], box[2:]], "shape_type": "rectangle"} for value, box in boxes(name)
    ]
    contents = {"imageHeight": HEIGHT, "imageWidth": WIDTH, "imagePath": f"{name}.png", "shapes": shapes}
    path.with_suffix(".json").write_text(json.dumps(contents))


CODINGS: dict[str, tuple[Callable[[Path, str], None], str]] = {
    "values from 0": (plain, ""),
    "RGBA": (rgba, COLOUR_TABLE),
    "palette by colours": (palette, COLOUR_TABLE),
    "16 bits": (sparse, TABLE),
    "TIFF": (tiff, TABLE),
    "LabelMe": (labelme, ""),
}


def image(path: Path, name: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(ord(name[0])).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
    Image.fromarray(pixels).save(path)


def write(
    root: Path, coding: str, images: str = "images/{split}/{name}", labels: str = "labels/{split}/{name}"
) -> Path:
    code, table = CODINGS[coding]
    for split, names in SPLITS.items():
        for name in names:
            image(root / f"{images.format(split=split, name=name)}.png", name)
            label = root / f"{labels.format(split=split, name=name)}.png"
            label.parent.mkdir(parents=True, exist_ok=True)
            code(label, name)
    if table:
        (root / "classes.csv").write_text(table)
    else:
        (root / "classes.txt").write_text("\n".join(NAMES))
    return root


def write_coco(root: Path, file: str, images: str, stated: str, splits: dict[str, list[str]]) -> Path:
    """COCO's annotations: a `file` for each split, images where `images` says, and how it states their names."""
    for split, names in splits.items():
        contents: dict[str, list] = {"images": [], "annotations": []}
        contents["categories"] = [{"id": place, "name": name} for place, name in enumerate(["objects", *NAMES])]
        for number, name in enumerate(names):
            image(root / images.format(split=split, name=name), name)
            file_name = stated.format(name=name)
            contents["images"].append({"id": number, "file_name": file_name, "height": HEIGHT, "width": WIDTH})
            for value, box in boxes(name):
                drawn = {"image_id": number, "category_id": 1 + value, "segmentation": [outline(*box)], "iscrowd": 0}
                contents["annotations"].append(drawn)
        (root / file.format(split=split)).parent.mkdir(parents=True, exist_ok=True)
        (root / file.format(split=split)).write_text(json.dumps(contents))
    (root / "classes.txt").write_text("\n".join(NAMES))
    return root


ALL = {"all": [name for names in SPLITS.values() for name in names]}
ROBOFLOW = {"train": SPLITS["train"], "valid": SPLITS["val"]}
COCO: dict[str, tuple[str, str, str, dict[str, list[str]]]] = {
    "CVAT": ("annotations/instances_default.json", "images/default/{name}.png", "{name}.png", ALL),
    "Label Studio": ("result.json", "images/{name}.png", "../../media/{name}.png", ALL),
    "Roboflow": ("{split}/_annotations.coco.json", "{split}/{name}.png", "{name}.png", ROBOFLOW),
    "COCO": ("annotations/instances_{split}2017.json", "{split}2017/{name}.png", "{name}.png", SPLITS),
}


def labels_of(source: Path, out: Path, **choices) -> dict[str, np.ndarray]:
    """The label map of each image in the shards of a source, by its name."""
    fetch.run(dataset="mine", layout="folder", source=str(source), out=out, **choices)
    shards = [out / f"{split}.h5" for split in SPLITS]
    for shard in shards:
        prepare.run(index=out / "index.json", split=shard.stem, shard=0, of=1, max_size=None, limit=None,
                    on_bad_pair="fail", out=shard)  # fmt: skip
    verify.run(shards=shards, out=out / "labels.json")
    reader = ShardReader(shards)
    assert (reader.dataset, reader.class_names) == ("mine", NAMES)
    return {name: reader[place][1] for place, name in enumerate(reader.names)}


def agree(found: dict[str, np.ndarray]) -> None:
    assert set(found) == {name for names in SPLITS.values() for name in names}
    for name, label in found.items():
        assert np.array_equal(label, label_of(name)), name


@pytest.mark.parametrize("coding", CODINGS)
def test_codings(tmp_path: Path, coding: str):
    agree(labels_of(write(tmp_path / "mine", coding), tmp_path / "out"))


@pytest.mark.parametrize("coding", ["RGBA", "LabelMe"])
def test_nested_folders_and_endings(tmp_path: Path, coding: str):
    source = write(tmp_path / "mine", coding, "images/{split}/{name}_photo", "labels/{split}/{name}_mask")
    agree(labels_of(source, tmp_path / "out"))


def test_lists(tmp_path: Path):
    source = write(tmp_path / "mine", "RGBA", "images/{name}", "labels/{name}")
    for split, names in SPLITS.items():
        (source / f"{split}.txt").write_text("".join(f"{name}.png\n" for name in names))
    agree(labels_of(source, tmp_path / "out"))
    described = json.loads((tmp_path / "out/labels.json").read_text())
    assert (described["splitting"], described["splits"]["val"]["images"]) == ("train.txt, val.txt", 2)


def test_no_splits(tmp_path: Path):
    source = write(tmp_path / "mine", "16 bits", "images/{name}", "labels/{name}")
    agree(labels_of(source, tmp_path / "out", val_share=0.5))
    described = json.loads((tmp_path / "out/labels.json").read_text())
    assert described["splitting"] == "val_share 0.5 of the images by the SHA-256 of their names"


@pytest.mark.parametrize("exporter", COCO)
def test_coco(tmp_path: Path, exporter: str):
    source = write_coco(tmp_path / "mine", *COCO[exporter])
    found = labels_of(source, tmp_path / "out", **({"val_share": 0.5} if COCO[exporter][-1] is ALL else {}))
    agree({name.removeprefix("media_"): label for name, label in found.items()})


def test_coco_without_a_class_file(tmp_path: Path):
    source = write_coco(tmp_path / "mine", *COCO["CVAT"])
    (source / "classes.txt").unlink()
    fetch.run(dataset="mine", layout="folder", source=str(source), out=tmp_path / "out", val_share=0.5)
    index = json.loads((tmp_path / "out/index.json").read_text())
    assert index["class_names"] == ["background", "objects", *NAMES]


def test_labelme_beside_the_images(tmp_path: Path):
    source = write(tmp_path / "mine", "LabelMe", "{split}/{name}", "{split}/{name}")
    agree(labels_of(source, tmp_path / "out"))


def test_a_class_that_is_not_in_train_is_named_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture):
    source = write(tmp_path / "mine", "values from 0")
    (source / "classes.txt").write_text("\n".join([*NAMES, "sheep"]))
    with pytest.raises(AssertionError):  # another list of classes
        labels_of(source, tmp_path / "out")
    assert "warning: never in train: sheep\n" in capsys.readouterr().err


def test_a_class_file_stands_for_a_folder_alone(tmp_path: Path):
    with pytest.raises(InputError, match="'streets' has its own classes and splits"):
        fetch.run(dataset="mine", layout="streets", out=tmp_path, val_share=0.5)
