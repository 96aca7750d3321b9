import json
import pickle
import re
import struct

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from ccnet import InputError, weights
from ccnet.ops.normalise import normalise
from ccnet.predictor import Predictor
from ccnet.runtime import jt
from tests import tiny


@pytest.fixture(scope="module")
def loaded(trained):
    return weights.load(trained.weights)


def header(path) -> dict[str, str]:
    with safe_open(path, framework="numpy") as file:
        return file.metadata()


def test_weights_come_back_as_they_were(loaded, trained, tmp_path):
    assert loaded.settings.as_dict() == json.loads(trained.settings.read_text())
    assert (loaded.class_names, loaded.palette) == (tiny.CLASSES, tiny.PALETTE)
    weights.save(tmp_path / "again.safetensors", loaded.model, loaded.settings, loaded.class_names, loaded.palette)
    again = weights.load(tmp_path / "again.safetensors")
    image = normalise(jt.array(tiny.draw(9)[0].transpose(2, 0, 1)[None].copy()))
    np.testing.assert_array_equal(again.model(image).numpy(), loaded.model(image).numpy())
    assert header(tmp_path / "again.safetensors") == header(trained.weights)


def test_a_loaded_network_does_not_train(loaded):
    assert not any(module.is_training() for module in loaded.model.modules())


def test_running_statistics_are_part_of_them(trained):
    tensors = load_file(trained.weights)
    assert any(name.endswith("running_mean") and value.any() for name, value in tensors.items())


def test_weights_are_as_readable_as_other_files(trained, tmp_path):
    (tmp_path / "other").touch()
    assert trained.weights.stat().st_mode == (tmp_path / "other").stat().st_mode


def garbage(path, trained):
    path.write_bytes(b"\xff" * 1000)


def empty(path, trained):
    path.touch()


def pickled(path, trained):
    path.write_bytes(pickle.dumps({"model": [1, 2, 3]}))


def truncated(path, trained):
    path.write_bytes(trained.weights.read_bytes()[:-100])


def huge_header(path, trained):
    path.write_bytes(struct.pack("<Q", 2**60) + b"{}")


def missing(path, trained):
    path.unlink(missing_ok=True)


def folder(path, trained):
    path.mkdir()


@pytest.mark.parametrize("make", [garbage, empty, pickled, truncated, huge_header, missing, folder])
def test_what_is_not_safetensors_is_one_line(make, trained, tmp_path):
    path = tmp_path / "w.safetensors"
    make(path, trained)
    with pytest.raises(InputError, match=r"^.*w\.safetensors: not a readable weights file \(.*\)$"):
        weights.load(path)


def rewrite(path, trained, change=lambda tensors: tensors, **metadata):
    """The trained weights with other metadata (None drops an entry) and tensors."""
    kept = {key: value for key, value in (header(trained.weights) | metadata).items() if value is not None}
    save_file(change(load_file(trained.weights)), path, kept)
    return path


def without_gamma(tensors):
    return {name: value for name, value in tensors.items() if not name.endswith("gamma")}


def other_shape(tensors):
    return tensors | {"classifier.conv.bias": np.zeros(7, np.float32)}


def one_more(tensors):
    return tensors | {"spare": np.zeros(1, np.float32)}


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"class_names": None}, "no 'class_names' in its header"),
        ({"mean": None}, "no 'mean' in its header"),
        ({"format": "pt"}, "safetensors of another program"),
        ({"change": without_gamma}, "does not fit the network its settings describe: head.attention.gamma"),
        ({"change": other_shape}, "classifier.conv.bias"),
        ({"change": one_more}, "spare"),
        ({"class_names": '["a", "b"]'}, "classifier.conv"),
        ({"settings": '{"seed": 1}'}, "field required"),
    ],
)
def test_what_does_not_fit_is_one_line(changed, words, trained, tmp_path):
    path = rewrite(tmp_path / "w.safetensors", trained, **changed)
    with pytest.raises(InputError, match=re.escape(words)) as refused:
        weights.load(path)
    assert str(refused.value).startswith(str(path))
    assert "\n" not in str(refused.value)


def test_safetensors_without_any_header_are_refused(tmp_path):
    save_file({"x": np.zeros(3)}, tmp_path / "w.safetensors")
    with pytest.raises(InputError, match="no 'settings' in its header"):
        weights.load(tmp_path / "w.safetensors")


def test_a_failed_save_leaves_the_old_file(loaded, tmp_path, monkeypatch):
    path = tmp_path / "w.safetensors"
    path.write_bytes(b"old")
    monkeypatch.setattr("os.fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(OSError, match="No space left"):
        weights.save(path, loaded.model, loaded.settings, loaded.class_names, loaded.palette)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_images_are_normalised_as_the_file_says(loaded, trained, tmp_path):
    """ImageNet's mean and std where they were trained with it; the same network with half the contrast, else."""
    assert (loaded.model.mean, loaded.model.std) == ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375))
    path = rewrite(tmp_path / "w.safetensors", trained, mean="[1, 2.5, -3]", std="[60, 70, 80.5]")
    other = weights.load(path)
    assert (other.model.mean, other.model.std) == ((1, 2.5, -3), (60, 70, 80.5))
    image = tiny.draw(9)[0]
    pixels = (image.astype(np.float32) - (1, 2.5, -3)) / (60, 70, 80.5)
    expected = loaded.model(jt.array(pixels.transpose(2, 0, 1)[None].astype(np.float32))).numpy()[0].argmax(0)
    np.testing.assert_array_equal(Predictor(other.model)(image), expected)
    weights.save(tmp_path / "again.safetensors", *other)
    assert header(tmp_path / "again.safetensors")["std"] == "[60.0, 70.0, 80.5]"


@pytest.mark.parametrize("std", ["[1, 1]", "[1, 1, 0]", "[1, 1, NaN]", "[1, 1, 1e300]", "5", '["a", 1, 1]', "null"])
def test_a_normalisation_that_is_none_is_refused(std, trained, tmp_path):
    path = rewrite(tmp_path / "w.safetensors", trained, std=std)
    with pytest.raises(InputError, match=r"w\.safetensors: its mean .* and std .* are not three numbers each"):
        weights.load(path)
