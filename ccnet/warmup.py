"""The verb `warmup`: compile all that runs need, by training and evaluating each for a moment on two drawn streets.

Jittor compiles a kernel when it first meets it. Kernels read shapes as they run, so those of a small crop serve any
other; and what is compiled once is there for every process of this user on this kind of machine.
"""

import io
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from ccnet import InputError
from ccnet.data import labels, streets
from ccnet.data.shards import Record, write_shard
from ccnet.settings import Settings
from ccnet.toolkit import cache_home

SIDE = 64  # of images and crops, pixels
# Jittor writes constants of 0, 1 and 2 into a kernel, and AdamW's 1 - rate * decay rounds to 1 at a small rate: so the
# rate falls from the run's own to next to nothing. The batch is the run's: the non-local block goes image by image
BRIEFLY = ["schedule.steps=3", "schedule.warmup_steps=0", "schedule.power=10", "schedule.final_learning_rate=0",
           f"data.crop_size={SIDE}", "model.pretrained=null"]  # fmt: skip


def run(*, runs: list[Path], device: str = "auto") -> None:
    """Compile what training and evaluating `runs` (folders with a settings.json) needs, and say how much that was.

    Raises InputError where a run's settings cannot be used, or its training or evaluation fails.
    """
    for folder in runs:
        Settings.read(folder / "settings.json")
    with tempfile.TemporaryDirectory() as scratch:
        shard = Path(scratch) / "streets.h5"
        write_shard(shard, map(_record, range(2)), class_names=streets.CLASS_NAMES, palette=streets.PALETTE,
                    split="train")  # fmt: skip
        for folder in runs:
            start = time.time()
            _train_and_evaluate(folder, shard, Path(scratch) / str(runs.index(folder)), device)
            print(
                f"{folder}: ready, {_kernels_since(start)} kernels compiled in {time.time() - start:.0f} s", flush=True
            )


def _record(seed: int) -> Record:
    image, label = streets.draw(seed, (SIDE, SIDE))
    encoded, truth = io.BytesIO(), np.asarray(label)
    image.save(encoded, "PNG")
    counts = labels.histogram(truth, len(streets.CLASS_NAMES))
    return Record(f"street {seed}", encoded.getvalue(), labels.encode(truth), SIDE, SIDE, counts)


def _train_and_evaluate(folder: Path, shard: Path, scratch: Path, device: str) -> None:
    weights = scratch / "weights.safetensors"
    train = ["train", "--settings", folder / "settings.json", "--checkpoints", scratch / "checkpoints",
             "--out", weights, "--history", scratch / "history.csv", "--workers", "0"]  # fmt: skip
    for change in BRIEFLY:
        train += ["--set", change]
    evaluate = ["evaluate", "--weights", weights, "--out", scratch / "metrics.json"]
    for command in (train, evaluate):
        whole = [sys.executable, "-m", "ccnet", *command, "--shards", shard, "--device", device]
        if subprocess.run(list(map(str, whole)), stdout=subprocess.DEVNULL).returncode:
            raise InputError(f"{folder}: could not be warmed up: ccnet {command[0]} failed, as it says above")


def _kernels_since(start: float) -> int:
    return sum(file.stat().st_mtime >= start for file in (cache_home() / "jittor").glob("jt*/**/jit/*.so"))
