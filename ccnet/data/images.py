"""Decoding image files of datasets and cameras to 8-bit RGB, with an InputError for those that cannot be decoded."""

import io
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
from PIL import Image, ImageFile, UnidentifiedImageError

from ccnet import InputError

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp")
FORMATS = ("JPEG", "PNG", "BMP", "TIFF", "WEBP")
ORIENTATION = 0x0112  # EXIF tag
# The transposition that turns an image upright, by the value of its orientation tag; 1 needs none.
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


@contextmanager
def refusing_damage(name: str) -> Iterator[None]:
    """Convert any error of a damaged or hostile image file to an InputError that names it; wrap only decoders' calls.

    Pillow's plugins and SciPy's reader raise many types of errors on mutated files: TypeError, IndexError,
    AttributeError, AssertionError, struct.error and more. MemoryError is not converted: it concerns the machine, not
    the file. Pillow's warning of large images is not shown: `open_image` decides.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            yield
    except MemoryError:
        raise
    except Image.DecompressionBombError as error:
        raise InputError(f"{name}: {error}") from error
    except UnidentifiedImageError as error:
        raise InputError(f"{name}: not an image of a known format, or damaged") from error
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(f"{name}: cannot be decoded ({reason})") from error


def open_image(
    data: bytes, name: str, formats: tuple[str, ...] = FORMATS, limit: int | None = None
) -> ImageFile.ImageFile:
    """Read only the header of an encoded image in one of `formats` (Pillow's names), without decoding pixels.

    Raises InputError naming `name` for an empty file, an unknown format, or more than `limit` pixels, by default
    Pillow's MAX_IMAGE_PIXELS. Pillow itself refuses twice as many.
    """
    if not data:
        raise InputError(f"{name}: the file is empty")
    with refusing_damage(name):
        image = Image.open(io.BytesIO(data), formats=formats)
    limit = limit or Image.MAX_IMAGE_PIXELS
    if limit and image.width * image.height > limit:
        raise InputError(f"{name}: {image.width}×{image.height} is over the limit of {limit} pixels: cut it into tiles")
    return image


def to_rgb(image: Image.Image) -> Image.Image:
    """Decode grey, palette, RGBA, CMYK and 16-bit images to 8-bit RGB; drops alpha and the low byte of 16 bits."""
    image.load()
    if image.mode.startswith("I"):
        high_byte = np.clip(np.asarray(image).astype(np.int64) >> 8, 0, 255)
        image = Image.fromarray(high_byte.astype(np.uint8))
    return image if image.mode == "RGB" else image.convert("RGB")


def orientation(image: Image.Image) -> int:
    """The EXIF orientation tag, 1–8 (XMP's if EXIF has none); 1 if it is missing or unreadable."""
    try:
        value = image.getexif().get(ORIENTATION)
        return int(value) if value in TURNS else 1
    except MemoryError:
        raise
    except Exception:  # damaged EXIF; the pixels may be intact
        return 1


def decode(data: bytes, name: str) -> np.ndarray:
    """Decode an image to uint8 `(H, W, 3)`, RGB, 0–255. Raises InputError naming `name`.

    EXIF orientation is not applied, because label maps match the stored pixels. Exception: Pillow always applies the
    orientation of a TIFF.
    """
    image = open_image(data, name)
    with refusing_damage(name):
        return np.asarray(to_rgb(image))


def turned(image: Image.Image, orientation: int) -> Image.Image:
    """An image turned upright: cameras store rotated pixels and record the rotation as an orientation tag, 1–8."""
    turn = TURNS.get(orientation)
    return image if turn is None else image.transpose(turn)


def resized(
    array: np.ndarray, size: Sequence[int], resampling: Image.Resampling = Image.Resampling.BILINEAR
) -> np.ndarray:
    """An image `(H, W, 3)` or a label map `(H, W)`, uint8, at `size` (height, width).

    Bilinear is antialiased when shrinking, as in training. Label maps need `Image.Resampling.NEAREST`.
    """
    if array.shape[:2] == tuple(size):
        return array
    return np.asarray(Image.fromarray(array).resize((size[1], size[0]), resampling))
