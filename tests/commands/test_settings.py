import json

import pytest

from ccnet import InputError
from ccnet.commands import settings
from ccnet.settings import Settings
from tests import tiny


def test_hyperparameters_become_settings_json(tmp_path):
    chosen = tiny.settings()
    flat = {("optimizer" if g == "optimizer" and k == "name" else "loss" if k == "name" else k): v
            for g, group in chosen.as_dict().items() if isinstance(group, dict) for k, v in group.items()}  # fmt: skip
    settings.run(flat={**flat, "seed": chosen.seed}, out=tmp_path / "settings.json")
    assert Settings.read(tmp_path / "settings.json") == chosen
    assert json.loads((tmp_path / "settings.json").read_text()) == chosen.as_dict()


def test_a_wrong_value_leaves_the_old_file(tmp_path):
    (tmp_path / "settings.json").write_text("old")
    with pytest.raises(InputError, match="unknown key"):
        settings.run(flat={"stepps": 1}, out=tmp_path / "settings.json")
    assert (tmp_path / "settings.json").read_text() == "old"
