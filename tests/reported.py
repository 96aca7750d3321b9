"""A small dataset and runs on it, as the report reads them."""

import csv
import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ccnet.commands import report
from ccnet.data.catalog import DATASETS
from ccnet.data.shards import Record, write_shard
from ccnet.results import Efficiency
from tests.page.browser import Page

CLASSES = ["road", "<script>alert(1)</script>", "sky & more", "ünseen"]
PALETTE = [[128, 64, 128], [70, 70, 70], [0, 130, 180], [255, 255, 0]]


def png(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, "png")
    return buffer.getvalue()


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    """A dataset's folder with three val pictures of 40 × 24 and labels.json; class 3 never occurs."""
    folder, random = tmp_path / "streets", np.random.default_rng(0)
    records = []
    for index in range(3):
        label = np.repeat(np.array([2, 1, 0, 255], np.uint8), 6)[:, None].repeat(40, axis=1)
        image = random.integers(0, 256, (24, 40, 3), dtype=np.uint8)
        counts = np.array([240, 240, 240, 0, 240])
        records.append(Record(f"val/{index}", png(image), png(label), 40, 24, counts))
    write_shard(folder / "val.h5", records, class_names=CLASSES, palette=PALETTE, split="val")
    split = {"pixels": [600, 300, 100, 0], "ignored_share": 0.25, "sizes": {"40x24": 3}, "absent": ["ünseen"]}
    splits = {"train": {"images": 1200, **split}, "val": {"images": 3, **split}}
    contents = {"class_names": CLASSES, "palette": PALETTE, "splits": splits}
    (folder / "labels.json").write_text(json.dumps(contents))
    return folder


def add_run(dataset: Path, name: str, iou: float = 0.5, rows: int = 30, **changed) -> Path:
    """A run's folder whose measures all follow from `iou`."""
    folder = dataset / name
    folder.mkdir()
    settings = {"model": {"backbone": "van_tiny", "head": "rcca", "recurrence": 2}, "optimizer": {"learning_rate": iou}}
    metrics = {
        "mean_iou": iou,
        "pixel_accuracy": iou + 0.1,
        "mean_accuracy": iou + 0.05,
        "per_class": dict(zip(CLASSES, [iou, iou / 2, iou / 3, None], strict=True)),
        "confusion": [[90, 10, 0, 0], [25, 75, 0, 0], [0, 0, 100, 0], [0, 0, 0, 0]],
        "protocol": {"mode": "whole", "scales": [1.0], "flip": False, "images": 3, "weights_sha256": "0f" * 32},
        "seconds_per_image": iou / 10,
    }
    (folder / "settings.json").write_text(json.dumps(settings))
    (folder / "metrics.json").write_text(json.dumps(metrics | changed))
    history = [f"{10 * i + 10},0.01,{2 / (i + 1)},9.5\n" for i in range(rows)]
    (folder / "history.csv").write_text("step,learning_rate,loss,images_per_second\n" + "".join(history))
    return folder


def add_example(run: Path, name: str, value: int = 1) -> None:
    path = run / "examples" / f"{name}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = Image.fromarray(np.full((24, 40), value, np.uint8)).convert("P")
    picture.putpalette(np.array(PALETTE).ravel().tolist())
    picture.save(path)


COSTS = [
    Efficiency(head=head, side=side, gflops=factor * side**2, seconds=factor * side, megabytes=side, processor="a CPU",
               threads=2)
    for head, factor in {"R = 2": 1, "non-local": 4}.items() for side in (33, 65)
]  # fmt: skip


def add_costs(dataset: Path) -> Path:
    """The table that `ccnet efficiency` would write."""
    path = dataset / "efficiency.csv"
    with open(path, "w", newline="") as file:
        table = csv.DictWriter(file, COSTS[0].model_dump())
        table.writeheader()
        table.writerows(row.model_dump() for row in COSTS)
    return path


def build(dataset: Path, *runs: Path, protocols: tuple[str, ...] = (), folders: tuple[str, ...] = (),
          costs: Path | None = None) -> Page:  # fmt: skip
    out = dataset / "report.html"
    report.run(labels=dataset / "labels.json", shards=[dataset / "val.h5"], runs=list(runs), out=out,
               protocols=protocols, folders=folders, efficiency=costs)  # fmt: skip
    return Page(out)


def add_protocol(run: Path, name: str, iou: float | None, words: str) -> None:
    metrics = json.loads((run / "metrics.json").read_text())
    changed = {"mean_iou": iou, "protocol": metrics["protocol"] | {"in_words": words}}
    (run / f"metrics_{name}.json").write_text(json.dumps(metrics | changed))


def add_seeds(dataset: Path, name: str, ious: dict[int, float], **changed) -> list[Path]:
    """Runs that differ by their seed alone."""
    runs = [add_run(dataset, f"{name}_seed{seed}", iou, **changed) for seed, iou in ious.items()]
    for run, seed in zip(runs, ious, strict=True):
        settings = {"model": {"backbone": name, "head": "rcca", "recurrence": 2}, "seed": seed}
        (run / "settings.json").write_text(json.dumps(settings))
        add_protocol(run, "tiled", ious[seed] + 0.1, "Windows.")
    return runs


def as_camvid(dataset: Path) -> None:
    """Give a dataset CamVid's classes, and its runs metrics of these."""
    names = list(DATASETS["camvid"].class_names)
    labels = json.loads((dataset / "labels.json").read_text())
    labels |= {"class_names": names, "palette": [[0, 0, 9]] * len(names)}
    for split in labels["splits"].values():
        split["pixels"] = [1] * len(names)
    (dataset / "labels.json").write_text(json.dumps(labels))
    for path in dataset.glob("*/metrics*.json"):
        measured = {"per_class": dict.fromkeys(names, 0.5), "confusion": np.eye(len(names), dtype=int).tolist()}
        path.write_text(json.dumps(json.loads(path.read_text()) | measured))
