"""ResNet backbone (He et al., arXiv:1512.03385) with CCNet's deep stem and dilated last stages.

The deep stem has three 3×3 convolutions: of 64, 64, 128 channels in the official CCNet, of half as many in
mmsegmentation's. A stage whose stride is removed is dilated instead, so the receptive field at output stride 8 equals
that at 32. A bottleneck has its stride in the 3×3 convolution. Parameter names match the published state dicts.
"""

from ccnet.ops.batch_norm import BatchNorm
from ccnet.ops.epilogue import conv_norm_act
from ccnet.ops.pointwise import PointwiseConv
from ccnet.ops.winograd import Conv3x3
from ccnet.runtime import jt, nn


class BasicBlock(nn.Module):
    """Two 3×3 convolutions and the shortcut.

    `dilations` are those of the first convolution, which has the stride, and of the second.
    """

    expansion = 1

    def __init__(self, in_channels: int, channels: int, stride: int, dilations: tuple[int, int], downsample=None):
        self.conv1 = Conv3x3(in_channels, channels, stride, dilations[0])
        self.bn1 = BatchNorm(channels)
        self.conv2 = Conv3x3(channels, channels, dilation=dilations[1])
        self.bn2 = BatchNorm(channels)
        self.downsample = downsample

    def execute(self, x: jt.Var) -> jt.Var:
        out = conv_norm_act(self.conv1, self.bn1, x)
        return conv_norm_act(self.conv2, self.bn2, out, residual=_shortcut(self.downsample, x))


class Bottleneck(nn.Module):
    """1×1, 3×3 and 1×1 convolution and the shortcut; `dilations[0]` is that of the 3×3 convolution."""

    expansion = 4

    def __init__(self, in_channels: int, channels: int, stride: int, dilations: tuple[int, int], downsample=None):
        self.conv1 = PointwiseConv(in_channels, channels, bias=False)
        self.bn1 = BatchNorm(channels)
        self.conv2 = Conv3x3(channels, channels, stride, dilations[0])
        self.bn2 = BatchNorm(channels)
        self.conv3 = PointwiseConv(channels, channels * self.expansion, bias=False)
        self.bn3 = BatchNorm(channels * self.expansion)
        self.downsample = downsample

    def execute(self, x: jt.Var) -> jt.Var:
        out = conv_norm_act(self.conv1, self.bn1, x)
        out = conv_norm_act(self.conv2, self.bn2, out)
        return conv_norm_act(self.conv3, self.bn3, out, residual=_shortcut(self.downsample, x))


def _shortcut(downsample, x):
    return conv_norm_act(downsample[0], downsample[1], x, slope=1) if downsample else x


# He et al., Table 1: block type, number of blocks in each stage
STAGES: dict[str, tuple[type[BasicBlock] | type[Bottleneck], tuple[int, ...]]] = {
    "resnet18": (BasicBlock, (2, 2, 2, 2)),
    "resnet34": (BasicBlock, (3, 4, 6, 3)),
    "resnet50": (Bottleneck, (3, 4, 6, 3)),
    "resnet101": (Bottleneck, (3, 4, 23, 3)),
}


class ResNet(nn.Module):
    """Image `(B, 3, H, W)` -> list of four feature maps, from stride 4 to `output_stride`.

    `channels` lists the channels of the four maps. The convolutions of a deep stem have `stem_channels`, as many again,
    and twice as many. `multi_grid` multiplies the dilations of the last stage's blocks by 1, 2, 4. With
    `contract_dilation` the first 3×3 convolution of a dilated stage has the previous stage's dilation; at every second
    position the network then computes what the undilated one does. `ceil_mode` is that of the max pooling: with it the
    last feature lies on or beyond the last pixel, as resizing with aligned corners assumes.
    """

    def __init__(
        self,
        name: str,
        output_stride: int = 8,
        deep_stem: bool = True,
        stem_channels: int = 64,
        multi_grid: bool = False,
        contract_dilation: bool = True,
        ceil_mode: bool = False,
    ):
        block, depths = STAGES[name]
        self.in_channels = 2 * stem_channels if deep_stem else 64
        if deep_stem:
            self.conv1, self.bn1 = Conv3x3(3, stem_channels, stride=2), BatchNorm(stem_channels)
            self.conv2, self.bn2 = Conv3x3(stem_channels, stem_channels), BatchNorm(stem_channels)
            self.conv3, self.bn3 = Conv3x3(stem_channels, self.in_channels), BatchNorm(self.in_channels)
        else:
            self.conv1, self.bn1 = nn.Conv(3, 64, 7, 2, padding=3, bias=False), BatchNorm(64)
        self.deep_stem = deep_stem
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1, ceil_mode=ceil_mode)
        self.channels = [width * block.expansion for width in (64, 128, 256, 512)]
        stride, dilation = 4, 1
        for stage, (width, depth) in enumerate(zip((64, 128, 256, 512), depths, strict=True)):
            step = 1 if stage == 0 else 2
            before = dilation
            if stride * step > output_stride:
                step, dilation = 1, dilation * 2
            stride *= step
            grid = (1, 2, 4) if multi_grid and stage == 3 else (1,)
            dilations = [(dilation * grid[i % len(grid)],) * 2 for i in range(depth)]
            if contract_dilation:
                dilations[0] = (before, dilation)
            setattr(self, f"layer{stage + 1}", self._stage(block, width, step, dilations))

    def _stage(self, block, width: int, stride: int, dilations: list[tuple[int, int]]):
        blocks = []
        for i, own in enumerate(dilations):
            downsample = None
            out_channels = width * block.expansion
            if i == 0 and (stride != 1 or self.in_channels != out_channels):
                downsample = nn.Sequential(
                    PointwiseConv(self.in_channels, out_channels, bias=False, stride=stride),
                    BatchNorm(out_channels),
                )
            blocks.append(block(self.in_channels, width, stride if i == 0 else 1, own, downsample))
            self.in_channels = out_channels
        return nn.Sequential(*blocks)

    def execute(self, x: jt.Var) -> list[jt.Var]:
        x = conv_norm_act(self.conv1, self.bn1, x)
        if self.deep_stem:
            x = conv_norm_act(self.conv3, self.bn3, conv_norm_act(self.conv2, self.bn2, x))
        x = self.maxpool(x)
        levels = []
        for stage in (self.layer1, self.layer2, self.layer3, self.layer4):
            x = stage(x)
            levels.append(x)
        return levels
