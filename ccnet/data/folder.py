"""A dataset of the user's own: finding its images, its label files, and its splits."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from ccnet import InputError
from ccnet.data import coco, coding, splits
from ccnet.data.images import SUFFIXES
from ccnet.data.pairs import DEPTH, Pair, breadth_first, by_key, refuse_repeated_names, visible

IMAGES = "images"
LABELS = ("labels", "masks", "annotations")  # folders of label files; the first that is there is used
BESIDE = (".json",)  # of label files that lie beside their images: LabelMe's
SHOWN = 12  # folders in an error message
RIVAL = 10  # an ending is clear if it makes over so many times as many pairs as any other


@dataclass(frozen=True)
class Choices:
    """What the user says of the folder; None: as it is found.

    `val_share` is the share of the images without a split, or of train if there is no val, that becomes val. The
    endings are the ends of file names, before the suffix, in which images and label files of a pair differ.
    """

    val_share: float | None = None
    image_ending: str | None = None
    label_ending: str | None = None


@dataclass
class Found:
    """The pairs of each split, how they were `splitting` (None: by the source), and what the user should know."""

    root: Path
    pairs: dict[str, list[Pair]]
    splitting: str | None = None
    remarks: list[str] = field(default_factory=list)
    categories: list[str] | None = None  # of COCO's annotations, in the order of their ids


@dataclass(frozen=True)
class _Set:
    """Images and label files by key in one place: of a split, or (None) of a set that is not divided."""

    split: str | None
    images: Path
    labels: Path
    suffixes: tuple[str, ...]  # of the label files


def find(source: Path, choices: Choices, scratch: Path) -> Found:
    """Find the pairs in `source`; COCO's annotations are written to `scratch`, a file for each image.

    Looked for, from `source` down to `DEPTH` levels: `images/` with `labels/` (or `masks/`, `annotations/`), each
    divided into `train`, `val` and `test` or not; images beside LabelMe's JSON files; COCO's annotation files. Pairs
    that are not divided by folders are divided by train.txt, val.txt and test.txt, else by `val_share`. Raises
    InputError that says what is missing or ambiguous.
    """
    if not source.is_dir():
        raise InputError(f"{source}: no such folder")
    for root in breadth_first(source, DEPTH):
        if sets := _sets(root):
            found = _paired(root, sets, choices)
            break
        if files := coco.files(root):
            found = _annotated(root, files, scratch)
            break
    else:
        if not _holds(source, BESIDE, source):
            raise _nothing_fits(source)
        found = _paired(source, [_Set(None, source, source, BESIDE)], choices)
    divided = splits.divide(found.pairs, found.root, choices.val_share)
    found.pairs, found.splitting = divided.pairs, divided.how
    found.remarks += divided.remarks
    for pairs in found.pairs.values():
        refuse_repeated_names(pairs)
    return found


def _sets(root: Path) -> list[_Set]:
    """The sets in `root`, by folders; [] if it does not hold images and label files side by side."""
    for labels in (root / name for name in LABELS):
        if (root / IMAGES).is_dir() and labels.is_dir():
            divided = list(_divided(root / IMAGES, labels, coding.SUFFIXES))
            _refuse_half(root / IMAGES, labels, divided)
            inside = {path.suffix.lower() for each in divided for path in visible(each.labels)}
            if inside & set(coding.SUFFIXES) or _holds(labels, coding.SUFFIXES, beside=root / IMAGES):
                return divided or [_Set(None, root / IMAGES, labels, coding.SUFFIXES)]
    for images in (root / IMAGES, root):
        if divided := [each for each in _divided(images, images, BESIDE) if _holds(each.labels, BESIDE, images)]:
            return divided
    return [_Set(None, root / IMAGES, root / IMAGES, BESIDE)] if _holds(root / IMAGES, BESIDE, root / IMAGES) else []


def _refuse_half(images: Path, labels: Path, divided: list[_Set]) -> None:
    """Raise InputError if train or val has a folder of images but none of labels, where another split has both."""
    found = {each.split for each in divided}
    for split in ("train", "val"):
        lone = [images / name for name in splits.NAMES[split] if (images / name).is_dir()]
        if found and split not in found and lone:
            raise InputError(f"{labels / lone[0].name}: no such folder, though there is {lone[0]}: add the label maps")


def _divided(images: Path, labels: Path, suffixes: tuple[str, ...]) -> Iterator[_Set]:
    for split, names in splits.NAMES.items():
        there = [name for name in names if (images / name).is_dir() and (images == labels or (labels / name).is_dir())]
        if len(there) > 1:
            raise InputError(f"{images}: has {' and '.join(there)}, two folders for the {split} split: join them")
        for name in there:
            yield _Set(split, images / name, labels / name, suffixes)


def _holds(labels: Path, suffixes: tuple[str, ...], beside: Path) -> bool:
    """Whether a folder holds label files; JSON files only count if there is one for an image of the same name."""
    if not labels.is_dir():
        return False
    others = tuple(suffix for suffix in suffixes if suffix != ".json")
    files = [path for path in visible(labels) if path.suffix.lower() in suffixes]
    if any(path.suffix.lower() in others for path in files):
        return True
    names = {path.stem for path in visible(beside) if path.suffix.lower() in SUFFIXES}
    return any(path.stem in names for path in files)


def _paired(root: Path, sets: list[_Set], choices: Choices) -> Found:
    found = Found(root, {})
    for each in sets:
        images, labels = by_key(each.images, SUFFIXES), by_key(each.labels, each.suffixes)
        if not images:
            named = f" for the {each.split} split" if each.split else ""
            raise InputError(f"{each.images}: no images{named} (looked for {', '.join(SUFFIXES)})")
        image_ending, label_ending = _endings(images, labels, choices, each)
        found.remarks += _left_over(each, images, labels, image_ending, label_ending)
        if (image_ending, label_ending) != ("", "") and None in (choices.image_ending, choices.label_ending):
            found.remarks.append(
                f"{each.labels}: X{image_ending} is paired with X{label_ending} (dataset.image_ending and label_ending)"
            )
        found.pairs[each.split or ""] = list(_matched(images, labels, image_ending, label_ending, each))
    found.remarks += _not_used(root, sets)
    return found


def _left_over(where: _Set, images: Iterable[str], labels: Iterable[str], *endings: str) -> Iterator[str]:
    """Remarks on the files whose names have other endings, and which are therefore in no pair."""
    for folder, names, ending in zip((where.images, where.labels), (images, labels), endings, strict=True):
        others = [name for name in names if not name.endswith(ending)]
        if others:
            yield f"{folder}: {len(others)} files do not end in {ending} and are left out, such as {others[0]}"


def _not_used(root: Path, sets: list[_Set]) -> Iterator[str]:
    """Remarks on folders that are beside those of the splits, or that would have served as the labels'."""
    used = {path for each in sets for path in (each.images, each.labels)}
    if all(each.split for each in sets):
        for parent in {path.parent for path in used} - {root}:
            others = sorted(child.name for child in parent.iterdir() if child not in used and child.name[0] != ".")
            if others:
                yield f"{parent}: not used: {', '.join(others[:SHOWN])}"
    for labels in (root / name for name in LABELS):
        if labels.is_dir() and not any(path.is_relative_to(labels) for path in used):
            yield f"{labels}: not used: the labels are in {sets[0].labels}"


def _matched(
    images: dict[str, Path], labels: dict[str, Path], image_ending: str, label_ending: str, where: _Set
) -> Iterator[Pair]:
    """The pairs, sorted by name; a missing partner is listed with its expected path."""
    by_image = {key.removesuffix(image_ending): path for key, path in images.items() if key.endswith(image_ending)}
    by_label = {key.removesuffix(label_ending): path for key, path in labels.items() if key.endswith(label_ending)}
    if not by_image.keys() & by_label.keys():
        key, image = next(iter(by_image.items() or images.items()))
        named = f"; there are names such as {next(iter(labels.values())).name}" if labels else ""
        raise InputError(
            f"no image has its label map: sought, for one, {image} and {where.labels / key}{label_ending}"
            f"{where.suffixes[0]}{named}: if the names end differently, state how (dataset.image_ending, label_ending)"
        )
    for key in sorted(by_image.keys() | by_label.keys()):
        image = by_image.get(key, where.images / f"{key}{image_ending}.*")
        yield Pair(
            key.replace("/", "_"), image, by_label.get(key, where.labels / f"{key}{label_ending}{where.suffixes[0]}")
        )


def _endings(images: Iterable[str], labels: Iterable[str], choices: Choices, where: _Set) -> tuple[str, str]:
    """The ends of the images' and of the label files' names. Raises InputError if they are not clear."""
    if choices.image_ending is not None and choices.label_ending is not None:
        return choices.image_ending, choices.label_ending
    counts: Counter[tuple[str, str]] = Counter()
    tried = [choices.image_ending] if choices.image_ending is not None else _common_endings(images)
    for image_ending in tried:
        keys = {image.removesuffix(image_ending) for image in images if image.endswith(image_ending)}
        for label in labels:
            ending = _ending_of(label, keys)
            if ending is not None and choices.label_ending in (None, ending):
                counts[image_ending, ending] += 1
        if counts:
            break
    ranked = counts.most_common(2)
    if not ranked or counts["", ""] * RIVAL >= ranked[0][1]:  # the same names are clear, whatever else is there
        return choices.image_ending or "", choices.label_ending or ""
    if len(ranked) > 1 and ranked[0][1] <= RIVAL * ranked[1][1]:
        listed = ", ".join(f"{ending!r} ({count})" for (_, ending), count in counts.most_common(SHOWN))
        raise InputError(f"{where.labels}: label files end in {listed}: choose one (dataset.label_ending)")
    return ranked[0][0]


def _ending_of(label: str, keys: set[str]) -> str | None:
    """What follows the longest of `keys` with which a label file's name begins; None if there is none."""
    for length in range(len(label), 0, -1):
        if label[:length] in keys and not label[length : length + 1].isdigit():  # image 1 is not that of label 12
            return label[length:]
    return None


def _common_endings(names: Iterable[str]) -> list[str]:
    """ "", and the ends that all names share and that begin with a sign such as _, the longest last."""
    listed = [PurePosixPath(name).name[::-1] for name in names]
    shared = listed[0]
    for name in listed[1:]:
        shared = next((shared[:place] for place, sign in enumerate(shared) if name[place : place + 1] != sign), shared)
    starts = [match.start() for match in re.finditer(r"[^0-9A-Za-z]", shared)] if len(listed) > 1 else []
    return ["", *[shared[: start + 1][::-1] for start in starts]]


def _annotated(root: Path, files: list[Path], scratch: Path) -> Found:
    """The pairs of COCO's annotation files; each file states its split by its name or its folder's, or none."""
    found = Found(root, {})
    for path in files:
        split = splits.split_of(path.relative_to(root)) or ""
        if split in found.pairs:
            named = f"for the {split} split" if split else "that name no split"
            raise InputError(f"{root}: has several of COCO's files {named}, such as {path.relative_to(root)}: keep one")
        annotated = coco.extract(path, root, scratch / (split or "all"), split or None)
        if found.categories not in (None, annotated.categories):
            raise InputError(f"{path}: other categories than {files[0]}: give all files the same")
        found.categories = annotated.categories
        found.pairs[split] = annotated.pairs
        found.remarks.append(f"{path}: COCO annotations of {len(annotated.pairs)} images")
    return found


def _nothing_fits(source: Path) -> InputError:
    return InputError(f"{source}: found no {IMAGES} with {', '.join(LABELS)}; it has {_overview(source)}")


def _overview(folder: Path) -> str:
    """The folders in `folder` with the number of their files by suffix, in words."""
    rows = []
    for each in breadth_first(folder, DEPTH):
        counts = Counter(path.suffix.lower() or "no suffix" for path in each.iterdir() if path.is_file())
        if counts:
            files = ", ".join(f"{count} {suffix}" for suffix, count in counts.most_common(3))
            rows.append(f"{each.relative_to(folder)} ({files})")
    more = f" and {len(rows) - SHOWN} more folders" if len(rows) > SHOWN else ""
    return ", ".join(rows[:SHOWN]) + more or "no files"
