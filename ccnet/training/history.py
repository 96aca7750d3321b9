"""The log of a training: the rows of history.csv, and what they say of the best weights."""

import csv
import time
from collections.abc import Sequence
from pathlib import Path

from ccnet.files import atomic

LOG_EVERY = 10  # steps between two rows
COLUMNS = ["step", "learning_rate", "loss", "gradient_norm", "images_per_second", "mean_iou"]


class History:
    """`rows` by `COLUMNS`, and `pending`: loss and gradient norm of each step since the last row.

    `mean_iou` (0..1) is None in the rows of steps at which the network was not measured.
    """

    def __init__(self, rows: Sequence[dict] = (), pending: Sequence[list[float]] = ()):
        self.rows, self.pending = list(rows), list(pending)
        self._since, self._steps = time.monotonic(), 0

    def add(self, loss: float, norm: float) -> None:
        """Note a step's loss and gradient norm."""
        self.pending.append([loss, norm])
        self._steps += 1

    def row(self, step: int, learning_rate: float, images_per_step: int) -> dict:
        """Append a row of means over the pending steps; return it."""
        loss, norm = (sum(column) / len(self.pending) for column in zip(*self.pending, strict=True))
        speed = self._steps * images_per_step / (time.monotonic() - self._since)
        values = [step, learning_rate, loss, norm, speed, None]
        self.rows.append(dict(zip(COLUMNS, values, strict=True)))
        self.pending.clear()
        self.restart_clock()
        return self.rows[-1]

    def restart_clock(self) -> None:
        """Leave the time since the last row out of the images per second."""
        self._since, self._steps = time.monotonic(), 0

    def measured(self) -> list[dict]:
        """The rows with a mIoU."""
        return [row for row in self.rows if row["mean_iou"] is not None]

    def best(self) -> dict | None:
        """The row with the highest mIoU, the first of equal ones; None before the first measurement."""
        return max(self.measured(), key=lambda row: row["mean_iou"], default=None)

    def stale(self) -> int:
        """The number of measurements since the best one."""
        best, found = self.best(), self.measured()
        return len(found) - 1 - found.index(best) if best else 0

    def write(self, path: Path) -> None:
        """Write history.csv."""
        with atomic(path) as temporary, open(temporary, "w", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
            writer.writeheader()
            writer.writerows(self.rows)
