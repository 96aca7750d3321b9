"""Images that occur twice: the same file by its digest, nearly the same picture by a perceptual hash."""

from collections import defaultdict
from collections.abc import Hashable, Sequence

import numpy as np
from PIL import Image

SIDE = 16  # of the hash: its bits are SIDE × SIDE
BITS = SIDE * SIDE
# Measured on street scenes: copies that are re-encoded, halved, brightened by 30 % or cut by 2 % at each edge differ in
# up to 26 bits, neighbouring frames of a video mostly in 10 to 31; of 75,000 pairs of other scenes the nearest in 75.
NEAR = 40
BLOCK = 512  # images compared at once with all others: limits the memory


def difference_hash(image: Image.Image) -> np.ndarray:
    """The perceptual hash of an RGB image ("dHash"), `BITS` bits packed in uint8 `(BITS // 8,)`.

    A bit says whether a cell of the shrunk grey image is darker than its right neighbour. Size, brightness and
    compression hardly change it.
    """
    grey = np.asarray(image.convert("L").resize((SIDE + 1, SIDE), Image.Resampling.LANCZOS))
    return np.packbits(grey[:, 1:] > grey[:, :-1])


def nearest(hashes: np.ndarray, others: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """For each of the packed `hashes` `(N, B)`, the place of the nearest of `others` `(M, B)` and its distance in bits.

    Both are int64 `(N,)`. Without `others`, each is compared with those before it; the first has the place -1 and the
    distance `BITS`. A product of matrices of ±1 counts the bits that agree less those that differ: seconds for
    20,000 × 2,000 images.
    """
    own = _signs(hashes)
    signs = own if others is None else _signs(others)
    places, distances = np.full(len(own), -1), np.full(len(own), BITS)
    for start in range(0, len(own), BLOCK):
        rows = slice(start, start + BLOCK)
        agreement = own[rows] @ signs.T
        if others is None:
            agreement = np.where(np.arange(len(signs)) < np.arange(len(own))[rows, None], agreement, -BITS)
        places[rows] = agreement.argmax(axis=1)
        distances[rows] = (BITS - agreement.max(axis=1)) / 2
    if others is None:
        places[:1] = -1
    return places, distances


def _signs(hashes: np.ndarray) -> np.ndarray:
    return np.unpackbits(hashes, axis=1).astype(np.float32) * 2 - 1


def repeated(keys: Sequence[Hashable]) -> list[list[int]]:
    """The places of each key that occurs more than once, in the order of their first."""
    places = defaultdict(list)
    for place, key in enumerate(keys):
        places[key].append(place)
    return [found for found in places.values() if len(found) > 1]
