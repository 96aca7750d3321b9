"""Class weights from how often classes occur."""

import numpy as np

from ccnet.data import labels
from ccnet.data.shards import ShardReader
from ccnet.progress import progress

EXPONENTS = {"median_frequency": 1.0, "sqrt_median_frequency": 0.5}


def class_weights(reader: ShardReader, kind: str) -> np.ndarray:
    """The weights of the setting `class_weights`, float64 `(num_classes,)`: a power of those of `median_frequency`."""
    return median_frequency(reader) ** EXPONENTS[kind]


def median_frequency(reader: ShardReader) -> np.ndarray:
    """Median frequency balancing (Eigen and Fergus, arXiv:1411.4734, section 6.3.2): float64 `(num_classes,)`.

    The frequency of a class is its number of pixels divided by the labelled pixels of the images that contain it; its
    weight is the median of the frequencies divided by its own. A class that never occurs has weight 1.
    """
    pixels, around = np.zeros((2, len(reader.class_names)))
    for position in progress(range(len(reader)), desc="class weights", unit="label map", leave=False):
        counts = labels.histogram(reader.label(position), len(reader.class_names))[:-1]
        pixels += counts
        around[counts > 0] += counts.sum()
    seen = pixels > 0
    frequency = pixels[seen] / around[seen]
    weights = np.ones(len(pixels))
    weights[seen] = np.median(frequency) / frequency if seen.any() else 1
    return weights
