"""Measuring a network during its training."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from ccnet import InputError, parallel
from ccnet.data.shards import ShardReader
from ccnet.failures import explain, out_of_memory
from ccnet.ops.metrics import ConfusionMatrix
from ccnet.predictor import Predictor
from ccnet.progress import progress
from ccnet.protocol import Protocol
from ccnet.settings import Settings

SHOWN = 3  # pictures of a measurement


class Picture(NamedTuple):
    """An image `(H, W, 3)` uint8, its true and its predicted label map, `(H, W)` uint8."""

    name: str
    image: np.ndarray
    truth: np.ndarray
    prediction: np.ndarray


class Measurement(NamedTuple):
    """The mIoU (0..1) on val, NaN if no pixel is labelled, and a few predictions."""

    mean_iou: float
    pictures: list[Picture]


class Validation:
    """Measures a network on the same val images each time: whole, one scale, resized as in training.

    `reader` is of the val split. It is measured on `validate_images` of its images, evenly spaced, which the devices
    share.
    """

    def __init__(self, reader: ShardReader, settings: Settings):
        count = min(settings.validation.validate_images or len(reader), len(reader))
        self.reader = reader
        self.positions = np.linspace(0, len(reader) - 1, count).round().astype(int).tolist()
        self.protocol = Protocol.checked(keep_ratio=settings.data.resize)

    def measure(self, model, stop: Callable[[], bool]) -> Measurement | None:
        """Measure a network in eval mode; None if `stop()` became true before the last image, on any device."""
        predictor, confusion = Predictor(model, self.protocol), ConfusionMatrix(len(self.reader.class_names))
        pictures: list[Picture] = []
        stopped, own = False, self.positions[parallel.RANK :: parallel.RANKS]
        for position in progress(own, desc="validate", unit="image", leave=False):
            if stopped := stop():
                break
            image, truth = self.reader[position]
            prediction = _predicted(predictor, image, self.reader.names[position])
            confusion.update(prediction, truth)
            if len(pictures) < SHOWN:
                pictures.append(Picture(self.reader.names[position], image, truth, prediction))
        confusion.counts = parallel.total(confusion.counts)
        if parallel.any_of(stopped):
            return None
        return Measurement(confusion.mean_iou(), pictures)


def _predicted(predictor: Predictor, image: np.ndarray, name: str) -> np.ndarray:
    """A label map. Raises InputError that names the image if memory runs out: the crops of training may be smaller."""
    try:
        return predictor(image)
    except (MemoryError, RuntimeError) as error:
        if not out_of_memory(error):
            raise
        smaller = "lower resize, or dataset.max_size, or make validate_every null"
        raise InputError(f"{name} of val, {image.shape[1]} × {image.shape[0]}: {explain(error, smaller)}") from error
