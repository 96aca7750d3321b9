"""`Model`, what `ccnet.load` returns: a trained network as a function of images."""

import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from PIL import Image

from ccnet import InputError, runtime, weights
from ccnet.data import images, photos
from ccnet.predictor import Predictor

Picture: TypeAlias = str | os.PathLike | Image.Image | np.ndarray


class Model:
    """A trained network. An image is a path, a Pillow image, or an array `(H, W, 3)` uint8 RGB of any size.

    `class_names` and `palette` (R, G, B, 0–255) are those of its classes, `protocol` how it sees an image: at the
    scale it was trained for. Raises InputError for what is no image or cannot be decoded, OSError for a file that
    cannot be read.
    """

    def __init__(self, trained: weights.Weights):
        self.class_names, self.palette, self.protocol = trained.class_names, trained.palette, trained.protocol
        self.predictor = Predictor(trained.model, trained.protocol)

    def __call__(self, image: Picture | Iterable[Picture]) -> Any:
        """The index of each pixel's class, `(H, W)` uint8; of an iterable, one after the other as asked for."""
        return self._each(self.predictor, image)

    def probabilities(self, image: Picture | Iterable[Picture]) -> Any:
        """The probability of each class at each pixel, `(C, H, W)` float32; of an iterable, one after the other."""
        return self._each(self.predictor.probabilities, image)

    def _each(self, work: Callable[[np.ndarray], np.ndarray], image: Any) -> np.ndarray | Iterator[np.ndarray]:
        if isinstance(image, Picture) and not (isinstance(image, np.ndarray) and image.ndim == 4):
            return work(_pixels(image))
        return (work(_pixels(each)) for each in image)


def load(path: str | os.PathLike, device: str) -> Model:
    """The network of a weights file, a checkpoint, or a run's folder."""
    runtime.select(device)
    return Model(weights.load(Path(path).expanduser()))


def _pixels(image: Picture) -> np.ndarray:
    if isinstance(image, str | os.PathLike):
        return np.asarray(photos.decode(photos.expanded(Path(image)))[0])
    if isinstance(image, Image.Image):
        with images.refusing_damage("the image"):
            return np.asarray(photos.upright(image))
    if not isinstance(image, np.ndarray):
        raise InputError(f"an image of type {type(image).__name__}: give a path, a Pillow image, or an array")
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
        raise InputError(f"an image of {image.dtype} {image.shape}: give uint8 (height, width, 3), RGB from 0 to 255")
    return image
