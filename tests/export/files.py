"""What the tests of the export share: weights files of networks in which every parameter has an effect, and photos."""

from pathlib import Path

import numpy as np

from ccnet import weights
from ccnet.contenders.inputs import drawn
from ccnet.models import build_from_settings
from ccnet.runtime import jt
from ccnet.settings import Settings
from tests import tiny
from tests.drawn import picture

CLASSES = tiny.CLASSES
# of each kind of block, and all that differs in a graph: resizing, pooling, attention, loops
NETWORKS: dict[str, dict] = {
    "resnet18": {"backbone": "resnet18"},
    "van_tiny": {"backbone": "van_tiny"},
    "aligned": {"backbone": "resnet18", "align_corners": True, "negative_slope": 0.01, "contract_dilation": False},
    "non_local": {"backbone": "resnet18", "head": "non_local", "recurrence": 1, "deep_stem": False, "multi_grid": True},
    "no_attention": {"backbone": "van_tiny", "recurrence": 0, "fusion": False, "output_stride": 16},
}


def settings(**changes) -> Settings:
    """Settings of the tiny recipe for a ResNet or a VAN."""
    van = changes["backbone"].startswith("van")
    family: dict = {} if van else {"output_stride": 8, "fusion": False}
    return tiny.settings(**family | changes)


def save(path: Path, change=lambda tensors: tensors, normalisation=None, **changes) -> Path:
    """Write the weights of a network with these settings; `change` maps its arrays by name to others."""
    own = settings(**changes)
    model, generator = build_from_settings(own, len(CLASSES)), np.random.default_rng(3)
    state = {name: drawn(name, tuple(value.shape), generator) for name, value in model.state_dict().items()}
    for name, value in change(state).items():
        model.state_dict()[name].assign(jt.array(value))
    if normalisation:
        model.mean, model.std = normalisation
    weights.save(path, model, own, CLASSES, tiny.PALETTE, "rooms")
    return path


def photo(height: int, width: int) -> np.ndarray:
    """A picture `(H, W, 3)` uint8."""
    return np.asarray(picture(height).resize((width, height)))
