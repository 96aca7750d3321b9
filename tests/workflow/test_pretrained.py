"""The pipeline, with the commands themselves, from published weights, and from one run's weights to another's."""

from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest
from safetensors.numpy import load_file

from ccnet import weights
from ccnet.contenders.inputs import drawn
from ccnet.weights import library
from tests.serving import serving
from tests.weights import naming
from tests.workflow.conftest import Workplace

OVERLAY = """
dataset: {limit: {train: 4, val: 2}, shards: {train: 1}}
training: {steps: 2, batch_size: 2, crop_size: 32, warmup_steps: 0, head_channels: 16}
runs:
  resnet18: null
  van_tiny: {pretrained: imagenet}
  finer: {backbone: van_tiny, pretrained: {run: van_tiny}, frozen_norms: true}
workers: 0
"""


@pytest.mark.slow
def test_from_imagenet_weights_to_a_run_and_from_that_to_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    import torch

    workplace, entry = Workplace(tmp_path), library.lookup("imagenet-van_tiny")
    _, ours, theirs = naming.published("VAN")
    tensors = {name: torch.tensor(drawn(name, value.shape)) for name, value in theirs.items()}
    torch.save({"state_dict": tensors, "epoch": 300}, tmp_path / "published")
    path, data = urlsplit(entry.url).path, (tmp_path / "published").read_bytes()
    with serving({path: data}, cuts=[len(data) // 2]) as site:
        monkeypatch.setenv(library.MIRROR, site.url)
        done = workplace.snakemake("train", overlays=(workplace.overlay(OVERLAY),))
    assert done.returncode == 0, done.stderr
    assert [asked is None for _, asked, _ in site.requests] == [True, False]

    imported = load_file(tmp_path / "results/pretrained/imagenet-van_tiny.safetensors")
    first, second = (tmp_path / "results/streets" / run / "weights.safetensors" for run in ("van_tiny", "finer"))
    assert imported.keys() == {name for name in ours if name.startswith("backbone.")}
    assert "matched          370  backbone." in (tmp_path / "results/streets/logs/train-van_tiny.log").read_text()
    log = (tmp_path / "results/streets/logs/train-finer.log").read_text()
    before, after = load_file(first), load_file(second)
    assert f"matched          {len(before)}  backbone." in log
    for name, value in before.items():
        if "running_" in name:
            np.testing.assert_array_equal(after[name], value, err_msg=name)
    assert weights.load(second).settings.model.pretrained is not None
