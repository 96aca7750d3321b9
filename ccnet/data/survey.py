"""One pass over all pairs of a dataset: what is in each, whether it can be used, and what it is compared by."""

import hashlib
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ccnet import InputError
from ccnet.data import duplicates, gate, labels
from ccnet.data.index import Index
from ccnet.progress import progress

Size = tuple[int, int]
SHOWN = 0.1  # a pair shows a class if it has this share of the class's largest area in a pair


@dataclass(frozen=True)
class Content:
    """What a pair's decoded files hold: sizes (width, height), pixels by class and ignored, int64 `(C + 1,)`, and hash.

    `image_digest` is of the image's file, `label_digest` of the label map's train ids, whatever their encoding.
    """

    size: Size
    label_size: Size
    pixels: np.ndarray
    hash: np.ndarray
    image_digest: bytes
    label_digest: bytes

    @property
    def classes(self) -> np.ndarray:
        """The train ids that occur, without that of ignored pixels."""
        return np.flatnonzero(self.pixels[:-1])


@dataclass(frozen=True)
class Surveyed:
    """A pair; `reason` says why it cannot be used (None: it can), and `content` is None if it cannot be decoded."""

    split: str
    name: str
    image: Path
    label: Path
    content: Content | None = field(repr=False)
    reason: str | None = None


def survey(index: Index, folder: Path) -> list[Surveyed]:
    """Decode and check every pair of an index whose paths are relative to `folder`; keeps no pixels."""
    coding = index.coding()
    listed = [(split, pair) for split, pairs in index.pairs.items() for pair in pairs]
    found = []
    for split, (name, image, label) in progress(listed, desc="inspecting", unit="img"):
        content, reason = None, None
        try:
            pair = gate.open_pair(folder / image, folder / label, coding)
            content = _content(pair, len(index.class_names))
            pair.check()
        except InputError as error:
            reason = str(error)
        found.append(Surveyed(split, name, folder / image, folder / label, content, reason))
    return found


def _content(pair: gate.Opened, num_classes: int) -> Content:
    return Content(
        size=pair.rgb.size,
        label_size=pair.label_size,
        pixels=labels.histogram(pair.label, num_classes),
        hash=duplicates.difference_hash(pair.rgb),
        image_digest=hashlib.sha256(pair.image_bytes).digest(),
        label_digest=hashlib.sha256(pair.label.tobytes()).digest(),
    )


def sample(pixels: np.ndarray, count: int) -> list[int]:
    """Choose `count` pairs of a split by their pixels by class `(N, C)`, so that rare classes are seen; sorted places.

    In turn the pair is taken that shows most of what was not shown yet, rare classes counting more; once all are
    shown, the rest are taken at even distances. The same pixels give the same choice.
    """
    views = pixels / np.maximum(pixels.max(axis=0, initial=0), 1)
    rarity = 1 / np.maximum((pixels > 0).sum(axis=0), 1)
    hidden = np.ones(pixels.shape[1], bool)
    chosen: list[int] = []
    while len(chosen) < min(count, len(pixels)):
        gains = views @ (rarity * hidden)
        if not gains.any():
            break
        chosen.append(int(gains.argmax()))
        hidden &= views[chosen[-1]] < SHOWN
        views[chosen[-1]] = 0
    rest = np.setdiff1d(np.arange(len(pixels)), chosen)
    even = np.linspace(0, max(len(rest) - 1, 0), min(count - len(chosen), len(rest))).round().astype(int)
    return sorted([*chosen, *rest[even].tolist()])


def quotas(available: list[int], count: int) -> list[int]:
    """Deal `count` out to splits as evenly as what is `available` in each allows."""
    dealt = [0] * len(available)
    for _ in range(min(count, sum(available))):
        least = min((n, place) for place, n in enumerate(dealt) if n < available[place])[1]
        dealt[least] += 1
    return dealt
