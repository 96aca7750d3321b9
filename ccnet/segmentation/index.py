"""index.csv: a row for each photo that was found, with what happened to it and what is in its mask."""

import csv
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from ccnet.files import atomic

Status = Literal["ok", "failed", "skipped"]


@dataclass
class Row:
    """What became of a photo. `file` is its name, `mask` its mask's path relative to index.csv.

    `width` and `height` are those of the upright image in pixels; `confidence`, 0..1, is the mean probability of the
    pixels' classes; `shares`, 0..1, are those of the classes in the mask; `protocol` says how it was segmented.
    """

    file: str
    status: Status = "ok"
    reason: str = ""
    width: int | None = None
    height: int | None = None
    seconds: float | None = None
    confidence: float | None = None
    protocol: str = ""
    mask: str = ""
    shares: list[float] = field(default_factory=list)

    def record(self, class_names: Sequence[str]) -> dict[str, Any]:
        """The row's cells by column; shares have the columns `share_<class>`."""
        cells = {name: value for name, value in vars(self).items() if name != "shares" and value is not None}
        cells |= {f"share_{name}": f"{share:.6f}" for name, share in zip(class_names, self.shares, strict=False)}
        digits = {"seconds": "{:.3f}", "confidence": "{:.4f}"}
        return cells | {name: form.format(cells[name]) for name, form in digits.items() if name in cells}


def write(path: Path, rows: Sequence[Row], class_names: Sequence[str]) -> None:
    """Write index.csv."""
    columns = [name for name in Row.__dataclass_fields__ if name != "shares"]
    columns += [f"share_{name}" for name in class_names]
    # File names need not be UTF-8: their bytes are written unchanged.
    with (
        atomic(path) as temporary,
        open(temporary, "w", newline="", encoding="utf-8", errors="surrogateescape") as file,
    ):
        writer = csv.DictWriter(file, columns, lineterminator="\n", restval="")
        writer.writeheader()
        writer.writerows(row.record(class_names) for row in rows)
