import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from ccnet import InputError
from ccnet.commands import import_weights
from ccnet.export import load, official
from ccnet.weights.origins import ABN_EPSILON, NORM
from tests.export import files
from tests.export.test_segmenter import logits
from tests.weights import naming

SETTINGS = {
    "backbone": "resnet50", "align_corners": True, "negative_slope": 0.01, "contract_dilation": False,
    "head_channels": None,
}  # fmt: skip
ALIKE = {"backbone": "resnet18", "head_channels": 512, "auxiliary_channels": 512}  # all but the backbone fits


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    """A network with the official normalisation: our weights file, the state dict, and the line that was printed."""
    folder = tmp_path_factory.mktemp("official")
    ours = files.save(folder / "ours.safetensors", normalisation=official.ORIGIN.normalisation, **SETTINGS)
    said = official.write(load(ours), folder / "theirs.pth")
    return ours, folder / "theirs.pth", said


def test_names_and_shapes_are_those_of_its_code(own):
    found = torch.load(own[1], weights_only=True)
    theirs = naming.published("official", "resnet50", len(files.CLASSES))[2]
    published = {name: value.shape for name, value in theirs.items() if not name.endswith("num_batches_tracked")}
    published["dsn.0.bias"] = (512,)  # the smallest ResNet's in the fixture
    assert {name: tuple(value.shape) for name, value in found.items()} == published
    assert own[2].startswith("evaluate.py --restore-from it --recurrence 2 --num-classes 4; in networks/ccnet.py [3, 4")


def test_imported_again_it_is_the_same_bit_for_bit(own, tmp_path):
    import_weights.run(source=str(own[1]), backbone="resnet50", out=tmp_path / "again.safetensors")
    again, before = load_file(tmp_path / "again.safetensors"), load_file(own[0])
    assert again.keys() == before.keys()
    for name, value in before.items():
        assert again[name].tobytes() == value.tobytes(), name


def negative(tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Every other weight of a norm is negative."""
    return {name: value * np.resize([1, -1], value.shape).astype(np.float32) if NORM.search(name) else value
            for name, value in tensors.items()}  # fmt: skip


def test_other_normalisation_and_negative_scales_are_folded_in(tmp_path):
    """Imported again it labels alike; at the border, zeros that pad are another colour."""
    ours = files.save(tmp_path / "ours.safetensors", change=negative, **SETTINGS)
    official.write(load(ours), tmp_path / "theirs.pth")
    import_weights.run(source=str(tmp_path / "theirs.pth"), backbone="resnet50", out=tmp_path / "again.safetensors")
    image = files.photo(64, 65)
    before, after = (logits(load(path), image) for path in (ours, tmp_path / "again.safetensors"))
    assert np.abs(after - before).max() < 0.01 * np.abs(before).max()


def test_inside_the_image_the_first_layer_computes_the_same(saved):
    segmenter = load(saved["aligned"])
    values = {name: value.numpy() for name, value in segmenter.network.state_dict().items()}
    there = official.normalised_as_there(values, segmenter)
    image = files.photo(40, 52).transpose(2, 0, 1)[None].astype(np.float32)
    bgr = image[:, ::-1] - np.array([104.00698793, 116.66876762, 122.67891434], np.float32).reshape(1, 3, 1, 1)
    normed = (image - segmenter.mean.numpy()) / segmenter.std.numpy()
    layers = [(normed, values), (bgr, there)]
    found = [
        torch.nn.functional.conv2d(torch.tensor(x.copy()), torch.tensor(state[official.FIRST].copy())).numpy()
        - state[official.FIRST_NORM].reshape(-1, 1, 1)
        for x, state in layers
    ]
    np.testing.assert_allclose(*found, atol=1e-4)


def test_the_epsilon_is_taken_off_without_a_trace():
    scale = np.random.default_rng(0).uniform(2**-13, 2, 100_000).astype(np.float32)
    scale[0] = 1e-6
    name, norm = "head.before.conv.weight", {"head.before.norm.running_mean": scale}
    changed = official.scaled_by_absolute({"head.before.norm.weight": scale, name: scale, **norm})
    weight = changed["head.before.norm.weight"]
    assert weight.dtype == np.float32
    assert (weight + ABN_EPSILON == scale)[1:].all()
    assert weight[0] == 0


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"align_corners": False}, "align_corners false, not true"),
        ({"auxiliary_channels": 256}, "auxiliary_channels 256, not 512"),
        ({"stem_channels": 32}, "stem_channels 32, not 64"),
        ({}, "has no resnet18: resnet101"),
    ],
)
def test_what_its_code_is_not_is_refused(tmp_path, change, said):
    path = files.save(tmp_path / "w.safetensors", **SETTINGS | ALIKE | change)
    with pytest.raises(InputError, match=f"--to official: .*{said}"):
        official.write(load(path), tmp_path / "w.pth")
