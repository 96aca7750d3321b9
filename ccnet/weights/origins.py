"""Known sources of published weights, and the mapping of their tensor names to ccnet's.

An `Origin` is a table: the key that identifies it, name patterns with their replacements, and the settings that a
network must have to compute the same as the publisher's network.
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from ccnet import InputError
from ccnet.weights.tensors import Tensor

Arrays = dict[str, np.ndarray]


@dataclass(frozen=True)
class Origin:
    """A source of published weights.

    `mark` is the key that identifies its state dicts. `family` is the prefix of the backbones it fits, `part`
    "backbone" or "network". `names` maps regular expressions to replacements. `settings`, by their flat names, are
    those that the network must have. `adapt` converts the values. `normalisation` is the mean and std of R, G, B of
    its input on the scale 0 … 255; None: ImageNet's.
    """

    description: str
    mark: str
    family: str
    part: str
    names: dict[str, str]
    settings: dict[str, Any] = field(default_factory=dict)
    adapt: Callable[[Arrays], Arrays] = lambda arrays: arrays
    normalisation: tuple[tuple[float, ...], tuple[float, ...]] | None = None

    def rename(self, name: str) -> str | None:
        """The ccnet name of one of its tensors; None if there is no counterpart."""
        if self.part == "backbone":
            name = name.removeprefix("backbone.")
        for pattern, replacement in self.names.items():
            if re.match(pattern, name):
                return re.sub(pattern, replacement, name, count=1)
        return None


class Match(NamedTuple):
    """Tensors of the file by ccnet's names, and the names that do not match; `mismatched` states both shapes."""

    filled: dict[str, Tensor]
    unused: list[str]
    missing: list[str]
    mismatched: dict[str, str]


def recognise(tensors: Iterable[str], where: str) -> Origin:
    """The origin of a state dict, from its keys. Raises InputError for one that is not in `ORIGINS`.

    A backbone's keys may also begin with "backbone.", as in a segmentation network with another head.
    """
    for origin in ORIGINS:
        if origin.mark in tensors or (origin.part == "backbone" and f"backbone.{origin.mark}" in tensors):
            return origin
    known = "; ".join(origin.description for origin in ORIGINS)
    raise InputError(f"{where}: not recognised by the names in it, such as {_first(tensors)}; known: {known}")


def match(origin: Origin, tensors: dict[str, Tensor], wanted: dict[str, tuple[int, ...]]) -> Match:
    """Match a state dict with the shapes of `wanted` by name. Ignores PyTorch's num_batches_tracked."""
    found: dict[str, Tensor] = {}
    unused, mismatched = [], {}
    for name, tensor in tensors.items():
        ours = origin.rename(name)
        if name.endswith("num_batches_tracked"):
            continue
        if ours is None or ours not in wanted:
            unused.append(name)
        elif _fits(ours, tensor.shape, wanted[ours]):
            found[ours] = tensor
        else:
            mismatched[ours] = f"{tensor.shape} where {wanted[ours]} is needed"
    missing = [name for name in wanted if name not in found and name not in mismatched]
    return Match(found, unused, missing, mismatched)


def convert(origin: Origin, filled: dict[str, Tensor], wanted: dict[str, tuple[int, ...]]) -> Arrays:
    """The values of `filled` as float32 arrays of the wanted shapes, adapted to ccnet's input and layers.

    Raises ValueError for a tensor that is damaged or not finite.
    """
    arrays = {name: _widen(name, tensor.numpy(), wanted[name]) for name, tensor in filled.items()}
    broken = [name for name, values in arrays.items() if not np.isfinite(values).all()]
    if broken:
        raise ValueError(f"numbers that are not finite in {', '.join(broken[:3])}")
    return origin.adapt(arrays)


def _first(names: Iterable[str]) -> str:
    return ", ".join(list(names)[:3])


# mmsegmentation's deep stem has 32, 32, 64 channels, ccnet's has 64, 64, 128. The imported weights fill part of it and
# the rest is zero. Zero channels that are read with zero weights do not change the output, get no gradient and
# therefore stay zero in training.
STEM = re.compile(r"backbone\.(conv[123]|bn[123]|layer1\.0\.(conv1|downsample\.0))\.\w+")


def _fits(name: str, shape: tuple[int, ...], wanted: tuple[int, ...]) -> bool:
    narrow = STEM.fullmatch(name) and len(shape) == len(wanted) and shape[2:] == wanted[2:]
    return shape == wanted or (shape == () and wanted == (1,)) or bool(narrow and _halved(shape, wanted))


def _halved(shape: tuple[int, ...], wanted: tuple[int, ...]) -> bool:
    return all(size in (full, full / 2) for size, full in zip(shape, wanted, strict=True))


def _widen(name: str, values: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Reshape a scalar to `(1,)`; pad a narrow stem (running_var with 1, all else with 0)."""
    if values.ndim == 0:
        return values.reshape(shape)
    missing = [(0, full - size) for size, full in zip(values.shape, shape, strict=True)]
    return np.pad(values, missing, constant_values=1.0 if name.endswith("running_var") else 0.0)


def _from_official(arrays: Arrays) -> Arrays:
    """Convert the official CCNet: its input is B, G, R, and its norms scale by |weight| + eps (InPlace-ABN)."""
    arrays = {
        name: np.abs(values) + 1e-5 if re.search(r"(bn\d|norm|downsample\.1)\.weight$", name) else values
        for name, values in arrays.items()
    }
    if "backbone.conv1.weight" in arrays:
        arrays["backbone.conv1.weight"] = arrays["backbone.conv1.weight"][:, ::-1].copy()  # (64, R G B, 3, 3)
    return arrays


# Settings that the two published CCNets share: fields of `ccnet.settings.Model`, without the backbone.
CCNET: dict[str, Any] = {
    "head": "rcca", "recurrence": 2, "output_stride": 8, "fusion": False, "deep_stem": True, "multi_grid": False,
    "head_channels": None, "dropout": 0.1, "drop_path": 0.0,
}  # fmt: skip

RESNET = {r"((conv|bn|layer)\d\.)": r"backbone.\1"}

# From specific to general: the first origin whose mark is found is used.
ORIGINS = (
    Origin(  # github.com/speedinghzl/CCNet, networks/ccnet.py
        "official CCNet", "head.conva.0.weight", "resnet", "network",
        RESNET | {
            r"head\.conva\.0": "head.before.conv", r"head\.conva\.1": "head.before.norm",
            r"head\.cca\.": "head.attention.",
            r"head\.convb\.0": "head.after.conv", r"head\.convb\.1": "head.after.norm",
            r"head\.bottleneck\.0": "head.bottleneck.conv", r"head\.bottleneck\.1": "head.bottleneck.norm",
            r"head\.bottleneck\.[34]": "classifier.conv",
            r"dsn\.0": "auxiliary.conv.conv", r"dsn\.1": "auxiliary.conv.norm", r"dsn\.3": "auxiliary.classifier.conv",
        },
        CCNET | {"contract_dilation": False, "align_corners": True, "negative_slope": 0.01},
        _from_official,
        # evaluate.py: IMG_MEAN (there as B, G, R); no division by a std
        ((122.67891434, 116.66876762, 104.00698793), (1.0, 1.0, 1.0)),
    ),
    Origin(  # github.com/open-mmlab/mmsegmentation, configs/ccnet; heads cc_head.py and fcn_head.py
        "mmsegmentation's CCNet", "decode_head.cca.query_conv.weight", "resnet", "network",
        {
            r"backbone\.stem\.0": "backbone.conv1", r"backbone\.stem\.1": "backbone.bn1",
            r"backbone\.stem\.3": "backbone.conv2", r"backbone\.stem\.4": "backbone.bn2",
            r"backbone\.stem\.6": "backbone.conv3", r"backbone\.stem\.7": "backbone.bn3",
            r"(backbone\.layer)": r"\1",
            r"decode_head\.convs\.0\.conv": "head.before.conv", r"decode_head\.convs\.0\.bn": "head.before.norm",
            r"decode_head\.cca\.gamma\.scale": "head.attention.gamma", r"decode_head\.cca\.": "head.attention.",
            r"decode_head\.convs\.1\.conv": "head.after.conv", r"decode_head\.convs\.1\.bn": "head.after.norm",
            r"decode_head\.conv_cat\.conv": "head.bottleneck.conv",
            r"decode_head\.conv_cat\.bn": "head.bottleneck.norm",
            r"decode_head\.conv_seg": "classifier.conv",
            r"auxiliary_head\.convs\.0\.conv": "auxiliary.conv.conv",
            r"auxiliary_head\.convs\.0\.bn": "auxiliary.conv.norm",
            r"auxiliary_head\.conv_seg": "auxiliary.classifier.conv",
        },
        CCNET | {"contract_dilation": True, "align_corners": False, "negative_slope": 0.0},
    ),
    Origin(  # github.com/open-mmlab/mmsegmentation, mmseg/models/backbones/resnet.py: ResNetV1c
        "ResNetV1c (deep stem, mmsegmentation)", "stem.0.weight", "resnet", "backbone",
        {
            r"stem\.0": "backbone.conv1", r"stem\.1": "backbone.bn1",
            r"stem\.3": "backbone.conv2", r"stem\.4": "backbone.bn2",
            r"stem\.6": "backbone.conv3", r"stem\.7": "backbone.bn3",
            r"(layer\d\.)": r"backbone.\1",
        },
        {"deep_stem": True},
    ),
    Origin(  # github.com/Visual-Attention-Network/VAN-Classification, models/van.py
        "VAN classifier", "patch_embed1.proj.weight", "van", "backbone",
        {r"((patch_embed|block|norm)\d\.)": r"backbone.\1"},
    ),
    Origin(  # github.com/CSAILVision/semantic-segmentation-pytorch, mit_semseg/models/resnet.py
        "ResNet classifier with a deep stem (MIT CSAIL)", "conv3.weight", "resnet", "backbone",
        RESNET, {"deep_stem": True},
    ),
    Origin(  # github.com/pytorch/vision, torchvision/models/resnet.py; Jittor's ResNets use the same names
        "ResNet classifier with a plain stem (torchvision)", "layer1.0.conv1.weight", "resnet", "backbone",
        RESNET, {"deep_stem": False},
    ),
)  # fmt: skip
