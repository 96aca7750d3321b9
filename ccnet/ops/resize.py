"""Bilinear resizing of whole feature maps or of a range of output rows."""

import numpy as np

from ccnet.ops import kernel
from ccnet.runtime import jt

FORWARD = """
    resize::forward(in0_p, out0_p, in0_shape0 * in0_shape1, in0_shape2, in0_shape3, out0_shape2, out0_shape3,
                    data["align_corners"]);"""
BACKWARD = """
    resize::backward(in0_p, out0_p, in0_shape0 * in0_shape1, out0_shape2, out0_shape3, in0_shape2, in0_shape3,
                     data["align_corners"]);"""


class _Resize(jt.Function):
    def __init__(self, size: tuple[int, int], align_corners: bool):
        self.size = size
        self.data = {"align_corners": float(align_corners)}

    def execute(self, x: jt.Var) -> jt.Var:
        self.shape = tuple(x.shape)
        return kernel.launch("resize", FORWARD, [(*x.shape[:2], *self.size)], ["float32"], [x], self.data)[0]

    def grad(self, dy: jt.Var) -> jt.Var:
        return kernel.launch("resize", BACKWARD, [self.shape], ["float32"], [dy], self.data)[0]


def resize(x: jt.Var, size: tuple[int, int], align_corners: bool = False) -> jt.Var:
    """Resize x (B, C, H, W) to `size` (height, width), as PyTorch's bilinear interpolate without antialiasing."""
    if tuple(x.shape[2:]) == tuple(size):
        return x
    if not kernel.available("resize", x):
        return jt.nn.interpolate(x, tuple(size), mode="bilinear", align_corners=align_corners)
    return _Resize((size[0], size[1]), align_corners)(x)


def source_rows(before: int, after: int, align_corners: bool = False) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Source rows of each of `after` rows: upper, lower (int64), weight of lower (float32), each `(after,)`."""
    rows = np.arange(after)
    place = rows * ((before - 1) / max(after - 1, 1)) if align_corners else (rows + 0.5) * (before / after) - 0.5
    upper = np.clip(place.astype(np.int64), 0, before - 1)
    return upper, np.minimum(upper + 1, before - 1), np.clip(place - upper, 0, 1).astype(np.float32)


def resize_rows(
    x: jt.Var, upper: np.ndarray, lower: np.ndarray, share: np.ndarray, width: int, align_corners: bool = False
) -> jt.Var:
    """Interpolate rows `upper`, `lower` of x (C, h, W) by `share`, and columns to `width`: (C, len(share), width)."""
    x = resize(x[None], (x.shape[1], width), align_corners)[0]
    if not share.any() and np.array_equal(upper, np.arange(x.shape[1])):
        return x
    above, below = x[:, jt.array(upper)], x[:, jt.array(lower)]
    return above + (below - above) * jt.array(share).unsqueeze(1)
