"""Our weights file: safetensors with all it takes to use them: settings, classes, palette, input normalisation."""

import json
from pathlib import Path
from typing import NamedTuple

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save as encode

from ccnet import InputError
from ccnet.files import atomic
from ccnet.models import build_from_settings
from ccnet.ops.normalise import MEAN, STD
from ccnet.runtime import jt, nn
from ccnet.settings import Settings


class Weights(NamedTuple):
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
        "mean": MEAN,
        "std": STD,
    }
    with atomic(path) as temporary:
        temporary.write_bytes(encode(tensors_of(model), {key: json.dumps(value) for key, value in metadata.items()}))


def load(path: Path) -> Weights:
    """A network in eval mode from its weights file. Raises InputError for a file that is not ours, or damaged."""
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = {key: json.loads(value) for key, value in (file.metadata() or {}).items()}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
        settings, class_names, palette = (metadata[key] for key in ("settings", "class_names", "palette"))
    except (SafetensorError, OSError, ValueError) as error:
        raise InputError(f"{path}: not a readable weights file ({error})") from error
    except KeyError as error:
        raise InputError(f"{path}: no {error} in its header; it was not written by ccnet train") from error
    settings = Settings.from_dict(settings, where=f"{path}: settings")
    model = build_from_settings(settings, len(class_names))
    put_tensors(model, tensors, str(path))
    model.eval()
    return Weights(model, settings, class_names, palette)
