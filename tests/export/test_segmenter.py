import subprocess
import sys

import numpy as np
import pytest
import torch

from ccnet import InputError, __version__, weights
from ccnet.export import load
from ccnet.files import sha256
from tests import tiny
from tests.export import files


def logits(module: torch.nn.Module, image: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        return module(torch.tensor(image.transpose(2, 0, 1)[None]))[0].numpy()


@pytest.mark.parametrize("name", files.NETWORKS)
def test_logits_of_bytes_are_ours(saved, expected, name):
    segmenter = load(saved[name])
    for size, ours in zip(files.SIZES, expected[name], strict=True):
        np.testing.assert_allclose(logits(segmenter, files.photo(*size)), ours, atol=1e-4, rtol=0)


def test_a_module_in_eval_mode_that_can_be_trained(saved):
    segmenter = load(str(saved["resnet18"]))
    assert not segmenter.training
    assert all(parameter.requires_grad for parameter in segmenter.parameters())
    assert len(segmenter.network.train()(torch.zeros(2, 3, 32, 32))) == 2


def test_an_embedding_and_other_widths_are_rebuilt(tmp_path):
    path = files.save(
        tmp_path / "w.safetensors", backbone="resnet18", category_consistency=0.1, stem_channels=32,
        auxiliary_channels=24, head_channels=None,
    )  # fmt: skip
    network = load(path).network
    assert network.embedding.out_channels == 16
    assert network.backbone.conv1.out_channels == 32
    assert network.auxiliary["conv"].conv.out_channels == 24
    assert network.classifier["conv"].in_channels == 128


def test_a_runs_folder_and_the_header(trained: tiny.Trained):
    segmenter = load(trained.weights.parent)
    assert segmenter.header() == {
        "class_names": tiny.CLASSES, "palette": tiny.PALETTE, "dataset": segmenter.described.dataset,
        "mean": [123.675, 116.28, 103.53], "std": [58.395, 57.12, 57.375],
        "protocol": weights.load(trained.weights).protocol.as_dict(),
        "settings": tiny.settings().as_dict(), "ccnet": __version__, "weights_sha256": sha256(trained.weights),
    }  # fmt: skip


def test_tensors_that_do_not_fit_are_named(tmp_path, saved):
    from safetensors import safe_open
    from safetensors.numpy import load_file, save_file

    tensors = load_file(saved["resnet18"]) | {"classifier.conv.bias": np.zeros(9, np.float32)}
    with safe_open(saved["resnet18"], framework="numpy") as file:
        save_file(tensors, tmp_path / "w.safetensors", file.metadata())
    with pytest.raises(InputError, match=r"w\.safetensors: does not fit .*: classifier\.conv\.bias$"):
        load(tmp_path / "w.safetensors")


def test_jittor_is_not_needed(saved):
    code = f"import sys; from ccnet.export import load; load({str(saved['van_tiny'])!r}); print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"jittor", "ccnet.runtime", "ccnet.models"} & set(loaded)
