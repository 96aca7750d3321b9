"""Known sources of published weights, and the mapping of their tensor names to ccnet's.

An `Origin` is a table: the key that identifies it, name patterns with their replacements, and the settings that a
network must have to compute the same as the publisher's network.
"""

import re
from collections.abc import Callable, Container, Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ccnet import InputError
from ccnet.weights.matching import Match
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

    def published(self, name: str) -> str | None:
        """The publisher's name of one of ccnet's tensors, the inverse of `rename`; None if there is no counterpart."""
        for pattern, replacement in self.names.items():
            ours = replacement.replace(r"\1", "")
            text = re.sub(r"\[(.).*?\]", r"\1", pattern).replace("\\", "")  # the first of [34]; no escapes
            theirs = ("" if r"\1" in replacement else text) + name.removeprefix(ours)
            if name.startswith(ours) and self.rename(theirs) == name:
                return theirs
        return None


def recognise(tensors: Iterable[str], where: str) -> Origin:
    """The origin of a state dict, from its keys. Raises InputError for one that is not in `ORIGINS`.

    A backbone's keys may also begin with "backbone.", as in a segmentation network with another head.
    """
    for origin in ORIGINS:
        if origin.mark in tensors or (origin.part == "backbone" and f"backbone.{origin.mark}" in tensors):
            return origin
    known = "; ".join(origin.description for origin in ORIGINS)
    raise InputError(f"{where}: not recognised by the names in it, such as {_first(tensors)}; known: {known}")


# Settings that are read from a shape: the parameter whose output channels they are, and the values that networks have.
WIDTHS: dict[str, tuple[str, Container[int]]] = {
    "stem_channels": ("backbone.conv1.weight", (32, 64)),
    "auxiliary_channels": ("auxiliary.conv.conv.weight", range(8, 2049)),
}


def settings_of(origin: Origin, tensors: dict[str, Tensor]) -> dict[str, Any]:
    """The settings, by their flat names, that a network for these tensors must have: the origin's and the `WIDTHS`."""
    shapes = {origin.rename(name): tensor.shape for name, tensor in tensors.items()}
    widths = {setting: (*shapes.get(name, ()), 0)[0] for setting, (name, _) in WIDTHS.items()}
    if not origin.settings.get("deep_stem"):
        del widths["stem_channels"]
    return origin.settings | {setting: width for setting, width in widths.items() if width in WIDTHS[setting][1]}


def match(origin: Origin, tensors: dict[str, Tensor], wanted: dict[str, tuple[int, ...]]) -> Match[Tensor]:
    """Match a state dict with the shapes of `wanted` by name. Ignores PyTorch's num_batches_tracked."""
    found: dict[str, Tensor] = {}
    unused, mismatched = [], {}
    for name, tensor in tensors.items():
        ours = origin.rename(name)
        if name.endswith("num_batches_tracked"):
            continue
        if ours is None or ours not in wanted:
            unused.append(name)
        elif tensor.shape == wanted[ours] or (tensor.shape == () and wanted[ours] == (1,)):
            found[ours] = tensor
        else:
            mismatched[ours] = f"{tensor.shape} where {wanted[ours]} is needed"
    missing = [name for name in wanted if name not in found and name not in mismatched]
    return Match(found, unused, missing, mismatched)


def convert(origin: Origin, filled: dict[str, Tensor], wanted: dict[str, tuple[int, ...]]) -> Arrays:
    """The values of `filled` as float32 arrays of the wanted shapes, adapted to ccnet's input and layers.

    Raises ValueError for a tensor that is damaged or not finite.
    """
    arrays = {name: tensor.numpy().reshape(wanted[name]) for name, tensor in filled.items()}
    broken = [name for name, values in arrays.items() if not np.isfinite(values).all()]
    if broken:
        raise ValueError(f"numbers that are not finite in {', '.join(broken[:3])}")
    return origin.adapt(arrays)


def _first(names: Iterable[str]) -> str:
    return ", ".join(list(names)[:3])


NORM = re.compile(r"(bn\d|norm|downsample\.1)\.weight$")  # the weight of a batch norm of a ResNet or a head
ABN_EPSILON = np.float32(1e-5)  # InPlace-ABN scales by |weight| + this


def _from_official(arrays: Arrays) -> Arrays:
    """Convert the official CCNet: its input is B, G, R, and its norms scale by |weight| + eps (InPlace-ABN)."""
    arrays = {name: np.abs(values) + ABN_EPSILON if NORM.search(name) else values for name, values in arrays.items()}
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
