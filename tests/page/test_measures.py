"""Measures of runs: their texts, and the best of them."""

from pathlib import Path

import pytest

from ccnet.groups import Group, Spread
from ccnet.page.measures import MEASURES, best, known, rounded
from ccnet.results import Metrics, Run, Step


def run(mean_iou: float | None, **changed) -> Run:
    metrics = Metrics(mean_iou=mean_iou, pixel_accuracy=0.5, mean_accuracy=0.5, per_class={}, confusion=[], protocol={},
                      **changed)  # fmt: skip
    return Run("run", Path("run"), {}, [Step(step=1, learning_rate=1, loss=1)], metrics, {})


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "–"), (0.0123, "0.0123"), (52.36, "52.4"), (123.4, "123"), (98765, "98765"), (0.0, "0")],
)
def test_numbers_have_three_digits(value, text):
    assert rounded(value) == text


def test_a_cost_that_no_run_has_is_no_column():
    assert list(known([run(None)])) == ["mean_iou", "pixel_accuracy", "mean_accuracy"]
    assert "parameters" in known([run(None), run(0.5, parameters=5)])


def test_the_best_is_that_of_scores_and_among_two():
    groups = [Group("a", [run(0.4), run(0.6)]), Group("b", [run(0.45, parameters=9)]), Group("c", [run(None)])]
    assert MEASURES["mean_iou"].best(groups) == pytest.approx(0.5)
    assert MEASURES["parameters"].best(groups) is None
    assert best([0.5, None, float("nan")]) is None


def test_a_deviation_is_shown_where_seeds_differ():
    assert MEASURES["mean_iou"].text(Spread(0.5, 0.012)) == ("50.00", "1.20")
    assert MEASURES["mean_iou"].text(Spread(0.5, None)) == ("50.00", "")
    assert MEASURES["parameters"].text(Spread(5e6, 0.0)) == ("5.00 M", "")
    assert MEASURES["training_seconds"].text(Spread(7200.0, 80.0)) == ("2 h 0 min", "80 s")
