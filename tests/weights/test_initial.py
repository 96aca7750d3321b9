"""Trainings that begin with weights: an imported backbone, or another training's."""

import hashlib
import json
import re

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from ccnet import InputError, weights
from ccnet.commands import settings, train
from ccnet.ops.batch_norm import BatchNorm
from ccnet.runtime import jt
from ccnet.settings import Settings
from ccnet.training.trainer import Trainer
from ccnet.weights import initial
from ccnet.weights.checkpoints import Checkpoint
from tests import tiny

SHA = "ab" * 32


@pytest.fixture
def imported(trained, tmp_path):
    """A van_tiny as if it had been imported, and its tensors; the SHA-256 of its source is SHA."""
    backbone = {name: value for name, value in load_file(trained.weights).items() if name.startswith("backbone.")}
    weights.save_backbone(tmp_path / "van.safetensors", backbone, "van_tiny", SHA)
    return tmp_path / "van.safetensors", backbone


def digest(path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def begun(path, class_names=tiny.CLASSES, **changes) -> Trainer:
    """A training that begins with a file of our own weights."""
    trainer = Trainer(tiny.settings(pretrained=digest(path), **changes), len(class_names))
    trainer.begin(None, path, class_names)
    return trainer


def batch(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (2, 3, 32, 32), np.uint8), rng.integers(0, 2, (2, 32, 32), np.uint8)


def test_a_training_begins_with_the_imported_backbone(imported, capsys):
    path, ours = imported
    trainer = Trainer(tiny.settings(pretrained=SHA), 4)
    scratch = weights.state_arrays(trainer.model)
    trainer.begin(None, path, tiny.CLASSES)
    values = weights.state_arrays(trainer.model)
    for name, value in values.items():
        np.testing.assert_array_equal(value, ours.get(name, scratch[name]), err_msg=name)
    head, *rows = capsys.readouterr().err.splitlines()
    assert head == f"ccnet: van_tiny begins with {path}"
    assert rows[0].startswith(f"  matched          {len(ours)}  backbone.")
    assert rows[2].startswith(f"  missing        {len(values) - len(ours):>5}  head.before.conv.weight, ")
    assert np.isfinite(trainer.step(*batch()))


def test_a_continued_training_keeps_what_it_has_learnt(imported, capsys):
    path, _ = imported
    trainer = Trainer(tiny.settings(pretrained=SHA), 4)
    learnt = trainer.checkpoint()
    trainer.begin(Checkpoint(5, learnt.tensors, [], []), path, tiny.CLASSES)
    assert trainer.done == 5
    now = weights.state_arrays(trainer.model)
    assert all((now[name] == learnt.tensors[f"model.{name}"]).all() for name in now)
    assert "matched" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("changes", "given", "said"),
    [
        ({"pretrained": "0" * 64}, True, f'its SHA-256 is "{SHA}", the settings\' "000'),
        ({"backbone": "van_small"}, True, 'its backbone is "van_tiny", the settings\' "van_small"'),
        ({}, False, "give their file with --pretrained"),
        ({"pretrained": None}, True, r"model\.pretrained is null"),
    ],
)
def test_a_training_takes_only_what_its_settings_name(imported, changes, given, said):
    trainer = Trainer(tiny.settings(**{"pretrained": SHA, **changes}), 4)
    with pytest.raises(InputError, match=said):
        trainer.begin(None, imported[0] if given else None, tiny.CLASSES)


@pytest.mark.parametrize(
    ("file", "ours", "said"),
    [
        ({"deep_stem": True}, {"deep_stem": False}, "its deep_stem is true, the settings' false"),
        ({"deep_stem": True, "stem_channels": 32}, {}, "its stem_channels is 32, the settings' 64"),
        ({"deep_stem": True}, {"stem_channels": 32}, "its stem_channels is 64, the settings' 32"),
        ({"deep_stem": True}, {"stem_channels": 64}, None),  # a file of an earlier version
    ],
)
def test_another_stem_is_refused(tmp_path, file, ours, said):
    path = tmp_path / "w.safetensors"
    weights.save_backbone(path, {}, "resnet18", SHA, **file)
    model = tiny.settings(backbone="resnet18", pretrained=SHA, **ours).model
    if said is None:
        initial.read(path).check(model)
        return
    with pytest.raises(InputError, match=said):
        initial.read(path).check(model)


def test_settings_name_the_file_and_have_the_width_of_its_stem(tmp_path):
    path, out = tmp_path / "w.safetensors", tmp_path / "settings.json"
    weights.save_backbone(path, {}, "resnet18", SHA, deep_stem=True, stem_channels=32)
    flat = tiny.flat(backbone="resnet18")
    settings.run(flat=flat, out=out, pretrained=path)
    model = Settings.read(out).model
    assert (model.pretrained, model.stem_channels) == (SHA, 32)
    with pytest.raises(InputError, match="its stem_channels is 32, the settings' 64; change"):
        settings.run(flat=flat | {"stem_channels": 64}, out=out, pretrained=path)
    with pytest.raises(InputError, match='its backbone is "resnet18", the settings\' "resnet34"'):
        settings.run(flat=flat | {"backbone": "resnet34"}, out=out, pretrained=path)


def test_all_of_a_network_is_taken_where_the_classes_are_the_same(trained, capsys):
    trainer = begun(trained.weights)
    for name, value in load_file(trained.weights).items():
        np.testing.assert_array_equal(weights.state_arrays(trainer.model)[name], value, err_msg=name)
    assert "classes:" not in capsys.readouterr().err


@pytest.mark.parametrize("names", [["wall", "door", "floor", "goat"], ["wall", "door"]])
def test_the_classifiers_begin_anew_where_the_classes_are_others(trained, names, capsys):
    scratch = weights.state_arrays(Trainer(tiny.settings(), len(names)).model)
    values = weights.state_arrays(begun(trained.weights, names).model)
    before = load_file(trained.weights)
    anew = {name for name in values if re.match(r"(auxiliary\.)?classifier\.", name)}
    assert len(anew) == 4
    for name, value in values.items():
        np.testing.assert_array_equal(value, scratch[name] if name in anew else before[name], err_msg=name)
    said = capsys.readouterr().err
    assert f"  matched        {len(values) - 4:>5}  " in said
    assert "  missing            4  " in said
    assert f"  classes: 4 (wall, door, floor, sheep) there, {len(names)} ({', '.join(names)}) here: the class" in said


def test_a_head_of_another_width_begins_anew_and_is_reported(trained, capsys):
    values = weights.state_arrays(begun(trained.weights, head_channels=24).model)
    before = load_file(trained.weights)
    assert all((values[name] == before[name]).all() for name in values if name.startswith("backbone."))
    assert values["head.before.conv.weight"].shape[0] == 24
    assert (values["head.attention.gamma"] == before["head.attention.gamma"]).all()
    assert "head.before.conv.weight (16, 480, 3, 3) where (24, 480, 3, 3) is needed" in capsys.readouterr().err


def test_a_checkpoint_will_do(trained, tmp_path):
    (checkpoint,) = trained.weights.parent.glob("checkpoints/*_step_00000024.safetensors")
    values = weights.state_arrays(begun(checkpoint).model)
    assert all((values[name] == value).all() for name, value in load_file(trained.weights).items())


def test_images_are_normalised_as_for_the_weights_also_after_a_resumption(trained, tmp_path):
    with safe_open(trained.weights, framework="numpy") as file:
        header = file.metadata() | {"mean": "[1.0, 2.5, -3.0]", "std": "[60.0, 70.0, 80.5]"}
    save_file(load_file(trained.weights), tmp_path / "other.safetensors", header)
    run = {
        "shards": trained.shards, "checkpoints": tmp_path / "checkpoints", "out": tmp_path / "w.safetensors",
        "history": tmp_path / "h.csv", "pretrained": tmp_path / "other.safetensors", "workers": 0, "device": "cpu",
    }  # fmt: skip
    chosen = tmp_path / "settings.json"
    chosen.write_text(json.dumps(tiny.settings(steps=2, pretrained=digest(run["pretrained"])).as_dict()))
    for _ in range(2):  # the second is finished already
        train.run(settings=chosen, **run)
        loaded = weights.load(tmp_path / "w.safetensors").model
        assert (loaded.mean, loaded.std) == ((1, 2.5, -3), (60, 70, 80.5))
    (checkpoint,) = (tmp_path / "checkpoints").glob("*.safetensors")
    assert weights.load(checkpoint).model.mean == (1, 2.5, -3)


def statistics(trainer: Trainer) -> dict[str, np.ndarray]:
    return {name: value for name, value in weights.state_arrays(trainer.model).items() if "running_" in name}


@pytest.mark.parametrize("backbone", ["van_tiny", "resnet18"])
def test_frozen_norms_keep_their_statistics_and_learn_all_else(backbone, tmp_path):
    changes = {"backbone": backbone, "optimizer": "sgd", "learning_rate": 0.01}
    path = saved(tmp_path, **changes)
    trainer = begun(path, **changes, frozen_norms=True)
    before = weights.state_arrays(trainer.model)
    for step in range(3):
        assert np.isfinite(trainer.step(*batch(step)))
    after = weights.state_arrays(trainer.model)
    for name, value in before.items():
        if not name.endswith("key_conv.bias"):  # softmax ignores it, so that its gradient is rounding error
            assert np.array_equal(value, after[name]) == ("running_" in name), name
    for name, value in statistics(trainer).items():
        assert value.tobytes() == before[name].tobytes(), name


def saved(folder, **changes):
    """Weights with telling statistics: those of one training step."""
    trainer = Trainer(tiny.settings(**changes), 4)
    for value in trainer.model.parameters():
        if tuple(value.shape) == (1,):  # gamma, from 0
            value.assign(jt.ones(1))
    trainer.step(*batch(9))
    weights.save(folder / "w.safetensors", weights.Weights(trainer.model, trainer.settings, tiny.CLASSES, tiny.PALETTE))
    return folder / "w.safetensors"


def test_norms_that_got_no_statistics_are_not_frozen(imported):
    path, ours = imported
    trainer = Trainer(tiny.settings(pretrained=SHA, frozen_norms=True), 4)
    trainer.begin(None, path, tiny.CLASSES)
    before = statistics(trainer)
    trainer.step(*batch())
    for name, value in statistics(trainer).items():
        assert np.array_equal(value, before[name]) == (name in ours), name


def test_a_resumed_training_freezes_the_same_norms(trained):
    trainer = Trainer(tiny.settings(pretrained=digest(trained.weights), frozen_norms=True), 4)
    trainer.begin(trainer.checkpoint(), trained.weights, tiny.CLASSES)
    norms = [part for part in trainer.model.modules() if isinstance(part, BatchNorm)]
    assert norms
    assert all(part.frozen for part in norms)


def test_damaged_pretrained_weights_are_one_line(tmp_path):
    save_file({"x": np.zeros(2)}, tmp_path / "w.safetensors", {"part": '"backbone"', "backbone": '"van_tiny"'})
    with pytest.raises(InputError, match=r"w\.safetensors: damaged: no SHA-256 of its source; import it again"):
        initial.read(tmp_path / "w.safetensors")
    with pytest.raises(InputError, match="not a readable weights file"):
        initial.read(tmp_path / "missing.safetensors")
