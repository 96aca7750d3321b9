import pytest

from ccnet.ops.batch_norm import BatchNorm
from ccnet.ops.epilogue import NOTHING, Epilogue, conv_norm_act
from ccnet.ops.pointwise import PointwiseConv
from ccnet.ops.winograd import Conv3x3
from ccnet.runtime import jt, nn
from tests.ops.helpers import assert_close, draw

CHANNELS = 20
CONVOLUTIONS = {
    "pointwise": lambda: PointwiseConv(CHANNELS, CHANNELS),
    "pointwise, stride 2, no bias": lambda: PointwiseConv(CHANNELS, CHANNELS, bias=False, stride=2),
    "3×3": lambda: Conv3x3(CHANNELS, CHANNELS),
    "3×3, dilation 2": lambda: Conv3x3(CHANNELS, CHANNELS, dilation=2),
    "3×3, stride 2": lambda: Conv3x3(CHANNELS, CHANNELS, stride=2),
}


def trained_norm() -> BatchNorm:
    norm = BatchNorm(CHANNELS)
    mean, variance, weight, bias = draw(5, *[(CHANNELS,)] * 4)
    for value, array in zip(norm.constants(), (weight, bias, mean, variance**2 + 0.5), strict=True):
        value.assign(jt.array(array))
    return norm


@pytest.mark.parametrize("name", CONVOLUTIONS)
@pytest.mark.parametrize("size", [(19, 13), (8, 32)])
def test_fused_is_what_plain_jittor_computes(name, size):
    jt.set_global_seed(1)
    convolution, norm = CONVOLUTIONS[name](), trained_norm()
    norm.eval()
    x = jt.array(draw(2, (2, CHANNELS, *size))[0])
    z = convolution(x)
    residual = jt.array(draw(3, z.shape)[0])
    for epilogue in (NOTHING, Epilogue(norm), *(Epilogue(norm, added, 0.1) for added in (None, residual))):
        with jt.no_grad():
            fused = convolution(x, epilogue).numpy()
        assert_close(fused, epilogue(z).numpy())


@pytest.mark.parametrize("convolution", ["3×3", "plain"])
@pytest.mark.parametrize("training", [True, False])
def test_normed_is_convolution_norm_shortcut_and_activation(convolution, training):
    jt.set_global_seed(2)
    module = nn.Conv(CHANNELS, CHANNELS, 7, padding=3) if convolution == "plain" else Conv3x3(CHANNELS, CHANNELS)
    x, residual = (jt.array(array) for array in draw(4, *[(2, CHANNELS, 9, 11)] * 2))
    norm = trained_norm()
    if not training:
        norm.eval()
    expected = nn.leaky_relu(norm(module(x)) + residual, 0.1).numpy()
    with jt.no_grad():
        assert_close(conv_norm_act(module, norm, x, residual, slope=0.1).numpy(), expected)
