import csv
import json
import os
import re
import shlex
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from ccnet import InputError
from ccnet.commands import train
from ccnet.data.shards import ShardReader
from ccnet.settings import Settings
from ccnet.training.trainer import Trainer
from ccnet.weights.checkpoints import Checkpoints
from tests import tiny

ROW = ["step", "learning_rate", "loss", "images_per_second"]
SGD = {"optimizer": "sgd", "learning_rate": 0.01, "weight_decay": 0.0005}


def rows(history: Path) -> list[dict[str, str]]:
    with open(history, newline="") as file:
        return list(csv.DictReader(file))


def saved_steps(checkpoints: Path) -> list[int]:
    return [int(path.stem.rpartition("_")[2]) for path in checkpoints.glob("[!.]*_step_*.safetensors")]


def wait_for_step(process, checkpoints: Path, step: int) -> None:
    """Wait until a training has saved at or after `step`."""
    end = time.monotonic() + 300
    while max(saved_steps(checkpoints), default=0) < step:
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < end
        time.sleep(0.02)


def wait_until_gone(processes: list[int]) -> None:
    end = time.monotonic() + 20
    while any(map(tiny.alive, processes)):
        assert time.monotonic() < end
        time.sleep(0.02)


def same_weights(one: Path, other: Path) -> bool:
    one, other = load_file(one), load_file(other)
    return one.keys() == other.keys() and all(np.array_equal(one[name], other[name]) for name in one)


def test_a_killed_training_continues_to_the_same_weights(trained, tmp_path):
    """kill -9 in the middle, then the same command; meanwhile nobody else may train there."""
    command = trained.command(tmp_path, "--checkpoint-every", "0")
    process = tiny.start(command)
    wait_for_step(process, tmp_path / "checkpoints", 5)
    with pytest.raises(InputError, match=rf"another training is running there \(process {process.pid}\)"):
        train.run(settings=trained.settings, shards=trained.shards, checkpoints=tmp_path / "checkpoints",
                  out=tmp_path / "other", history=tmp_path / "other.csv")  # fmt: skip
    others = tiny.children(process.pid)
    assert len(others) == 1
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    wait_until_gone(others)
    assert not (tmp_path / "weights.safetensors").exists()

    again = tiny.start(command)
    said = again.communicate(timeout=300)[1]
    assert again.returncode == 0, said
    (line,) = [line for line in said.splitlines() if "continuing from step" in line]
    assert line.endswith(" of 24")
    assert 5 <= int(line.split()[-3]) < 24
    assert [int(row["step"]) for row in rows(tmp_path / "history.csv")] == [10, 20, 24]
    assert same_weights(tmp_path / "weights.safetensors", trained.weights)


@pytest.mark.parametrize(("number", "workers"), [(signal.SIGINT, 1), (signal.SIGTERM, 2)])
def test_an_interrupted_training_saves_and_leaves_nobody_behind(trained, tmp_path, number, workers):
    process = tiny.start(
        trained.command(tmp_path, "--workers", str(workers), "--checkpoint-every", "5", "--set", "steps=100000")
    )
    wait_for_step(process, tmp_path / "checkpoints", 1)
    others = tiny.children(process.pid)
    assert len(others) == workers
    os.killpg(process.pid, number)  # as a terminal does it, or a cluster
    said = process.communicate(timeout=120)[1]
    assert process.returncode == 130, said
    assert "Traceback" not in said
    saved = max(saved_steps(tmp_path / "checkpoints"))
    assert f"ccnet: interrupted; saved at step {saved} of 100000" in said
    assert not any(map(tiny.alive, others))
    assert not (tmp_path / "weights.safetensors").exists()


@pytest.mark.parametrize("reader", ["2>&1 | head -1", "2>&-"])
def test_a_training_ends_well_that_nobody_reads(trained, tmp_path, reader):
    command = shlex.join(trained.command(tmp_path))
    done = subprocess.run(["bash", "-c", f"set -o pipefail; {command} {reader}"], timeout=300, stdout=subprocess.PIPE)
    assert done.returncode == 0
    assert max(saved_steps(tmp_path / "checkpoints")) == 24
    assert same_weights(tmp_path / "weights.safetensors", trained.weights)
    assert [int(row["step"]) for row in rows(tmp_path / "history.csv")] == [10, 20, 24]


def test_a_full_disk_is_one_line_and_leaves_the_last_checkpoint(trained, tmp_path):
    """A limit on the size of files stands in for the disk: the second training's checkpoints are larger."""
    import resource

    limit = trained.weights.stat().st_size
    process = tiny.start(
        trained.command(tmp_path, "--checkpoint-every", "0"),
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
    )
    said = process.communicate(timeout=300)[1]
    assert process.returncode == 1
    assert "Traceback" not in said
    (line,) = [line for line in said.splitlines() if "error" in line]
    assert "File too large" in line
    assert "free space" in line
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["lock"]


def test_a_finished_training_is_not_trained_again(trained, tmp_path, capsys):
    first = trained.weights.parent / "checkpoints"
    train.run(settings=trained.settings, shards=trained.shards, checkpoints=first, out=tmp_path / "w.safetensors",
              history=tmp_path / "history.csv", device="cpu")  # fmt: skip
    assert "continuing from step 24 of 24" in capsys.readouterr().err
    assert same_weights(tmp_path / "w.safetensors", trained.weights)
    assert (tmp_path / "history.csv").read_text() == trained.history.read_text()


def test_other_settings_or_shards_begin_anew(trained, tmp_path, capsys):
    chosen = Settings.read(trained.settings)
    reader = ShardReader(trained.shards)
    with Checkpoints(tmp_path, f"{chosen.fingerprint()}-{reader.fingerprint}") as store:
        store.save(Trainer(tiny.settings(), len(tiny.CLASSES)).checkpoint())
    run = {"settings": trained.settings, "checkpoints": tmp_path, "out": tmp_path / "w", "history": tmp_path / "h",
           "workers": 0}  # fmt: skip
    train.run(**run, shards=trained.shards, changes=["steps=1"])
    said = capsys.readouterr().err
    assert "continuing" not in said
    assert re.search(r"its checkpoints \(1, \d+ MB\) are of other settings or data: the training begins anew", said)
    assert [row["step"] for row in rows(tmp_path / "h")] == ["1"]
    train.run(**run, shards=trained.shards[:1], changes=["steps=1"])
    assert "continuing" not in capsys.readouterr().err
    train.run(**run, shards=trained.shards[:1], changes=["steps=1"])
    assert "continuing from step 1 of 1" in capsys.readouterr().err


def test_weights_carry_what_belongs_to_them(trained):
    from safetensors import safe_open

    with safe_open(trained.weights, framework="numpy") as file:
        metadata = {key: json.loads(value) for key, value in file.metadata().items()}
    assert metadata["settings"] == json.loads(trained.settings.read_text())
    assert (metadata["class_names"], metadata["palette"]) == (tiny.CLASSES, tiny.PALETTE)
    assert len(metadata["mean"]) == len(metadata["std"]) == 3


def test_a_warm_up_that_never_ends_is_warned_of(trained, tmp_path):
    done = subprocess.run(trained.command(tmp_path, "--set", "steps=2"), capture_output=True, text=True)
    assert done.returncode == 0
    assert "ccnet train: warning: steps 2 is not above warmup_steps 3: " in done.stderr


@pytest.mark.parametrize("name", ["out", "history"])
def test_a_place_that_cannot_be_written_is_refused_before_the_training(trained, tmp_path, name):
    places = {"out": tmp_path / "w", "history": tmp_path / "h"}
    places[name].mkdir()
    with pytest.raises(IsADirectoryError, match="a folder, not a file to write"):
        train.run(settings=trained.settings, shards=trained.shards, checkpoints=tmp_path / "checkpoints", **places)
    assert not (tmp_path / "checkpoints").exists()


def test_shards_without_images_are_refused(trained, tmp_path):
    empty = tiny.shard(tmp_path / "empty.h5", [])
    with pytest.raises(InputError, match=r"empty\.h5: no images"):
        train.run(settings=trained.settings, shards=[empty], checkpoints=tmp_path / "c", out=tmp_path / "w",
                  history=tmp_path / "h")  # fmt: skip
