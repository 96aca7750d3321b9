"""`ccnet evaluate`: measure weights on shards; write metrics.json with its protocol, and example predictions."""

import math
import time
from collections.abc import Iterable
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ccnet import InputError, provenance, runtime, weights
from ccnet.data.images import resized
from ccnet.data.labels import save_palette_png
from ccnet.data.shards import ShardReader
from ccnet.files import check_writable, sha256, write_json
from ccnet.mistakes import Mistakes
from ccnet.models.ccnet import SMALLEST
from ccnet.ops import flops
from ccnet.ops.criss_cross import CrissCrossAttention
from ccnet.ops.metrics import ConfusionMatrix
from ccnet.predictor import Predictor
from ccnet.progress import progress
from ccnet.projections import look
from ccnet.protocol import Protocol
from ccnet.settings import Settings

EXAMPLES = 6
PAIRS = 4  # of classes, of which images with their confusion are kept
LARGEST_LOOK = 1_100_000  # values of queries and keys: at most as many fit into a page


def run(
    *,
    weights_file: Path,
    shards: list[Path],
    out: Path,
    examples: Path | None = None,
    device: str = "auto",
    **protocol_fields: Any,
) -> None:
    """Evaluate weights on every image of the shards; `protocol_fields` are those of `ccnet.protocol.Protocol`.

    Writes metrics.json to `out`, and to `examples` the predictions of up to `EXAMPLES` images, evenly spaced, of the
    best, the median and the worst image, and of those where the most confused pairs of classes are. Raises InputError
    if the weights' classes differ from the shards', the shards hold no image, or the protocol is invalid.
    """
    protocol, began = Protocol.checked(**protocol_fields), time.monotonic()
    reader = _opened(shards)
    check_writable(out)
    device = runtime.select(device)
    provenance.checkout(Path(provenance.__file__))  # now: it may change while the images are predicted
    weights_file = weights.located(weights_file)
    trained, digest = weights.load(weights_file), sha256(weights_file)
    _check_classes(weights_file, trained.class_names, reader.class_names)
    predictor = Predictor(trained.model, protocol)
    shown = set(np.linspace(0, len(reader) - 1, min(EXAMPLES, len(reader)), dtype=int)) if examples else set()
    each = progress(range(len(reader)), desc=f"evaluate {trained.settings.model.backbone}", unit="image")
    confusion, seconds, ious, mistakes = _measure(reader, predictor, each, shown, examples)
    chosen, confused = extremes(ious), mistakes.most_confused(PAIRS)
    if examples:
        further = {*chosen.values(), *(index for *_, images in confused for index in images)}
        _keep_further(examples, reader, further - shown, predictor)
        _keep_attention(examples, reader, shown, predictor)
    metrics = summary(confusion, reader.class_names) | {
        # Jittor lists running statistics as parameters; in eval mode, requires_grad does not tell them apart
        "parameters": sum(value.numel() for name, value in trained.model.named_parameters() if "running_" not in name),
        "flops": _flops(trained.model, protocol, reader.sizes),
        "seconds_per_image": float(np.median(seconds)), "protocol": _described(protocol, reader, digest),
        "extremes": {kind: {"name": reader.names[i], "mean_iou": ious[i]} for kind, i in chosen.items()},
        "confused": [_confused(reader, *each) for each in confused], "areas": mistakes.by_area(),
        "shards": {path.name: sha256(path) for path in shards},
        "training": trained.training, "provenance": _provenance(trained, device, time.monotonic() - began)}  # fmt: skip
    write_json(out, metrics)
    print(f"{weights_file}: mIoU {confusion.mean_iou():.4f}, pixel accuracy {confusion.pixel_accuracy():.4f}")


def _measure(
    reader: ShardReader, predictor: Predictor, numbers: Iterable[int], shown: set[int], folder: Path | None
) -> tuple[ConfusionMatrix, list[float], list[float], Mistakes]:
    """Predict the images of these numbers; save the predictions of those `shown` in `folder`.

    Returns the confusion matrix over all, the seconds and the mean IoU of each image, and the mistakes.
    """
    count = len(reader.class_names)
    confusion, mistakes, seconds, ious = ConfusionMatrix(count), Mistakes(count), [], []
    for index in numbers:
        image, label = _pair(reader, index, predictor.protocol)
        start = time.perf_counter()
        prediction = predictor(image, label.shape)
        seconds.append(time.perf_counter() - start)
        own = ConfusionMatrix(count)
        own.update(prediction, label)
        confusion.counts += own.counts
        ious.append(own.mean_iou())
        mistakes.add(index, own.counts)
        if folder and index in shown:
            _keep(folder, reader, index, prediction)
    return confusion, seconds, ious, mistakes


def _described(protocol: Protocol, reader: ShardReader, digest: str) -> dict[str, Any]:
    """The protocol's entries of metrics.json; `digest` is the SHA-256 of the weights."""
    return protocol.record() | {
        "prepared": _prepared(reader.max_sizes), "absent_classes": "left out of the mean", "images": len(reader),
        "split": "+".join(dict.fromkeys(reader.splits)), "weights_sha256": digest}  # fmt: skip


def _opened(shards: list[Path]) -> ShardReader:
    reader = ShardReader(shards)
    if not len(reader):
        raise InputError(f"{shards[0]}: no images in these shards; check dataset.limit and the source")
    return reader


def extremes(ious: list[float]) -> dict[str, int]:
    """The indices of the images with the best, the median and the worst mean IoU; empty if none is a number."""
    known = sorted((index for index, iou in enumerate(ious) if not math.isnan(iou)), key=lambda index: ious[index])
    return {"best": known[-1], "median": known[(len(known) - 1) // 2], "worst": known[0]} if known else {}


def _pair(reader: ShardReader, index: int, protocol: Protocol) -> tuple[np.ndarray, np.ndarray]:
    """An image, and its label map as it is scored."""
    image, label = reader[index]
    if protocol.score_at == "resized":
        label = resized(label, protocol.size(label.shape), Image.Resampling.NEAREST)
    return image, label


def _keep(folder: Path, reader: ShardReader, index: int, prediction: np.ndarray) -> None:
    """Save a prediction at the size of its image, beside which the report shows it."""
    width, height = reader.sizes[index]
    shown = resized(prediction, (int(height), int(width)), Image.Resampling.NEAREST)
    save_palette_png(folder / f"{reader.names[index]}.png", shown, reader.palette)


def _keep_further(folder: Path, reader: ShardReader, chosen: Iterable[int], predictor: Predictor) -> None:
    """Predict these images once more, and save what is found."""
    for index in chosen:
        image, label = _pair(reader, index, predictor.protocol)
        _keep(folder, reader, index, predictor(image, label.shape))


def _keep_attention(folder: Path, reader: ShardReader, chosen: Iterable[int], predictor: Predictor) -> None:
    """Save what the report computes attention maps from, unless it is too large.

    Networks without criss-cross attention, and those that see images in windows, have nothing to save.
    """
    if not isinstance(predictor.model.head.attention, CrissCrossAttention) or predictor.protocol.window:
        return
    for index in chosen:
        image, _ = reader[index]
        looked = look(predictor.model, image, predictor.protocol.size(image.shape[:2]))
        if looked.query.size + looked.key.size <= LARGEST_LOOK:
            looked.save(folder / f"{reader.names[index]}.npz")


def summary(confusion: ConfusionMatrix, class_names: list[str]) -> dict:
    """The measures of metrics.json; None (null) where the denominator is 0."""
    ious = zip(class_names, confusion.iou_per_class(), strict=True)
    return {
        "mean_iou": _number(confusion.mean_iou()),
        "pixel_accuracy": _number(confusion.pixel_accuracy()),
        "mean_accuracy": _number(confusion.mean_accuracy()),
        "per_class": {name: _number(iou) for name, iou in ious},
        "confusion": confusion.counts.tolist(),
    }


def _flops(model, protocol: Protocol, sizes: np.ndarray) -> dict[str, int]:
    """The FLOPs of one forward pass on what the network sees of an image of the mean of `sizes` (width, height)."""
    mean = sizes.mean(axis=0)[::-1].round().astype(int)
    seen = [protocol.window] * 2 if protocol.window else protocol.size(mean.tolist())
    height, width = (max(SMALLEST, side) for side in seen)
    model.eval()
    return {"count": sum(flops.count(model, (1, 3, height, width)).values()), "height": height, "width": width}


def _provenance(trained: weights.Weights, device: str, seconds: float) -> dict:
    seed = trained.settings.seed if isinstance(trained.settings, Settings) else None
    return provenance.record(device=device, seed=seed, seconds=seconds)


def _confused(reader: ShardReader, truth: int, prediction: int, images: list[int]) -> dict[str, Any]:
    names = [reader.names[index] for index in images]
    return {"truth": reader.class_names[truth], "prediction": reader.class_names[prediction], "images": names}


def _prepared(max_sizes: list[int | None]) -> str:
    """How `prepare` resized images and labels, in words; scores on shrunk labels are not comparable to the original."""
    return "+".join("original" if size is None else f"longest side at most {size}" for size in dict.fromkeys(max_sizes))


def _number(value: float) -> float | None:
    return None if math.isnan(value) else float(value)


def _check_classes(weights_file: Path, trained: list[str], found: list[str]) -> None:
    if trained != found:
        raise InputError(f"{weights_file}: {_difference(trained, found)}; evaluate it on its own dataset")


def _difference(trained: list[str], found: list[str]) -> str:
    """The first difference between two lists of class names, in words."""
    place, pair = next((i, pair) for i, pair in enumerate(zip_longest(trained, found)) if pair[0] != pair[1])
    names = ["nothing" if name is None else repr(name) for name in pair]
    return (
        f"trained on {len(trained)} classes, where the shards have {len(found)}; "
        f"class {place} is {names[0]} there and {names[1]} here"
    )
