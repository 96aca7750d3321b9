"""Where the windows of a sliding prediction lie, and how much each counts, along one axis; with NumPy alone.

The windows of an image are all pairs of a row's and a column's. Their weights are products, and so are the sums of
weights that an average is divided by: shares that sum to 1 along each axis do so over the image.
"""

import numpy as np


def starts(size: int, window: int, stride: int) -> list[int]:
    """First pixels of windows that cover `size` pixels: every `stride`, the last shifted back to end with the image.

    One window where the image is no larger than it.
    """
    last = max(0, size - window)
    return [*range(0, last, stride), last]


def window_weights(size: int, window: int, stride: int) -> list[tuple[int, np.ndarray]]:
    """Each window's first pixel, and its share of the average at each of its pixels, float32 `(min(window, size),)`.

    Weights rise linearly from a window's edges, where the network sees least around a pixel, to its middle.
    """
    length = min(window, size)
    weights = np.minimum(np.arange(1, length + 1), np.arange(length, 0, -1)).astype(np.float32)
    total = np.zeros(size, np.float32)
    for start in starts(size, window, stride):
        total[start : start + length] += weights
    return [(start, weights / total[start : start + length]) for start in starts(size, window, stride)]
