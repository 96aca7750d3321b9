"""Weights files and what our networks make of photos, computed once for all tests of the export."""

from pathlib import Path

import numpy as np
import pytest

from ccnet import weights
from ccnet.predictor import Predictor
from tests.export import files


@pytest.fixture(scope="session")
def saved(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A weights file for each of `files.NETWORKS`; for looking only."""
    folder = tmp_path_factory.mktemp("networks")
    return {name: files.save(folder / f"{name}.safetensors", **own) for name, own in files.NETWORKS.items()}


@pytest.fixture(scope="session")
def expected(saved) -> dict[str, list[np.ndarray]]:
    """Our logits `(C, H, W)` of the photos of `files.SIZES`, by the network's name."""
    photos = [files.photo(*size) for size in files.SIZES]
    ours = {name: Predictor(weights.load(path).model) for name, path in saved.items()}
    return {name: [predictor._logits(photo).numpy() for photo in photos] for name, predictor in ours.items()}
