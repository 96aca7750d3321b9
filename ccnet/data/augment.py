"""Random scale, crop with padding, mirror and photometric distortion of one image and its label map."""

import numpy as np
from PIL import Image, ImageEnhance

from ccnet.data.labels import IGNORE
from ccnet.settings import Data

# ImageNet's mean colour: what padding is filled with, so that it is zero to the network
PADDING = (124, 116, 104)
ATTEMPTS = 10
HUE = 18  # of 256 steps round the colour circle, as in mmsegmentation's and SSD's distortion


def augment(
    image: np.ndarray, label: np.ndarray, data: Data, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """`(H, W, 3)` and `(H, W)` uint8 of any size -> a crop of `data.crop_size` squared of both, uint8.

    Where the scaled image is smaller than the crop, the image is padded with the mean colour and the label with 255.
    """
    box, size = _choose_box(label, data, rng)
    picture = Image.fromarray(image).resize(size, Image.Resampling.BILINEAR, box=box)
    if data.photometric:
        picture = distort(picture, rng)
    target = Image.fromarray(label).resize(size, Image.Resampling.NEAREST, box=box)
    crop = np.full((data.crop_size, data.crop_size, 3), PADDING, np.uint8)
    crop_label = np.full((data.crop_size, data.crop_size), IGNORE, np.uint8)
    crop[: size[1], : size[0]] = picture
    crop_label[: size[1], : size[0]] = target
    if data.flip and rng.random() < 0.5:
        crop, crop_label = crop[:, ::-1], crop_label[:, ::-1]
    return np.ascontiguousarray(crop), np.ascontiguousarray(crop_label)


def _choose_box(label: np.ndarray, data: Data, rng: np.random.Generator):
    """A random crop as a box of the source (left, top, right, bottom) and the size (width, height) it is scaled to.

    Crops with too large a share of one class are drawn again (mmsegmentation's `cat_max_ratio`).
    """
    height, width = label.shape
    scale = np.exp(rng.uniform(*np.log(data.scale)))
    for _ in range(ATTEMPTS):
        size = [max(1, min(data.crop_size, round(side * scale))) for side in (width, height)]
        span = [min(side, length / scale) for side, length in zip((width, height), size, strict=True)]
        left, top = (rng.uniform(0, side - part) for side, part in zip((width, height), span, strict=True))
        box = (left, top, left + span[0], top + span[1])
        if data.max_class_share >= 1 or _largest_share(label, box) <= data.max_class_share:
            break
    return box, tuple(size)


def _largest_share(label: np.ndarray, box: tuple[float, float, float, float]) -> float:
    left, top, right, bottom = (int(edge) for edge in box)
    counts = np.bincount(label[top : bottom + 1, left : right + 1].ravel(), minlength=IGNORE + 1)[:IGNORE]
    return counts.max() / max(counts.sum(), 1)


def distort(picture: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Brightness ± 12 %, contrast and saturation × 0.5 … 1.5, hue ± 25°, each half of the time."""
    for enhancer, low, high in (
        (ImageEnhance.Brightness, 0.88, 1.12), (ImageEnhance.Contrast, 0.5, 1.5), (ImageEnhance.Color, 0.5, 1.5),
    ):  # fmt: skip
        if rng.random() < 0.5:
            picture = enhancer(picture).enhance(rng.uniform(low, high))
    if rng.random() < 0.5:
        hsv = np.array(picture.convert("HSV"))
        hsv[..., 0] += np.uint8(rng.integers(-HUE, HUE + 1) % 256)
        picture = Image.fromarray(hsv, "HSV").convert("RGB")
    return picture
