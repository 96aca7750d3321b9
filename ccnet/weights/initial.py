"""The weights that a training begins with: an imported backbone, or a network of this project, whole or in training."""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ccnet import InputError, weights
from ccnet.files import sha256
from ccnet.settings import Model
from ccnet.weights import files
from ccnet.weights.matching import Match, some

CLASSIFIERS = ("classifier.", "auxiliary.classifier.")


@dataclass(frozen=True)
class Source:
    """A file of weights. `digest` is what `model.pretrained` of the settings calls it: the SHA-256 of the published
    file for a backbone, of the file itself for a network.

    `deep_stem` is None for a VAN, `stem_channels` without a deep stem; `class_names` and `normalisation` (mean and std)
    for a backbone, whose input is normalised by ImageNet's.
    """

    path: Path
    digest: str
    tensors: dict[str, np.ndarray]
    backbone: str
    deep_stem: bool | None
    stem_channels: int | None
    class_names: list[str] | None = None
    normalisation: tuple[tuple[float, ...], tuple[float, ...]] | None = None

    def check(self, model: Model) -> None:
        """Raise InputError unless the settings name this file and describe its backbone."""
        stem = _stem(model.backbone, model.deep_stem, model.stem_channels)
        wanted = {"backbone": model.backbone, **stem, "SHA-256": model.pretrained}
        stem = {"deep_stem": self.deep_stem, "stem_channels": self.stem_channels}
        own = {"backbone": self.backbone, **stem, "SHA-256": self.digest}
        for key, value in own.items():
            if wanted[key] != value:
                raise InputError(
                    f"{self.path}: its {key} is {json.dumps(value)}, the settings' {json.dumps(wanted[key])};"
                    " change model.* to suit, or begin with other weights"
                )


def _stem(backbone: str, deep_stem: bool | None, stem_channels: int | None) -> dict[str, Any]:
    """The settings of the stem, None where they have no effect; files and settings of earlier versions lack a width."""
    deep = deep_stem if backbone.startswith("resnet") else None
    return {"deep_stem": deep, "stem_channels": (stem_channels or 64) if deep else None}


def read(path: Path) -> Source:
    """Read a file of `weights.save_backbone` or `weights.save`, a checkpoint, or a run's folder.

    Raises InputError for a file that ccnet did not write, or that is damaged.
    """
    path = weights.located(Path(path).expanduser())
    metadata, tensors = files.read(path)
    if metadata.get("part") == "backbone":
        digest = metadata.get("source_sha256")
        if not (isinstance(digest, str) and re.fullmatch("[0-9a-f]{64}", digest)):
            raise InputError(f"{path}: damaged: no SHA-256 of its source; import it again")
        backbone = str(metadata.get("backbone"))
        stem = _stem(backbone, metadata.get("deep_stem"), metadata.get("stem_channels"))
        return Source(path, digest, tensors, backbone, **stem)
    described, tensors = weights.interpret(metadata, tensors, path)
    model = described.settings.model
    return Source(
        path, sha256(path), tensors, model.backbone, **_stem(model.backbone, model.deep_stem, model.stem_channels),
        class_names=described.class_names, normalisation=(described.mean, described.std),
    )  # fmt: skip


def start(path: Path, model, settings: Model, class_names: list[str]) -> list[str]:
    """Set the parameters and buffers of `model` that the file at `path` has, and its input normalisation.

    The names and shapes must agree, for the classifiers also the classes; all others keep their initial values. With
    `frozen_norms`, freezes the norms that are set. Returns the key report. Raises InputError unless the settings fit.
    """
    source = read(path)
    source.check(settings)
    own = weights.state_arrays(model)
    match = _match(own, source, class_names)
    weights.load_state(model, own | match.filled, str(path))
    if source.normalisation:
        model.mean, model.std = source.normalisation
    for name, part in model.named_modules():
        if f"{name}.running_mean" in match.filled:
            part.frozen = settings.frozen_norms
    return [f"ccnet: {settings.backbone} begins with {path}", *match.report(), *_classes(source, class_names)]


def _match(own: dict[str, np.ndarray], source: Source, class_names: list[str]) -> Match[np.ndarray]:
    anew = () if source.class_names == class_names else CLASSIFIERS
    offered = {name: value for name, value in source.tensors.items() if name in own and not name.startswith(anew)}
    found = [name for name in own if name in offered]
    return Match(
        filled={name: offered[name] for name in found if offered[name].shape == own[name].shape},
        unused=[name for name in source.tensors if name not in offered],
        missing=[name for name in own if name not in offered],
        mismatched={
            name: f"{offered[name].shape} where {own[name].shape} is needed"
            for name in found
            if offered[name].shape != own[name].shape
        },
    )


def _classes(source: Source, class_names: list[str]) -> list[str]:
    """A line of the report if the classes are others than the source's."""
    if source.class_names in (None, class_names):
        return []
    there, here = (f"{len(names)} ({some(names)})" for names in (source.class_names or [], class_names))
    return [f"  classes: {there} there, {here} here: the classifiers start anew"]
