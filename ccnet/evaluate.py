"""The verb `evaluate`: weights and shards -> metrics.json with its protocol, and example predictions."""

import json
import math
import time
from pathlib import Path

import numpy as np

from ccnet import InputError, runtime, weights
from ccnet.data.labels import save_palette_png
from ccnet.data.shards import ShardReader
from ccnet.files import atomic, sha256
from ccnet.ops.metrics import ConfusionMatrix
from ccnet.predictor import Predictor
from ccnet.progress import progress

EXAMPLES = 6


def run(
    *, weights_file: Path, shards: list[Path], out: Path, examples: Path | None = None, device: str = "auto"
) -> None:
    """Measure weights on every image of the shards: whole image, original resolution, one scale.

    Raises InputError when the weights' classes are not those of the shards, or the shards hold no image.
    """
    reader = ShardReader(shards)
    if not len(reader):
        raise InputError(f"{shards[0]}: no images in these shards; check dataset.limit and the source")
    runtime.select(device)
    trained = weights.load(weights_file)
    if trained.class_names != reader.class_names:
        raise InputError(f"{weights_file}: trained on other classes ({_some(trained.class_names)}) than the shards' "
                         f"({_some(reader.class_names)}); evaluate it on its own dataset")  # fmt: skip
    predictor, confusion = Predictor(trained.model), ConfusionMatrix(len(reader.class_names))
    shown = set(np.linspace(0, len(reader) - 1, min(EXAMPLES, len(reader)), dtype=int))
    seconds = []
    for index in progress(range(len(reader)), desc=f"evaluate {trained.settings.model.backbone}", unit="image"):
        image, label = reader[index]
        start = time.perf_counter()
        prediction = predictor(image)
        seconds.append(time.perf_counter() - start)
        confusion.update(prediction, label)
        if examples and index in shown:
            save_palette_png(examples / f"{reader.names[index]}.png", prediction, reader.palette)
    protocol = {"mode": "whole", "scales": [1.0], "flip": False, "resize": "original",
                "absent_classes": "left out of the mean", "images": len(reader), "split": reader.splits[0],
                "weights_sha256": sha256(weights_file)}  # fmt: skip
    metrics = summary(confusion, reader.class_names) | {
        "parameters": sum(value.numel() for value in trained.model.parameters()),
        "seconds_per_image": float(np.median(seconds)), "protocol": protocol}  # fmt: skip
    with atomic(out) as temporary:
        temporary.write_text(json.dumps(metrics, indent=1, ensure_ascii=False, allow_nan=False) + "\n")
    print(f"{weights_file}: mIoU {metrics['mean_iou']:.4f}, pixel accuracy {metrics['pixel_accuracy']:.4f}")


def summary(confusion: ConfusionMatrix, class_names: list[str]) -> dict:
    """The figures of metrics.json; None (null) where there is nothing to divide by."""
    ious = zip(class_names, confusion.iou_per_class(), strict=True)
    return {
        "mean_iou": _number(confusion.mean_iou()),
        "pixel_accuracy": _number(confusion.pixel_accuracy()),
        "mean_accuracy": _number(confusion.mean_accuracy()),
        "per_class": {name: _number(iou) for name, iou in ious},
        "confusion": confusion.counts.tolist(),
    }


def _number(value: float) -> float | None:
    return None if math.isnan(value) else float(value)


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (", …" if len(names) > 3 else "")
