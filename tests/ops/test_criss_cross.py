import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ccnet.ops.criss_cross import CrissCrossAttention, criss_cross_reference
from ccnet.runtime import jt
from tests.ops.helpers import assert_close, draw, outputs_and_gradients

IMAGES = [(1, 8, 5, 7), (2, 16, 1, 6), (1, 3, 6, 1), (2, 8, 1, 1), (3, 24, 9, 17), (1, 200, 9, 8)]


def arrays(image: tuple[int, int, int, int]) -> list[np.ndarray]:
    """x, then weight and bias of query, key and value, then gamma; scores near 1, so that no softmax saturates."""
    channels = image[1]
    reduced = max(channels // 8, 1)
    shapes = [(reduced, channels, 1, 1), (reduced,)] * 2 + [(channels, channels, 1, 1), (channels,)]
    x, *parameters = draw(sum(image), image, *shapes, (1,))
    return [x, *(p / np.float32(channels**0.5) if p.ndim == 4 else p for p in parameters)]


def module_with(channels: int, parameters: list) -> CrissCrossAttention:
    module = CrissCrossAttention(channels)
    convolutions = module.query_conv, module.key_conv, module.value_conv
    for conv, weight, bias in zip(convolutions, parameters[:6:2], parameters[1:6:2], strict=True):
        conv.weight, conv.bias = weight, bias
    module.gamma = parameters[6]
    return module


def fast(x, *parameters):
    return module_with(x.shape[1], parameters)(x)


def plain(x, *parameters):
    module = module_with(x.shape[1], parameters)
    return criss_cross_reference(x, module.query_conv, module.key_conv, module.value_conv, module.gamma)


def by_definition(x, query_weight, query_bias, key_weight, key_bias, value_weight, value_bias, gamma):
    """A loop over pixels and over the H + W - 1 positions each of them looks at."""

    def convolve(weight, bias):
        return np.einsum("oc,bchw->bohw", weight[:, :, 0, 0], x) + bias[:, None, None]

    query, key, value = (
        convolve(*pair) for pair in [(query_weight, query_bias), (key_weight, key_bias), (value_weight, value_bias)]
    )
    batch, _, height, width = x.shape
    y = np.empty_like(x)
    for b, row, column in np.ndindex(batch, height, width):
        positions = {(i, column) for i in range(height)} | {(row, j) for j in range(width)}
        scores = {p: query[b, :, row, column] @ key[b, :, *p] for p in positions}
        largest = max(scores.values())
        weights = {p: np.exp(score - largest) for p, score in scores.items()}
        gathered = sum(weights[p] * value[b, :, *p] for p in positions) / sum(weights.values())
        y[b, :, row, column] = gamma * gathered + x[b, :, row, column]
    return y


@pytest.mark.parametrize("image", IMAGES)
@pytest.mark.parametrize("attention", [fast, plain])
def test_agrees_with_the_definition(attention, image):
    inputs = arrays(image)
    expected = by_definition(*(array.astype(np.float64) for array in inputs))
    assert_close(attention(*map(jt.array, inputs)).numpy(), expected)


@settings(max_examples=15, deadline=None)
@given(st.tuples(st.integers(1, 3), st.integers(1, 40), st.integers(1, 20), st.integers(1, 20)))
def test_fast_and_plain_agree_with_all_gradients(image):
    inputs = arrays(image)
    ours, theirs = outputs_and_gradients(fast, *inputs), outputs_and_gradients(plain, *inputs)
    # softmax is blind to the key's bias: that gradient is zero but for rounding
    key_bias = [gradients.pop(5) for gradients in (ours, theirs)]
    assert np.abs(key_bias).max() <= 1e-4 * np.abs(theirs[1]).max()
    for our, their in zip(ours, theirs, strict=True):  # a gradient of one number may be what larger ones leave
        assert_close(our, their, 1e-5 if our.size > 1 else 1e-4)


def test_falls_back_to_the_plain_version(monkeypatch):
    inputs = [jt.array(array) for array in arrays((2, 16, 5, 9))]
    monkeypatch.setattr("ccnet.ops.kernel.available", lambda *variables: False)
    monkeypatch.setattr("ccnet.ops.kernel.launch", None)
    assert np.array_equal(fast(*inputs).numpy(), plain(*inputs).numpy())


def test_large_scores_do_not_overflow():
    inputs = [20 * array for array in arrays((1, 16, 6, 5))]
    expected = by_definition(*(array.astype(np.float64) for array in inputs))
    assert_close(fast(*map(jt.array, inputs)).numpy(), expected)


def test_starts_as_the_identity():
    (x,) = draw(0, (1, 16, 4, 6))
    assert np.array_equal(CrissCrossAttention(16)(jt.array(x)).numpy(), x)


def test_parameters_have_the_published_names_and_shapes():
    shapes = {name: tuple(value.shape) for name, value in CrissCrossAttention(512).state_dict().items()}
    assert shapes == {
        "query_conv.weight": (64, 512, 1, 1),
        "query_conv.bias": (64,),
        "key_conv.weight": (64, 512, 1, 1),
        "key_conv.bias": (64,),
        "value_conv.weight": (512, 512, 1, 1),
        "value_conv.bias": (512,),
        "gamma": (1,),
    }


def test_same_without_gradients():
    inputs = [jt.array(array) for array in arrays((2, 16, 5, 9))]
    with jt.no_grad():
        without = fast(*inputs).numpy()
    assert np.array_equal(without, fast(*inputs).numpy())
