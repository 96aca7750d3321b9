"""The scripts of docs/claims, cut short."""

import csv
import importlib
import sys
from pathlib import Path

import numpy as np
import pytest

from ccnet.runtime import jt

CLAIMS = Path(__file__).parents[1] / "docs/claims"


@pytest.fixture
def claim(monkeypatch):
    """Import a script by its name."""
    monkeypatch.syspath_prepend(CLAIMS)
    yield importlib.import_module
    for name in CLAIMS.glob("*.py"):
        sys.modules.pop(name.stem, None)


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_no_white_pixel_sees_the_cue(claim):
    far_context = claim("far_context")
    images, labels, placements = far_context.draw(np.random.default_rng(3), 60)
    for image, label, placement in zip(images, labels, placements, strict=True):
        white = label != 255
        colour = image.sum((1, 2)).argmax()
        assert set(label[white]) == {colour}
        assert image[:, white].all()
        cue = np.argwhere(image[colour] > image.min(0))
        apart = np.abs(np.argwhere(white)[:, None] - cue).min(1)  # per white pixel: rows and columns to the cue
        assert (apart.max(1) > 2).all()  # outside the 5 × 5 pixels that two 3×3 convolutions see
        assert ((apart > 2).all(1) == placement[white]).all()
        assert [int((placement[white] == part).sum()) for part in (0, 1)] == [far_context.OBJECTS] * 2


@pytest.mark.parametrize(
    ("head", "reached"),
    {"R = 0": [], "R = 1": ["in the cross"], "R = 2": ["in the cross", "elsewhere"],
     "non-local": ["in the cross", "elsewhere"]}.items(),
)  # fmt: skip
def test_where_the_cue_reaches(claim, head, reached):
    """An untrained network's logits at white pixels, for two images that differ in the cue's colour alone."""
    far_context = claim("far_context")
    network = far_context.Network(*far_context.HEADS[head])
    network.attention.gamma.assign(jt.ones(1))
    network.eval()
    images, labels, placements = far_context.draw(np.random.default_rng(3), 12)
    with jt.no_grad():
        first, second = (network(jt.array(np.ascontiguousarray(each))).numpy() for each in (images, images[:, ::-1]))
    changed = np.abs(first - second).max(1) > 1e-7
    for number, name in enumerate(far_context.PLACEMENTS):
        at = changed[(labels % 2 == 0) & (placements == number)]  # the middle colour stays when colours are reversed
        assert at.mean() > 0.9 if name in reached else not at.any()


def keep(monkeypatch, script, *heads: str) -> None:
    monkeypatch.setattr(script, "HEADS", {name: script.HEADS[name] for name in heads})


def test_far_context(claim, tmp_path, monkeypatch):
    far_context = claim("far_context")
    keep(monkeypatch, far_context, "R = 1", "non-local")
    far_context.main(tmp_path, seeds=(1,), steps=20)
    found = {(row["head"], row["placement"]): float(row["accuracy"]) for row in table(tmp_path / "far_context.csv")}
    assert found.keys() == {(head, place) for head in far_context.HEADS for place in far_context.PLACEMENTS}
    assert all(0 <= accuracy <= 1 for accuracy in found.values())
    assert "non-local" in (tmp_path / "far_context.svg").read_text()
