"""Our weights files: safetensors with all it takes to use them.

A network's has its settings, classes, palette and input normalisation; a backbone's says which one it is and the
SHA-256 of the file it was imported from.
"""

import json
import sys
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from safetensors.numpy import save as encode

from ccnet import InputError, checkpoints, safetensors_io
from ccnet.files import atomic
from ccnet.models import build_from_settings
from ccnet.ops.normalise import MEAN, STD
from ccnet.runtime import jt, nn
from ccnet.settings import Settings


class Weights(NamedTuple):
    """A network in eval mode, and what belongs to it."""

    model: nn.Module
    settings: Settings
    class_names: list[str]
    palette: list[list[int]]


def tensors_of(model) -> dict[str, np.ndarray]:
    """Every parameter and buffer of a model by name, as NumPy arrays of their own."""
    return {name: np.array(value.numpy()) for name, value in model.state_dict().items()}


def put_tensors(model, tensors: dict[str, np.ndarray], where: str) -> None:
    """Set every parameter and buffer of a model. Raises InputError unless names, shapes and types match exactly."""
    own = model.state_dict()
    wrong = sorted(set(own) ^ set(tensors)) + [
        name
        for name in sorted(set(own) & set(tensors))
        if (tuple(own[name].shape), str(own[name].dtype)) != (tensors[name].shape, str(tensors[name].dtype))
    ]
    if wrong:
        raise InputError(f"{where}: does not fit the network its settings describe: {', '.join(wrong[:5])} …")
    for name, value in own.items():
        value.assign(jt.array(tensors[name]))


def describe(settings: Settings, class_names: list[str], palette: list[list[int]]) -> dict[str, str]:
    """What belongs to a network's weights, as a header's entries."""
    metadata = {
        "settings": settings.as_dict(),
        "class_names": class_names,
        "palette": palette,
        "mean": MEAN,
        "std": STD,
    }
    return {key: json.dumps(value) for key, value in metadata.items()}


def save(path: Path, model, settings: Settings, class_names: list[str], palette: list[list[int]]) -> None:
    """Write a model's weights and what belongs to them."""
    with atomic(path) as temporary:
        temporary.write_bytes(encode(tensors_of(model), describe(settings, class_names, palette)))


def located(path: Path) -> Path:
    """The file that `path` means: of a run's folder its weights or, before its training ends, its newest checkpoint.

    Raises InputError for a folder that has neither.
    """
    if not path.is_dir():
        return path
    finished = path / "weights.safetensors"
    found = finished if finished.exists() else checkpoints.newest(path / "checkpoints")
    if found is None:
        raise InputError(f"{path}: a folder without {finished.name} and without checkpoints; train the run first, or"
                         " name a weights file")  # fmt: skip
    return found


def load(path: Path) -> Weights:
    """A network in eval mode from its weights file, a checkpoint, or a run's folder (see `located`).

    Raises InputError for a file that is not ours, or damaged.
    """
    path = located(Path(path))
    metadata, tensors = safetensors_io.read(path)
    if "step" in metadata:
        print(f"ccnet: {path}: a checkpoint, of step {metadata['step']}", file=sys.stderr)
        tensors = checkpoints.of_model(tensors)
    try:
        settings, class_names, palette = (metadata[key] for key in ("settings", "class_names", "palette"))
    except KeyError as error:
        raise InputError(f"{path}: no {error} in its header: not the weights of a whole network") from error
    _check_classes(class_names, palette, str(path))
    if [metadata.get("mean"), metadata.get("std")] != [MEAN, STD]:
        raise InputError(f"{path}: made for images normalised otherwise: it would score wrongly here")
    settings = Settings.from_dict(settings, where=f"{path}: settings")
    model = build_from_settings(settings, len(class_names))
    put_tensors(model, tensors, str(path))
    model.eval()
    return Weights(model, settings, class_names, palette)


def _check_classes(class_names: Any, palette: Any, where: str) -> None:
    named = isinstance(class_names, list) and all(isinstance(name, str) for name in class_names)
    if not named or not 0 < len(class_names) <= 255:
        raise InputError(f"{where}: damaged: its class_names are no list of 1 to 255 names; get the file again")
    try:
        colours = np.array(palette)
        right = colours.shape == (len(class_names), 3) and colours.astype(np.uint8).tolist() == palette
    except (ValueError, TypeError, OverflowError):
        right = False
    if not right:
        raise InputError(f"{where}: damaged: its palette is no colour for each class; get the file again")


def save_backbone(path: Path, tensors: dict[str, np.ndarray], backbone: str, deep_stem: bool | None,
                  source: str) -> None:  # fmt: skip
    """Write a backbone's tensors (`backbone.…`) for training to begin with; `source` is their file's SHA-256."""
    metadata = {"part": "backbone", "backbone": backbone, "deep_stem": deep_stem, "source_sha256": source}
    with atomic(path) as temporary:
        temporary.write_bytes(encode(tensors, {key: json.dumps(value) for key, value in metadata.items()}))


def load_backbone(path: Path, model, settings: Settings) -> None:
    """Set a model's backbone from such a file. Raises InputError unless it is the one that its settings name."""
    metadata, tensors = safetensors_io.read(path)
    wanted: dict[str, object] = {
        "part": "backbone", "backbone": settings.model.backbone, "source_sha256": settings.model.pretrained,
    }  # fmt: skip
    if settings.model.backbone.startswith("resnet"):
        wanted["deep_stem"] = settings.model.deep_stem
    for key, value in wanted.items():
        if metadata.get(key) != value:
            raise InputError(f"{path}: its {key} is {json.dumps(metadata.get(key))}, the settings' {json.dumps(value)};"
                             " change model.* to suit, or import other weights with ccnet import-weights")  # fmt: skip
    own = {name.removeprefix("backbone."): value for name, value in tensors.items()}
    put_tensors(model.backbone, own, str(path))
