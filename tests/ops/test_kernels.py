"""Every kernel computes what plain Jittor computes without it: outputs, and gradients where it has some."""

from collections.abc import Callable

import numpy as np
import pytest

from ccnet.models.van import Mlp
from ccnet.ops import kernel
from ccnet.ops.argmax import argmax
from ccnet.ops.depthwise import DepthwiseConv
from ccnet.ops.gelu import gelu
from ccnet.ops.losses import _pixel_losses
from ccnet.ops.resize import resize
from ccnet.runtime import jt
from tests.ops import (
    test_batch_norm,
    test_criss_cross,
    test_depthwise,
    test_non_local,
    test_optimizers,
    test_pointwise,
    test_van_block,
    test_winograd,
)
from tests.ops.helpers import assert_close, draw, outputs_and_gradients

Computation = Callable[[], list[np.ndarray]]


def both_ways(function: Callable, *arrays: np.ndarray) -> Computation:
    return lambda: outputs_and_gradients(function, *arrays)


def depthwise(size: int, stride: int, dilation: int, bias: bool) -> Computation:
    module = DepthwiseConv(4, size, stride, dilation, bias)
    return both_ways(test_depthwise.with_parameters(module), *test_depthwise.arrays(2, 4, 9, 21, size, bias))


def batch_norm(slope: float) -> Computation:
    image = (3, 4, 9, 7)
    return both_ways(lambda *values: test_batch_norm.normalise(*values, slope), *draw(0, image, (4,), (4,), image))


def criss_cross() -> Computation:
    """Without the key's bias, to which softmax is blind: its gradient is zero but for rounding."""
    inputs = test_criss_cross.arrays((2, 16, 5, 9))
    bias = inputs.pop(4)
    return both_ways(lambda *values: test_criss_cross.fast(*values[:4], jt.array(bias), *values[4:]), *inputs)


def cross_entropy() -> Computation:
    labels = np.random.default_rng(0).choice([0, 1, 2, 255], (2, 9, 40)).astype(np.int32)
    return both_ways(lambda logits: _pixel_losses(logits, jt.array(labels)), *draw(0, (2, 3, 9, 40)))


def mlp() -> Computation:
    module = Mlp(4, 150, 2)
    return both_ways(module, *draw(0, (2, 4, 19, 23)))


def non_local() -> Computation:
    return both_ways(test_non_local.module(16, 0.7), *draw(0, (2, 16, 23, 31)))


def van_block() -> Computation:
    module, x = test_van_block.block(12, 4, 2), jt.array(draw(0, (2, 12, 19, 23))[0])

    def infer() -> list[np.ndarray]:
        with jt.no_grad():
            return [module(x).numpy()]

    return infer


CASES: dict[str, Callable[[], Computation]] = {
    "argmax": lambda: lambda: [argmax(jt.array(draw(0, (5, 9, 70))[0])).numpy()],
    "batch_norm: ReLU": lambda: batch_norm(0.0),
    "batch_norm": lambda: batch_norm(1.0),
    "criss_cross": criss_cross,
    "cross_entropy": cross_entropy,
    "depthwise: 3 × 3": lambda: depthwise(3, 1, 1, True),
    "depthwise: 7 × 7, dilation 3, no bias": lambda: depthwise(7, 1, 3, False),
    "depthwise: 5 × 5, stride 2": lambda: depthwise(5, 2, 1, True),
    "gelu": lambda: both_ways(gelu, *draw(0, (2, 3, 5, 7))),
    "mlp": mlp,
    "non_local": non_local,
    "optimizers: SGD": lambda: lambda: test_optimizers.trained(test_optimizers.Ours, "sgd"),
    "optimizers: AdamW": lambda: lambda: test_optimizers.trained(test_optimizers.Ours, "adamw"),
    "pointwise": lambda: both_ways(test_pointwise.ours(5, 1), *test_pointwise.arrays((2, 12, 7, 9), 5, True)),
    "pointwise: no bias": lambda: both_ways(test_pointwise.ours(5, 1), *test_pointwise.arrays((2, 12, 7, 9), 5, False)),
    **{
        f"resize: to {size}, align_corners={align}": lambda size=size, align=align: both_ways(
            lambda x: resize(x, size, align), *draw(0, (2, 3, 8, 11))
        )
        for size, align in [((17, 9), False), ((3, 30), False), ((17, 30), True)]
    },
    "van_block": van_block,
    **{
        f"winograd: {reason}": lambda image=image: both_ways(test_winograd.ours(1, 2), *test_winograd.arrays(image, 7))
        for reason, image in {
            "more channels than are transformed at a time": (1, 600, 12, 9),
            "a run longer than a block": (1, 3, 40, 700),
            "several blocks": (5, 2, 33, 31),
        }.items()
    },
}


def source(case: str) -> str:
    return case.partition(":")[0]


@pytest.mark.parametrize("case", CASES)
def test_agrees_with_plain_jittor(case, monkeypatch):
    launched, launch = set(), kernel.launch
    monkeypatch.setattr(kernel, "launch", lambda name, *rest: launched.add(name) or launch(name, *rest))
    computation = CASES[case]()
    fast = computation()
    assert source(case) in launched
    launched.clear()
    with kernel.without_kernels():
        plain = computation()
    assert not launched
    for our, expected in zip(fast, plain, strict=True):
        assert_close(our, expected)


def test_no_kernel_is_left_out():
    assert {source(case) for case in CASES} == {path.stem for path in kernel.FOLDER.glob("*.cc")} - {"kernel"}
