import csv
import math
from pathlib import Path

import pytest

from ccnet.ops.schedule import poly
from ccnet.training.history import COLUMNS, History


def rows(history: Path) -> list[dict[str, str]]:
    with open(history, newline="") as file:
        return list(csv.DictReader(file))


def test_history_has_a_row_for_each_tenth_step_and_the_last(trained):
    found = rows(trained.history)
    assert list(found[0]) == COLUMNS
    assert [int(row["step"]) for row in found] == [10, 20, 24]
    for row in found:
        numbers = [float(row[name]) for name in ("loss", "gradient_norm", "images_per_second")]
        assert all(math.isfinite(number) and number > 0 for number in numbers)
    assert float(found[-1]["loss"]) < float(found[0]["loss"])


def test_learning_rate_follows_the_schedule(trained):
    for row in rows(trained.history):
        rate = poly(int(row["step"]) - 1, steps=24, base=0.002, power=0.9, warmup=3, final=0.0)
        assert float(row["learning_rate"]) == pytest.approx(rate, rel=1e-12)


def test_a_row_holds_means_since_the_last_one_also_across_a_checkpoint():
    whole, first = History(), History()
    for step in range(4):
        whole.add(step, 10 * step)
        first.add(step, 10 * step) if step < 2 else None
    resumed = History(first.rows, first.pending)
    for step in range(2, 4):
        resumed.add(step, 10 * step)
    for one in (whole, resumed):
        row = one.row(4, 0.1, 8)
        assert (row["step"], row["loss"], row["gradient_norm"], row["mean_iou"]) == (4, 1.5, 15, None)
        assert not one.pending


def measured(*values: float | None) -> History:
    return History([{"step": 10 * place, "mean_iou": value} for place, value in enumerate(values)])


def test_the_best_is_the_first_with_the_highest_iou():
    best = measured(None, 0.3, 0.5, None, 0.5, 0.4).best()
    assert best is not None
    assert best["step"] == 20
    assert measured(None).best() is None


@pytest.mark.parametrize(("values", "stale"), [((), 0), ((None, 0.5), 0), ((0.5, None, 0.4, 0.5), 2), ((0.1, 0.2), 0)])
def test_measurements_since_the_best_are_counted(values, stale):
    assert measured(*values).stale() == stale
