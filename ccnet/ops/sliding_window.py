"""Positions and weights of sliding windows along one axis, in NumPy.

The windows of an image are all pairs of a vertical and a horizontal window, weighted by the product of their weights.
Normalised weights that sum to 1 along each axis therefore also sum to 1 over the image.
"""

import numpy as np


def starts(size: int, window: int, stride: int) -> list[int]:
    """First pixels of windows that cover `size` pixels: every `stride`, the last shifted to end at the image's edge.

    One window if the image is no larger than the window.
    """
    last = max(0, size - window)
    return [*range(0, last, stride), last]


def window_weights(size: int, window: int, stride: int) -> list[tuple[int, np.ndarray]]:
    """First pixel and normalised weights, float32 `(min(window, size),)`, of each window.

    Weights rise linearly from a window's edges, where the network sees the least context, to its middle.
    """
    length = min(window, size)
    weights = np.minimum(np.arange(1, length + 1), np.arange(length, 0, -1)).astype(np.float32)
    total = np.zeros(size, np.float32)
    for start in starts(size, window, stride):
        total[start : start + length] += weights
    return [(start, weights / total[start : start + length]) for start in starts(size, window, stride)]
