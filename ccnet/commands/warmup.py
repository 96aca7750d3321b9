"""`ccnet warmup`: compile all kernels that runs need, by briefly training and evaluating each on two street scenes.

Jittor compiles a kernel on first use. On the CPU, kernels read shapes at run time, so those compiled for a small crop
work for any size. On CUDA, some kernels are keyed on shapes: there a run is trained with its own crop size and
evaluated on images of that size; other image sizes still compile a few kernels. Compiled kernels are cached for all
processes of this user on this kind of machine.
"""

import subprocess
import sys
import tempfile
import time
from pathlib import Path

from ccnet import InputError
from ccnet.data import streets
from ccnet.data.shards import write_shard
from ccnet.machine import cuda
from ccnet.machine.toolkit import cache_home, find_toolkit
from ccnet.settings import Settings

SIDE = 64  # of images and crops on the CPU, pixels
# Jittor compiles the constants 0, 1 and 2 into kernels, and AdamW's 1 - rate * decay rounds to 1 at a small rate. The
# learning rate therefore falls from the run's own to almost 0, to compile both variants. The batch size is the run's,
# since the non-local block processes image by image where it has no kernel
BRIEFLY = ["schedule.steps=3", "schedule.warmup_steps=0", "schedule.power=10", "schedule.final_learning_rate=0",
           "model.pretrained=null"]  # fmt: skip


def run(*, runs: list[Path], device: str = "auto") -> None:
    """Compile the kernels for training and evaluating `runs` (folders with a settings.json); print their number.

    Raises InputError if a run's settings are invalid, or its training or evaluation fails.
    """
    crops = [Settings.read(folder / "settings.json").data.crop_size for folder in runs]
    on_cuda = device != "cpu" and not cuda.problems(cuda.find_driver(), find_toolkit())
    for folder, crop in zip(runs, crops, strict=True):
        start = time.time()
        with tempfile.TemporaryDirectory() as scratch:
            _train_and_evaluate(folder, Path(scratch), crop if on_cuda else SIDE, device)
        print(f"{folder}: ready, {_kernels_since(start)} kernels compiled in {time.time() - start:.0f} s", flush=True)


def _train_and_evaluate(folder: Path, scratch: Path, side: int, device: str) -> None:
    shard, weights = scratch / "streets.h5", scratch / "weights.safetensors"
    scenes = (streets.record(seed, (side, side), "PNG") for seed in range(2))
    write_shard(shard, scenes, class_names=streets.CLASS_NAMES, palette=streets.PALETTE, split="train")
    train = ["train", "--settings", folder / "settings.json", "--checkpoints", scratch / "checkpoints",
             "--out", weights, "--history", scratch / "history.csv", "--workers", "0"]  # fmt: skip
    for change in [*BRIEFLY, f"data.crop_size={side}"]:
        train += ["--set", change]
    evaluate = ["evaluate", "--weights", weights, "--out", scratch / "metrics.json"]
    for command in (train, evaluate):
        whole = [sys.executable, "-m", "ccnet", *command, "--shards", shard, "--device", device]
        if subprocess.run(list(map(str, whole)), stdout=subprocess.DEVNULL).returncode:
            raise InputError(f"{folder}: could not be warmed up: ccnet {command[0]} failed, as it says above")


def _kernels_since(start: float) -> int:
    return sum(file.stat().st_mtime >= start for file in (cache_home() / "jittor").glob("jt*/**/jit/*.so"))
