"""What a training survives with nothing lost: kills, a full disk, and its own growth."""

import json
import os
import random
import re
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from ccnet.commands import train
from ccnet.failures import explain_command
from ccnet.weights.checkpoints import newest
from tests import tiny

KILLS = 20
LASTING = {"steps": 60, "ema": 0.9, "validate_every": 7, "validate_images": 3, "keep": "best", "clip_norm": 5.0}


def val(folder: Path) -> Path:
    return tiny.shard(folder / "val.h5", range(20, 26), split="val")


def settings(folder: Path, **changes) -> Path:
    path = folder / "settings.json"
    path.write_text(json.dumps(tiny.settings(**changes).as_dict()))
    return path


@pytest.mark.slow
def test_twenty_kills_at_random_moments_change_no_bit(trained, tmp_path):
    """SIGKILL, also inside the writing of a checkpoint, with EMA, measurements, and two workers."""
    chosen, extra = settings(tmp_path, **LASTING), ["--val-shards", val(tmp_path), "--workers", "2"]
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    subprocess.run(trained.command(whole, *extra, settings=chosen), check=True, capture_output=True, timeout=600)
    command = trained.command(killed, *extra, "--checkpoint-every", "0", settings=chosen)
    rng, steps, torn = random.Random(0), [], 0
    for _ in range(KILLS):
        kill_at_random(tiny.start(command), killed / "checkpoints", rng)
        torn += any((killed / "checkpoints").glob(".*.safetensors"))
        saved = newest(killed / "checkpoints")
        steps.append(int(saved.stem[-8:]) if saved else 0)
    print(f"killed at steps {steps}, {torn} times while a checkpoint was written")
    assert steps == sorted(steps)
    assert len(set(steps)) > 5
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    assert tiny.same(whole, killed)
    assert tiny.logged(whole) == tiny.logged(killed)


def kill_at_random(process: subprocess.Popen, checkpoints: Path, rng: random.Random) -> None:
    """SIGKILL, once in five times before a first new checkpoint, else up to half a second after it."""
    before, end = newest(checkpoints), time.monotonic() + 300
    if rng.random() < 0.2:
        time.sleep(rng.uniform(0, 4))
    else:
        while newest(checkpoints) in (before, None) and process.poll() is None:
            assert time.monotonic() < end
            time.sleep(0.01)
        time.sleep(rng.uniform(0, 0.5))
    process.kill()
    process.wait()


class Disk:
    """Stands in for os.fsync: the `full`-th write by `atomic` fails as on a full disk; `writes` counts them."""

    def __init__(self, full: int = 0):
        self.full, self.writes = full, 0
        self.fsync = os.fsync

    def __call__(self, file: int) -> None:
        if Path(os.readlink(f"/proc/self/fd/{file}")).name.startswith("."):  # not TensorBoard's events
            self.writes += 1
            if self.writes == self.full:
                raise OSError(28, "No space left on device")
        self.fsync(file)


@pytest.mark.slow
def test_a_disk_that_is_full_at_any_write_loses_nothing(trained, tmp_path, monkeypatch, capsys):
    """What was written before is whole, the reason is one line, and the same command goes on."""
    chosen, images = settings(tmp_path, **LASTING | {"steps": 3, "validate_every": 2}), [val(tmp_path)]

    def run(folder: Path, disk: Disk) -> None:
        monkeypatch.setattr(os, "fsync", disk)
        try:
            train.run(settings=chosen, shards=trained.shards, val_shards=images, checkpoints=folder / "checkpoints",
                      out=folder / "weights.safetensors", history=folder / "history.csv", workers=0, device="cpu",
                      checkpoint_every=0)  # fmt: skip
        finally:
            monkeypatch.setattr(os, "fsync", disk.fsync)

    healthy = Disk()
    run(tmp_path / "whole", healthy)
    assert healthy.writes == 6  # three checkpoints, two files of weights, history.csv
    for number in range(1, healthy.writes + 1):
        folder = tmp_path / str(number)
        with pytest.raises(OSError, match="No space left on device") as error:
            run(folder, Disk(number))
        assert "free space" in explain_command("train", error.value)
        assert not list(folder.glob("**/.*"))
        capsys.readouterr()
        run(folder, Disk())
        assert (f"continuing from step {min(number - 1, 3)}" in capsys.readouterr().err) == (number > 1)
        assert tiny.same(tmp_path / "whole", folder)
        assert tiny.logged(tmp_path / "whole") == tiny.logged(folder)


LEAK = """
import sys
from ccnet import cli
from ccnet.training.trainer import Trainer
step, held = Trainer.step, []
def leaking(self, *batch):
    held.append(bytearray(b"x") * 2**25)
    return step(self, *batch)
Trainer.step = leaking
sys.exit(cli.main())
"""


@pytest.mark.slow
def test_a_process_that_grows_is_started_again(trained, tmp_path):
    """32 MB a step; the process that continues does not leak."""
    chosen, extra = settings(tmp_path, **LASTING), ["--val-shards", val(tmp_path), "--workers", "2"]
    whole, grown = tmp_path / "whole", tmp_path / "grown"
    command = trained.command(whole, *extra, settings=chosen)
    subprocess.run(command, check=True, capture_output=True, timeout=600)
    limit = ["--memory-limit", str(1500)]
    command = [sys.executable, "-c", LEAK, *trained.command(grown, *extra, *limit, settings=chosen)[3:]]
    process = tiny.start(command)
    said = process.communicate(timeout=600)[1]
    assert process.returncode == 0, said
    (step,) = re.findall(r"memory grew past 1500 MB; saved at step (\d+) of 60, restarting", said)
    assert f"continuing from step {step} of 60" in said
    assert tiny.same(whole, grown)
    assert tiny.logged(whole) == tiny.logged(grown)


@pytest.mark.slow
@pytest.mark.parametrize("changes", [{}, {"backbone": "resnet18", "optimizer": "sgd"}], ids=["van", "resnet"])
def test_the_number_of_workers_changes_no_bit(trained, tmp_path, changes):
    chosen = settings(tmp_path, steps=8, warmup_steps=0, validate_every=4, **changes)
    extra = ["--val-shards", val(tmp_path)]
    for workers in ("0", "1", "3"):
        command = trained.command(tmp_path / workers, *extra, "--workers", workers, settings=chosen)
        subprocess.run(command, check=True, capture_output=True, timeout=600)
    for workers in ("1", "3"):
        ours, theirs = (load_file(tmp_path / number / "weights.safetensors") for number in (workers, "0"))
        assert all(np.array_equal(ours[name], theirs[name]) for name in theirs)
