import json

import numpy as np
import onnx
import onnxruntime
import pytest

from ccnet.export import load
from ccnet.export import onnx as format_onnx
from tests.export import files


@pytest.fixture(scope="module")
def exported(saved, tmp_path_factory):
    """The files of a ResNet, a VAN and the other graphs."""
    folder = tmp_path_factory.mktemp("onnx")
    for name, path in saved.items():
        format_onnx.write(load(path), folder / f"{name}.onnx")
    return folder


def session(path) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])


@pytest.mark.parametrize("name", files.NETWORKS)
def test_logits_of_onnx_runtime_are_ours(exported, expected, name):
    theirs = session(exported / f"{name}.onnx")
    for size, ours in zip(files.SIZES, expected[name], strict=True):
        (logits,) = theirs.run(["logits"], {"image": files.photo(*size).transpose(2, 0, 1)[None]})
        assert logits.dtype == np.float32
        np.testing.assert_allclose(logits[0], ours, atol=1e-4, rtol=0)


@pytest.mark.parametrize("size", [(32, 32), (96, 40), (33, 190)], ids=str)
def test_any_size_gives_logits_of_that_size(exported, size):
    for name in ("aligned", "van_tiny"):
        image = files.photo(*size).transpose(2, 0, 1)[None]
        (logits,) = session(exported / f"{name}.onnx").run(["logits"], {"image": image})
        assert logits.shape == (1, len(files.CLASSES), *size)


def test_the_graph_says_what_it_takes_and_gives(exported):
    model = session(exported / "van_tiny.onnx")
    (image,), (logits,) = model.get_inputs(), model.get_outputs()
    assert (image.name, image.type, image.shape) == ("image", "tensor(uint8)", [1, 3, "height", "width"])
    assert (logits.name, logits.type, logits.shape) == ("logits", "tensor(float)", [1, 4, "height", "width"])


def test_metadata_say_what_the_weights_file_says(exported, saved):
    found = session(exported / "van_tiny.onnx").get_modelmeta().custom_metadata_map
    assert {key: json.loads(value) for key, value in found.items()} == load(saved["van_tiny"]).header()


def test_one_file_without_what_is_for_training_and_without_paths(exported):
    assert {path.suffix for path in exported.iterdir()} == {".onnx"}
    data = (exported / "resnet18.onnx").read_bytes()
    assert not [
        value.name for value in onnx.load_model_from_string(data).graph.initializer if "auxiliary" in value.name
    ]
    assert b".py" not in data
