"""What the exports to other codebases share: the settings theirs have, and names from `ccnet.weights.origins`."""

import json
from typing import Any

import numpy as np

from ccnet import InputError
from ccnet.export.networks import VANS
from ccnet.export.segmenter import Segmenter
from ccnet.weights.origins import ORIGINS, Origin


def origin(description: str) -> Origin:
    """The origin with this description."""
    return next(known for known in ORIGINS if known.description == description)


def resolved(segmenter: Segmenter) -> dict[str, Any]:
    """The settings of the model by name; what they leave to the backbone's family is filled in."""
    model, state = segmenter.described.settings.as_dict()["model"], segmenter.network.state_dict()
    van = model["backbone"] in VANS
    filled = {
        "output_stride": 32 if van else 8,
        "fusion": van,
        "stem_channels": 64,
        "head_channels": state["classifier.conv.weight"].shape[1],
        "auxiliary_channels": state["auxiliary.classifier.conv.weight"].shape[1],
    }
    return model | {name: value for name, value in filled.items() if model[name] is None}


def require(segmenter: Segmenter, wanted: dict[str, Any], codebase: str) -> None:
    """Raise InputError that names each setting of the model which differs from those that the codebase's CCNet has."""
    own = resolved(segmenter)
    wrong = [f"{name} {json.dumps(own[name])}, not {json.dumps(value)}" for name, value in wanted.items()
             if own[name] != value]  # fmt: skip
    if own["backbone"] in VANS:
        wrong = [f"backbone {own['backbone']}, not a ResNet"]
    elif own["recurrence"] == 0:
        wrong.append("recurrence 0, not 1 or more")
    if wrong:
        raise InputError(
            f"--to {codebase}: its CCNet cannot be this network, which has {'; '.join(wrong)};"
            " onnx, torchscript and pytorch take any"
        )


def arrays(segmenter: Segmenter) -> dict[str, np.ndarray]:
    """The network's tensors by our names; without the embedding, which is for a loss that only ccnet has."""
    return {
        name: value.numpy()
        for name, value in segmenter.network.state_dict().items()
        if not name.startswith("embedding.") and not name.endswith("num_batches_tracked")  # PyTorch fills these in
    }


def renamed(values: dict[str, np.ndarray], names: Origin) -> dict[str, np.ndarray]:
    """Tensors by the publisher's names. Raises KeyError for one that has none."""
    theirs = {names.published(name): value for name, value in values.items()}
    if None in theirs:
        raise KeyError(f"{names.description} has no name for some of {', '.join(values)}")
    return {str(name): value for name, value in theirs.items()}
