"""Visual Attention Network (VAN) backbone (Guo et al., arXiv:2202.09741): large kernel attention, depthwise.

A 21×21 kernel is decomposed into 5×5, 7×7 with dilation 3, and 1×1 (paper's Fig. 2). Each half of a block has batch
norm before it, layer scale and stochastic depth after it; each stage ends with a layer norm. In a stage whose stride is
removed every depthwise convolution is dilated instead. Parameter names match the published state dicts.
"""

from ccnet.ops import kernel
from ccnet.ops.batch_norm import BatchNorm
from ccnet.ops.depthwise import DepthwiseConv
from ccnet.ops.drop import DropPath
from ccnet.ops.gelu import gelu
from ccnet.ops.mlp import mlp
from ccnet.ops.pointwise import PointwiseConv
from ccnet.ops.van_block import available, van_block
from ccnet.runtime import jt, nn

# Guo et al., Table 2: channels and depths of the four stages
STAGES = {
    "van_tiny": ((32, 64, 160, 256), (3, 3, 5, 2)),
    "van_small": ((64, 128, 320, 512), (2, 2, 4, 2)),
    "van_base": ((64, 128, 320, 512), (3, 3, 12, 3)),
    "van_large": ((64, 128, 320, 512), (3, 5, 27, 3)),
}
MLP_RATIOS = (8, 8, 4, 4)


class LargeKernelAttention(nn.Module):
    """x · (1×1 ∘ 7×7 dilation 3 ∘ 5×5)(x): the paper's Eq. 2 and 3. `(B, C, H, W)` -> the same shape."""

    def __init__(self, channels: int, dilation: int):
        self.conv0 = DepthwiseConv(channels, 5, dilation=dilation)
        self.conv_spatial = DepthwiseConv(channels, 7, dilation=3 * dilation)
        self.conv1 = PointwiseConv(channels, channels)

    def execute(self, x: jt.Var) -> jt.Var:
        return x * self.conv1(self.conv_spatial(self.conv0(x)))


class Attention(nn.Module):
    """Large kernel attention between two 1×1 convolutions, with the shortcut; `(B, C, H, W)` -> the same shape."""

    def __init__(self, channels: int, dilation: int):
        self.proj_1 = PointwiseConv(channels, channels)
        self.spatial_gating_unit = LargeKernelAttention(channels, dilation)
        self.proj_2 = PointwiseConv(channels, channels)

    def execute(self, x: jt.Var) -> jt.Var:
        return x + self.proj_2(self.spatial_gating_unit(gelu(self.proj_1(x))))


class DepthwiseStep(nn.Module):
    """The MLP's depthwise convolution, wrapped so that its name is `dwconv.dwconv`, as in the published weights."""

    def __init__(self, channels: int, dilation: int):
        self.dwconv = DepthwiseConv(channels, 3, dilation=dilation)

    def execute(self, x: jt.Var) -> jt.Var:
        return self.dwconv(x)


class Mlp(nn.Module):
    """1×1, depthwise 3×3, GELU, 1×1, with `hidden` channels in between; `(B, C, H, W)` -> the same shape."""

    def __init__(self, channels: int, hidden: int, dilation: int):
        self.fc1 = PointwiseConv(channels, hidden)
        self.dwconv = DepthwiseStep(hidden, dilation)
        self.fc2 = PointwiseConv(hidden, channels)

    def execute(self, x: jt.Var) -> jt.Var:
        if kernel.available("mlp", x):
            return mlp(x, self.layers(), self.dwconv.dwconv.dilation[0])
        return self.fc2(gelu(self.dwconv(self.fc1(x))))

    def layers(self) -> list:
        """Weights and biases in order of application."""
        return _weights([self.fc1, self.dwconv.dwconv, self.fc2])


class Block(nn.Module):
    """Attention, then the MLP: each is x + drop_path(layer_scale · f(norm(x))); `(B, C, H, W)` -> the same shape."""

    def __init__(self, channels: int, ratio: int, drop_path: float, dilation: int):
        self.norm1 = BatchNorm(channels)
        self.attn = Attention(channels, dilation)
        self.norm2 = BatchNorm(channels)
        self.mlp = Mlp(channels, channels * ratio, dilation)
        self.drop_path = DropPath(drop_path)
        # initialised to 0.01, as published, so that each block starts close to the identity
        self.layer_scale_1 = nn.Parameter(jt.full((channels,), 0.01))
        self.layer_scale_2 = nn.Parameter(jt.full((channels,), 0.01))

    def execute(self, x: jt.Var) -> jt.Var:
        if not self.is_training() and available(x):
            return van_block(x, self._constants(), self.mlp.dwconv.dwconv.dilation[0], self.norm1.eps)
        x = x + self.drop_path(_scale(self.layer_scale_1, self.attn(self.norm1(x))))
        return x + self.drop_path(_scale(self.layer_scale_2, self.mlp(self.norm2(x))))

    def _constants(self) -> list:
        attention, unit = self.attn, self.attn.spatial_gating_unit
        first = [attention.proj_1, unit.conv0, unit.conv_spatial, unit.conv1, attention.proj_2]
        return [
            *self.norm1.constants(),
            *_weights(first),
            self.layer_scale_1,
            *self.norm2.constants(),
            *self.mlp.layers(),
            self.layer_scale_2,
        ]


def _weights(convolutions: list) -> list:
    return [value for convolution in convolutions for value in (convolution.weight, convolution.bias)]


def _scale(scale, x):
    return x * scale.reshape(1, -1, 1, 1)


class PatchEmbed(nn.Module):
    """The strided convolution and batch norm at the start of a stage."""

    def __init__(self, in_channels: int, channels: int, kernel: int, stride: int, dilation: int):
        self.proj = nn.Conv(
            in_channels,
            channels,
            kernel,
            stride,
            padding=kernel // 2 * dilation,
            dilation=dilation,
            bias=True,
        )
        self.norm = BatchNorm(channels)

    def execute(self, x: jt.Var) -> jt.Var:
        return self.norm(self.proj(x))


class LayerNorm(nn.Module):
    """Layer norm of `(B, C, H, W)` over the channels of each pixel."""

    def __init__(self, channels: int, eps: float = 1e-6):
        self.weight = nn.Parameter(jt.ones((channels,)))
        self.bias = nn.Parameter(jt.zeros((channels,)))
        self.eps = eps

    def execute(self, x: jt.Var) -> jt.Var:
        centred = x - x.mean(1, keepdims=True)
        variance = (centred * centred).mean(1, keepdims=True)
        return _scale(self.weight, centred / jt.sqrt(variance + self.eps)) + self.bias.reshape(1, -1, 1, 1)


class VAN(nn.Module):
    """Image `(B, 3, H, W)` -> list of four feature maps, from stride 4 to `output_stride`.

    `channels` lists the channels of the four maps. The stochastic depth rate rises linearly from 0 at the first block
    to `drop_path` at the last.
    """

    def __init__(self, name: str, output_stride: int = 32, drop_path: float = 0.0):
        self.channels, depths = list(STAGES[name][0]), STAGES[name][1]
        rates = [drop_path * i / max(sum(depths) - 1, 1) for i in range(sum(depths))]
        in_channels, stride, dilation = 3, 1, 1
        for stage, (channels, depth) in enumerate(zip(self.channels, depths, strict=True)):
            kernel, step, before = (7, 4, 1) if stage == 0 else (3, 2, dilation)
            if stride * step > output_stride:
                step, dilation = 1, dilation * 2
            stride *= step
            blocks = [Block(channels, MLP_RATIOS[stage], rates.pop(0), dilation) for _ in range(depth)]
            setattr(self, f"patch_embed{stage + 1}", PatchEmbed(in_channels, channels, kernel, step, before))
            setattr(self, f"block{stage + 1}", nn.ModuleList(blocks))
            setattr(self, f"norm{stage + 1}", LayerNorm(channels))
            in_channels = channels

    def execute(self, x: jt.Var) -> list[jt.Var]:
        levels = []
        for stage in range(1, 5):
            x = getattr(self, f"patch_embed{stage}")(x)
            for block in getattr(self, f"block{stage}"):
                x = block(x)
            x = getattr(self, f"norm{stage}")(x)
            levels.append(x)
        return levels
