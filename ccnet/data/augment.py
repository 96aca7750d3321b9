"""Random scale, crop with padding, mirror and photometric distortion of one image and its label map."""

import numpy as np
from PIL import Image, ImageEnhance

from ccnet.data.labels import IGNORE
from ccnet.settings import Data

# ImageNet's mean colour: what padding is filled with, so that it is zero to the network
PADDING = (124, 116, 104)
ATTEMPTS = 10
HUE = 18  # of 256 parts of the colour circle, as in mmsegmentation's and SSD's distortion


def augment(
    image: np.ndarray, label: np.ndarray, data: Data, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """`(H, W, 3)` and `(H, W)` uint8 of any size -> a crop of `data.crop_size` squared of both, uint8.

    Where the scaled image is smaller than the crop, the image is padded with the mean colour and the label with 255.
    """
    picture, target = Image.fromarray(image), Image.fromarray(label)
    box, size = _choose_box(target, data, rng)
    picture = picture.resize(size, Image.Resampling.BILINEAR, box=box)
    target = target.resize(size, Image.Resampling.NEAREST, box=box)
    if data.photometric:
        picture = distort(picture, rng)
    crops = []
    flip = data.flip and rng.random() < 0.5
    for part, padding in ((picture, PADDING), (target, IGNORE)):
        crop = Image.new(part.mode, (data.crop_size, data.crop_size), padding)
        crop.paste(part)
        crops.append(np.asarray(crop.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if flip else crop))
    return crops[0], crops[1]


def _choose_box(label: Image.Image, data: Data, rng: np.random.Generator):
    """A random crop as a box of the source (left, top, right, bottom) and the size (width, height) it is scaled to.

    Crops with too large a share of one class are drawn again (mmsegmentation's `cat_max_ratio`).
    """
    width, height = label.size
    scale = np.exp(rng.uniform(*np.log(data.scale)))
    for _ in range(ATTEMPTS):
        size = [max(1, min(data.crop_size, round(side * scale))) for side in (width, height)]
        span = [min(side, length / scale) for side, length in zip((width, height), size, strict=True)]
        left, top = (rng.uniform(0, side - part) for side, part in zip((width, height), span, strict=True))
        box = (left, top, left + span[0], top + span[1])
        if data.max_class_share >= 1 or _largest_share(label, box) <= data.max_class_share:
            break
    return box, tuple(size)


def _largest_share(label: Image.Image, box: tuple[float, float, float, float]) -> float:
    left, top, right, bottom = (int(edge) for edge in box)
    touched = (left, top, min(right + 1, label.width), min(bottom + 1, label.height))
    counts = label.crop(touched).histogram()[:IGNORE]  # several times faster than np.bincount
    return max(counts) / max(sum(counts), 1)


def distort(picture: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Brightness ± 12 %, contrast and saturation × 0.5 … 1.5, hue ± 25°, each half of the time."""
    for enhancer, low, high in (
        (ImageEnhance.Brightness, 0.88, 1.12), (ImageEnhance.Contrast, 0.5, 1.5), (ImageEnhance.Color, 0.5, 1.5),
    ):  # fmt: skip
        if rng.random() < 0.5:
            picture = enhancer(picture).enhance(rng.uniform(low, high))
    if rng.random() < 0.5:
        picture = turn_hue(picture, int(rng.integers(-HUE, HUE + 1)))
    return picture


def turn_hue(picture: Image.Image, steps: int) -> Image.Image:
    """Hue moved by `steps` of 256 round the colour circle, -21 … 21; HSV's saturation and value are kept.

    On HSV's hexagon the largest and smallest channel stay as they are, and the one between them moves in proportion to
    their difference; at a corner of the hexagon, what is left of the way goes to the next channel. Without HSV's
    divisions that is exact but for rounding, and four times as fast.
    """
    channels = np.array([*map(np.asarray, picture.split())], np.int16)
    high, low = channels.max(axis=0), channels.min(axis=0)
    way = ((high - low) * (6 * abs(steps)) + 128) >> 8  # the circle has six sides
    ahead = np.roll(channels, -1 if steps > 0 else 1, axis=0)  # the channel that each turns towards
    turned = channels + np.minimum(high - ahead, way) - np.minimum(ahead - low, way)
    turned = np.minimum(np.maximum(turned, low), high).astype(np.uint8)  # np.clip takes seven times as long
    return Image.merge("RGB", [*map(Image.fromarray, turned)])
