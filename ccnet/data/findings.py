"""What a look at a dataset should find before it is trained on: pairs and classes that are likely faults."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from ccnet.data import duplicates
from ccnet.data.survey import Size, Surveyed

# The splits whose pictures must not repeat those of the other: what was learned, or was measured already.
COMPARED = (("val", "train"), ("val", "val"), ("test", "train"), ("test", "val"), ("test", "test"))


class Twin(NamedTuple):
    """A pair, the one whose image is the nearest to its own, and in how many bits their hashes differ."""

    pair: Surveyed
    other: Surveyed
    distance: int


@dataclass(frozen=True)
class Findings:
    """What is suspicious, each in the order of the index.

    `undecodable` pairs; `mismatched` ones whose sizes differ; `uniform` ones whose label map holds at most one class;
    the classes `absent` from each split that has usable pairs; `repeated` image files; by their splits `twins` whose
    hashes differ in `duplicates.NEAR` bits at most, nearest first. `nearest` are the others of two splits, which are
    not suspicious.
    """

    undecodable: list[Surveyed]
    mismatched: list[Surveyed]
    uniform: list[Surveyed]
    absent: dict[str, list[int]]
    repeated: list[list[Surveyed]]
    twins: dict[tuple[str, str], list[Twin]]
    nearest: list[Twin]


def find(pairs: list[Surveyed]) -> Findings:
    """Judge the surveyed pairs of all splits."""
    decoded = [pair for pair in pairs if pair.content]
    twins: dict[tuple[str, str], list[Twin]] = {}
    nearest = []
    for twin in _twins(decoded):
        splits = twin.pair.split, twin.other.split
        if twin.distance <= duplicates.NEAR:
            twins.setdefault(splits, []).append(twin)
        elif splits[0] != splits[1]:
            nearest.append(twin)
    return Findings(
        undecodable=[pair for pair in pairs if pair.content is None],
        mismatched=[pair for pair in decoded if difference(pair) != (0, 0)],
        uniform=[pair for pair in decoded if pair.content and pair.content.classes.size <= 1],
        absent={split: np.flatnonzero(counts == 0).tolist() for split, counts in occurrences(pairs).items()},
        repeated=_repeated(decoded),
        twins=twins,
        nearest=nearest,
    )


def difference(pair: Surveyed) -> Size:
    """The label map's width and height less those of the image; the pair must be decoded."""
    (width, height), (label_width, label_height) = pair.content.size, pair.content.label_size  # type: ignore[union-attr]
    return label_width - width, label_height - height


def by_a_pixel(pair: Surveyed) -> bool:
    """Whether the sizes of a decoded pair differ, and by no more than a pixel."""
    return max(map(abs, difference(pair))) == 1


def usable(pairs: list[Surveyed]) -> dict[str, list[Surveyed]]:
    """The pairs of each split that can be used, for the splits that have any."""
    found: dict[str, list[Surveyed]] = {}
    for pair in pairs:
        if pair.reason is None:
            found.setdefault(pair.split, []).append(pair)
    return found


def pixels(pairs: list[Surveyed]) -> np.ndarray:
    """The pixels of decoded pairs by class, and ignored, int64 `(N, C + 1)`."""
    return np.stack([pair.content.pixels for pair in pairs if pair.content])


def occurrences(pairs: list[Surveyed]) -> dict[str, np.ndarray]:
    """In how many usable images of each split each class occurs, int64 `(C,)`."""
    return {split: (pixels(found)[:, :-1] > 0).sum(axis=0) for split, found in usable(pairs).items()}


def _repeated(decoded: list[Surveyed]) -> list[list[Surveyed]]:
    groups = duplicates.repeated([pair.content.image_digest for pair in decoded if pair.content])
    return [[decoded[place] for place in group] for group in groups]


def _twins(decoded: list[Surveyed]) -> list[Twin]:
    """The nearest of each image in each of the splits it is `COMPARED` with, in its own among those before it.

    Sorted by distance. Files that are there more than once count once: they are found anyway.
    """
    firsts: dict[bytes, Surveyed] = {}
    for pair in decoded:
        if pair.content:
            firsts.setdefault(pair.content.image_digest, pair)
    splits = {split: [pair for pair in firsts.values() if pair.split == split] for split in ("train", "val", "test")}
    found = [twin for split, other in COMPARED for twin in _nearest(splits[split], splits[other])]
    return sorted(found, key=lambda twin: twin.distance)


def _nearest(own: list[Surveyed], others: list[Surveyed]) -> list[Twin]:
    if not own or not others:
        return []
    places, distances = duplicates.nearest(_hashes(own), None if own is others else _hashes(others))
    found = zip(own, places, distances, strict=True)
    return [Twin(pair, others[place], int(distance)) for pair, place, distance in found if place >= 0]


def _hashes(pairs: list[Surveyed]) -> np.ndarray:
    return np.stack([pair.content.hash for pair in pairs if pair.content])
