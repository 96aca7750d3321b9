import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ccnet.ops.depthwise import DepthwiseConv
from ccnet.runtime import jt
from tests.ops.helpers import assert_close, draw, outputs_and_gradients, torch_outputs_and_gradients


def with_parameters(module: DepthwiseConv):
    """module(x) as a function of x and its parameters."""

    def call(x, weight, bias=None):
        module.weight, module.bias = weight, bias
        return module(x)

    return call


def arrays(batch: int, channels: int, height: int, width: int, size: int, bias: bool) -> list[np.ndarray]:
    shapes = [(batch, channels, height, width), (channels, 1, size, size), (channels,)]
    return draw(height * width + size, *(shapes if bias else shapes[:2]))


@settings(max_examples=40, deadline=None)
@given(
    image=st.tuples(st.integers(1, 3), st.integers(1, 5), st.integers(1, 40), st.integers(1, 70)),
    size=st.sampled_from([1, 3, 5, 7, 9]),
    stride=st.integers(1, 2),
    dilation=st.integers(1, 4),
    bias=st.booleans(),
)
def test_agrees_with_torch(image, size, stride, dilation, bias):
    from torch.nn import functional

    module = DepthwiseConv(image[1], size, stride, dilation, bias)
    inputs = arrays(*image, size, bias)

    def oracle(x, weight, bias=None):
        return functional.conv2d(x, weight, bias, stride, dilation * (size // 2), dilation, image[1])

    actual = outputs_and_gradients(with_parameters(module), *inputs)
    for ours, theirs in zip(actual, torch_outputs_and_gradients(oracle, *inputs), strict=True):
        assert_close(ours, theirs)


def test_borders_see_zeros():
    module = DepthwiseConv(1, 3, bias=False)
    module.weight = jt.ones((1, 1, 3, 3))
    assert module(jt.ones((1, 1, 3, 3))).numpy().tolist() == [[[[4, 6, 4], [6, 9, 6], [4, 6, 4]]]]


def test_refuses_even_kernels():
    with pytest.raises(ValueError, match="odd"):
        DepthwiseConv(4, 2)
