"""Data augmentation of an image and its label map: random scale, padded crop, flip, photometric distortion."""

import numpy as np
from PIL import Image

from ccnet.data.labels import IGNORE
from ccnet.protocol import fit_factor
from ccnet.settings import Data

# Padding has ImageNet's mean colour, which is about zero after normalisation
PADDING = (124, 116, 104)
ATTEMPTS = 10
# mmsegmentation's PhotoMetricDistortion: brightness is an offset, contrast and saturation are factors, hue is in steps
# of two degrees
BRIGHTNESS, FACTORS, HUE = 32, (0.5, 1.5), 18


def augment(
    image: np.ndarray, label: np.ndarray, data: Data, rng: np.random.Generator
) -> tuple[Image.Image, Image.Image]:
    """Augment an image `(H, W, 3)` and label `(H, W)`, uint8: crops of `data.crop_size` squared, modes "RGB" and "L".

    If the scaled image is smaller than the crop, the image is padded with the mean colour and the label with 255.
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
        crops.append(crop.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if flip else crop)
    return crops[0], crops[1]


def _choose_box(label: Image.Image, data: Data, rng: np.random.Generator):
    """Draw a random crop: a box of the source (left, top, right, bottom) and the size (width, height) to scale it to.

    The scale is the factor that fits the image to `data.resize`, times a uniform random factor. If
    `data.max_class_share` < 1, a crop that `_is_varied` rejects is drawn again, up to ten draws in all.
    """
    width, height = label.size
    scale = rng.uniform(data.scale[0], data.scale[1]) * (fit_factor((height, width), data.resize) if data.resize else 1)
    for _ in range(ATTEMPTS):
        size = [max(1, min(data.crop_size, round(side * scale))) for side in (width, height)]
        span = [min(side, length / scale) for side, length in zip((width, height), size, strict=True)]
        left, top = (rng.uniform(0, side - part) for side, part in zip((width, height), span, strict=True))
        box = (left, top, left + span[0], top + span[1])
        if data.max_class_share >= 1 or _is_varied(label, box, data.max_class_share):
            break
    return box, tuple(size)


def _is_varied(label: Image.Image, box: tuple[float, float, float, float], max_share: float) -> bool:
    """Whether the labelled pixels have more than one class, and the largest class less than `max_share` of them.

    Equivalent to `cat_max_ratio` of mmsegmentation's RandomCrop.
    """
    left, top, right, bottom = (int(edge) for edge in box)
    touched = (left, top, min(right + 1, label.width), min(bottom + 1, label.height))
    counts = label.crop(touched).histogram()[:IGNORE]  # several times faster than np.bincount
    return sum(count > 0 for count in counts) > 1 and max(counts) < max_share * sum(counts)


def distort(picture: Image.Image, rng: np.random.Generator) -> Image.Image:
    """mmsegmentation's PhotoMetricDistortion on an RGB picture; each part has probability 0.5.

    Brightness ± 32, contrast × 0.5 … 1.5, saturation × 0.5 … 1.5, hue ± 36°; contrast is applied second or last.
    """
    brightness, contrast, saturation, hue, contrast_is_last = rng.random(5) < 0.5
    if brightness:
        picture = _affine(picture, 1, rng.uniform(-BRIGHTNESS, BRIGHTNESS))
    factor = rng.uniform(*FACTORS) if contrast else 1
    if contrast and not contrast_is_last:
        picture = _affine(picture, factor, 0)
    if saturation or hue:
        colourfulness = rng.uniform(*FACTORS) if saturation else 1
        picture = shift_hsv(picture, colourfulness, int(rng.integers(-HUE, HUE)) * 2 if hue else 0)
    if contrast and contrast_is_last:
        picture = _affine(picture, factor, 0)
    return picture


def _affine(picture: Image.Image, factor: float, offset: float) -> Image.Image:
    values = np.clip(np.arange(256) * factor + offset, 0, 255).astype(np.uint8)
    return picture.point(values.tolist() * len(picture.getbands()))


def shift_hsv(picture: Image.Image, saturation: float, degrees: int) -> Image.Image:
    """Multiply the saturation of an RGB picture (clipped to 255), and rotate its hue by `degrees` of 360."""
    hue, sat, value = picture.convert("HSV").split()
    turned = (np.arange(256) + round(degrees * 256 / 360)) % 256
    factors = np.minimum(np.arange(256) * saturation, 255).astype(np.uint8)
    return Image.merge("HSV", (hue.point(turned.tolist()), sat.point(factors.tolist()), value)).convert("RGB")
