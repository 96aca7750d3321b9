import csv
import math
from pathlib import Path

import pytest

from ccnet.ops.schedule import poly

ROW = ["step", "learning_rate", "loss", "images_per_second"]


def rows(history: Path) -> list[dict[str, str]]:
    with open(history, newline="") as file:
        return list(csv.DictReader(file))


def test_history_has_a_row_for_each_tenth_step_and_the_last(trained):
    found = rows(trained.history)
    assert list(found[0]) == ROW
    assert [int(row["step"]) for row in found] == [10, 20, 24]
    assert all(math.isfinite(float(row["loss"])) and float(row["images_per_second"]) > 0 for row in found)
    assert float(found[-1]["loss"]) < float(found[0]["loss"])


def test_learning_rate_follows_the_schedule(trained):
    for row in rows(trained.history):
        rate = poly(int(row["step"]) - 1, steps=24, base=0.002, power=0.9, warmup=3, final=0.0)
        assert float(row["learning_rate"]) == pytest.approx(rate, rel=1e-12)
