"""Runs that differ by their seed alone, compared with others by their mean and standard deviation."""

import json
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from ccnet.results import Run


class Spread(NamedTuple):
    """The mean of some values, None if there are none; their sample standard deviation (n − 1), None below two."""

    mean: float | None
    deviation: float | None


def spread(values: Iterable[float | None]) -> Spread:
    """The mean and standard deviation of the values that are not None."""
    known = [value for value in values if value is not None]
    return Spread(
        float(np.mean(known)) if known else None,
        float(np.std(known, ddof=1)) if len(known) > 1 else None,
    )


@dataclass(frozen=True)
class Group:
    """Runs with the same settings but for the seed, often a single one; `name` is what their names share, or all."""

    name: str
    runs: list[Run]

    def measure(self, name: str) -> Spread:
        """A measure of metrics.json."""
        return spread(getattr(run.metrics, name) for run in self.runs)

    def iou(self, class_name: str) -> Spread:
        """The IoU of a class."""
        return spread(run.metrics.per_class[class_name] for run in self.runs)

    def steps(self) -> list[int]:
        """How many steps the runs were trained, each number once, ascending; empty if none has logged a step."""
        return sorted({run.history[-1].step for run in self.runs if run.history})

    def confusion(self) -> np.ndarray:
        """The confusion matrix `(C, C)` of all runs together: pixels, rows truth, columns prediction."""
        return np.sum([run.metrics.confusion for run in self.runs], axis=0)

    def areas(self) -> tuple[list[float], list[float]]:
        """Areas of a class in an image, as shares of its pixels, and the IoU of all runs together for each."""
        found = [each for run in self.runs for each in run.metrics.areas]
        areas = sorted({each.area for each in found if each.union})
        parts = [[each for each in found if each.area == area] for area in areas]
        return areas, [sum(each.intersection for each in part) / sum(each.union for each in part) for part in parts]

    def common(self, table: Callable[[Run], dict[str, Any]]) -> dict[str, Any]:
        """The runs' tables as one: the value of a key where all runs agree, else the list of their values."""
        tables = [table(run) for run in self.runs]
        columns = {
            key: [each.get(key) for each in tables] for key in dict.fromkeys(key for each in tables for key in each)
        }
        return {key: row[0] if all(value == row[0] for value in row) else row for key, row in columns.items()}


def grouped(runs: list[Run]) -> list[Group]:
    """The runs in groups, in the order of each group's first run.

    Weights that a run begins with count as the same if they are of runs of one group. The same settings with the same
    seed again begin another group.
    """
    origins = {run.metrics.protocol.get("weights_sha256", ""): run for run in runs}
    found: dict[tuple[str, int], list[Run]] = {}
    seen: Counter[tuple[str, Any]] = Counter()
    for run in runs:
        own = _but_for_seed(run, origins), run.settings.get("seed")
        found.setdefault((own[0], seen[own]), []).append(run)
        seen[own] += 1
    return [Group(_common_name(members), members) for members in found.values()]


def _but_for_seed(run: Run, origins: dict[str, Run]) -> str:
    """A run's settings as text, without its seed and those of the runs, by the SHA-256 of their weights, before it."""
    settings = run.settings | {"seed": None}
    others = {digest: other for digest, other in origins.items() if digest and other is not run}
    if before := others.get(settings.get("model.pretrained") or ""):
        settings["model.pretrained"] = _but_for_seed(before, others)
    return json.dumps(settings, sort_keys=True)


def _common_name(runs: list[Run]) -> str:
    names = {run.name.removesuffix(f"_seed{run.settings.get('seed')}") for run in runs}
    return names.pop() if len(names) == 1 < len(runs) else ", ".join(run.name for run in runs)
