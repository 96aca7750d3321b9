"""From an image's bytes to the network's input."""

from ccnet.runtime import jt

# ImageNet's mean and standard deviation of R, G, B, on the scale 0 … 255
MEAN = [123.675, 116.28, 103.53]
STD = [58.395, 57.12, 57.375]


def normalise(images):
    """Images `(B, H, W, 3)` uint8 RGB -> `(B, 3, H, W)` float32 of about zero mean and unit variance."""
    mean, std = (jt.array(values).float32() for values in (MEAN, STD))
    return ((images.float32() - mean) / std).permute(0, 3, 1, 2)
