from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ccnet.contenders.inputs import drawn
from ccnet.models.van import Mlp
from ccnet.ops import kernel
from ccnet.ops.gelu import gelu
from ccnet.runtime import jt
from tests.ops.helpers import assert_close, draw


def outputs_and_gradients(module: Mlp, function: Callable, x: np.ndarray) -> list[np.ndarray]:
    variable, weights = jt.array(x), jt.array(draw(1, x.shape)[0])
    y = function(variable)
    gradients = jt.grad((y * weights).sum(), [variable, *module.parameters()])
    return [y.numpy(), *(gradient.numpy() for gradient in gradients)]


def compare(channels: int, hidden: int, dilation: int, batch: int, height: int, width: int) -> None:
    module = Mlp(channels, hidden, dilation)
    for name, value in module.state_dict().items():
        value.assign(jt.array(drawn(name, tuple(value.shape))))
    x = draw(0, (batch, channels, height, width))[0]
    assert kernel.available("mlp", jt.array(x))
    layers = outputs_and_gradients(module, lambda t: module.fc2(gelu(module.dwconv(module.fc1(t)))), x)
    for ours, plain in zip(outputs_and_gradients(module, module, x), layers, strict=True):
        assert_close(ours, plain)


@settings(max_examples=25, deadline=None)
@given(st.tuples(*[st.integers(1, most) for most in (9, 20, 6, 3, 30, 40)]))
def test_is_what_its_layers_compute_one_by_one(size):
    compare(*size)


# several strips of rows and chunks of hidden channels, none of them full; rows that are longer than a strip
@pytest.mark.parametrize("size", [(4, 150, 1, 1, 70, 67), (9, 260, 2, 2, 41, 130), (3, 7, 4, 1, 9, 2100)])
def test_large_ones_too(size):
    compare(*size)


def test_gradients_are_repeatable_to_the_bit():
    module, x = Mlp(8, 40, 1), draw(2, (3, 8, 33, 70))[0]
    first, second = (outputs_and_gradients(module, module, x) for _ in range(2))
    assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))
