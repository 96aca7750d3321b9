"""What the tests of the networks share: networks with telling weights, ours and PyTorch's side by side."""

import numpy as np

from ccnet.contenders.inputs import drawn
from ccnet.models import BACKBONES, build
from ccnet.models.van import VAN
from ccnet.runtime import jt

CLASSES, HEAD_CHANNELS = 7, 24
SMALLEST = ["resnet18", "resnet50", "van_tiny"]  # of each kind of block
# what `build` promises to do where nothing is said
DEFAULTS = {True: {"output_stride": 32, "fusion": True}, False: {"output_stride": 8, "fusion": False}}


def network(name: str, **options):
    """Our network without dropout, with telling weights, in eval mode."""
    model = build(name, CLASSES, head_channels=HEAD_CHANNELS, dropout=0.0, **options)
    generator = np.random.default_rng(len(name))
    for key, value in model.state_dict().items():
        value.assign(jt.array(drawn(key, tuple(value.shape), generator)))
    model.eval()
    return model


def torch_twin(model, name: str, **options):
    """PyTorch's network of the same options with the weights of `model`, every one of which must find its place."""
    import torch

    from ccnet.export.networks import CCNet

    options = DEFAULTS[BACKBONES[name] is VAN] | options
    twin = CCNet(name, CLASSES, HEAD_CHANNELS, **options).eval()
    twin.load_state_dict({key: torch.tensor(value.numpy()) for key, value in model.state_dict().items()}, strict=True)
    return twin


def images(height: int, width: int, batch: int = 2) -> np.ndarray:
    generator = np.random.default_rng(height * width)
    return generator.standard_normal((batch, 3, height, width), np.float32)


def difference(actual, expected) -> float:
    """Largest difference, relative to the largest expected value."""
    actual, expected = np.asarray(actual, np.float64), np.asarray(expected, np.float64)
    assert actual.shape == expected.shape
    return float(np.abs(actual - expected).max() / np.abs(expected).max())
