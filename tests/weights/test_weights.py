import json
import os
import pickle
import re
import shutil
import struct

import numpy as np
import pytest
from PIL import Image
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from ccnet import InputError, weights
from ccnet.commands import evaluate, segment
from ccnet.files import sha256
from ccnet.ops.normalise import normalise
from ccnet.predictor import Predictor
from ccnet.runtime import jt
from ccnet.weights import checkpoints
from ccnet.weights.checkpoints import Checkpoint, Checkpoints
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
    weights.save(tmp_path / "again.safetensors", loaded)
    again = weights.load(tmp_path / "again.safetensors")
    image = normalise(jt.array(tiny.draw(9)[0].transpose(2, 0, 1)[None].copy()))
    np.testing.assert_array_equal(again.model(image).numpy(), loaded.model(image).numpy())
    assert header(tmp_path / "again.safetensors") == header(trained.weights)


def test_how_they_were_trained_is_in_their_header(loaded, tmp_path):
    made = {"commit": None, "seconds": 1.5, "versions": {"python": "3.12"}}
    for training in (made, None):
        weights.save(tmp_path / "w.safetensors", loaded._replace(training=training))
        assert ("training" in header(tmp_path / "w.safetensors")) == bool(training)
        assert weights.load(tmp_path / "w.safetensors").training == training


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


@pytest.mark.parametrize("make", [garbage, empty, pickled, truncated, huge_header, missing])
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


def integers(tensors):
    return tensors | {"classifier.conv.bias": np.zeros(4, np.int32)}


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
        ({"class_names": '["a", "b"]', "palette": "[[1, 2, 3], [4, 5, 6]]"}, "classifier.conv"),
        ({"class_names": "5"}, "class_names: 5: input should be a valid array"),
        ({"class_names": "[]"}, "class_names: []: list should have at least 1 item"),
        ({"class_names": "[1, 2, 3, 4]"}, "class_names.0: 1: input should be a valid string"),
        ({"palette": "[[1, 2, 3]]"}, "4 class_names but 1 colours"),
        ({"palette": "[[1, 2, 300], [1, 2, 3], [1, 2, 3], [1, 2, 3]]"}, "palette.0.2: 300: input should be less than"),
        ({"palette": '[[1, 2, "3"], [1, 2, 3], [1, 2, 3], [1, 2, 3]]'}, 'palette.0.2: "3": input should be a valid'),
        ({"palette": "[" * 100_000}, "safetensors of another program"),
        ({"change": integers}, "does not fit the network its settings describe: classifier.conv.bias"),
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
        weights.save(path, loaded)
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
    weights.save(tmp_path / "again.safetensors", other)
    assert header(tmp_path / "again.safetensors")["std"] == "[60.0, 70.0, 80.5]"


@pytest.mark.parametrize("std", ["[1, 1]", "[1, 1, 0]", "[1, 1, NaN]", "[1, 1, 1e300]", "5", '["a", 1, 1]', "null"])
def test_a_normalisation_that_is_none_is_refused(std, trained, tmp_path):
    path = rewrite(tmp_path / "w.safetensors", trained, std=std)
    with pytest.raises(InputError, match=r"w\.safetensors: std.*: (input should|field required)"):
        weights.load(path)


def checkpoints_in(run, made: dict[str, int]) -> None:
    """Checkpoints by name, each with the time at which it was last changed."""
    with Checkpoints(run / "checkpoints", "x") as store:
        store.save(Checkpoint(1, {}, [], []))
    saved = run / "checkpoints/x_step_00000001.safetensors"
    for name, seconds in made.items():
        shutil.copy(saved, run / "checkpoints" / name)
        os.utime(run / "checkpoints" / name, (seconds, seconds))
    saved.unlink()


@pytest.mark.parametrize(
    ("made", "newest"),
    [
        ({"a_step_00000009.safetensors": 5, "a_step_00000010.safetensors": 5}, "a_step_00000010.safetensors"),
        ({"a_step_00000009.safetensors": 6, "a_step_00000010.safetensors": 5}, "a_step_00000010.safetensors"),
        ({"a_step_00000900.safetensors": 5, "b_step_00000010.safetensors": 6}, "b_step_00000010.safetensors"),
        ({"a_step_00000001.safetensors": 5, ".a_step_00000002.12ab.safetensors": 6, "lock": 7},
         "a_step_00000001.safetensors"),
    ],
    ids=["most steps", "copied out of order", "of the last settings", "not what is being written"],
)  # fmt: skip
def test_a_run_that_is_not_finished_means_its_newest_checkpoint(tmp_path, made, newest):
    checkpoints_in(tmp_path, made)
    assert weights.located(tmp_path) == tmp_path / "checkpoints" / newest
    (tmp_path / "weights.safetensors").touch()
    assert weights.located(tmp_path) == tmp_path / "weights.safetensors"


def test_a_folder_that_is_no_run_is_one_line(tmp_path):
    with pytest.raises(InputError, match=rf"^{re.escape(str(tmp_path))}: a folder without weights\.safetensors and"):
        weights.load(tmp_path)


def test_a_checkpoint_is_as_good_as_the_weights(trained, loaded, capsys):
    last = weights.load(checkpoints.newest(trained.weights.parent / "checkpoints"))
    assert capsys.readouterr().err.endswith("step_00000024.safetensors: a checkpoint, of step 24\n")
    assert last[1:] == loaded._replace(training=None)[1:]  # a checkpoint does not say how it was made
    for name, value in weights.state_arrays(loaded.model).items():
        np.testing.assert_array_equal(weights.state_arrays(last.model)[name], value, err_msg=name)


def test_a_damaged_checkpoint_is_not_predicted_with(trained, tmp_path, capsys):
    shutil.copytree(trained.weights.parent / "checkpoints", tmp_path / "checkpoints")
    (whole,) = (tmp_path / "checkpoints").glob("*.safetensors")
    damaged = whole.with_name(whole.name.replace("step_00000024", "step_00000025"))
    data = bytearray(whole.read_bytes())
    data[-3] ^= 1
    damaged.write_bytes(data)
    assert weights.located(tmp_path) == whole
    assert f"{damaged}: damaged: its contents do not match its checksum: passed over" in capsys.readouterr().err
    with pytest.raises(InputError, match=r"damaged: its contents do not match its checksum$"):
        weights.load(damaged)


def test_a_checkpoint_without_a_description_is_one_line(tmp_path):
    with Checkpoints(tmp_path, "a") as store:
        store.save(Checkpoint(1, {}, [], []))
    with pytest.raises(InputError, match="no 'settings' in its header"):
        weights.load(tmp_path / "a_step_00000001.safetensors")


@pytest.fixture(scope="module")
def interrupted(trained, tmp_path_factory):
    """The folder of a run that was stopped: its checkpoints, and no weights."""
    run = tmp_path_factory.mktemp("interrupted")
    shutil.copytree(trained.weights.parent / "checkpoints", run / "checkpoints")
    return run


def test_an_interrupted_run_is_evaluated_by_its_folder(trained, interrupted, tmp_path):
    shard = tiny.shard(tmp_path / "val.h5", range(90, 92), split="val")
    for given, out in ((interrupted, "a.json"), (trained.weights, "b.json")):
        evaluate.run(weights_file=given, shards=[shard], out=tmp_path / out, device="cpu")
    a, b = (json.loads((tmp_path / name).read_text()) for name in ("a.json", "b.json"))
    assert a["confusion"] == b["confusion"]
    assert a["protocol"]["weights_sha256"] == sha256(checkpoints.newest(interrupted / "checkpoints"))


def test_an_interrupted_run_segments_by_its_folder(interrupted, tmp_path):
    (tmp_path / "photos").mkdir()
    Image.fromarray(tiny.draw(9)[0]).save(tmp_path / "photos/a.png")
    segment.run(inputs=[tmp_path / "photos"], weights_file=interrupted, out=tmp_path / "out", device="cpu")
    assert "a.png,ok" in (tmp_path / "out/index.csv").read_text()
