import pytest
import torch
from safetensors.numpy import load_file

from ccnet import InputError, weights
from ccnet.commands import import_weights
from ccnet.export import load, mmsegmentation
from tests import tiny
from tests.export import files
from tests.weights import naming

STANDARD = {"backbone": "resnet50", "stem_channels": 32, "auxiliary_channels": 256, "head_channels": None}


@pytest.fixture(scope="module")
def standard(tmp_path_factory):
    """The network of its configs/ccnet: our weights file, its checkpoint, and the line that was printed."""
    folder = tmp_path_factory.mktemp("mmsegmentation")
    ours = files.save(folder / "ours.safetensors", **STANDARD)
    said = mmsegmentation.write(load(ours), folder / "theirs.pth")
    return ours, folder / "theirs.pth", said


def test_its_own_network_needs_no_option_but_its_classes(standard):
    assert standard[2] == (
        "configs/_base_/models/ccnet_r50-d8.py with --cfg-options"
        " model.decode_head.num_classes=4 model.auxiliary_head.num_classes=4"
    )


def test_names_shapes_and_metadata_are_those_of_its_files(standard):
    found = torch.load(standard[1], weights_only=True)
    assert found["meta"] == {"CLASSES": tuple(tiny.CLASSES), "PALETTE": tiny.PALETTE}
    theirs = naming.published("mmsegmentation", "resnet50", len(tiny.CLASSES))[2]
    published = {name: value.shape for name, value in theirs.items() if not name.endswith("num_batches_tracked")}
    shapes = {name: tuple(value.shape) for name, value in found["state_dict"].items()}
    assert {name: shape for name, shape in shapes.items() if "conv_cat" not in name} == {
        name: shape for name, shape in published.items() if "conv_cat" not in name
    }
    assert shapes.keys() == published.keys()


def test_imported_again_it_is_the_same_bit_for_bit(standard, tmp_path):
    ours, theirs, _ = standard
    import_weights.run(source=str(theirs), backbone="resnet50", out=tmp_path / "again.safetensors")
    again, before = load_file(tmp_path / "again.safetensors"), load_file(ours)
    assert again.keys() == before.keys()
    for name, value in before.items():
        assert again[name].tobytes() == value.tobytes(), name
    assert weights.load(tmp_path / "again.safetensors").class_names == tiny.CLASSES


def test_other_settings_are_options(tmp_path):
    path = files.save(
        tmp_path / "w.safetensors", backbone="resnet50", multi_grid=True, output_stride=16, recurrence=3,
        align_corners=True, negative_slope=0.01, contract_dilation=False, normalisation=((1.0, 2.0, 3.0), (4.0,) * 3),
    )  # fmt: skip
    said = mmsegmentation.write(load(path), tmp_path / "w.pth")
    for option in (
        "backbone.stem_channels=128", "backbone.strides=1,2,2,1", "backbone.dilations=1,1,1,2",
        "backbone.contract_dilation=False", "backbone.multi_grid=2,4,8", "decode_head.recurrence=3",
        "decode_head.align_corners=True", "auxiliary_head.align_corners=True", "decode_head.channels=16",
        "auxiliary_head.channels=512", "decode_head.act_cfg.type=LeakyReLU",
        "auxiliary_head.act_cfg.negative_slope=0.01", "data_preprocessor.mean=1.0,2.0,3.0",
        "data_preprocessor.std=4.0,4.0,4.0",
    ):  # fmt: skip
        assert f" model.{option}" in said
    assert said.endswith("on sides of 4k + 1 and 4k + 2 pixels")


def test_what_it_cannot_express_is_refused(saved, tmp_path):
    with pytest.raises(InputError, match=r'has head "non_local", not "rcca"; deep_stem false, not true;'):
        mmsegmentation.write(load(saved["non_local"]), tmp_path / "w.pth")
    with pytest.raises(InputError, match=r"its resnet18 dilates only the first convolution .* output_stride 32"):
        mmsegmentation.write(load(saved["resnet18"]), tmp_path / "w.pth")
    path = files.save(tmp_path / "w.safetensors", backbone="resnet18", output_stride=32)
    assert "model.backbone.depth=18 " in mmsegmentation.write(load(path), tmp_path / "w.pth")
