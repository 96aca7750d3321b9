"""Whole networks on a GPU (`pytest -m gpu`), and on the CPU as if on a GPU, against the CPU."""

import numpy as np
import pytest

from ccnet.models import BACKBONES
from tests.models.networks import difference, images, network
from tests.models.test_battery import labels_for, training_step
from tests.ops.helpers import on_gpu
from tests.ops.test_cuda import emulated_code, replace_code


def step(name: str, size: int) -> tuple[dict, dict]:
    """Built where it computes: Jittor's depthwise convolution settles for a device when it is built."""
    x = images(size, size)
    return training_step(network(name), x, labels_for(x))


def agree(actual: tuple[dict, dict], expected: tuple[dict, dict]) -> None:
    """The gradient as a whole, but for what rounding decides at the kinks of ReLU and max-pooling; the statistics."""
    ours, theirs = (np.concatenate([of[key].ravel() for key in sorted(expected[0])]) for of in (actual[0], expected[0]))
    assert np.linalg.norm(ours - theirs) < 0.05 * np.linalg.norm(theirs)
    for key, statistic in actual[1].items():
        assert difference(statistic, expected[1][key]) < 1e-3, key


@pytest.mark.gpu
@pytest.mark.parametrize("name", BACKBONES)
def test_a_training_step_agrees_with_the_cpu(name):
    with on_gpu():
        actual = step(name, 64)
    agree(actual, step(name, 64))


def test_a_training_step_as_if_on_a_gpu(monkeypatch):
    """Our CUDA kernels in the emulation, and plain Jittor for every operator that has none."""
    expected = step("resnet18", 32)
    replace_code(monkeypatch, emulated_code)
    agree(step("resnet18", 32), expected)
