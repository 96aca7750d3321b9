import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ccnet.ops import winograd
from ccnet.ops.winograd import Conv3x3
from ccnet.runtime import jt
from tests.ops.helpers import assert_close, draw, outputs_and_gradients, torch_outputs_and_gradients


def ours(stride: int, dilation: int):
    def call(x, weight):
        module = Conv3x3(weight.shape[1], weight.shape[0], stride, dilation)
        module.weight = weight
        return module(x)

    return call


def arrays(image, out_channels: int) -> list:
    return draw(sum(image), image, (out_channels, image[1], 3, 3))


@settings(max_examples=30, deadline=None)
@given(
    image=st.tuples(st.integers(1, 3), st.integers(1, 40), st.integers(1, 40), st.integers(1, 70)),
    out_channels=st.integers(1, 40),
    stride=st.sampled_from([1, 1, 1, 2]),
    dilation=st.sampled_from([1, 1, 2, 3, 4, 8]),
)
def test_agrees_with_torch(image, out_channels, stride, dilation):
    from torch.nn import functional

    inputs = arrays(image, out_channels)
    options = {"stride": stride, "padding": dilation, "dilation": dilation}
    theirs = torch_outputs_and_gradients(lambda *args: functional.conv2d(*args, **options), *inputs)
    for our, their in zip(outputs_and_gradients(ours(stride, dilation), *inputs), theirs, strict=True):
        assert_close(our, their)


@pytest.mark.parametrize(("tiles", "channels"), [(16, 16), (700, 16), (64, 128)])
def test_how_the_work_is_cut_is_decided_in_python_alone(tiles, channels, monkeypatch):
    inputs = arrays((3, 100, 33, 31), 20)
    usual = outputs_and_gradients(ours(1, 2), *inputs)
    monkeypatch.setattr(winograd, "TILES", tiles)
    monkeypatch.setattr(winograd, "CHANNELS", channels)
    for our, expected in zip(outputs_and_gradients(ours(1, 2), *inputs), usual, strict=True):
        assert_close(our, expected)


@pytest.mark.parametrize(
    ("number", "reason"), [("pitch", "a block is longer than the pitch"), ("points", "memory is too small")]
)
def test_memory_that_is_too_small_is_refused(number, reason, monkeypatch):
    def too_small(*sizes, whole=winograd._workspace):
        cut, shapes = whole(*sizes)
        if number == "pitch":
            return {**cut, "pitch": 64}, shapes
        return cut, [(points - 1, floats) for points, floats in shapes]

    monkeypatch.setattr(winograd, "_workspace", too_small)
    x, weight = map(jt.array, arrays((1, 8, 40, 40), 8))
    with pytest.raises(RuntimeError, match=f"winograd: {reason}"):
        ours(1, 1)(x, weight).numpy()
