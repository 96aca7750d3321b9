"""Image files as arrays: whatever a dataset or a camera stores becomes RGB, or a clear refusal."""

import io
import zlib
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from PIL import Image, UnidentifiedImageError

from ccnet import InputError

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp")
FORMATS = ("JPEG", "PNG", "BMP", "TIFF", "WEBP")


@contextmanager
def refusing_damage(name: str) -> Iterator[None]:
    """Turn the many errors of a damaged or hostile image file into one InputError that names it."""
    try:
        yield
    except Image.DecompressionBombError as error:
        raise InputError(f"{name}: {error}") from error
    except UnidentifiedImageError as error:
        raise InputError(f"{name}: not an image of a known format, or damaged") from error
    except (OSError, SyntaxError, ValueError, EOFError, zlib.error) as error:
        raise InputError(f"{name}: cannot be decoded ({error})") from error


def open_image(data: bytes, name: str) -> Image.Image:
    """Read an encoded image's header, and none of its pixels.

    Raises InputError naming `name` for an empty or unknown file and for over Pillow's MAX_IMAGE_PIXELS.
    """
    if not data:
        raise InputError(f"{name}: the file is empty")
    with refusing_damage(name):
        image = Image.open(io.BytesIO(data), formats=FORMATS)
    limit = Image.MAX_IMAGE_PIXELS
    if limit and image.width * image.height > limit:
        raise InputError(f"{name}: {image.width}×{image.height} is over the limit of {limit} pixels: cut it into tiles")
    return image


def to_rgb(image: Image.Image) -> Image.Image:
    """Grey, palette, RGBA, CMYK and 16-bit images as 8-bit RGB. Alpha and the low byte of 16 are dropped."""
    if image.mode.startswith("I"):
        high_byte = np.clip(np.asarray(image).astype(np.int64) >> 8, 0, 255)
        image = Image.fromarray(high_byte.astype(np.uint8))
    return image if image.mode == "RGB" else image.convert("RGB")


def decode(data: bytes, name: str) -> np.ndarray:
    """An encoded image as uint8 `(H, W, 3)`, RGB, 0–255. Raises InputError naming `name`.

    Pixels come as they are stored: EXIF orientation is not applied, because label maps match stored pixels.
    """
    image = open_image(data, name)
    with refusing_damage(name):
        return np.asarray(to_rgb(image))
