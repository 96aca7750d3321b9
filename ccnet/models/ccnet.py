"""CCNet (Huang et al., arXiv:1811.11721): backbone → context head → classifier, and an auxiliary head.

Notable: criss-cross attention is applied `recurrence` times with the same weights (the paper's RCCA, Fig. 2), between
two 3×3 convolutions; its result is concatenated with the backbone's features. The non-local block (Wang et al.,
arXiv:1711.07971) takes its place as the paper's baseline. VAN's last stage at stride 32 leaves attention too little
to see, so its levels 2 to 4 are fused at stride 8 first.
"""

from ccnet import InputError
from ccnet.ops.batch_norm import BatchNorm
from ccnet.ops.criss_cross import CrissCrossAttention
from ccnet.ops.drop import Dropout2d
from ccnet.ops.epilogue import conv_norm_act
from ccnet.ops.non_local import NonLocal
from ccnet.ops.normalise import MEAN, STD
from ccnet.ops.pointwise import PointwiseConv
from ccnet.ops.resize import resize
from ccnet.ops.winograd import Conv3x3
from ccnet.runtime import jt, nn

ATTENTION: dict[str, type] = {"rcca": CrissCrossAttention, "non_local": NonLocal}
SMALLEST = 32  # pixels: one feature at stride 32


class ConvNorm(nn.Module):
    """3×3 convolution, batch norm and ReLU, leaky if `negative_slope` is not 0."""

    def __init__(self, in_channels: int, channels: int, negative_slope: float):
        self.conv = Conv3x3(in_channels, channels)
        self.norm = BatchNorm(channels)
        self.negative_slope = negative_slope

    def execute(self, x: jt.Var) -> jt.Var:
        return conv_norm_act(self.conv, self.norm, x, slope=self.negative_slope)


class ContextHead(nn.Module):
    """Features `(B, in_channels, h, w)` -> context features `(B, channels, h, w)`.

    `attention` is "rcca" or "non_local", applied `recurrence` times with shared weights; 0 leaves it out.
    """

    def __init__(self, in_channels: int, channels: int, attention: str, recurrence: int, negative_slope: float):
        self.before = ConvNorm(in_channels, channels, negative_slope)
        self.attention = ATTENTION[attention](channels) if recurrence else nn.Identity()
        self.after = ConvNorm(channels, channels, negative_slope)
        self.bottleneck = ConvNorm(in_channels + channels, channels, negative_slope)
        self.recurrence = recurrence

    def execute(self, x: jt.Var) -> jt.Var:
        context = self.before(x)
        for _ in range(self.recurrence):
            context = self.attention(context)
        return self.bottleneck(jt.concat([x, self.after(context)], dim=1))


class Classifier(nn.Module):
    """Dropout and a 1×1 convolution: features `(B, C, h, w)` -> logits `(B, num_classes, h, w)`."""

    def __init__(self, channels: int, num_classes: int, dropout: float):
        self.dropout = Dropout2d(dropout)
        self.conv = PointwiseConv(channels, num_classes)

    def execute(self, x: jt.Var) -> jt.Var:
        return self.conv(self.dropout(x))


class AuxiliaryHead(nn.Module):
    """Deep supervision behind stage 3, used in training only (the official code's `dsn`)."""

    def __init__(self, in_channels: int, channels: int, num_classes: int, dropout: float, negative_slope: float):
        self.conv = ConvNorm(in_channels, channels, negative_slope)
        self.classifier = Classifier(channels, num_classes, dropout)

    def execute(self, x: jt.Var) -> jt.Var:
        return self.classifier(self.conv(x))


class CCNet(nn.Module):
    """The whole network.

    Input `(B, 3, H, W)` float32, normalised, H and W at least 32. In eval mode returns logits `(B, num_classes, H, W)`;
    in train mode `(logits, auxiliary logits)`, both at that size, and with `embedding` channels also the features
    `(B, embedding, h, w)` that the category consistent loss takes. Raises InputError for a smaller image.

    `mean` and `std` are what its images are normalised by, see `ccnet.ops.normalise`: ImageNet's, unless its weights
    were trained with others.
    """

    def __init__(self, backbone, head_channels: int, num_classes: int, *, head: str, recurrence: int, fusion: bool,
                 dropout: float, align_corners: bool, negative_slope: float, embedding: int):  # fmt: skip
        channels = backbone.channels
        self.mean: tuple[float, ...] = MEAN
        self.std: tuple[float, ...] = STD
        self.backbone = backbone
        self.fusion = fusion
        self.align_corners = align_corners
        width = sum(channels[1:]) if fusion else channels[-1]
        self.head = ContextHead(width, head_channels, head, recurrence, negative_slope)
        self.classifier = Classifier(head_channels, num_classes, dropout)
        self.auxiliary = AuxiliaryHead(channels[2], channels[2] // 2, num_classes, dropout, negative_slope)
        self.embedding = PointwiseConv(head_channels, embedding) if embedding else None

    def execute(self, x: jt.Var) -> jt.Var | tuple[jt.Var, ...]:
        height, width = x.shape[2:]
        if min(height, width) < SMALLEST:
            raise InputError(
                f"image of {width}×{height} pixels: both sides must be at least {SMALLEST}; enlarge it first"
            )
        levels = self.backbone(x)
        features = self.head(self.fused(levels))
        logits = self._resize(self.classifier(features), x)
        if not self.is_training():
            return logits
        auxiliary = self._resize(self.auxiliary(levels[2]), x)
        return (logits, auxiliary, self.embedding(features)) if self.embedding else (logits, auxiliary)

    def fused(self, levels: list):
        """What the head sees: the last level; with fusion, levels 2 to 4 side by side at level 2's size."""
        if not self.fusion:
            return levels[-1]
        return jt.concat([self._resize(level, levels[1]) for level in levels[1:]], dim=1)

    def _resize(self, x, like):
        return resize(x, tuple(like.shape[2:]), self.align_corners)
