import numpy as np
import pytest

from ccnet import InputError
from ccnet.weights import origins
from ccnet.weights.tensors import Storage, Tensor
from tests.weights import naming

DESCRIPTIONS = {
    "torchvision": "ResNet classifier with a plain stem (torchvision)",
    "MIT": "ResNet classifier with a deep stem (MIT CSAIL)",
    "ResNetV1c": "ResNetV1c (deep stem, mmsegmentation)",
    "VAN": "VAN classifier",
    "official": "official CCNet",
    "mmsegmentation": "mmsegmentation's CCNet",
}


def tensor(values: np.ndarray) -> Tensor:
    strides = tuple(stride // values.itemsize for stride in values.strides)
    return Tensor(Storage(values.dtype.str, values.size, values.tobytes()), 0, values.shape, strides)


def shapes(state: dict) -> dict[str, tuple[int, ...]]:
    return {name: values.shape for name, values in state.items()}


@pytest.mark.parametrize("kind", naming.KINDS)
def test_each_kind_is_recognised_and_every_name_finds_its_place(kind):
    _, ours, theirs = naming.published(kind)
    besides = naming.KINDS[kind][3]
    origin = origins.recognise(theirs, "w.pth")
    assert origin.description == DESCRIPTIONS[kind]
    found = origins.match(origin, {name: tensor(values) for name, values in theirs.items()}, shapes(ours))
    assert found.filled.keys() == ours.keys()
    assert found.unused == list(besides)
    assert not found.missing
    assert not found.mismatched
    values = origins.convert(origin, found.filled, shapes(ours))
    for name in ours if kind != "official" else ():
        np.testing.assert_array_equal(values[name], ours[name], err_msg=name)


@pytest.mark.parametrize("kind", sorted(naming.KINDS.keys() - set(naming.NETWORKS)))
def test_a_backbone_is_found_below_another_head(kind):
    _, ours, theirs = naming.published(kind)
    state = {f"backbone.{name}": tensor(values) for name, values in theirs.items()}
    state["decode_head.conv_seg.weight"] = tensor(np.ones((5, 8, 1, 1), np.float32))
    origin = origins.recognise(state, "w.pth")
    found = origins.match(origin, state, shapes(ours))
    assert origin.description == DESCRIPTIONS[kind]
    assert found.filled.keys() == ours.keys()
    assert "decode_head.conv_seg.weight" in found.unused


def test_a_stranger_is_named_with_what_is_known():
    with pytest.raises(
        InputError, match=r"w\.pth: not recognised .*encoder\.a.*; known: official CCNet; .*torchvision"
    ):
        origins.recognise({"encoder.a": 0, "encoder.b": 0}, "w.pth")


def test_what_is_too_little_and_too_large_is_told():
    origin = origins.recognise(["layer1.0.conv1.weight"], "w.pth")
    state = {"bn1.weight": np.ones(3, np.float32), "fc.bias": np.ones(1, np.float32)}
    wanted = {"backbone.bn1.weight": (64,), "backbone.bn1.bias": (64,)}
    found = origins.match(origin, {name: tensor(values) for name, values in state.items()}, wanted)
    assert found.mismatched == {"backbone.bn1.weight": "(3,) where (64,) is needed"}
    assert found.missing == ["backbone.bn1.bias"]
    assert found.unused == ["fc.bias"]


def test_numbers_that_are_none_are_refused():
    origin = origins.recognise(["layer1.0.conv1.weight"], "w.pth")
    with pytest.raises(ValueError, match=r"not finite in backbone\.bn1\.bias"):
        origins.convert(
            origin, {"backbone.bn1.bias": tensor(np.full(2, np.nan, np.float32))}, {"backbone.bn1.bias": (2,)}
        )


@pytest.fixture
def torch():
    import torch

    return torch


def conv_norm_act(torch, x, state, name):
    parts = [torch.from_numpy(state[f"{name}.{part}"]) for part in ("running_mean", "running_var", "weight", "bias")]
    return torch.nn.functional.batch_norm(x, *parts)


def convolved(torch, x, state, name, **options):
    return torch.nn.functional.conv2d(x, torch.from_numpy(np.ascontiguousarray(state[f"{name}.weight"])), **options)


def test_the_official_input_and_norms_are_ours_in_effect(torch):
    """BGR minus a mean and |weight| + 1e-5 there, RGB minus the mean and plain norms here: the same features."""
    generator = np.random.default_rng(0)
    theirs = {"conv1.weight": generator.standard_normal((64, 3, 3, 3), np.float32) / 100}
    theirs |= {f"bn1.{part}": generator.standard_normal(64, np.float32) for part in ("weight", "bias", "running_mean")}
    theirs["bn1.running_var"] = generator.uniform(0.5, 1.5, 64).astype(np.float32)
    origin = next(origin for origin in origins.ORIGINS if origin.description == "official CCNet")
    wanted = {f"backbone.{name}": values.shape for name, values in theirs.items()}
    filled = {f"backbone.{name}": tensor(values) for name, values in theirs.items()}
    ours = origins.convert(origin, filled, wanted)

    image = generator.integers(0, 256, (1, 3, 9, 9)).astype(np.float32)  # RGB
    mean, std = (np.array(values, np.float32)[:, None, None] for values in origin.normalisation)
    bgr = image[:, ::-1] - np.array([104.00698793, 116.66876762, 122.67891434], np.float32)[:, None, None]
    inplace_abn = theirs | {"bn1.weight": np.abs(theirs["bn1.weight"]) + 1e-5}
    padded = {"padding": 1}  # with zeros, after the mean is taken away
    bgr = convolved(torch, torch.from_numpy(bgr.copy()), theirs, "conv1", **padded)
    expected = conv_norm_act(torch, bgr, inplace_abn, "bn1")
    actual = convolved(torch, torch.from_numpy((image - mean) / std), ours, "backbone.conv1", **padded)
    actual = conv_norm_act(torch, actual, ours, "backbone.bn1")
    np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("kind", "widths"),
    {
        "torchvision": {}, "MIT": {"stem_channels": 64}, "ResNetV1c": {"stem_channels": 32}, "VAN": {},
        "official": {"stem_channels": 64, "auxiliary_channels": 128},
        "mmsegmentation": {"stem_channels": 32, "auxiliary_channels": 256},
    }.items(),
)  # fmt: skip
def test_a_network_is_as_wide_as_what_was_published(kind, widths):
    _, _, theirs = naming.published(kind)
    origin = origins.recognise(theirs, "w.pth")
    found = origins.settings_of(origin, {name: tensor(values) for name, values in theirs.items()})
    assert found == origin.settings | widths


def test_an_absurd_width_is_not_built_but_reported():
    origin = origins.recognise(["decode_head.cca.query_conv.weight"], "w.pth")
    tensors = {"backbone.stem.0.weight": (48, 3, 3, 3), "auxiliary_head.convs.0.conv.weight": (2**40, 1, 3, 3)}
    found = origins.settings_of(origin, {name: Tensor(Storage("<f4", 0), 0, shape) for name, shape in tensors.items()})
    assert found == origin.settings


@pytest.mark.parametrize("kind", naming.NETWORKS)
def test_every_tensor_has_its_publishers_name_and_a_strange_one_none(kind):
    _, ours, theirs = naming.published(kind)
    origin = origins.recognise(theirs, "w.pth")
    beside = naming.KINDS[kind][3]
    names = [name for name in theirs if name not in beside and not name.endswith("num_batches_tracked")]
    assert [origin.published(name) for name in ours] == names
    assert origin.published("embedding.weight") is None
