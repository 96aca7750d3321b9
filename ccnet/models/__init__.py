"""Network construction: `build` returns a CCNet on any backbone in `BACKBONES`, with initialised weights."""

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
EMBEDDING = 16  # channels of the features for the category consistent loss, as in the TPAMI paper


def build(
    name: str,
    num_classes: int,
    recurrence: int = 2,
    *,
    head: str = "rcca",
    output_stride: int | None = None,
    fusion: bool | None = None,
    head_channels: int | None = None,
    auxiliary_channels: int | None = None,
    dropout: float = 0.1,
    align_corners: bool = False,
    negative_slope: float = 0.0,
    embedding: int = 0,
    **backbone_options,
) -> CCNet:
    """Build a CCNet with backbone `name` and R = `recurrence` loops of attention, for `num_classes` classes.

    `output_stride`, `fusion` and `head_channels` default by backbone family. ResNet: 8, no fusion, a quarter of the
    backbone's last channels, as in the paper. VAN: 32, fusion at stride 8, half of the backbone's last channels.
    `auxiliary_channels` defaults to half of the third stage's channels.
    `align_corners` applies to every resize, `negative_slope` to the ReLUs in the heads. `embedding` is the number of
    channels of the features for the category consistent loss (0: none). `backbone_options` are `deep_stem`,
    `stem_channels`, `multi_grid` and `contract_dilation` for a ResNet, `drop_path` for a VAN.

    Raises InputError for an unknown backbone or head.
    """
    for value, allowed in ((name, BACKBONES), (head, ATTENTION)):
        if value not in allowed:
            raise InputError(f"{value!r} is not one of {', '.join(allowed)}")
    family = BACKBONES[name]
    van = family is VAN
    if not van:
        backbone_options["ceil_mode"] = align_corners
    backbone = family(name, output_stride=output_stride or (32 if van else 8), **backbone_options)
    model = CCNet(
        backbone, head_channels or backbone.channels[-1] // (2 if van else 4), num_classes, head=head,
        auxiliary_channels=auxiliary_channels or backbone.channels[2] // 2, recurrence=recurrence,
        fusion=van if fusion is None else fusion, dropout=dropout, align_corners=align_corners,
        negative_slope=negative_slope, embedding=embedding,
    )  # fmt: skip
    initialise(model)
    return model


def build_from_settings(settings, num_classes: int) -> CCNet:
    """Build the network described by `ccnet.settings.Settings`, or by an `Architecture`, which has no loss settings."""
    model, loss = settings.model, getattr(settings, "loss", None)
    van = BACKBONES[model.backbone] is VAN
    own = ("drop_path",) if van else ("deep_stem", "stem_channels", "multi_grid", "contract_dilation")
    shared = (
        "head", "output_stride", "fusion", "head_channels", "auxiliary_channels", "dropout", "align_corners",
        "negative_slope",
    )  # fmt: skip
    return build(
        model.backbone,
        num_classes,
        model.recurrence,
        embedding=EMBEDDING if loss and loss.category_consistency else 0,
        **{option: value for option in shared + own if (value := getattr(model, option)) is not None},
    )


def initialise(module) -> None:
    """Initialise convolutions in place: weights N(0, 2 / fan-out) (He et al., arXiv:1502.01852), biases 0.

    Convolutions with a bias outside the backbone (classifiers; queries, keys and values of attention) use variance
    1 / (3 fan-in), the variance of PyTorch's default, which the official code keeps. Their scores start near 0, so no
    softmax is saturated.
    """
    for name, part in module.named_modules():
        weight = getattr(part, "weight", None)
        if isinstance(part, BatchNorm) or not isinstance(weight, jt.Var) or weight.ndim != 4:
            continue
        out_channels, in_channels, *kernel = weight.shape
        variance = 2 / (math.prod(kernel) * (1 if in_channels == 1 else out_channels))
        if part.bias is not None and not name.startswith("backbone."):
            variance = 1 / (3 * in_channels)
        weight.assign(jt.randn(weight.shape) * math.sqrt(variance))
        if part.bias is not None:
            part.bias.assign(jt.zeros(part.bias.shape))
