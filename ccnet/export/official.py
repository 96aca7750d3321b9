"""The official CCNet (github.com/speedinghzl/CCNet): a state dict for its `networks/ccnet.py` and `evaluate.py`.

Its input is B, G, R minus a mean, without a division, and its norms are InPlace-ABN, which scale by |weight| + 1e-5.
What differs here is folded into the weights, so that the code there stays as it is.
"""

import re
from pathlib import Path

import numpy as np
import torch

from ccnet import InputError
from ccnet.export import foreign
from ccnet.export.segmenter import Segmenter
from ccnet.weights.origins import ABN_EPSILON, NORM, Arrays

ORIGIN = foreign.origin("official CCNet")
# what is written into its code, and what its settings have no effect on
WIDTHS = {"stem_channels": 64, "head_channels": 512, "auxiliary_channels": 512}
FREE = ("recurrence", "head_channels", "dropout", "drop_path")
FIRST, FIRST_NORM = "backbone.conv1.weight", "backbone.bn1.running_mean"


def write(segmenter: Segmenter, path: Path) -> str:
    """Write the state dict and return how it is used. Raises InputError for a network that its code cannot express."""
    fixed = {name: value for name, value in ORIGIN.settings.items() if name not in FREE} | WIDTHS
    foreign.require(segmenter, fixed, "official")
    model = segmenter.described.settings.model
    if model.backbone not in ("resnet50", "resnet101"):
        raise InputError(f"--to official: its CCNet has no {model.backbone}: resnet101, and with an edit resnet50")
    values = scaled_by_absolute(normalised_as_there(foreign.arrays(segmenter), segmenter))
    named = foreign.renamed(values, ORIGIN)
    named["dsn.0.bias"] = np.zeros(WIDTHS["auxiliary_channels"], np.float32)  # a convolution without one here
    torch.save({name: torch.from_numpy(np.ascontiguousarray(value)) for name, value in named.items()}, path)
    blocks = "" if model.backbone == "resnet101" else "; in networks/ccnet.py [3, 4, 23, 3] becomes [3, 4, 6, 3]"
    classes = len(segmenter.described.class_names)
    return f"evaluate.py --restore-from it --recurrence {model.recurrence} --num-classes {classes}{blocks}"


def normalised_as_there(values: Arrays, segmenter: Segmenter) -> Arrays:
    """For images in B, G, R minus the official mean: the division and the other mean move into the first layer.

    The same up to the image's border, where convolutions pad with zeros: with the mean colour, which is another there.
    """
    assert ORIGIN.normalisation is not None
    mean, std = (np.array(part, np.float64) for part in (segmenter.described.mean, segmenter.described.std))
    kernel = values[FIRST] / std[None, :, None, None]
    offset = kernel.sum((2, 3)) @ (np.array(ORIGIN.normalisation[0]) - mean)
    first = {FIRST: kernel[:, ::-1], FIRST_NORM: values[FIRST_NORM] - offset}
    return values | {name: value.astype(np.float32) for name, value in first.items()}


def scaled_by_absolute(values: Arrays) -> Arrays:
    """For norms that scale by |weight| + 1e-5: a negative weight moves its sign into the convolution before the norm.

    Weights below 1e-5 become 1e-5. All from 2⁻¹³ on come back bit for bit, as |weight| + 1e-5 in float32.
    """
    changed = dict(values)
    for name in filter(NORM.search, values):
        sign = np.where(values[name] < 0, np.float32(-1), np.float32(1))
        for other in (convolution_before(name), name.replace("weight", "running_mean")):
            changed[other] = changed[other] * sign.reshape(-1, *[1] * (changed[other].ndim - 1))
        changed[name] = np.maximum(np.abs(values[name]) - ABN_EPSILON, 0)
    return changed


def convolution_before(norm: str) -> str:
    """The name of the weight of the convolution that a norm follows, from the name of the norm's weight."""
    for pattern, replacement in (
        (r"bn(\d)\.", r"conv\1."),
        (r"norm\.", "conv."),
        (r"downsample\.1\.", "downsample.0."),
    ):
        norm = re.sub(pattern + "weight$", replacement + "weight", norm)
    return norm
