"""A folder of somebody's own, with all that can be wrong with pairs: the gate before training."""

import html
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from tests import tiny
from tests.workflow.conftest import Workplace


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-300])


# What is done to a pair's image or label map, and what the gate says of it.
HARM: dict[str, tuple[str, Callable[[Path], object], str]] = {
    "cut": ("images", truncate, "cannot be decoded (image file is truncated"),
    "empty": ("images", lambda path: path.write_bytes(b""), "the file is empty"),
    "small": ("labels", lambda path: Image.new("L", (9, 7)).save(path), "is 48×40, its label"),
    "coloured": ("labels", lambda path: Image.new("RGB", (48, 40)).save(path), "this one is RGB"),
    "deep": ("labels", lambda path: Image.new("I;16", (48, 40), 700).save(path), "label values 700 are not among"),
    "foreign": ("labels", lambda path: Image.new("L", (48, 40), 200).save(path), "label values 200 are not among"),
    "lonely": ("labels", lambda path: path.unlink(), "there is no such label map"),
    "lost": ("images", lambda path: path.unlink(), "there is no such image"),
}
GOOD = {"train": ["二 号 街", "好 的 图片", "good"], "val": ["a", "z"]}
SUFFIX = {"images": "jpg", "labels": "png"}


@pytest.fixture
def workplace(tmp_path: Path) -> Workplace:
    """A folder dataset whose train split holds three good pairs and each kind of bad one; val lacks an image."""
    bad = {"train": [name for name in HARM if name != "lost"], "val": ["lost"]}
    for split, names in bad.items():
        for seed, name in enumerate(names + GOOD[split]):
            for kind, pixels in zip(SUFFIX, tiny.draw(seed), strict=True):
                path = tmp_path / "mine" / kind / split / f"{name}.{SUFFIX[kind]}"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(pixels).save(path)
        for name in names:
            kind, harm, _ = HARM[name]
            harm(tmp_path / "mine" / kind / split / f"{name}.{SUFFIX[kind]}")
    (tmp_path / "mine/classes.txt").write_text("\n".join(tiny.CLASSES))
    return Workplace(tmp_path)


def overlay(workplace: Workplace, on_bad_pair: str) -> Path:
    return workplace.overlay(f"""
        dataset: {{name: folder, source: mine, on_bad_pair: {on_bad_pair}}}
        training: {{steps: 2, warmup_steps: 0, batch_size: 2, crop_size: 32}}
        runs: {{resnet18: null, van_tiny: {{head_channels: 16}}}}
    """)


def test_all_bad_pairs_are_listed_at_once(workplace: Workplace):
    done = workplace.snakemake("train", "--set-threads", "prepare_shard=8", overlays=(overlay(workplace, "fail"),))
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    for name, (kind, _, reason) in HARM.items():
        (line,) = {line.strip() for line in done.stderr.splitlines() if f"/{name}." in line}
        assert f"mine/{kind}/" in line
        assert reason in line
    assert not any(f"/{name}." in done.stderr for names in GOOD.values() for name in names)
    assert not (workplace.folder / "results/folder/labels.json").exists()


@pytest.mark.slow
def test_the_rest_is_trained_on_and_the_report_says_what_was_skipped(workplace: Workplace):
    files = (overlay(workplace, "skip"),)
    done = workplace.snakemake(overlays=files)
    assert done.returncode == 0, done.stderr
    results = workplace.folder / "results/folder"
    splits = json.loads((results / "labels.json").read_text())["splits"]
    skipped = {pair["name"]: pair["reason"] for split in splits.values() for pair in split["skipped"]}
    assert {name: reason in skipped[name] for name, (*_, reason) in HARM.items()} == dict.fromkeys(HARM, True)
    assert [splits[split]["images"] for split in GOOD] == [3, 2]
    assert json.loads((results / "van_tiny/metrics.json").read_text())["protocol"]["images"] == 2
    page = html.unescape((results / "report.html").read_text())
    assert "7 of 10 pairs of train were skipped" in page
    assert "1 of 3 pairs of val were skipped" in page
    assert all(f">{name}</th><td>{reason}</td>" in page for name, reason in skipped.items())
    assert workplace.jobs(overlays=files) == set()
