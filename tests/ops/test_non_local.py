import numpy as np
import pytest

from ccnet.ops.non_local import NonLocal
from ccnet.runtime import jt
from tests.ops.helpers import assert_close, draw, outputs_and_gradients, torch_outputs_and_gradients


def module(channels: int, gamma: float) -> NonLocal:
    """A block with drawn parameters."""
    made = NonLocal(channels)
    for seed, value in enumerate(made.parameters()):
        value.assign(jt.array(draw(seed, value.shape)[0] * 0.5))
    made.gamma.assign(jt.array([gamma]))
    return made


def definition(block: NonLocal, x: np.ndarray) -> np.ndarray:
    """Pixel by pixel: each takes the values of all, weighted by the softmax of its query with their keys."""

    def project(conv, image):
        return np.einsum("oc,chw->ohw", conv.weight.numpy()[:, :, 0, 0], image) + conv.bias.numpy()[:, None, None]

    result = np.empty_like(x)
    for image, out in zip(x, result, strict=True):
        q, k, v = (project(conv, image) for conv in (block.query_conv, block.key_conv, block.value_conv))
        for i, j in np.ndindex(image.shape[1:]):
            scores = np.exp(np.einsum("c,chw->hw", q[:, i, j], k))
            out[:, i, j] = np.einsum("hw,chw->c", scores / scores.sum(), v)
    return block.gamma.numpy() * result + x


@pytest.mark.parametrize("shape", [(2, 16, 5, 4), (1, 8, 1, 1), (3, 4, 2, 7), (2, 8, 23, 31)])
def test_agrees_with_its_definition(shape):
    block = module(shape[1], 0.7)
    (x,) = draw(1, shape)
    assert_close(block(jt.array(x)).numpy(), definition(block, x))


@pytest.mark.parametrize("shape", [(2, 16, 6, 5), (1, 16, 29, 37)], ids=["one block", "several blocks"])
def test_gradients_agree_with_torch(shape):
    import torch

    block = module(16, 0.7)
    (x,) = draw(2, shape)
    weights = {name: torch.tensor(value.numpy()) for name, value in block.named_parameters()}

    def theirs(x):
        q, k, v = (
            torch.nn.functional.conv2d(x, weights[f"{name}_conv.weight"], weights[f"{name}_conv.bias"]).flatten(2)
            for name in ("query", "key", "value")
        )
        attention = torch.softmax(q.transpose(1, 2) @ k, dim=-1)
        return weights["gamma"] * (v @ attention.transpose(1, 2)).reshape(x.shape) + x

    for ours, others in zip(outputs_and_gradients(block, x), torch_outputs_and_gradients(theirs, x), strict=True):
        assert_close(ours, others, 2e-5)


def test_begins_as_the_identity():
    (x,) = draw(3, (2, 8, 4, 4))
    np.testing.assert_array_equal(NonLocal(8)(jt.array(x)).numpy(), x)


def test_a_permutation_of_the_pixels_permutes_the_result():
    block = module(8, 1.3)
    (x,) = draw(4, (1, 8, 3, 6))
    order = np.random.default_rng(0).permutation(18)
    shuffled = x.reshape(1, 8, 18)[..., order].reshape(x.shape)
    expected = block(jt.array(x)).numpy().reshape(1, 8, 18)[..., order].reshape(x.shape)
    assert_close(block(jt.array(shuffled)).numpy(), expected)


def test_parameters_are_named_as_those_of_criss_cross_attention():
    from ccnet.ops.criss_cross import CrissCrossAttention

    ours, others = NonLocal(24).state_dict(), CrissCrossAttention(24).state_dict()
    assert {name: list(value.shape) for name, value in ours.items()} == {
        name: list(value.shape) for name, value in others.items()
    }
