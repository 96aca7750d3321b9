"""Whole networks on a GPU, against the CPU (`pytest -m gpu`)."""

import numpy as np
import pytest

from ccnet.models import BACKBONES
from tests.models.networks import difference, images, network
from tests.models.test_battery import labels_for, training_step
from tests.ops.helpers import on_gpu


@pytest.mark.gpu
@pytest.mark.parametrize("name", BACKBONES)
def test_a_training_step_agrees_with_the_cpu(name):
    """The gradient as a whole, but for what rounding decides at the kinks of ReLU and max-pooling."""
    x = images(64, 64)
    with on_gpu():  # built there too: Jittor's depthwise convolution settles for a device when it is built
        gradients, running = training_step(network(name), x, labels_for(x))
    expected, expected_running = training_step(network(name), x, labels_for(x))
    ours, theirs = (np.concatenate([of[key].ravel() for key in sorted(expected)]) for of in (gradients, expected))
    assert np.linalg.norm(ours - theirs) < 0.05 * np.linalg.norm(theirs)
    for key, statistic in running.items():
        assert difference(statistic, expected_running[key]) < 1e-3, key
