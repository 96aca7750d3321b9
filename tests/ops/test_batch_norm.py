import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ccnet.ops.batch_norm import BatchNorm
from ccnet.runtime import jt
from tests.ops.helpers import assert_close, draw, outputs_and_gradients, torch_outputs_and_gradients


def normalise(x, weight, bias, residual=None, slope=1.0, training=True):
    module = BatchNorm(x.shape[1])
    module.train() if training else module.eval()
    module.weight, module.bias = weight, bias  # not before eval(), which stops the gradients of what is there
    return module(x, residual, slope)


def without_kernels(monkeypatch) -> None:
    monkeypatch.setattr("ccnet.ops.kernel.available", lambda *variables: False)


@settings(max_examples=20, deadline=None)
@given(st.tuples(st.integers(1, 4), st.integers(1, 6), st.integers(2, 80), st.integers(2, 80)))
def test_agrees_with_torch(image):
    from torch.nn import functional

    inputs = draw(sum(image), image, image[1:2], image[1:2])
    theirs = torch_outputs_and_gradients(
        lambda x, weight, bias: functional.batch_norm(x, None, None, weight, bias, training=True), *inputs
    )
    for our, their in zip(outputs_and_gradients(normalise, *inputs), theirs, strict=True):
        assert_close(our, their)


@pytest.mark.parametrize("added", [True, False])
@pytest.mark.parametrize("slope", [0.0, 0.2, 1.0])
@pytest.mark.parametrize("training", [True, False])
def test_residual_and_leaky_relu_agree_with_torch(added, slope, training):
    from torch.nn import functional

    image = (3, 5, 9, 11)
    inputs = draw(7, image, image[1:2], image[1:2], *[image] * added)

    def ours(x, weight, bias, residual=None):
        return normalise(x, weight, bias, residual, slope, training)

    def theirs(x, weight, bias, residual=0):
        z = functional.batch_norm(x, *(x.new_tensor([v] * 5) for v in (0, 1)), weight, bias, training)
        return functional.leaky_relu(z + residual, slope)

    expected = torch_outputs_and_gradients(theirs, *inputs)
    for our, their in zip(outputs_and_gradients(ours, *inputs), expected, strict=True):
        assert_close(our, their)


@pytest.mark.parametrize("fast", [True, False])
def test_running_statistics_follow_torch(fast, monkeypatch):
    import torch

    if not fast:
        without_kernels(monkeypatch)
    module, oracle = BatchNorm(3), torch.nn.BatchNorm2d(3)
    for x in draw(0, *[(2, 3, 4, 5)] * 3):
        module(jt.array(3 * x + 1))
        oracle(torch.tensor(3 * x + 1))
    assert_close(module.running_mean.numpy(), oracle.running_mean.numpy())
    assert_close(module.running_var.numpy(), oracle.running_var.numpy())
    module.eval()
    oracle.eval()
    assert_close(module(jt.array(x)).numpy(), oracle(torch.tensor(x)).detach().numpy())


@pytest.mark.parametrize("fast", [True, False])
def test_variance_survives_a_large_mean(fast, monkeypatch):
    if not fast:
        without_kernels(monkeypatch)
    x = draw(0, (4, 3, 64, 64))[0] * np.float32(0.01) + 30
    exact = x.astype(np.float64)
    centred = exact - exact.mean(axis=(0, 2, 3), keepdims=True)
    expected = centred / np.sqrt((centred**2).mean(axis=(0, 2, 3), keepdims=True) + 1e-5)
    assert_close(BatchNorm(3)(jt.array(x)).numpy(), expected, tolerance=1e-3)


def test_buffers_are_saved_and_have_no_gradient():
    module = BatchNorm(2)
    assert list(module.state_dict()) == ["weight", "bias", "running_mean", "running_var"]
    assert [p.requires_grad for p in module.parameters()] == [True, True, False, False]


def test_one_value_per_channel_is_finite():
    module = BatchNorm(2)
    assert np.array_equal(module(jt.ones((1, 2, 1, 1))).numpy(), np.zeros((1, 2, 1, 1)))
    assert np.isfinite(module.running_var.numpy()).all()
