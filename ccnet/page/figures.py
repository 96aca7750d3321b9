"""Colours and pictures for a self-contained page, which has images as data URIs."""

import base64
import colorsys
import io
from collections.abc import Sequence

import numpy as np
from PIL import Image
from scipy import ndimage

from ccnet.data.labels import IGNORE

WIDTH = 320  # pixels: enough for a column of a page, and small enough to embed dozens of images
CROP = 96  # pixels: the least side of a crop
WRONG = (222, 35, 75)
HEAT = (38, 110, 180)
# Of Okabe and Ito, which are told apart with any colour vision; two more after them.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#8b8f96", "#7a5fc0")


def colours(count: int) -> list[str]:
    """`count` distinct colours (#rrggbb), legible on white and on black; the first eight are fixed if count ≤ 8."""
    if count <= len(COLOURS):
        return list(COLOURS[:count])
    mixed = [colorsys.hsv_to_rgb(index / count, 0.85, 0.8) for index in range(count)]
    return [f"#{''.join(f'{round(255 * part):02x}' for part in colour)}" for colour in mixed]


def photo_uri(image: np.ndarray, width: int = WIDTH) -> str:
    """An image `(H, W, 3)` uint8 as a JPEG data URI, at most `width` pixels wide."""
    return _uri(_shrunk(Image.fromarray(image), Image.Resampling.LANCZOS, width), "jpeg", quality=85)


def label_uri(label: np.ndarray, palette: Sequence[Sequence[int]], width: int = WIDTH) -> str:
    """A label map `(H, W)` uint8 in the colours of `palette` as a PNG data URI; ignored pixels are transparent."""
    picture = Image.fromarray(label).convert("P")
    picture.putpalette([value for colour in palette for value in colour] + [0] * 3 * (256 - len(palette)))
    return _uri(_shrunk(picture, Image.Resampling.NEAREST, width), "png", transparency=IGNORE)


def error_uri(image: np.ndarray, label: np.ndarray, prediction: np.ndarray, width: int = WIDTH) -> str:
    """Errors of `prediction` against `label`, both `(H, W)`, in red on the grey image; ignored pixels are flat grey."""
    grey = np.asarray(Image.fromarray(image).convert("L"), dtype=float)
    picture = np.repeat((0.55 * grey + 90)[..., None], 3, axis=2)
    ignored = label == IGNORE
    wrong = (prediction != label) & ~ignored
    picture[wrong] = 0.15 * picture[wrong] + 0.85 * np.array(WRONG)
    picture[ignored] = 128
    return photo_uri(picture.astype(np.uint8), width)


def mistake_uri(image: np.ndarray, label: np.ndarray, prediction: np.ndarray, truth: int, guess: int) -> str:
    """Where the largest region of `truth` taken for `guess` is: a crop of the image, and it again with these in red.

    '' if there is no such pixel.
    """
    wrong = (label == truth) & (prediction == guess)
    if not wrong.any():
        return ""
    regions, _ = ndimage.label(wrong)
    rows, columns = ndimage.find_objects(regions)[np.bincount(regions[wrong]).argmax() - 1]
    extent = max(rows.stop - rows.start, columns.stop - columns.start)
    side = min(max(CROP, 3 * extent // 2), *wrong.shape)
    crop = tuple(
        slice(start := min(max(0, (part.start + part.stop - side) // 2), length - side), start + side)
        for part, length in zip((rows, columns), wrong.shape, strict=True)
    )
    plain, marked = image[crop], image[crop].astype(float)
    marked[wrong[crop]] = 0.4 * marked[wrong[crop]] + 0.6 * np.array(WRONG)
    return photo_uri(np.concatenate([plain, marked.astype(np.uint8)], axis=1))


def matrix_uri(shares: np.ndarray) -> str:
    """A matrix `(C, C)` of shares in 0..1 as a PNG data URI with one pixel per cell; larger shares are more opaque."""
    picture = np.empty((*shares.shape, 4), dtype=np.uint8)
    picture[..., :3] = HEAT
    # the square root makes rare confusions visible
    picture[..., 3] = np.sqrt(np.nan_to_num(shares)) * 255
    return _uri(Image.fromarray(picture), "png")


def _shrunk(picture: Image.Image, resampling: Image.Resampling, width: int) -> Image.Image:
    if picture.width <= width:
        return picture
    return picture.resize((width, max(1, round(picture.height * width / picture.width))), resampling)


def _uri(picture: Image.Image, kind: str, **options) -> str:
    buffer = io.BytesIO()
    picture.save(buffer, kind, optimize=True, **options)
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode()}"
