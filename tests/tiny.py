"""A dataset and a network small enough to train in seconds: what the tests of the commands that compute share."""

import csv
import io
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image
from safetensors.numpy import load_file

from ccnet.data import labels
from ccnet.data.shards import Record, write_shard
from ccnet.settings import Settings

needs_mpi = pytest.mark.skipif(
    not (shutil.which("mpirun") and shutil.which("mpicc")), reason="no MPI: apt install openmpi-bin libopenmpi-dev"
)
CLASSES = ["wall", "door", "floor", "sheep"]  # a sheep is never seen
PALETTE = [[200, 40, 40], [40, 200, 40], [40, 40, 200], [250, 250, 250]]
SMALL = {"backbone": "van_tiny", "head_channels": 16, "steps": 24, "warmup_steps": 3, "learning_rate": 0.002,
         "batch_size": 2, "crop_size": 32, "seed": 3, "validate_every": None}  # fmt: skip


def flat(**changes) -> dict:
    """config.yaml's recipe on a small scale, with `changes` by the names config.yaml uses."""
    recipe = yaml.safe_load((Path(__file__).parents[1] / "config.yaml").read_text())["training"]
    family = recipe.pop("van")
    del recipe["resnet"]
    return {**recipe, **family, **SMALL, **changes}


def settings(**changes) -> Settings:
    """The settings of that recipe."""
    return Settings.from_flat(flat(**changes))


def draw(seed: int, width: int = 48, height: int = 40) -> tuple[np.ndarray, np.ndarray]:
    """A wall with a door over a floor, each about its own colour: image `(H, W, 3)` and label `(H, W)`, uint8."""
    rng = np.random.default_rng(seed)
    label = np.zeros((height, width), np.uint8)
    left = rng.integers(0, max(width // 2, 1))
    label[:, left : left + width // 3] = 1
    label[height * 3 // 4 :] = 2
    label[0, 0] = labels.IGNORE
    image = np.array(PALETTE)[label % 4] + rng.integers(-30, 30, (height, width, 3))
    return image.clip(0, 255).astype(np.uint8), label


def record(name: str, image: np.ndarray, label: np.ndarray) -> Record:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG")
    counts = labels.histogram(label, len(CLASSES))
    return Record(name, buffer.getvalue(), labels.encode(label), label.shape[1], label.shape[0], counts)


def shard(path: Path, seeds: Sequence[int], *, split: str = "train", size: tuple[int, int] = (48, 40)) -> Path:
    """A shard of drawn images named `drawn <seed>`, of `size` (width, height)."""
    records = [record(f"drawn {seed}", *draw(seed, *size)) for seed in seeds]
    write_shard(path, records, class_names=CLASSES, palette=PALETTE, split=split)
    return path


@dataclass(frozen=True)
class Trained:
    """A finished training, on the CPU: there its weights are the same to the last bit each time."""

    settings: Path
    shards: list[Path]
    weights: Path
    history: Path

    def command(self, out: Path, *options: str | Path, settings: Path | None = None) -> list[str]:
        """The command that trains the same in folder `out`."""
        places = ["--checkpoints", out / "checkpoints", "--out", out / "weights.safetensors"]
        places += ["--history", out / "history.csv", "--settings", settings or self.settings]
        places += ["--device", "cpu", "--shards", *self.shards]
        return [sys.executable, "-m", "ccnet", "train", *map(str, [*places, *options])]


def same(one: Path, other: Path) -> bool:
    """Whether both weights files, and those beside them, hold the same bits."""
    for name in ("weights.safetensors", "weights_last.safetensors"):
        ours, theirs = load_file(one / name), load_file(other / name)
        if ours.keys() != theirs.keys() or any(not np.array_equal(ours[key], theirs[key]) for key in theirs):
            return False
    return True


def logged(folder: Path) -> list[dict[str, str]]:
    """The rows of history.csv without the images per second."""
    with open(folder / "history.csv", newline="") as file:
        return [{key: row[key] for key in row if key != "images_per_second"} for row in csv.DictReader(file)]


def start(command: list[str], **options) -> subprocess.Popen:
    """A command in a process group of its own, as a terminal or a scheduler starts it."""
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True, **options)


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def alive(pid: int) -> bool:
    """Whether a process runs (a zombie does not)."""
    try:
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (ProcessLookupError, FileNotFoundError):
        return False
