import math

import numpy as np
import pytest

from ccnet.ops.batch_norm import BatchNorm
from ccnet.ops.depthwise import DepthwiseConv
from ccnet.ops.epilogue import NOTHING, Epilogue, normed
from ccnet.ops.pointwise import PointwiseConv
from ccnet.ops.winograd import Conv3x3
from ccnet.runtime import jt, nn
from tests.ops.helpers import assert_close, draw

CHANNELS = 20
CONVOLUTIONS = {
    "pointwise": lambda: PointwiseConv(CHANNELS, CHANNELS),
    "pointwise, stride 2, no bias": lambda: PointwiseConv(CHANNELS, CHANNELS, bias=False, stride=2),
    "depthwise": lambda: DepthwiseConv(CHANNELS, 3),
    "depthwise, no bias": lambda: DepthwiseConv(CHANNELS, 5, dilation=2, bias=False),
    "3×3": lambda: Conv3x3(CHANNELS, CHANNELS),
    "3×3, dilation 2": lambda: Conv3x3(CHANNELS, CHANNELS, dilation=2),
    "3×3, stride 2": lambda: Conv3x3(CHANNELS, CHANNELS, stride=2),
}


def epilogues(shape) -> dict[str, Epilogue]:
    *planes, residual = (jt.array(array) for array in draw(3, *[(CHANNELS,)] * 3, shape))
    scale, shift, mix = planes
    return {
        "nothing": NOTHING,
        "norm, ReLU": Epilogue(scale, shift, slope=0.0),
        "norm, shortcut, ReLU": Epilogue(scale, shift, residual, slope=0.0),
        "leaky": Epilogue(shift=shift, slope=0.01),
        "gelu": Epilogue(activation="gelu"),
        "gate": Epilogue(residual=residual, activation="gate"),
        "scaled branch": Epilogue(scale=scale, residual=residual),
        "mix": Epilogue(scale, shift, residual, mix),
    }


@pytest.mark.parametrize("name", CONVOLUTIONS)
@pytest.mark.parametrize("size", [(19, 13), (8, 32)])
def test_fused_is_what_plain_jittor_computes(name, size):
    jt.set_global_seed(1)
    convolution = CONVOLUTIONS[name]()
    x = jt.array(draw(2, (2, CHANNELS, *size))[0])
    z = convolution(x)
    for epilogue in epilogues(z.shape).values():
        with jt.no_grad():
            fused = convolution(x, epilogue).numpy()
        assert_close(fused, epilogue(z).numpy())


def test_gelu_is_exact_to_single_precision():
    x = np.concatenate([np.linspace(-7, 7, 4001), [-100, 100]]).astype(np.float32)
    identity = PointwiseConv(1, 1, bias=False)
    identity.weight.assign(jt.ones((1, 1, 1, 1)))
    with jt.no_grad():
        y = identity(jt.array(x.reshape(1, 1, 1, -1)), Epilogue(activation="gelu")).numpy().reshape(-1)
    exact = np.array([value * (1 + math.erf(value / math.sqrt(2))) / 2 for value in x.astype(np.float64)])
    assert np.abs(y - exact).max() < 1e-6


@pytest.mark.parametrize("convolution", ["3×3", "plain"])
@pytest.mark.parametrize("training", [True, False])
def test_normed_is_convolution_norm_shortcut_and_activation(convolution, training):
    jt.set_global_seed(2)
    module = nn.Conv(CHANNELS, CHANNELS, 7, padding=3) if convolution == "plain" else Conv3x3(CHANNELS, CHANNELS)
    x, residual = (jt.array(array) for array in draw(4, *[(2, CHANNELS, 9, 11)] * 2))
    norm = BatchNorm(CHANNELS)
    mean, variance, weight = draw(5, *[(CHANNELS,)] * 3)
    norm.running_mean.assign(jt.array(mean))
    norm.running_var.assign(jt.array(variance**2 + 0.5))
    norm.weight.assign(jt.array(weight))
    if not training:
        norm.eval()
    expected = nn.leaky_relu(norm(module(x)) + residual, 0.1).numpy()
    with jt.no_grad():
        assert_close(normed(module, norm, x, residual, slope=0.1).numpy(), expected)
