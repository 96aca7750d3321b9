"""Label maps of train ids: strict decoding, encoding, histograms and colours."""

import io
import os
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageFile
from PIL.PngImagePlugin import PngInfo

from ccnet import InputError
from ccnet.data import images
from ccnet.files import atomic

IGNORE = 255
VOID_COLOUR = (224, 224, 192)
LEVEL = 3  # of PNG compression: over twice as fast as 6, files are a third larger

Palette = Sequence[Sequence[int]]


def voc_colours(count: int) -> tuple[tuple[int, int, int], ...]:
    """The first `count` ≤ 256 colours of PASCAL VOC.

    The bits of an index, from the lowest, go to R, G and B in turn, and fill each channel from its highest bit.
    """
    return tuple((_channel(index), _channel(index >> 1), _channel(index >> 2)) for index in range(count))


def _channel(bits: int) -> int:
    return sum((bits >> 3 * place & 1) << (7 - place) for place in range(8))


def decode(data: bytes, name: str) -> np.ndarray:
    """Decode a label PNG to uint8 `(H, W)`: grey values or palette indices.

    Raises InputError naming `name` for any other format, for colour, alpha or 16 bits, and for a damaged file.
    """
    image = images.open_image(data, name)
    if image.format != "PNG":
        raise InputError(f"{name}: a label map must be a PNG, not {image.format}")
    if image.mode not in ("1", "L", "P"):
        raise InputError(f"{name}: a label map has one 8-bit channel or a palette; this one is {image.mode}")
    step = grey_step(image)
    with images.refusing_damage(name):
        label = np.asarray(image, dtype=np.uint8)
    return label // step


def grey_step(image: ImageFile.ImageFile) -> int:
    """The factor by which Pillow multiplies the values: it stretches 2- and 4-bit grey to 0–255, which changes ids."""
    stored = image.tile[0][3] if image.tile else image.mode
    return {"L;2": 85, "L;4": 17}.get(str(stored[0] if isinstance(stored, tuple) else stored), 1)


def encode(label: np.ndarray) -> bytes:
    """Encode a label map, uint8 `(H, W)`, as a grey PNG."""
    buffer = io.BytesIO()
    Image.fromarray(label).save(buffer, "PNG", compress_level=LEVEL)
    return buffer.getvalue()


def histogram(label: np.ndarray, num_classes: int) -> np.ndarray:
    """Pixel counts of each class, then of ignored pixels, int64 `(num_classes + 1,)`, from train ids uint8 `(H, W)`."""
    counts = _counts(label)
    return np.append(counts[:num_classes], counts[IGNORE])


def _counts(label: np.ndarray) -> np.ndarray:
    """Counts of the 256 values, int64 `(256,)`; Pillow counts bytes several times faster than np.bincount."""
    return np.array(Image.fromarray(label).histogram(), np.int64)


def colourise(label: np.ndarray, palette: Palette) -> np.ndarray:
    """Colour train ids uint8 `(H, W)`: uint8 `(H, W, 3)` RGB; ids without a class have `VOID_COLOUR`."""
    return np.asarray(paletted(label, palette).convert("RGB"))


def paletted(label: np.ndarray, palette: Palette) -> Image.Image:
    """Train ids uint8 `(H, W)` as a palette image; ids without a class have `VOID_COLOUR`."""
    image = Image.fromarray(label)
    image.putpalette(_full_palette(palette).tobytes())
    return image


def palette_png(label: np.ndarray, palette: Palette, comment: str = "") -> bytes:
    """Train ids uint8 `(H, W)` as a palette PNG: viewers show the colours, programs read the ids.

    `comment` is stored as PNG text; Pillow reads it as `image.info["Comment"]`.
    """
    buffer, text = io.BytesIO(), PngInfo()
    text.add_text("Comment", comment)
    paletted(label, palette).save(buffer, "PNG", pnginfo=text, compress_level=LEVEL)
    return buffer.getvalue()


def save_palette_png(path: str | os.PathLike, label: np.ndarray, palette: Palette) -> None:
    """Write `palette_png` to a file."""
    with atomic(path) as temporary:
        temporary.write_bytes(palette_png(label, palette))


def _full_palette(palette: Palette) -> np.ndarray:
    colours = np.tile(np.array(VOID_COLOUR, np.uint8), (256, 1))
    colours[: len(palette)] = palette
    return colours
