"""Weights files, written once for all tests of the export."""

from pathlib import Path

import pytest

from tests.export import files


@pytest.fixture(scope="session")
def saved(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A weights file for each of `files.NETWORKS`; for looking only."""
    folder = tmp_path_factory.mktemp("networks")
    return {name: files.save(folder / f"{name}.safetensors", **own) for name, own in files.NETWORKS.items()}
