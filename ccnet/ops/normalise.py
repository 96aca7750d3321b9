"""Normalisation of uint8 images to the network's float32 input."""

from collections.abc import Sequence

from ccnet.runtime import jt

# ImageNet's mean and standard deviation of R, G, B, on the scale 0 … 255
MEAN = (123.675, 116.28, 103.53)
STD = (58.395, 57.12, 57.375)


def normalise(images, mean: Sequence[float] = MEAN, std: Sequence[float] = STD):
    """Images `(B, 3, H, W)` uint8 RGB -> float32, same shape: (images - mean) / std, each for R, G, B on 0 … 255."""
    offset, scale = (jt.array(list(values)).float32().reshape(1, 3, 1, 1) for values in (mean, std))
    return (images.float32() - offset) / scale
