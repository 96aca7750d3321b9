import numpy as np
import torch
from safetensors.numpy import load_file

from ccnet.export import load, pytorch
from ccnet.export.networks import CCNet


def test_a_state_dict_by_our_names_and_the_network_it_is_for(saved, tmp_path):
    segmenter = load(saved["resnet18"])
    pytorch.write(segmenter, tmp_path / "w.pth")
    found = torch.load(tmp_path / "w.pth", weights_only=True)
    network = CCNet(**found["network"])
    network.load_state_dict(found["state_dict"])
    tensors = load_file(saved["resnet18"])
    arrived = {name: value.numpy() for name, value in network.state_dict().items()}
    assert {name for name in arrived if not name.endswith("num_batches_tracked")} == tensors.keys()
    assert all(np.array_equal(arrived[name], value) for name, value in tensors.items())
    assert {key: found[key] for key in segmenter.header()} == segmenter.header()
