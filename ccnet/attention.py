"""Where a pixel looks: the weights of recurrent criss-cross attention (CCNet, arXiv:1811.11721, sections 3.2 and 3.3).

Loop r of R has an attention matrix A_r of (H·W) × (H·W) weights. Row p of it is position p's softmax over its own row
and column, H + W - 1 positions, and zero elsewhere. Loop r computes γ · A_r V_r + X_r from features X_r and their
values V_r. The output of r loops thus gathers X_1 with the weights A_r · A_{r-1} ··· A_1: after one loop position p has
seen its cross (row p of A_1), after two every position (row p of A_2 · A_1). The maps are these rows. They leave out γ,
the projection to values, and the residual paths (+ X_r), by which a position also keeps its own features.
"""

import numpy as np

from ccnet import InputError
from ccnet.ops.criss_cross import CrissCrossAttention
from ccnet.ops.resize import source_rows
from ccnet.predictor import network_input
from ccnet.runtime import jt


def projections(model, image: np.ndarray, where: str = "the network") -> tuple[np.ndarray, np.ndarray]:
    """Queries and keys of each of a CCNet's R loops, float32 `(R, h, w, C')`, h and w those of its feature map.

    `image` is `(H, W, 3)` uint8, padded as by the Predictor; the model is set to eval mode. Raises InputError, naming
    `where` the network is from, if it has no criss-cross attention.
    """
    attention = model.head.attention
    if not isinstance(attention, CrissCrossAttention):
        raise InputError(
            f"{where}: the network has no criss-cross attention to show; name weights whose settings have head rcca and"
            " recurrence 1 or more"
        )
    inputs: list[jt.Var] = []
    model.eval()
    attention.register_forward_hook(lambda _, given, __: inputs.append(given[0]))
    try:
        with jt.no_grad():
            model(network_input(model, image))  # Jittor is lazy: what follows the last loop is never computed
            query, key = (
                np.concatenate([convolution(x).numpy() for x in inputs])
                for convolution in (attention.query_conv, attention.key_conv)
            )
    finally:
        attention.remove_forward_hook()
    return query.transpose(0, 2, 3, 1), key.transpose(0, 2, 3, 1)


def nearest(pixels: int, positions: int, align_corners: bool = False) -> np.ndarray:
    """The row of the feature map nearest to each row of the image (or column to column): int64 `(pixels,)`.

    Rows correspond as in the resize of the logits to the image.
    """
    upper, lower, share = source_rows(positions, pixels, align_corners)
    return np.where(share < 0.5, upper, lower)


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
