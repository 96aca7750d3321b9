import json

import numpy as np
import pytest
import torch

from ccnet.export import load, torchscript
from tests.export import files


@pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")
@pytest.mark.parametrize("name", files.NETWORKS)
def test_logits_are_ours_and_the_header_comes_along(saved, expected, tmp_path, name):
    segmenter = load(saved[name])
    torchscript.write(segmenter, tmp_path / "w.pt")
    header = dict.fromkeys(segmenter.header(), "")
    program = torch.jit.load(tmp_path / "w.pt", _extra_files=header)
    for size, ours in zip(files.SIZES, expected[name], strict=True):
        logits = program(torch.tensor(files.photo(*size).transpose(2, 0, 1)[None])).numpy()
        np.testing.assert_allclose(logits[0], ours, atol=1e-4, rtol=0)
    assert {key: json.loads(value) for key, value in header.items()} == segmenter.header()


def test_what_is_for_training_is_left_out_of_the_copy_alone(saved):
    segmenter = load(saved["resnet18"])
    copied = torchscript.inference(segmenter)
    names = {name.split(".")[0] for name in copied.network.state_dict()}
    assert names == {"backbone", "head", "classifier"}
    assert not any(parameter.requires_grad for parameter in copied.parameters())
    assert hasattr(segmenter.network, "auxiliary")
    assert all(parameter.requires_grad for parameter in segmenter.parameters())
