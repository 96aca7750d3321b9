"""The queries and keys of recurrent criss-cross attention over an image, from which its maps are computed."""

import numpy as np

from ccnet import InputError
from ccnet.attention import Look
from ccnet.data.images import resized
from ccnet.models.ccnet import SMALLEST
from ccnet.ops.criss_cross import CrissCrossAttention
from ccnet.ops.resize import source_rows
from ccnet.predictor import network_input
from ccnet.protocol import Size
from ccnet.runtime import jt


def look(model, image: np.ndarray, seen: Size, where: str = "the network") -> Look:
    """Look at an image `(H, W, 3)` uint8 resized to the size `seen` (height, width); see `projections`."""
    query, key = projections(model, resized(image, seen), where)
    sides = zip(image.shape, seen, query.shape[1:3], strict=False)
    rows, columns = (_positions(*each, model.align_corners) for each in sides)
    return Look(query, key, rows, columns)


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


def _positions(pixels: int, seen: int, positions: int, align_corners: bool) -> np.ndarray:
    """The feature map's row (or column) for each of the image's, int64 `(pixels,)`.

    The network sees the image's `pixels` rows as `seen` rows, padded to SMALLEST.
    """
    rows = ((np.arange(pixels) + 0.5) * seen / pixels).astype(int)
    return nearest(max(seen, SMALLEST), positions, align_corners)[rows]


def nearest(pixels: int, positions: int, align_corners: bool = False) -> np.ndarray:
    """The row of the feature map nearest to each row of the image (or column to column): int64 `(pixels,)`.

    Rows correspond as in the resize of the logits to the image.
    """
    upper, lower, share = source_rows(positions, pixels, align_corners)
    return np.where(share < 0.5, upper, lower)
