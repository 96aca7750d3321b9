import json
import math
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from ccnet import InputError
from ccnet.settings import Settings, hyperparameters

FLAT = {
    "backbone": "resnet18", "head": "rcca", "recurrence": 2, "output_stride": None, "fusion": None, "deep_stem": True,
    "stem_channels": None, "multi_grid": False, "contract_dilation": True, "head_channels": None,
    "auxiliary_channels": None, "align_corners": False, "negative_slope": 0.0, "dropout": 0.1, "drop_path": 0.0,
    "pretrained": None, "frozen_norms": False,
    "optimizer": "sgd", "learning_rate": 0.01, "momentum": 0.9, "weight_decay": 5e-4, "steps": 4, "warmup_steps": 1,
    "power": 0.9, "final_learning_rate": 0.0, "batch_size": 2, "crop_size": 64, "resize": None, "scale": [0.5, 2.0],
    "flip": True, "photometric": True, "max_class_share": 0.75, "loss": "cross_entropy", "ohem_threshold": 0.6,
    "ohem_keep": 100, "accumulate": 1, "auxiliary_weight": 0.4, "category_consistency": 0, "seed": 0,
    "clip_norm": None, "ema": 0.0, "class_weights": None, "validate_every": 5, "validate_images": None, "keep": "last",
    "patience": None,
}  # fmt: skip


def test_flat_names_find_their_groups():
    settings = Settings.from_flat(FLAT)
    assert settings.optimizer.name == "sgd"
    assert settings.data.scale == [0.5, 2.0]
    assert set(FLAT) == set(hyperparameters())


def test_round_trip_through_a_file(tmp_path):
    path = tmp_path / "settings.json"
    settings = Settings.from_flat(FLAT)
    path.write_text(json.dumps(settings.as_dict()))
    assert Settings.read(path) == settings


@pytest.mark.parametrize("change", ["optimizer.learning_rate=0.02", "learning_rate=0.02"])
def test_set_changes_a_hyperparameter_by_address_or_name(tmp_path, change):
    path = tmp_path / "settings.json"
    path.write_text(json.dumps(Settings.from_flat(FLAT).as_dict()))
    changed = Settings.read(path, [change])
    assert changed.optimizer.learning_rate == 0.02
    assert changed.fingerprint() != Settings.read(path).fingerprint()


@pytest.mark.parametrize(
    ("key", "value", "names"),
    [
        ("learning_rate", -1, ["optimizer.learning_rate", "-1", "greater than 0"]),
        ("backbone", "resnet19", ["model.backbone", "resnet19", "van_tiny"]),
        ("steps", "many", ["schedule.steps", "many", "integer"]),
        ("flip", 1, ["data.flip", "boolean"]),
        ("learnig_rate", 0.1, ["learnig_rate"]),
        ("scale", [1.0], ["data.scale"]),
        ("scale", [2.0, 0.5], ["data.scale", "[2.0, 0.5]", "the smallest should come first"]),
        ("clip_norm", math.inf, ["optimizer.clip_norm", "Infinity", "finite"]),
        ("final_learning_rate", math.inf, ["schedule.final_learning_rate", "Infinity", "finite"]),
        ("pretrained", "short", ["model.pretrained", "short"]),
    ],
)
def test_a_wrong_value_is_named_with_what_is_allowed(key, value, names):
    with pytest.raises(InputError) as caught:
        Settings.from_flat({**FLAT, key: value})
    assert all(name in str(caught.value) for name in names), str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "message"),
    {
        "optimizer.learning_rat=10": "optimizer.learning_rat: unknown key; did you mean 'optimizer.learning_rate'?",
        "learning_rat=10": "learning_rat: unknown key; did you mean 'learning_rate'?",
        "optimiser.learning_rate=1": "optimiser: unknown key; did you mean 'optimizer'?",
        "data.optimizer=sgd": "data.optimizer: unknown key; did you mean ",
    }.items(),
)
def test_a_key_that_is_not_known_comes_with_a_suggestion(tmp_path, change, message):
    path = tmp_path / "settings.json"
    path.write_text(json.dumps(Settings.from_flat(FLAT).as_dict()))
    with pytest.raises(InputError, match=rf"settings\.json: {re.escape(message)}"):
        Settings.read(path, [change])


def test_set_refuses_a_group_that_is_a_value(tmp_path):
    path = tmp_path / "settings.json"
    path.write_text(json.dumps(Settings.from_flat(FLAT).as_dict()))
    with pytest.raises(InputError, match=r"seed\.x"):
        Settings.read(path, ["seed.x=1"])


@pytest.mark.parametrize(("steps", "warns"), [(40, True), (41, False)])
def test_a_warm_up_that_never_ends_is_warned_of(steps, warns):
    warning = Settings.from_flat({**FLAT, "steps": steps, "warmup_steps": 40}).warning()
    assert (warning or "").startswith("steps 40 is not above warmup_steps 40: " if warns else "")
    assert bool(warning) == warns


@pytest.mark.parametrize(("final", "warns"), [(FLAT["learning_rate"], False), (2 * FLAT["learning_rate"], True)])
def test_a_rate_that_rises_to_the_end_is_warned_of(final, warns):
    warning = Settings.from_flat({**FLAT, "final_learning_rate": final}).warning()
    assert (warning or "").startswith("final_learning_rate is above learning_rate" if warns else "")
    assert bool(warning) == warns


@pytest.mark.parametrize(("source", "warns"), [(None, True), ("ab" * 32, False)])
def test_norms_without_statistics_to_keep_are_warned_of(source, warns):
    warning = Settings.from_flat({**FLAT, "frozen_norms": True, "pretrained": source}).warning()
    assert (warning or "").startswith("frozen_norms has no effect without pretrained" if warns else "")
    assert bool(warning) == warns


def test_settings_of_earlier_versions_have_the_networks_of_then():
    younger = ("stem_channels", "auxiliary_channels", "frozen_norms")
    before = {key: value for key, value in FLAT.items() if key not in younger}
    assert Settings.from_flat(before) == Settings.from_flat(FLAT)


def test_a_missing_value_is_named():
    with pytest.raises(InputError, match=r"loss\.auxiliary_weight"):
        Settings.from_flat({key: value for key, value in FLAT.items() if key != "auxiliary_weight"})


@pytest.mark.parametrize("text", ["{", "[]"])
def test_an_unreadable_file_is_named(tmp_path, text):
    (tmp_path / "settings.json").write_text(text)
    with pytest.raises(InputError, match=r"settings\.json"):
        Settings.read(tmp_path / "settings.json", ["steps=3"])


@given(st.permutations(sorted(FLAT)))
def test_the_fingerprint_does_not_depend_on_the_order(keys):
    shuffled = Settings.from_flat({name: FLAT[name] for name in keys})
    assert shuffled.fingerprint() == Settings.from_flat(FLAT).fingerprint()


OTHER = {
    "backbone": "van_tiny", "head": "non_local", "output_stride": 8, "fusion": True, "head_channels": 8,
    "stem_channels": 32, "auxiliary_channels": 8,
    "pretrained": "0" * 64, "optimizer": "adamw", "resize": [64, 32], "scale": [1.0, 1.0], "loss": "ohem",
    "clip_norm": 1.0, "class_weights": "median_frequency", "validate_images": 3, "keep": "best", "patience": 2,
}  # fmt: skip


@pytest.mark.parametrize("key", sorted(FLAT))
def test_the_fingerprint_depends_on_every_value(key):
    value = FLAT[key]
    number = value + 1 if isinstance(value, int) else value / 3 + 0.1 if isinstance(value, float) else None
    other = OTHER.get(key, (not value) if isinstance(value, bool) else number)
    changed = Settings.from_flat(FLAT | {key: other})
    assert changed.fingerprint() != Settings.from_flat(FLAT).fingerprint()


WORKFLOW = Path(__file__).parents[1] / "workflow"
Validator = runpy.run_path(str(WORKFLOW / "rules/validation.py"))["Validator"]
SCHEMA = yaml.safe_load((WORKFLOW / "schemas/config.schema.yaml").read_text())
PROBES = [
    -1, 0, 1, 2, 5, 6, 8, 10, 16, 31, 32, 64, 2**31, 0.5, 1.5, 10.5, -0.5, "x", "", True, None,
    2.0, [0.5, 2.0], [1.0], [512, 2048], [512.0, 2048], [2048, 16], "0" * 64,
]  # fmt: skip


def test_the_configs_schema_is_the_generated_one(tmp_path):
    committed, written = WORKFLOW / "schemas/config.schema.yaml", tmp_path / "config.schema.yaml"
    written.write_text(committed.read_text())
    subprocess.run([sys.executable, WORKFLOW / "schemas/generate.py", written], check=True)
    assert written.read_text() == committed.read_text(), "run `make schema`"


def test_the_configs_schema_allows_exactly_what_settings_allow():
    declared = SCHEMA["$defs"]["hyperparameters"]["properties"]
    assert {*declared, "backbone"} == set(hyperparameters())
    for key in set(declared) - {"pretrained"}:  # of pretrained weights the config says where, the settings what
        validator = Validator(declared[key])
        for probe in [*PROBES, *hyperparameters()[key].get("enum", [])]:
            try:
                Settings.from_flat({**FLAT, key: probe})
                allowed = True
            except InputError:
                allowed = False
            assert validator.is_valid(probe) == allowed, f"{key}: {probe!r}"
