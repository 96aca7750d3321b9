"""The README's examples in Python, run as they stand."""

import re
import shutil
from pathlib import Path

from PIL import Image

from ccnet.runtime import jt
from tests import tiny

USE, BUILD = re.findall(r"```python\n(.*?)```", (Path(__file__).parents[1] / "README.md").read_text(), re.DOTALL)


def test_trained_weights_label_a_photo(trained: tiny.Trained, tmp_path, monkeypatch):
    run = tmp_path / "results/streets/van_tiny"
    run.mkdir(parents=True)
    shutil.copy(trained.weights, run)
    Image.fromarray(tiny.draw(1)[0]).save(tmp_path / "photo.jpg")
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    exec(USE, names)
    assert names["classes"].shape == tiny.draw(1)[1].shape
    assert names["classes"].max() < len(names["model"].class_names) == len(names["probabilities"])


def test_an_untrained_network_gives_logits():
    names: dict = {}
    exec(BUILD, names)
    assert names["network"](jt.zeros((1, 3, 32, 32))).shape[1:] == [19, 32, 32]
