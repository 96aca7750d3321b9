"""What the tests of the export share: weights files of networks in which every parameter has an effect, and photos."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from safetensors.numpy import save_file

from ccnet import weights
from ccnet.contenders.inputs import drawn
from ccnet.export.networks import CCNet
from ccnet.export.segmenter import network_options
from ccnet.ops.normalise import MEAN, STD
from ccnet.settings import Settings
from ccnet.weights import Weights
from tests import tiny
from tests.drawn import picture

CLASSES = tiny.CLASSES
SIZES = [(34, 50), (65, 83)]  # height and width of the photos
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


def save(path: Path, change=lambda tensors: tensors, normalisation=(MEAN, STD), **changes) -> Path:
    """Write the weights of a network with these settings; `change` maps its arrays by name to others."""
    own, statistics = settings(**changes), SimpleNamespace(mean=normalisation[0], std=normalisation[1])
    described = SimpleNamespace(settings=own, class_names=CLASSES)
    embedding = {"embedding": 16 if own.loss.category_consistency else 0}
    with torch.device("meta"):  # names and shapes alone
        state = CCNet(**network_options(described, {}) | embedding).state_dict()
    shapes = {name: tuple(value.shape) for name, value in state.items() if not name.endswith("num_batches_tracked")}
    generator = np.random.default_rng(3)
    tensors = change({name: drawn(name, shape, generator) for name, shape in shapes.items()})
    save_file(tensors, path, weights.describe(Weights(statistics, own, CLASSES, tiny.PALETTE, "rooms")))
    return path


def photo(height: int, width: int) -> np.ndarray:
    """A picture `(H, W, 3)` uint8."""
    return np.asarray(picture(height).resize((width, height)))
