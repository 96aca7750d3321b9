"""The weights, inputs and settings of the cases, the same for both sides."""

import zlib
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from ccnet.data.labels import voc_colours
from ccnet.settings import Settings

CLASSES = 19
PALETTE = voc_colours(CLASSES)
BLIND = "key_conv.bias"  # softmax is blind to it: its gradient is rounding, and cannot be compared
STEPS = 24  # batches of the loader in a run
SGD: dict[str, Any] = {"lr": 1e-3, "momentum": 0.9, "weight_decay": 1e-4}
SETTINGS = Settings.from_flat({
    "backbone": "van_tiny", "head": "rcca", "recurrence": 2, "output_stride": None, "fusion": None, "deep_stem": True,
    "multi_grid": False, "contract_dilation": True, "head_channels": None, "align_corners": False,
    "negative_slope": 0.0, "dropout": 0.0, "drop_path": 0.0, "pretrained": None, "optimizer": "sgd",
    "learning_rate": 1e-3, "momentum": 0.9, "weight_decay": 1e-4, "steps": STEPS, "warmup_steps": 0, "power": 0.9,
    "final_learning_rate": 0.0, "batch_size": 8, "accumulate": 1, "crop_size": 256, "resize": None, "scale": [0.5, 2.0],
    "flip": True, "photometric": True, "max_class_share": 0.75, "loss": "cross_entropy", "ohem_threshold": 0.6,
    "ohem_keep": 100_000, "auxiliary_weight": 0.4, "category_consistency": 0.0, "seed": 0,
})  # fmt: skip
Work = Callable[[], Iterable[Any]]  # a run of a case; what it computed, ready


def drawn(name: str, shape: tuple[int, ...], generator: np.random.Generator | None = None) -> np.ndarray:
    """A parameter's value, float32: random, without leaving any other without effect, with the features near 1."""
    generator = generator or np.random.default_rng(zlib.crc32(name.encode()))
    if len(shape) == 4:
        return generator.standard_normal(shape, np.float32) / np.float32(np.prod(shape[1:]) ** 0.5)
    if "layer_scale" in name:
        return generator.uniform(0.02, 0.1, shape).astype(np.float32)
    if name.endswith(("weight", "running_var", "gamma")):
        return generator.uniform(0.3, 0.9, shape).astype(np.float32)
    return 0.2 * generator.standard_normal(shape, np.float32)


def noise(*shape: int) -> np.ndarray:
    """An input, float32, normal."""
    return np.random.default_rng(len(shape)).standard_normal(shape, np.float32)


def targets(batch: int, size: int) -> np.ndarray:
    """Train ids (B, S, S), int32."""
    return np.random.default_rng(0).integers(0, CLASSES, (batch, size, size), np.int32)
