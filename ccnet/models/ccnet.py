"""CCNet (Huang et al., arXiv:1811.11721): backbone → context head → classifier, and an auxiliary head.

The context head applies criss-cross attention `recurrence` times with shared weights (the paper's RCCA, Fig. 2)
between two 3×3 convolutions and concatenates the result with the backbone's features. The paper's baseline replaces it
by the non-local block (Wang et al., arXiv:1711.07971). VAN's last stage has stride 32, too coarse for attention, so
its levels 2 to 4 are first fused at stride 8.
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
SMALLEST = 32  # minimum image side in pixels: one feature at stride 32


class ConvNorm(nn.Module):
    """3×3 convolution, batch norm and ReLU (leaky if `negative_slope` is not 0); keeps the spatial size."""

    def __init__(self, in_channels: int, channels: int, negative_slope: float):
        self.conv = Conv3x3(in_channels, channels)
        self.norm = BatchNorm(channels)
        self.negative_slope = negative_slope

    def execute(self, x: jt.Var) -> jt.Var:
        return conv_norm_act(self.conv, self.norm, x, slope=self.negative_slope)


class ContextHead(nn.Module):
    """Features `(B, in_channels, h, w)` -> context features `(B, channels, h, w)`.

    `attention` is "rcca" or "non_local". It is applied `recurrence` times with shared weights; 0 omits it.
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
    """Deep supervision on stage 3, used in training only (the official code's `dsn`).

    Features `(B, in_channels, h, w)` -> logits `(B, num_classes, h, w)`.
    """

    def __init__(self, in_channels: int, channels: int, num_classes: int, dropout: float, negative_slope: float):
        self.conv = ConvNorm(in_channels, channels, negative_slope)
        self.classifier = Classifier(channels, num_classes, dropout)

    def execute(self, x: jt.Var) -> jt.Var:
        return self.classifier(self.conv(x))


class CCNet(nn.Module):
    """Backbone, context head, classifier and auxiliary head.

    Input: normalised images `(B, 3, H, W)` float32, H and W at least 32. In eval mode returns logits
    `(B, num_classes, H, W)`. In train mode returns `(logits, auxiliary logits)`, both `(B, num_classes, H, W)`; if
    `embedding` is not 0, also the features `(B, embedding, h, w)` for the category consistent loss. Raises InputError
    for a smaller image.

    `mean` and `std` are the normalisation constants of its images, see `ccnet.ops.normalise`: ImageNet's, unless the
    weights were trained with others.
    """

    def __init__(
        self,
        backbone,
        head_channels: int,
        num_classes: int,
        *,
        head: str,
        auxiliary_channels: int,
        recurrence: int,
        fusion: bool,
        dropout: float,
        align_corners: bool,
        negative_slope: float,
        embedding: int,
    ):
        channels = backbone.channels
        self.mean: tuple[float, ...] = MEAN
        self.std: tuple[float, ...] = STD
        self.backbone = backbone
        self.fusion = fusion
        self.align_corners = align_corners
        width = sum(channels[1:]) if fusion else channels[-1]
        self.head = ContextHead(width, head_channels, head, recurrence, negative_slope)
        self.classifier = Classifier(head_channels, num_classes, dropout)
        self.auxiliary = AuxiliaryHead(channels[2], auxiliary_channels, num_classes, dropout, negative_slope)
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
        """Input of the context head: the last level; with fusion, levels 2 to 4 concatenated at level 2's size."""
        if not self.fusion:
            return levels[-1]
        return jt.concat([self._resize(level, levels[1]) for level in levels[1:]], dim=1)

    def _resize(self, x, like):
        return resize(x, tuple(like.shape[2:]), self.align_corners)
