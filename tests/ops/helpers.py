"""What the tests of the operators share: comparisons, and outputs with gradients."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np

from ccnet.runtime import jt


def assert_close(actual, expected, tolerance: float = 1e-5) -> None:
    """The largest difference is within `tolerance` of the largest value; NaN and infinity never pass."""
    actual, expected = np.asarray(actual, np.float64), np.asarray(expected, np.float64)
    assert actual.shape == expected.shape
    assert np.isfinite(actual).all()
    assert np.isfinite(expected).all()
    largest = np.abs(expected).max(initial=0)
    assert np.abs(actual - expected).max(initial=0) <= tolerance * largest + 1e-7


def draw(seed: int, *shapes: Sequence[int]) -> list[np.ndarray]:
    """Standard normal arrays, float32."""
    generator = np.random.default_rng(seed)
    return [generator.standard_normal(shape).astype(np.float32) for shape in shapes]


@contextmanager
def on_gpu() -> Iterator[None]:
    """Jittor computes on the GPU meanwhile; nothing stays pending when the device changes."""
    jt.flags.use_cuda = 1
    try:
        yield
    finally:
        jt.sync_all(True)
        jt.flags.use_cuda = 0


def outputs_and_gradients(function: Callable[..., jt.Var], *arrays: np.ndarray, seed: int = 1) -> list[np.ndarray]:
    """[y, d/d arrays[0], …] of Σ y · r for a random r, where y = function(*arrays)."""
    variables = [jt.array(array) for array in arrays]
    y = function(*variables)
    (weights,) = draw(seed, y.shape)
    gradients = jt.grad((y * jt.array(weights)).sum(), variables)
    return [y.numpy(), *(gradient.numpy() for gradient in gradients)]


def torch_outputs_and_gradients(function: Callable, *arrays: np.ndarray, seed: int = 1) -> list[np.ndarray]:
    """The same from PyTorch."""
    import torch

    variables = [torch.tensor(array, requires_grad=True) for array in arrays]
    y = function(*variables)
    (weights,) = draw(seed, tuple(y.shape))
    y.backward(torch.tensor(weights))
    return [y.detach().numpy(), *(variable.grad.numpy() for variable in variables)]
