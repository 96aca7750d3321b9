"""The networks in PyTorch: what is exported, the reference for tests of `ccnet.models`, the opponent in `ccnet bench`.

Written from the papers, He et al. (arXiv:1512.03385), Guo et al. (arXiv:2202.09741), Huang et al. (arXiv:1811.11721),
Wang et al. (arXiv:1711.07971), in fast PyTorch: batched products over rows and columns, in-place ReLU. It shares only
the names in the state dicts with `ccnet.models`. PyTorch is not a dependency of the package.
"""

from itertools import pairwise

import torch
from torch import nn
from torch.nn import functional as F

RESNETS = {"resnet18": (2, 2, 2, 2), "resnet34": (3, 4, 6, 3), "resnet50": (3, 4, 6, 3), "resnet101": (3, 4, 23, 3)}
VANS = {
    "van_tiny": (32, 64, 160, 256, 3, 3, 5, 2),
    "van_small": (64, 128, 320, 512, 2, 2, 4, 2),
    "van_base": (64, 128, 320, 512, 3, 3, 12, 3),
    "van_large": (64, 128, 320, 512, 3, 5, 27, 3),
}


def dilations(output_stride: int) -> list[tuple[int, int, int]]:
    """(stride, first layer's dilation, other layers' dilation) of the four stages.

    Undilated they end at strides 4, 8, 16, 32. A stage beyond `output_stride` has its stride removed and is dilated by
    the factor of strides removed so far.
    """
    reached = [min(full, output_stride) for full in (4, 8, 16, 32)]
    dense = [full // stride for full, stride in zip((4, 8, 16, 32), reached, strict=True)]
    steps = [1, *(after // before for before, after in pairwise(reached))]
    return list(zip(steps, [1, *dense[:-1]], dense, strict=True))


def conv(inputs: int, outputs: int, kernel: int, stride: int = 1, dilation: int = 1, bias=False, groups=1) -> nn.Conv2d:
    """A convolution padded so that stride 1 keeps the size."""
    return nn.Conv2d(inputs, outputs, kernel, stride, dilation * (kernel - 1) // 2, dilation, groups, bias)


def rectified(x, negative_slope: float = 0.0):
    """ReLU, leaky if `negative_slope` is not 0, in place of `x`."""
    return F.leaky_relu(x, negative_slope, inplace=True) if negative_slope else F.relu(x, inplace=True)


class Residual(nn.Module):
    """He et al., Fig. 5: two 3×3 convolutions, or 1×1, 3×3, 1×1; the first 3×3 has the stride and dilation `first`."""

    def __init__(self, inputs: int, width: int, outputs: int, stride: int, first: int, rest: int):
        super().__init__()
        if outputs == width:
            layers = [conv(inputs, width, 3, stride, first), conv(width, width, 3, 1, rest)]
        else:
            layers = [conv(inputs, width, 1), conv(width, width, 3, stride, first), conv(width, outputs, 1)]
        self.depth = add_normed(self, layers)
        if inputs != outputs or stride != 1:
            self.downsample = nn.Sequential(conv(inputs, outputs, 1, stride), nn.BatchNorm2d(outputs))

    def forward(self, x):
        branch = x
        for number in range(1, self.depth + 1):
            branch = conv_norm_act(self, number, branch if number == 1 else rectified(branch))
        return rectified(branch + (self.downsample(x) if hasattr(self, "downsample") else x))


def add_normed(module: nn.Module, layers: list[nn.Conv2d]) -> int:
    """Add `layers` to `module` as conv1, conv2, …, each with a batch norm bn1, bn2, …; returns their number."""
    for number, layer in enumerate(layers, start=1):
        module.add_module(f"conv{number}", layer)
        module.add_module(f"bn{number}", nn.BatchNorm2d(layer.out_channels))
    return len(layers)


def conv_norm_act(module: nn.Module, number: int, x):
    """Apply convolution and batch norm `number` of `module` to `x`."""
    return module.get_submodule(f"bn{number}")(module.get_submodule(f"conv{number}")(x))


class ResNet(nn.Module):
    """Image `(B, 3, H, W)` -> list of the outputs of the four stages."""

    def __init__(self, name: str, output_stride=8, deep_stem=True, multi_grid=False, contract_dilation=True,
                 ceil_mode=False, stem_channels=64):  # fmt: skip
        super().__init__()
        wide = stem_channels
        stem = [conv(3, wide, 3, 2), conv(wide, wide, 3), conv(wide, 2 * wide, 3)] if deep_stem else [conv(3, 64, 7, 2)]
        self.stem = add_normed(self, stem)
        self.pool = nn.MaxPool2d(3, 2, 1, ceil_mode=ceil_mode)
        expansion = 1 if name in ("resnet18", "resnet34") else 4
        inputs, self.channels = stem[-1].out_channels, []
        for number, (stride, first, rest) in enumerate(dilations(output_stride), start=1):
            width, blocks = 32 * 2**number, []
            for position in range(RESNETS[name][number - 1]):
                spread = rest * 2 ** (position % 3) if multi_grid and number == 4 else rest
                enter = first if contract_dilation else spread
                own = (stride, enter, spread) if position == 0 else (1, spread, spread)
                blocks.append(Residual(inputs, width, width * expansion, *own))
                inputs = width * expansion
            self.add_module(f"layer{number}", nn.Sequential(*blocks))
            self.channels.append(inputs)

    def forward(self, x):
        for number in range(1, self.stem + 1):
            x = rectified(conv_norm_act(self, number, x))
        x = self.pool(x)
        return [x := self.get_submodule(f"layer{number}")(x) for number in range(1, 5)]


class LargeKernelAttention(nn.Module):
    """Guo et al., Eq. 2 and 3: Attention = 1×1(DW-D(DW(F))), output = Attention ⊗ F."""

    def __init__(self, channels: int, dilation: int):
        super().__init__()
        self.conv0 = conv(channels, channels, 5, 1, dilation, True, channels)
        self.conv_spatial = conv(channels, channels, 7, 1, 3 * dilation, True, channels)
        self.conv1 = conv(channels, channels, 1, bias=True)

    def forward(self, x):
        return self.conv1(self.conv_spatial(self.conv0(x))) * x


class SpatialAttention(nn.Module):
    """Fig. 3 (d): 1×1, GELU, large kernel attention, 1×1, with a shortcut around them."""

    def __init__(self, channels: int, dilation: int):
        super().__init__()
        self.proj_1 = conv(channels, channels, 1, bias=True)
        self.spatial_gating_unit = LargeKernelAttention(channels, dilation)
        self.proj_2 = conv(channels, channels, 1, bias=True)

    def forward(self, x):
        return self.proj_2(self.spatial_gating_unit(F.gelu(self.proj_1(x)))) + x


class FeedForward(nn.Module):
    """1×1, depthwise 3×3, GELU, 1×1."""

    def __init__(self, channels: int, hidden: int, dilation: int):
        super().__init__()
        self.fc1 = conv(channels, hidden, 1, bias=True)
        self.dwconv = nn.ModuleDict({"dwconv": conv(hidden, hidden, 3, 1, dilation, True, hidden)})
        self.fc2 = conv(hidden, channels, 1, bias=True)

    def forward(self, x):
        return self.fc2(F.gelu(self.dwconv["dwconv"](self.fc1(x))))


class VanBlock(nn.Module):
    """Spatial attention, then feed-forward, each with batch norm before, layer scale after, and a shortcut."""

    def __init__(self, channels: int, ratio: int, dilation: int):
        super().__init__()
        self.norm1, self.attn = nn.BatchNorm2d(channels), SpatialAttention(channels, dilation)
        self.norm2, self.mlp = nn.BatchNorm2d(channels), FeedForward(channels, ratio * channels, dilation)
        self.layer_scale_1 = nn.Parameter(torch.full((channels,), 0.01))
        self.layer_scale_2 = nn.Parameter(torch.full((channels,), 0.01))

    def forward(self, x):
        x = torch.addcmul(x, self.layer_scale_1[:, None, None], self.attn(self.norm1(x)))
        return torch.addcmul(x, self.layer_scale_2[:, None, None], self.mlp(self.norm2(x)))


class VAN(nn.Module):
    """Table 2: four stages, each an overlapping patch embedding, its blocks and a layer norm over the channels."""

    def __init__(self, name: str, output_stride=32):
        super().__init__()
        sizes = VANS[name]
        self.channels, depths, inputs = list(sizes[:4]), sizes[4:], 3
        for i, (stride, first, rest) in enumerate(dilations(output_stride)):
            channels, number = self.channels[i], i + 1
            embed = conv(inputs, channels, 3, stride, first, True) if i else conv(3, channels, 7, 4, bias=True)
            blocks = [VanBlock(channels, (8, 8, 4, 4)[i], rest) for _ in range(depths[i])]
            self.add_module(f"patch_embed{number}", nn.ModuleDict({"proj": embed, "norm": nn.BatchNorm2d(channels)}))
            self.add_module(f"block{number}", nn.Sequential(*blocks))
            self.add_module(f"norm{number}", nn.LayerNorm(channels, eps=1e-6))
            inputs = channels

    def forward(self, x):
        levels = []
        for number in range(1, 5):
            for part in (f"patch_embed{number}.proj", f"patch_embed{number}.norm", f"block{number}"):
                x = self.get_submodule(part)(x)
            x = self.get_submodule(f"norm{number}")(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
            levels.append(x)
        return levels


class PixelAttention(nn.Module):
    """gamma · Σ softmax(qᵀk) v + x, over all positions (Wang et al.) or those of a pixel's row and column (CCNet)."""

    def __init__(self, channels: int, criss_cross: bool):
        super().__init__()
        self.query_conv = conv(channels, max(channels // 8, 1), 1, bias=True)
        self.key_conv = conv(channels, max(channels // 8, 1), 1, bias=True)
        self.value_conv = conv(channels, channels, 1, bias=True)
        self.gamma = nn.Parameter(torch.zeros(1))
        self.gather = criss_cross_context if criss_cross else non_local_context

    def forward(self, x):
        return torch.addcmul(x, self.gamma, self.gather(self.query_conv(x), self.key_conv(x), self.value_conv(x)))


def criss_cross_context(query, key, value):
    """The official formulation: products over columns and over rows, one softmax over the H + W - 1 positions."""
    height = query.shape[2]
    (query_c, query_r), (key_c, key_r), (value_c, value_r) = (
        (t.permute(0, 3, 2, 1), t.permute(0, 2, 3, 1))
        for t in (query, key, value)  # (B, W, H, C) and (B, H, W, C)
    )
    rows = torch.arange(height, device=query.device)
    itself = rows[:, None] == rows  # the pixel counts once, in its row
    of_columns = (query_c @ key_c.transpose(2, 3)).masked_fill_(itself, -torch.inf)
    attention = torch.cat((of_columns.transpose(1, 2), query_r @ key_r.transpose(2, 3)), 3).softmax(3)
    from_columns = attention[..., :height].transpose(1, 2) @ value_c
    return from_columns.permute(0, 3, 2, 1) + (attention[..., height:] @ value_r).permute(0, 3, 1, 2)


def non_local_context(query, key, value):
    """One softmax over all H·W positions."""
    attention = (query.flatten(2).transpose(1, 2) @ key.flatten(2)).softmax(2)
    return (value.flatten(2) @ attention.transpose(1, 2)).reshape(value.shape)


class ConvNorm(nn.Module):
    """3×3 convolution, batch norm, ReLU."""

    def __init__(self, inputs: int, outputs: int, negative_slope: float):
        super().__init__()
        self.conv, self.norm, self.negative_slope = conv(inputs, outputs, 3), nn.BatchNorm2d(outputs), negative_slope

    def forward(self, x):
        return rectified(self.norm(self.conv(x)), self.negative_slope)


class Head(nn.Module):
    """CCNet, Fig. 2: reduce, attend R times with shared weights, concatenate with the features, merge."""

    def __init__(self, inputs: int, channels: int, attention: str, recurrence: int, slope: float):
        super().__init__()
        self.before = ConvNorm(inputs, channels, slope)
        if recurrence:
            self.attention = PixelAttention(channels, criss_cross=attention == "rcca")
        self.after = ConvNorm(channels, channels, slope)
        self.bottleneck = ConvNorm(inputs + channels, channels, slope)
        self.recurrence = recurrence

    def forward(self, x):
        context = self.before(x)
        for _ in range(self.recurrence):
            context = self.attention(context)
        return self.bottleneck(torch.cat((x, self.after(context)), 1))


def classifier(inputs: int, classes: int) -> nn.ModuleDict:
    """A 1×1 convolution to scores."""
    return nn.ModuleDict({"conv": conv(inputs, classes, 1, bias=True)})


class CCNet(nn.Module):
    """Normalised images `(B, 3, H, W)` float32 -> logits `(B, classes, H, W)`, without dropout.

    In train mode returns (logits, auxiliary logits), both at the image's size; with an `embedding` also the features
    `(B, embedding, h, w)` for the category consistent loss. The options and their defaults are those of
    `ccnet.models.build`.
    """

    def __init__(self, name: str, classes: int, head_channels: int | None = None, recurrence=2, head="rcca",
                 output_stride: int | None = None, fusion: bool | None = None, auxiliary_channels: int | None = None,
                 align_corners=False, negative_slope=0.0, embedding=0, **backbone):  # fmt: skip
        super().__init__()
        van = name in VANS
        stride = output_stride or (32 if van else 8)
        self.backbone = VAN(name, stride) if van else ResNet(name, stride, ceil_mode=align_corners, **backbone)
        channels, fusion = self.backbone.channels, van if fusion is None else fusion
        inputs, width = sum(channels[1:]) if fusion else channels[3], head_channels or channels[3] // (2 if van else 4)
        self.head = Head(inputs, width, head, recurrence, negative_slope)
        self.classifier = classifier(width, classes)
        half = auxiliary_channels or channels[2] // 2
        self.auxiliary = nn.ModuleDict(
            {"conv": ConvNorm(channels[2], half, negative_slope), "classifier": classifier(half, classes)}
        )
        if embedding:
            self.embedding = conv(width, embedding, 1, bias=True)
        self.fusion, self.align_corners = fusion, align_corners

    def forward(self, image):
        def like(x, other):
            return F.interpolate(x, other.shape[2:], mode="bilinear", align_corners=self.align_corners)

        levels = self.backbone(image)
        fused = torch.cat([like(level, levels[1]) for level in levels[1:]], 1) if self.fusion else levels[3]
        features = self.head(fused)
        logits = like(self.classifier["conv"](features), image)
        if not self.training:
            return logits
        auxiliary = like(self.auxiliary.get_submodule("classifier.conv")(self.auxiliary["conv"](levels[2])), image)
        return (logits, auxiliary, self.embedding(features)) if hasattr(self, "embedding") else (logits, auxiliary)
