"""Our weights files: safetensors with all it takes to use them.

A network's has its settings, classes, palette and input normalisation; a backbone's says which one it is and the
SHA-256 of the file it was imported from.
"""

import json
from pathlib import Path
from typing import NamedTuple

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save as encode

from ccnet import InputError
from ccnet.files import atomic
from ccnet.models import build_from_settings
from ccnet.runtime import jt, nn
from ccnet.settings import Settings

OF_NETWORK = ("settings", "class_names", "palette", "mean", "std")
LARGEST = 1e6  # of what images are normalised by, far above the 255 that is a pixel's


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
    """Set every parameter and buffer of a model. Raises InputError unless names and shapes match exactly."""
    own = model.state_dict()
    wrong = sorted(set(own) ^ set(tensors)) + [
        name for name in sorted(set(own) & set(tensors)) if tuple(own[name].shape) != tensors[name].shape
    ]
    if wrong:
        raise InputError(f"{where}: does not fit the network its settings describe: {', '.join(wrong[:5])} …")
    for name, value in own.items():
        value.assign(jt.array(tensors[name]))


def save(path: Path, model, settings: Settings, class_names: list[str], palette: list[list[int]]) -> None:
    """Write a model's weights and what belongs to them."""
    metadata = {
        "settings": settings.as_dict(),
        "class_names": class_names,
        "palette": palette,
        "mean": model.mean,
        "std": model.std,
    }
    with atomic(path) as temporary:
        temporary.write_bytes(encode(tensors_of(model), {key: json.dumps(value) for key, value in metadata.items()}))


def load(path: Path) -> Weights:
    """A network in eval mode from its weights file. Raises InputError for a file that is not ours, or damaged."""
    metadata, tensors = _read(path)
    try:
        settings, class_names, palette, mean, std = (metadata[key] for key in OF_NETWORK)
    except KeyError as error:
        raise InputError(f"{path}: no {error} in its header: not the weights of a whole network") from error
    settings = Settings.from_dict(settings, where=f"{path}: settings")
    model = build_from_settings(settings, len(class_names))
    model.mean, model.std = _normalisation(mean, std, str(path))
    put_tensors(model, tensors, str(path))
    model.eval()
    return Weights(model, settings, class_names, palette)


def _normalisation(mean, std, where: str) -> list[tuple[float, ...]]:
    """The input's mean and std, of R, G, B each. Raises InputError for what images cannot be normalised by."""
    try:
        values = np.array([mean, std], float)
    except (ValueError, TypeError, OverflowError):
        values = np.empty(0)
    if values.shape != (2, 3) or not (abs(values) < LARGEST).all() or not (values[1] > 1 / LARGEST).all():
        raise InputError(f"{where}: its mean {json.dumps(mean)} and std {json.dumps(std)} are not three numbers each,"
                         " std above 0; get the file again")  # fmt: skip
    return [tuple(row) for row in values.tolist()]


def save_backbone(path: Path, tensors: dict[str, np.ndarray], backbone: str, deep_stem: bool | None,
                  source: str) -> None:  # fmt: skip
    """Write a backbone's tensors (`backbone.…`) for training to begin with; `source` is their file's SHA-256."""
    metadata = {"part": "backbone", "backbone": backbone, "deep_stem": deep_stem, "source_sha256": source}
    with atomic(path) as temporary:
        temporary.write_bytes(encode(tensors, {key: json.dumps(value) for key, value in metadata.items()}))


def load_backbone(path: Path, model, settings: Settings) -> None:
    """Set a model's backbone from such a file. Raises InputError unless it is the one that its settings name."""
    metadata, tensors = _read(path)
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


def _read(path: Path) -> tuple[dict, dict[str, np.ndarray]]:
    try:
        with safe_open(path, framework="numpy") as file:
            header, tensors = file.metadata() or {}, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    except (SafetensorError, OSError, ValueError) as error:
        raise InputError(f"{path}: not a readable weights file ({error})") from error
    try:
        return {key: json.loads(value) for key, value in header.items()}, tensors
    except ValueError as error:
        raise InputError(f"{path}: safetensors of another program; give weights that ccnet wrote") from error
