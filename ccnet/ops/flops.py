"""Floating point operations: two for each multiply-add of a convolution or a matrix product, nothing for the rest."""

import math

from ccnet.ops.criss_cross import CrissCrossAttention
from ccnet.ops.kernel import without_kernels
from ccnet.ops.non_local import NonLocal
from ccnet.runtime import jt, nn

ATTENTION = (CrissCrossAttention, NonLocal)


def count(module, *shapes: tuple[int, ...]) -> dict[str, int]:
    """FLOPs of one forward pass on inputs of these shapes, by the name of each convolution and each attention.

    Nothing is computed: Jittor knows the shapes of what it has not computed yet. A module applied twice counts twice.
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
    with jt.no_grad(), without_kernels():  # kernels that take several layers at once do not call them
        module(*map(jt.zeros, shapes))
    for part in hooked.values():
        part.remove_forward_hook()
    return flops


def _counted(module):
    """(name, module) of all attentions, and of all convolutions outside them."""
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
    """Queries, keys, values; scores of a pixel with each position it sees; the sum of the values there.

    A criss-cross attention computes H + W scores a pixel: its own twice, of which one is masked.
    """
    batch, channels, height, width = shape
    reduced = module.query_conv.out_channels
    seen = height + width if isinstance(module, CrissCrossAttention) else height * width
    return 2 * batch * height * width * ((2 * reduced + channels) * channels + seen * (reduced + channels))
