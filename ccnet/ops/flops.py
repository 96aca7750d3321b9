"""FLOP count of a network: two per multiply-add of convolutions and attention's products; the rest counts as 0."""

import math

from ccnet.ops.criss_cross import CrissCrossAttention
from ccnet.ops.kernel import without_kernels
from ccnet.ops.non_local import NonLocal
from ccnet.runtime import jt, nn

ATTENTION = (CrissCrossAttention, NonLocal)


def count(module, *shapes: tuple[int, ...]) -> dict[str, int]:
    """FLOPs of one forward pass on inputs of these shapes, keyed by the name of each convolution and attention module.

    Nothing is computed: Jittor is lazy and knows the shapes of results before it computes them. A module applied twice
    counts twice.
    """
    flops: dict[str, int] = {}
    hooked = dict(_counted(module))

    def hook(name: str):
        def add(part, inputs, output) -> None:
            of = _attention if isinstance(part, ATTENTION) else _convolution
            flops[name] = flops.get(name, 0) + of(part, inputs[0].shape, output.shape)

        return add

    for name, part in hooked.items():
        part.register_forward_hook(hook(name))
    with jt.no_grad(), without_kernels():  # fused kernels would bypass the hooks of their layers
        module(*map(jt.zeros, shapes))
    for part in hooked.values():
        part.remove_forward_hook()
    return flops


def _counted(module):
    """(name, module) of all attention modules and of all convolutions outside them."""
    inside = None
    for name, part in module.named_modules():
        if inside is not None and name.startswith(inside):
            continue
        inside = None
        if isinstance(part, ATTENTION):
            inside = f"{name}." if name else ""
        if isinstance(part, (nn.Conv, *ATTENTION)):
            yield name, part


def _convolution(conv, _, shape) -> int:
    return 2 * math.prod(shape) * math.prod(conv.weight.shape[1:])


def _attention(module, shape, _) -> int:
    """FLOPs of query, key and value projections, scores, and the weighted sum of values.

    Criss-cross attention computes H + W scores per pixel: the pixel's own twice, one of them masked.
    """
    batch, channels, height, width = shape
    reduced = module.query_conv.out_channels
    seen = height + width if isinstance(module, CrissCrossAttention) else height * width
    return 2 * batch * height * width * ((2 * reduced + channels) * channels + seen * (reduced + channels))
