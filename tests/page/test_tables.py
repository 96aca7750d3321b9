"""results.csv and results.tex have the figures of the runs, and names do no harm in them."""

import csv
import re
from pathlib import Path

import pytest

from ccnet.data.anchors import Anchor
from ccnet.groups import Group
from ccnet.page import tables
from ccnet.results import Flops, Metrics, Provenance, Run, Step


def run(name: str, seed: int, iou: float, **changed) -> Run:
    shares = {"pixel_accuracy": 0.7, "mean_accuracy": None, "per_class": {"road": iou, "sky, too": None}}
    protocol = {"in_words": "Images whole & alone.", "weights_sha256": "0f" * 32}
    metrics = Metrics(mean_iou=iou, confusion=[], protocol=protocol, **shares, **changed)
    other = metrics.model_copy(update={"mean_iou": iou + 0.01})
    settings = {"model.backbone": "van_tiny", "model.head": "rcca", "model.recurrence": 2, "seed": seed}
    history = [Step(step=20, learning_rate=1, loss=1, images_per_second=4)]
    return Run(name, Path(name), settings, history, metrics, {"tiled": other})


@pytest.fixture
def groups() -> list[Group]:
    cost = {"parameters": 6_900_000, "flops": Flops(count=10**10, height=32, width=32),
            "training": Provenance(seconds=60.5, commit="c0")}  # fmt: skip
    return [Group("a_b", [run("a_b_seed1", 1, 0.5, **cost), run("a_b_seed2", 2, 0.52, **cost)]),
            Group("50% \\", [run("50% \\", 0, 0.4)])]  # fmt: skip


def test_csv_has_a_row_for_each_run(groups, tmp_path):
    tables.write_csv(tmp_path / "results.csv", groups)
    with open(tmp_path / "results.csv", newline="") as file:
        first, second, third = csv.DictReader(file)
    assert first.items() >= {
        "group": "a_b", "run": "a_b_seed1", "seed": "1", "backbone": "van_tiny", "recurrence": "2", "steps": "20",
        "mean_iou": "0.5", "mean_accuracy": "", "mean_iou_tiled": "0.51", "parameters": "6900000",
        "flops": "10000000000", "training_images_per_second": "4.0", "training_seconds": "60.5", "commit": "c0",
        "weights_sha256": "0f" * 32, "iou: road": "0.5", "iou: sky, too": "",
    }.items()  # fmt: skip
    assert (second["run"], third["run"], third["parameters"]) == ("a_b_seed2", "50% \\", "")


def test_tex_has_a_row_for_each_group_and_each_published_figure(groups, tmp_path):
    anchor = Anchor("camvid", "Net_1", "66.9", *[""] * 6, source="A & B", url="")
    tables.write_tex(tmp_path / "results.tex", "my_set", groups, [(anchor, "The protocol is not stated.")])
    text = (tmp_path / "results.tex").read_text()
    rows = [line for line in text.splitlines() if r"\\" in line]
    assert [line.replace(r"\&", "").count(" & ") for line in rows] == [6] * 4
    assert rows[0] == r"run & mIoU \% & pixel acc. \% & mean acc. \% & parameters & GFLOPs & mIoU \%, tiled \\"
    assert rows[1] == (
        r"a\_b & \textbf{51.00} $\pm$ 1.41 & \textbf{70.00} $\pm$ 0.00 & -- & 6.90 M & 10.0"
        r" & \textbf{52.00} $\pm$ 1.41 \\"
    )
    assert rows[2].startswith(r"50\% \textbackslash{} & 40.00 & \textbf{70.00} & -- & -- & -- & 41.00")
    assert rows[3] == r"Net\_1 (A \& B) & 66.90 &  &  &  &  &  \\ % The protocol is not stated."
    assert r"\caption{Results on my\_set. Images whole \& alone. $\pm$: standard deviation over seeds.}" in text
    assert re.findall(r"\\begin\{tabular\}\{(.*)\}", text) == ["lrrrrrr"]
