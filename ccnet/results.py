"""Readers of the pipeline's outputs in results/<dataset>, with validation."""

import csv
import hashlib
import io
import os
import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from PIL import Image
from pydantic import BaseModel, BeforeValidator, TypeAdapter, ValidationError

from ccnet import InputError
from ccnet.data.shards import Skipped

# Endings of what `ccnet segment` writes for an image besides its mask, whose ending is .png.
OVERLAY, CONFIDENCE, PROBABILITIES = "_overlay.jpg", "_confidence.png", "_probabilities.npy"
LONGEST_STEM = 255 - len(PROBABILITIES)  # bytes of a file name, without the longest ending


class Split(BaseModel):
    """A split's part of labels.json: pixel counts by class, image counts by size (width x height)."""

    images: int
    pixels: list[int]
    ignored_share: float
    sizes: dict[str, int]
    absent: list[str]
    skipped: list[Skipped] = []


class Labels(BaseModel):
    """The contents of labels.json."""

    class_names: list[str]
    palette: list[tuple[int, int, int]]
    splits: dict[str, Split]
    splitting: str | None = None


class Provenance(BaseModel):
    """What `ccnet.provenance.record` wrote of a training or of an evaluation."""

    versions: dict[str, str] = {}
    commit: str | None = None
    dirty: bool | None = None
    device: str | None = None
    processor: str | None = None
    threads: int | None = None
    seed: int | None = None
    seconds: float | None = None
    peak_memory: int | None = None
    command: str | None = None


class Flops(BaseModel):
    """The FLOPs of one forward pass on an image of `height` × `width` pixels, two for each multiply-add."""

    count: int
    height: int
    width: int


class Example(BaseModel):
    """An image of the split, and its own mean IoU in 0..1."""

    name: str
    mean_iou: float


class Confused(BaseModel):
    """A pair of classes that is often confused, and the images with most of these pixels."""

    truth: str
    prediction: str
    images: list[str]


class Area(BaseModel):
    """Pixels of intersection and union of classes that cover up to the share `area` of their image."""

    area: float
    intersection: int
    union: int
    classes: int


class Metrics(BaseModel):
    """The contents of metrics.json; shares in 0..1, `confusion` counts pixels (rows truth, columns prediction)."""

    mean_iou: float | None
    pixel_accuracy: float | None
    mean_accuracy: float | None
    per_class: dict[str, float | None]
    confusion: list[list[int]]
    protocol: dict[str, Any]
    seconds_per_image: float | None = None
    parameters: int | None = None
    flops: Flops | None = None
    extremes: dict[str, Example] = {}  # the best, median and worst image
    confused: list[Confused] = []  # the most confused first
    areas: list[Area] = []
    shards: dict[str, str] = {}  # SHA-256 of each shard, by its file's name
    training: Provenance | None = None  # of the weights
    provenance: Provenance | None = None  # of these metrics


Optional = Annotated[
    float | None, BeforeValidator(lambda cell: None if cell == "" else cell)
]  # a cell of a CSV file that may be empty


class Step(BaseModel):
    """A row of history.csv; `mean_iou` (0..1) only where the network was measured."""

    step: int
    learning_rate: float
    loss: float
    images_per_second: Optional = None
    mean_iou: Optional = None


class Segmented(BaseModel):
    """A row of a segmented folder's index.csv."""

    file: str
    status: str
    reason: str | None = None


class Efficiency(BaseModel):
    """A row of efficiency.csv: what an attention costs on a map of `side` × `side` positions."""

    head: str
    side: int
    gflops: float
    seconds: float
    megabytes: float  # beyond the input
    processor: str
    threads: int


@dataclass(frozen=True)
class Run:
    """The contents of a run's folder; `settings` is flat with dotted keys, `further` has metrics of other protocols."""

    name: str
    folder: Path
    settings: dict[str, Any]
    history: list[Step]
    metrics: Metrics
    further: dict[str, Metrics]

    def known(self, column: str) -> tuple[list[int], list[float]]:
        """The steps at which history.csv has a value in this column, and the values."""
        rows = [(row.step, value) for row in self.history if (value := getattr(row, column)) is not None]
        return [step for step, _ in rows], [value for _, value in rows]

    def images_per_second(self) -> float | None:
        """The median speed of the training; None if history.csv does not say."""
        _, speeds = self.known("images_per_second")
        return statistics.median(speeds) if speeds else None

    def predictions(self) -> dict[str, Path]:
        """Image name -> its predicted label map, a palette PNG."""
        return self._examples(".png")

    def looks(self) -> dict[str, Path]:
        """Image name -> what its attention is computed from, a `ccnet.attention.Look`."""
        return self._examples(".npz")

    def _examples(self, ending: str) -> dict[str, Path]:
        folder = self.folder / "examples"
        return {path.relative_to(folder).as_posix()[: -len(ending)]: path for path in folder.rglob(f"*{ending}")}


def read(path: Path, kind: Any, command: str) -> Any:
    """Read and validate the file `path` (JSON, or CSV with a header) as a `kind`.

    Raises InputError naming the file, what is wrong in it, and the `command` that writes it.
    """
    adapter = TypeAdapter(kind)
    try:
        if path.suffix == ".csv":
            text = path.read_text(encoding="utf-8", errors="surrogateescape")  # file names need not be UTF-8
            return adapter.validate_python(list(csv.DictReader(io.StringIO(text, newline=""))))
        return adapter.validate_json(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}; `ccnet {command}` writes it") from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        reason = f"{where}: {first['msg']}" if where else first["msg"]
        raise InputError(f"{path}: {reason}; write it again with `ccnet {command}`") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: {error}; write it again with `ccnet {command}`") from None


def load(folder: Path, class_names: list[str], protocols: Sequence[str] = ()) -> Run:
    """Load the run in `folder` with metrics of further `protocols`. Raises InputError unless the classes match."""
    settings = flat(read(folder / "settings.json", dict[str, Any], "settings"))
    history = read(folder / "history.csv", list[Step], "train")
    metrics = _metrics(folder / "metrics.json", class_names)
    further = {name: _metrics(folder / f"metrics_{name}.json", class_names) for name in protocols}
    return Run(folder.resolve().name, folder, settings, history, metrics, further)


def _metrics(path: Path, class_names: list[str]) -> Metrics:
    metrics = read(path, Metrics, "evaluate")
    sides = {len(metrics.confusion), *map(len, metrics.confusion)}
    if set(metrics.per_class) != set(class_names) or sides != {len(class_names)}:
        raise InputError(f"{path}: other classes than labels.json; run `ccnet evaluate` again")
    return metrics


def overlays(folder: Path, rows: list[Segmented]) -> list[Path]:
    """The overlays in a segmented folder, only of images whose status in index.csv is "ok" or "skipped".

    `ccnet segment` names them by `stems`.
    """
    named = zip(stems([Path(row.file) for row in rows]), rows, strict=True)
    done = [stem for stem, row in named if row.status in ("ok", "skipped")]
    return [path for stem in done if (path := folder / f"{stem}{OVERLAY}").is_file()]


def stems(files: list[Path]) -> list[Path]:
    """Base names of the results of segmenting each file: the file without its suffix, unless two could collide.

    A name that is too long for the results' endings is truncated, with a digest of the file's path appended.
    """
    uses = Counter([*files, *(file.with_suffix("") for file in files)])
    return [_shortened(file if _collides(file, uses) else file.with_suffix(""), file) for file in files]


def _collides(file: Path, uses: Counter[Path]) -> bool:
    # the mask of a_confidence.jpg would be the confidence map of a.jpg
    return uses[file.with_suffix("")] > 1 or f"{file.stem}.png".endswith(CONFIDENCE)


def _shortened(stem: Path, file: Path) -> Path:
    name = os.fsencode(stem.name)
    if len(name) <= LONGEST_STEM:
        return stem
    digest = hashlib.sha256(os.fsencode(file)).hexdigest()[:8]
    return stem.with_name(f"{name[: LONGEST_STEM - 9].decode(errors='ignore')}-{digest}")


def flat(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Flatten nested groups to one dictionary with dotted keys."""
    leaves: dict[str, Any] = {}
    for key, value in tree.items():
        leaves |= flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return leaves


def pixels(path: Path) -> np.ndarray:
    """The stored pixels of an image file, uint8: `(H, W)` indices of a palette PNG, `(H, W, 3)` of a photograph.

    Raises InputError if it cannot be read.
    """
    try:
        with Image.open(path) as image:
            return np.asarray(image)
    except OSError:
        raise InputError(f"{path}: not an image; remove it and make it again") from None
