"""Dividing a user's pairs into train, val and test: by lists of names, or by a share."""

import hashlib
import re
import unicodedata
from collections import Counter
from pathlib import Path
from typing import NamedTuple

from ccnet import InputError
from ccnet.data.pairs import Pair

# The names of each split, in folders and files; the first is preferred.
NAMES = {"train": ("train",), "val": ("val", "valid", "validation"), "test": ("test",)}


def split_of(path: Path) -> str | None:
    """The split that a path names, as in instances_train2017.json or valid/_annotations.coco.json."""
    for part in reversed(path.parts):
        for split, names in NAMES.items():
            if re.search(rf"(?<![a-z])({'|'.join(names)})(?![a-z])", part.lower()):
                return split
    return None


class Divided(NamedTuple):
    """The pairs of each split, `how` they were divided (None: by folders), and what the user should know."""

    pairs: dict[str, list[Pair]]
    how: str | None
    remarks: list[str]


def divide(pairs: dict[str, list[Pair]], root: Path, val_share: float | None) -> Divided:
    """Divide pairs that are given by split; those of split "" have none and are divided by lists in `root`.

    Without a val split, `val_share` of the train split becomes val. Raises InputError if there is none either, if the
    source has a val split besides, if lists are wrong, and for a split without pairs.
    """
    own = {split: listed for split, listed in pairs.items() if split}
    divided = Divided(own, None, [])
    if "" in pairs:
        lists = _lists(root)
        divided = _by_lists(pairs[""], root, lists, share=val_share is not None)
        if both := sorted(own.keys() & divided.pairs.keys() & lists.keys()):
            raise InputError(f"{lists[both[0]]}: lists a split that has files of its own: remove the list")
        divided.pairs.update(own)
    if val_share is not None and not 0 < val_share < 1:
        raise InputError(f"dataset.val_share {val_share:g}: must be above 0 and below 1")
    if "train" not in divided.pairs:
        raise InputError(f"{root}: has no train split, only {', '.join(divided.pairs) or 'empty ones'}")
    if "val" in divided.pairs and val_share is not None:
        raise InputError(f"{root}: has a val split of its own: dataset.val_share must be null")
    if "val" not in divided.pairs:
        divided = _by_share(divided, root, val_share)
    for split, listed in divided.pairs.items():
        if not listed:
            how = divided.how or "as the source has it"
            remedy = "choose another val_share, or list names in train.txt and val.txt"
            raise InputError(f"{root}: no pair is left for the {split} split ({how}): {remedy}")
    return divided._replace(pairs={split: divided.pairs[split] for split in NAMES if split in divided.pairs})


def _by_share(divided: Divided, root: Path, val_share: float | None) -> Divided:
    if val_share is None:
        raise InputError(
            f"{root}: has no val split: set dataset.val_share (0.2: a fifth of the images), list names in val.txt, or"
            " divide the images and label maps into folders train and val"
        )
    chosen: dict[str, list[Pair]] = {"train": [], "val": []}
    for pair in divided.pairs["train"]:
        chosen["val" if _position(pair.name) < val_share else "train"].append(pair)
    how = f"val_share {val_share:g} of the images by the SHA-256 of their names"
    return Divided(divided.pairs | chosen, f"{divided.how}, {how}" if divided.how else how, divided.remarks)


def _position(name: str) -> float:
    """A number in [0, 1) from a name alone: files that come or go leave all others in their split."""
    return int.from_bytes(hashlib.sha256(name.encode(errors="surrogateescape")).digest()[:6]) / 2**48


def _lists(root: Path) -> dict[str, Path]:
    """The list of each split that has one: train.txt, val.txt, test.txt."""
    found = {split: [root / f"{name}.txt" for name in names] for split, names in NAMES.items()}
    return {
        split: next(path for path in paths if path.is_file())
        for split, paths in found.items()
        if any(path.is_file() for path in paths)
    }


def _by_lists(pairs: list[Pair], root: Path, lists: dict[str, Path], share: bool) -> Divided:
    """Pairs in no list are those of train or val if it has no list, unless val is to be a `share` of train."""
    lookup = _aliases(pairs, root)
    chosen = {split: _listed(path, lookup) for split, path in lists.items()}
    _refuse_overlap(chosen, lists)
    taken = {pair.name for listed in chosen.values() for pair in listed}
    rest = [pair for pair in pairs if pair.name not in taken]
    how, remarks = ", ".join(path.name for path in lists.values()), []
    missing = [split for split in ("train", "val") if split not in chosen and not (share and split == "val")]
    if rest and missing:
        chosen[missing[0]] = rest
        if lists:
            how += f"; {missing[0]}: the images in no list"
            remarks.append(f"{root}: {missing[0]} is the {len(rest)} images that no list names")
    elif rest:
        remarks.append(f"{root}: {len(rest)} images are in no list and are left out")
    return Divided(chosen, how or None, remarks)


def _aliases(pairs: list[Pair], root: Path) -> dict[str, Pair | None]:
    """Pairs by all the ways in which a list may name them: by the path from `root` or an end of it, None if shared."""
    parts = [(pair, pair.image.relative_to(root).parts) for pair in pairs if pair.image.is_relative_to(root)]
    lookup: dict[str, Pair | None] = {}
    for left_out in reversed(range(max((len(each) for _, each in parts), default=0))):  # a longer end has precedence
        ends = [(Path(*each[left_out:]), pair) for pair, each in parts if len(each) > left_out]
        named = [(_normal(str(path)), pair) for end, pair in ends for path in {end, end.with_suffix("")}]
        uses = Counter(name for name, _ in named)
        lookup.update((name, pair if uses[name] == 1 else None) for name, pair in named)
    return lookup | {pair.name: pair for pair in pairs}


def _normal(name: str) -> str:
    """A path in one form, whichever system wrote it."""
    return unicodedata.normalize("NFC", name.strip().replace("\\", "/").removeprefix("./"))


def _listed(path: Path, lookup: dict[str, Pair | None]) -> list[Pair]:
    """The pairs that a list names, in order of names. Raises InputError for a name that is of no image or several."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not a list of names, one a line in UTF-8 ({error})") from error
    names = [(number, name) for number, name in enumerate(map(_normal, lines), 1) if name]
    unknown = [(number, name) for number, name in names if name not in lookup]
    if unknown:
        number, name = unknown[0]
        more = f" (and {len(unknown) - 1} more)" if len(unknown) > 1 else ""
        raise InputError(f"{path}, line {number}: there is no image {name!r}{more}: mend the list, or add the image")
    found = [(number, name, lookup[name]) for number, name in names]
    for number, name, pair in found:
        if pair is None:
            raise InputError(f"{path}, line {number}: several images are called {name!r}: state more of the path")
    return sorted({pair.name: pair for _, _, pair in found if pair}.values(), key=lambda pair: pair.name)


def _refuse_overlap(chosen: dict[str, list[Pair]], lists: dict[str, Path]) -> None:
    seen: dict[str, str] = {}
    for split, pairs in chosen.items():
        for pair in pairs:
            other = seen.setdefault(pair.name, split)
            if other != split:
                raise InputError(
                    f"{lists[split]}: names {pair.name}, which {lists[other].name} names too: an image has one split"
                )
