"""Where a pixel looks: the weights of recurrent criss-cross attention (CCNet, arXiv:1811.11721, sections 3.2 and 3.3).

Loop r of R has an attention matrix A_r of (H·W) × (H·W) weights. Row p of it is position p's softmax over its own row
and column, H + W - 1 positions, and zero elsewhere. Loop r computes γ · A_r V_r + X_r from features X_r and their
values V_r. The output of r loops thus gathers X_1 with the weights A_r · A_{r-1} ··· A_1: after one loop position p has
seen its cross (row p of A_1), after two every position (row p of A_2 · A_1). The maps are these rows. They leave out γ,
the projection to values, and the residual paths (+ X_r), by which a position also keeps its own features.
"""

import zipfile
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np

from ccnet import InputError
from ccnet.files import atomic


class Look(NamedTuple):
    """What the attention over an image is computed from: `query` and `key` of each loop, `(R, h, w, C')`.

    `rows` `(H,)` and `columns` `(W,)` int64 are the feature map's row and column for each of the image's.
    """

    query: np.ndarray
    key: np.ndarray
    rows: np.ndarray
    columns: np.ndarray

    def maps(self, x: int, y: int) -> np.ndarray:
        """Weights `(R, h, w)` of the image's pixel (x, y) after 1, 2, … R loops."""
        return maps(self.query, self.key, self.rows[y], self.columns[x])

    def save(self, path: Path) -> None:
        """Write a .npz file, queries and keys as float16."""
        halves = {"query": self.query.astype(np.float16), "key": self.key.astype(np.float16)}
        with atomic(path) as temporary:
            np.savez_compressed(temporary, **self._asdict() | halves)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read what `save` wrote. Raises InputError for another file."""
        try:
            with np.load(path, allow_pickle=False) as arrays:
                return cls(**arrays)
        except (OSError, EOFError, ValueError, TypeError, zipfile.BadZipFile) as error:
            raise InputError(f"{path}: {error}; evaluate again") from None


def cross(query: np.ndarray, key: np.ndarray, y: int, x: int) -> np.ndarray:
    """Weights `(H, W)` of position (y, x) in one loop with query and key `(H, W, C')`: their sum is 1.

    Softmax of the products of its query with the keys of its row and column (eq. 1); itself counts once.
    """
    return composed(query[None], key[None], y, x)


def composed(query: np.ndarray, key: np.ndarray, y: int, x: int) -> np.ndarray:
    """Weights `(H, W)` of position (y, x) after all R loops, query and key `(R, H, W, C')`: their sum is 1.

    It is row (y, x) of A_R ··· A_1, exact up to rounding, and takes O(W · (H + W)) memory besides the map.
    """
    weights = np.zeros(query.shape[1:3], query.dtype)
    weights[y, x] = 1
    for loop in reversed(range(len(query))):  # from the output back to the input
        weights = _through(weights, query[loop], key[loop])
    return weights


def maps(query: np.ndarray, key: np.ndarray, y: int, x: int) -> np.ndarray:
    """Weights `(R, H, W)` of position (y, x) after 1, 2, … R loops, query and key `(R, H, W, C')`."""
    return np.stack([composed(query[:loops], key[:loops], y, x) for loops in range(1, len(query) + 1)])


def _through(weights: np.ndarray, query: np.ndarray, key: np.ndarray) -> np.ndarray:
    """Weights `(H, W)` times a loop's attention matrix, Σ_p weights[p] · A[p, :], one row of positions at a time."""
    total = np.zeros_like(weights)
    for y in np.flatnonzero(weights.any(axis=1)):
        xs = np.flatnonzero(weights[y])
        above_below = np.einsum("nc,hnc->nh", query[y, xs], key[:, xs])
        above_below[:, y] = -np.inf  # the position itself is in its row
        attention = _softmax(np.concatenate([above_below, query[y, xs] @ key[y].T], axis=1))
        attention *= weights[y, xs, None]
        total[:, xs] += attention[:, : len(key)].T
        total[y] += attention[:, len(key) :].sum(axis=0)
    return total


def _softmax(scores: np.ndarray) -> np.ndarray:
    """Softmax over the last axis."""
    exponentials = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return exponentials / exponentials.sum(axis=-1, keepdims=True)
