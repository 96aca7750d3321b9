"""Datasets of the user's own: their names, and what is done with a test split."""

import html
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ccnet import weights
from tests import tiny
from tests.workflow.conftest import Workplace

RUNS = ("resnet18", "van_tiny")


def test_a_test_split_is_prepared_and_measured(workplace: Workplace):
    (workplace.folder / "with_test").touch()
    before = workplace.jobs("evaluate")
    assert not [job for job in before if "test" in job]  # not known before the dataset is here
    assert workplace.snakemake("evaluate").returncode == 0
    calls, streets = workplace.calls(), "results/streets"
    shard = f"{streets}/shards/test-0-of-1.h5"
    assert (
        f"end prepare {streets}/source/index.json --split test --shard 0 --of 1 --on-bad-pair fail --out {shard}"
        in calls
    )
    assert any(call.startswith("end verify ") and f" {shard} " in call for call in calls)
    assert not any(call.startswith("end train ") and shard in call for call in calls)
    for run in RUNS:
        measured = (
            f"--weights {streets}/{run}/weights.safetensors --shards {shard} --out {streets}/{run}/metrics_test.json"
        )
        assert f"end evaluate {measured} --device auto" in calls
    assert workplace.jobs("evaluate") == set()
    assert "write_report" in workplace.jobs()
    assert workplace.snakemake().returncode == 0
    assert any("--protocols test --folders photos --out " in call for call in workplace.calls())
    overlay = workplace.overlay("dataset: {on_bad_pair: skip}")
    (workplace.folder / "with_test").unlink()
    (workplace.folder / streets / "source/index.json").unlink()
    done = workplace.snakemake(overlays=(overlay,))
    assert "van_tiny: mIoU 0.5000\n" in done.stdout  # not that on the test split, which is gone


def test_without_a_test_split_nothing_is_measured_on_it(finished: Workplace):
    assert not [call for call in finished.calls() if "test" in call]
    assert finished.jobs() == set()


@pytest.fixture
def two_sets(tmp_path: Path) -> Workplace:
    """Two datasets: `coloured` (RGBA, unsplit but for a list of test images) and `valued` (values 40 and up, split)."""
    table = ["name,red,green,blue,value"]
    table += [
        f"{name},{','.join(map(str, colour))},{40 + place}" for place, (name, colour) in enumerate(CLASSES.items())
    ]
    for number in range(12):
        image, label = tiny.draw(number)
        colours = np.array([*CLASSES.values(), (0, 0, 0)])[np.minimum(label, 4)].astype(np.uint8)
        place = f"{'val' if number % 3 == 0 else 'train'}/{number}.png"
        for path, pixels in {
            f"coloured/images/{number}.png": image,
            f"coloured/labels/{number}_mask.png": np.dstack([colours, np.full(label.shape, 255, np.uint8)]),
            f"valued/images/{place}": image,
            f"valued/labels/{place}": np.where(label == 255, 7, label + 40).astype(np.uint8),
        }.items():
            (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(tmp_path / path)
    colours_only = [row.rpartition(",")[0] for row in table]
    (tmp_path / "coloured/classes.csv").write_text("\n".join([*colours_only, "ignore,0,0,0"]))
    (tmp_path / "coloured/test.txt").write_text("3.png\n5\n")
    (tmp_path / "valued/classes.csv").write_text("\n".join([*table, "ignore,,,,7"]))
    return Workplace(tmp_path)


CLASSES = dict(zip(tiny.CLASSES, map(tuple, tiny.PALETTE), strict=True))
TRAINING = """
training: {steps: 2, warmup_steps: 0, batch_size: 2, crop_size: 32}
runs: {resnet18: null, van_tiny: {head_channels: 16}}
segment: {photos: null}
workers: 0
"""


def pixels_of(workplace: Workplace, *arguments: str) -> list[int]:
    """The pixels of each class in train, after `snakemake prepare` of the set `valued`."""
    overlay = workplace.overlay(
        f"dataset: {{name: rooms, layout: folder, source: valued, classes: names.csv}}{TRAINING}"
    )
    done = workplace.snakemake("prepare", *arguments, overlays=(overlay,))
    assert done.returncode == 0, done.stderr
    return json.loads((workplace.folder / "results/rooms/labels.json").read_text())["splits"]["train"]["pixels"]


def test_labels_that_are_edited_are_prepared_again_if_it_is_asked_for(two_sets: Workplace):
    (two_sets.folder / "valued/classes.csv").rename(two_sets.folder / "names.csv")
    before = pixels_of(two_sets)
    for path in (two_sets.folder / "valued/labels/train").iterdir():
        Image.fromarray(np.full((40, 48), 41, np.uint8)).save(path)
    assert pixels_of(two_sets, "-R", "fetch_dataset") == [0, sum(before) + before_ignored(two_sets), 0, 0]


def before_ignored(workplace: Workplace) -> int:
    return len(list((workplace.folder / "valued/labels/train").iterdir()))  # one pixel of each drawn label map


def test_a_class_file_that_is_edited_is_noticed(two_sets: Workplace):
    (two_sets.folder / "valued/classes.csv").rename(two_sets.folder / "names.csv")
    before, names = pixels_of(two_sets), two_sets.folder / "names.csv"
    names.write_text(names.read_text().replace(",40\n", ",0\n").replace(",41\n", ",40\n").replace(",0\n", ",41\n"))
    assert pixels_of(two_sets) == [before[1], before[0], *before[2:]]


def score(workplace: Workplace) -> str:
    metrics = workplace.folder / "results/facades/van_tiny/metrics_test.json"
    return format(json.loads(metrics.read_text())["mean_iou"], ".4f")


@pytest.mark.slow
def test_two_sets_stand_side_by_side(two_sets: Workplace):
    coloured = two_sets.overlay(
        f"dataset: {{name: facades, layout: folder, source: coloured, val_share: 0.4}}\n{TRAINING}"
    )
    done = two_sets.snakemake(overlays=(coloured,))
    assert done.returncode == 0, done.stderr
    assert "X is paired with X_mask (dataset.image_ending and label_ending)" in done.stdout + done.stderr
    assert f"on the test split {score(two_sets)}" in done.stdout
    valued = two_sets.overlay(f"dataset: {{name: my.rooms, layout: folder, source: valued}}{TRAINING}")
    done = two_sets.snakemake("prepare", overlays=(valued,))
    assert done.returncode == 0, done.stderr

    facades, rooms = (two_sets.folder / "results" / name for name in ("facades", "my.rooms"))
    described, other = (json.loads((folder / "labels.json").read_text()) for folder in (facades, rooms))
    assert described["dataset"] == "facades"
    division = "test.txt; train: the images in no list, val_share 0.4 of the images by the SHA-256 of their names"
    assert described["splitting"] == division
    assert other["splitting"] is None
    assert described["palette"] == other["palette"] == tiny.PALETTE
    assert sum(split["images"] for split in described["splits"].values()) == 12
    assert [described["splits"]["test"]["images"], other["splits"]["val"]["images"]] == [2, 4]
    pixels = [np.sum([split["pixels"] for split in each["splits"].values()], axis=0) for each in (described, other)]
    assert pixels[0].tolist() == pixels[1].tolist()

    assert weights.load(facades / "van_tiny").dataset == "facades"
    tested = json.loads((facades / "van_tiny/metrics_test.json").read_text())
    assert (tested["protocol"]["split"], tested["protocol"]["images"]) == ("test", 2)
    page = html.unescape((facades / "report.html").read_text())
    assert "<h1>facades</h1>" in page
    assert "The test split. Images at their own size, whole" in page
