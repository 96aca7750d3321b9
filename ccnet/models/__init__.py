"""The networks: `build` makes any of `BACKBONES` into a whole CCNet."""

import math

from ccnet import InputError
from ccnet.models.ccnet import ATTENTION, CCNet
from ccnet.models.resnet import ResNet
from ccnet.models.van import VAN
from ccnet.ops.batch_norm import BatchNorm
from ccnet.runtime import jt

BACKBONES = {
    "resnet18": ResNet,
    "resnet34": ResNet,
    "resnet50": ResNet,
    "resnet101": ResNet,
    "van_tiny": VAN,
    "van_small": VAN,
    "van_base": VAN,
    "van_large": VAN,
}


def build(name: str, num_classes: int, recurrence: int = 2, *, head: str = "rcca", output_stride: int | None = None,
          fusion: bool | None = None, head_channels: int | None = None, dropout: float = 0.1,
          **backbone_options) -> CCNet:  # fmt: skip
    """The whole network on backbone `name`, for `num_classes` classes, with R = `recurrence` loops of attention.

    Left at None, `output_stride`, `fusion` and `head_channels` are the family's own: ResNet 8, no fusion and a quarter
    of its channels, as in the paper; VAN 32, fusion at stride 8 and half of its channels. `backbone_options`: for a
    ResNet `deep_stem`, `multi_grid`; for a VAN `drop_path`.

    Raises InputError for an unknown backbone or head.
    """
    for value, allowed in ((name, BACKBONES), (head, ATTENTION)):
        if value not in allowed:
            raise InputError(f"{value!r} is not one of {', '.join(allowed)}")
    family = BACKBONES[name]
    van = family is VAN
    backbone = family(name, output_stride=output_stride or (32 if van else 8), **backbone_options)
    channels = head_channels or backbone.channels[-1] // (2 if van else 4)
    model = CCNet(backbone, channels, num_classes, head, recurrence, van if fusion is None else fusion, dropout)
    initialise(model)
    return model


def build_from_settings(settings, num_classes: int) -> CCNet:
    """The network that `ccnet.settings.Settings` describe."""
    model = settings.model
    own = {"drop_path": model.drop_path} if BACKBONES[model.backbone] is VAN else {
        "deep_stem": model.deep_stem, "multi_grid": model.multi_grid}  # fmt: skip
    return build(
        model.backbone, num_classes, model.recurrence, head=model.head, output_stride=model.output_stride,
        fusion=model.fusion, head_channels=model.head_channels, dropout=model.dropout, **own,
    )  # fmt: skip


def initialise(module) -> None:
    """Normal weights of variance 2 / fan-out (He et al., arXiv:1502.01852) for convolutions, zero biases."""
    for part in module.modules():
        weight = getattr(part, "weight", None)
        if isinstance(part, BatchNorm) or not isinstance(weight, jt.Var) or weight.ndim != 4:
            continue
        fan_out = weight.shape[2] * weight.shape[3] * (1 if weight.shape[1] == 1 else weight.shape[0])
        weight.assign(jt.randn(weight.shape) * math.sqrt(2 / fan_out))
        if part.bias is not None:
            part.bias.assign(jt.zeros(part.bias.shape))
