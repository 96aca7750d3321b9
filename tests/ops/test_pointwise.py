from hypothesis import given, settings
from hypothesis import strategies as st

from ccnet.ops.pointwise import PointwiseConv
from tests.ops.helpers import assert_close, draw, outputs_and_gradients, torch_outputs_and_gradients


def ours(out_channels: int, stride: int):
    def call(x, weight, bias=None):
        module = PointwiseConv(x.shape[1], out_channels, bias is not None, stride)
        module.weight, module.bias = weight, bias
        return module(x)

    return call


def arrays(image, out_channels: int, bias: bool) -> list:
    shapes = [image, (out_channels, image[1], 1, 1), (out_channels,)]
    return draw(sum(image), *(shapes if bias else shapes[:2]))


@settings(max_examples=20, deadline=None)
@given(
    image=st.tuples(st.integers(1, 3), st.integers(1, 40), st.integers(1, 50), st.integers(1, 50)),
    out_channels=st.integers(1, 40),
    stride=st.sampled_from([1, 1, 2]),
    bias=st.booleans(),
)
def test_agrees_with_torch(image, out_channels, stride, bias):
    from torch.nn import functional

    inputs = arrays(image, out_channels, bias)
    theirs = torch_outputs_and_gradients(lambda *args: functional.conv2d(*args, stride=stride), *inputs)
    for our, their in zip(outputs_and_gradients(ours(out_channels, stride), *inputs), theirs, strict=True):
        assert_close(our, their)
