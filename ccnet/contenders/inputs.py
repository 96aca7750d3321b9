"""Weights, inputs and settings of the benchmark cases, the same for both sides."""

import zlib
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from ccnet.data.labels import voc_colours
from ccnet.settings import Settings

CLASSES = 19
PALETTE = voc_colours(CLASSES)
BLIND = "key_conv.bias"  # softmax is invariant to it: its gradient is only rounding error and not comparable
STEPS = 24  # batches per run of the loader
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
Work = Callable[[], Iterable[Any]]  # runs a case; returns its computed results


def drawn(name: str, shape: tuple[int, ...], generator: np.random.Generator | None = None) -> np.ndarray:
    """Random float32 value of parameter `name`: every parameter has an effect, and features have magnitude about 1."""
    generator = generator or np.random.default_rng(zlib.crc32(name.encode()))
    if len(shape) == 4:
        return generator.standard_normal(shape, np.float32) / np.float32(np.prod(shape[1:]) ** 0.5)
    if "layer_scale" in name:
        return generator.uniform(0.02, 0.1, shape).astype(np.float32)
    if name.endswith(("weight", "running_var", "gamma")):
        return generator.uniform(0.3, 0.9, shape).astype(np.float32)
    return 0.2 * generator.standard_normal(shape, np.float32)


def noise(*shape: int) -> np.ndarray:
    """A standard normal input, float32; the seed is the number of dimensions."""
    return np.random.default_rng(len(shape)).standard_normal(shape, np.float32)


def targets(batch: int, size: int) -> np.ndarray:
    """Random train ids `(batch, size, size)` int32, 0 … CLASSES - 1."""
    return np.random.default_rng(0).integers(0, CLASSES, (batch, size, size), np.int32)
