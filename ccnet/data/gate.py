"""The gate that every pair passes: both files can be decoded, have one size, and something in them is labelled."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from ccnet import InputError
from ccnet.data import images, labels
from ccnet.data.coding import Coding


@dataclass(frozen=True)
class Opened:
    """A pair whose files can be decoded: the image `rgb`, and the train ids `label`, uint8 `(H, W)`, 255 = ignored.

    `kind` is the image's format (Pillow's name), `orientation` its EXIF tag (1: upright). `as_stored`:
    `label_bytes` is a PNG of just these ids.
    """

    image_path: Path
    label_path: Path
    image_bytes: bytes
    label_bytes: bytes
    rgb: Image.Image
    kind: str
    orientation: int
    label: np.ndarray
    as_stored: bool

    @property
    def label_size(self) -> tuple[int, int]:
        """Width and height of the label map, as `rgb.size` has those of the image."""
        height, width = self.label.shape
        return width, height

    def check(self) -> None:
        """Raise InputError if the sizes differ, or if every pixel is ignored."""
        (width, height), size = self.label_size, self.rgb.size
        if size != (width, height):
            turned = self.orientation > 4 and size == (height, width)
            remedy = "; its EXIF orientation turns it: save it upright" if turned else ""
            raise InputError(
                f"{self.image_path}: is {size[0]}×{size[1]}, its label {self.label_path} {width}×{height}{remedy}"
            )
        if self.orientation != 1 and self.label_path.suffix.lower() == ".json":  # tools draw on the upright image
            raise InputError(f"{self.image_path}: has polygons, and its EXIF orientation turns it: save it upright")
        if (self.label == labels.IGNORE).all():
            raise InputError(f"{self.label_path}: every pixel is ignored: nothing to learn or to measure")


def open_pair(image_path: Path, label_path: Path, coding: Coding) -> Opened:
    """Read and decode both files of a pair. Raises InputError naming the file that is missing or damaged.

    It also does so for a label file with values, colours or shapes that the `coding` does not list. What the two are to
    each other is for `Opened.check`.
    """
    image_bytes, label_bytes = _read(image_path, "image"), _read(label_path, "label map")
    image = images.open_image(image_bytes, str(image_path))
    label, as_stored = coding.decode(label_bytes, str(label_path))
    with images.refusing_damage(str(image_path)):
        rgb = images.to_rgb(image)  # as in training: some images load but cannot be converted
    orientation = images.orientation(image)
    kind = image.format or ""
    return Opened(image_path, label_path, image_bytes, label_bytes, rgb, kind, orientation, label, as_stored)


def _read(path: Path, kind: str) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise InputError(f"{path}: there is no such {kind}") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
