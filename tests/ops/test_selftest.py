import pytest

from ccnet.ops import selftest
from ccnet.runtime import jt, nn


def test_jittor_agrees_with_numpy():
    assert selftest.difference("cpu") < 1e-5


@pytest.mark.parametrize("wrong", [lambda y: y * 1.01, lambda y: y[:, :, ::-1], lambda y: y * float("nan")])
def test_a_wrong_convolution_is_told(wrong, monkeypatch):
    right = nn.conv2d
    monkeypatch.setattr(selftest.nn, "conv2d", lambda *inputs: jt.array(wrong(right(*inputs).numpy())))
    assert not selftest.difference("cpu") < 5e-3


@pytest.mark.gpu
def test_jittor_agrees_with_numpy_on_a_gpu():
    assert selftest.difference("cuda") < 5e-3
