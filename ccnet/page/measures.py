"""The measures by which runs are compared: in the page's table, in results.csv and in results.tex."""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

from ccnet.groups import Group, Spread, spread
from ccnet.page.templates import duration, memory, percent
from ccnet.results import Run


class Measure(NamedTuple):
    """A measure of a run: `of` gives its value in SI units, shares in 0..1; None: not known.

    `label` is the head of its column, `show` its text there. `scored`: larger is better, and the best one is marked.
    `fixed`: it is the same for each seed.
    """

    label: str
    of: Callable[[Run], float | None]
    show: Callable[[float | None], str]
    scored: bool = False
    fixed: bool = False

    def spread(self, group: Group) -> Spread:
        """The mean and the standard deviation of a group's runs."""
        return spread(map(self.of, group.runs))

    def text(self, spread: Spread) -> tuple[str, str]:
        """The mean and the standard deviation as texts; the latter is empty if there is none to show."""
        known = spread.deviation is not None and not self.fixed
        return self.show(spread.mean), self.show(spread.deviation) if known else ""

    def best(self, groups: Sequence[Group]) -> float | None:
        """The largest mean if this measure is scored; None if fewer than two are known."""
        return best([self.spread(group).mean for group in groups]) if self.scored else None


def best(values: Sequence[float | None]) -> float | None:
    """The largest finite value; None if there are fewer than two."""
    known = [value for value in values if value is not None and math.isfinite(value)]
    return max(known) if len(known) > 1 else None


def known(runs: Sequence[Run]) -> dict[str, Measure]:
    """The scores, and those other measures that at least one of the runs has."""
    return {name: each for name, each in MEASURES.items() if name in SCORES or any(each.of(run) for run in runs)}


def score(value: float | None) -> str:
    """A share as a percentage with two decimals."""
    return percent(value, 2)


def rounded(value: float | None) -> str:
    """A number to three significant digits, or to an integer from 100; a dash for None."""
    if value is None:
        return "–"
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:#.3g}" if value else "0"


def _millions(value: float | None) -> str:
    return "–" if value is None else f"{rounded(value / 1e6)} M"


def _billions(value: float | None) -> str:
    return "–" if value is None else rounded(value / 1e9)


def _flops(run: Run) -> float | None:
    return run.metrics.flops.count if run.metrics.flops else None


def _speed(run: Run) -> float | None:
    return 1 / run.metrics.seconds_per_image if run.metrics.seconds_per_image else None


def _seconds(run: Run) -> float | None:
    return run.metrics.training.seconds if run.metrics.training else None


def _memory(run: Run) -> float | None:
    return run.metrics.training.peak_memory if run.metrics.training else None


SCORES = ("mean_iou", "pixel_accuracy", "mean_accuracy")
MEASURES = {
    "mean_iou": Measure("mIoU %", lambda run: run.metrics.mean_iou, score, scored=True),
    "pixel_accuracy": Measure("pixel acc. %", lambda run: run.metrics.pixel_accuracy, score, scored=True),
    "mean_accuracy": Measure("mean acc. %", lambda run: run.metrics.mean_accuracy, score, scored=True),
    "parameters": Measure("parameters", lambda run: run.metrics.parameters, _millions, fixed=True),
    "flops": Measure("GFLOPs", _flops, _billions, fixed=True),
    "training_images_per_second": Measure("images/s, training", Run.images_per_second, rounded),
    "images_per_second": Measure("images/s, inference", _speed, rounded, scored=True),
    "training_seconds": Measure("training time", _seconds, duration),
    "training_peak_memory": Measure("peak memory", _memory, memory),
}
