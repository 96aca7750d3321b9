import csv
import json
import math
import os
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
from ccnet.ops.batch_norm import BatchNorm
from ccnet.ops.schedule import poly
from ccnet.runtime import jt, nn
from ccnet.settings import Settings
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


def batch(seed: int = 0):
    images, labels = (np.stack(arrays) for arrays in zip(*(tiny.draw(seed + i, 32, 32) for i in range(2)), strict=True))
    return images.transpose(0, 3, 1, 2), labels


def trainer(**changes) -> train.Trainer:
    return train.Trainer(tiny.settings(**changes), len(tiny.CLASSES))


def train_whole(one: train.Trainer) -> train.Trainer:
    for step in range(one.settings.schedule.steps):
        one.step(*batch(step))
    return one


def weights_of(one: train.Trainer) -> dict[str, np.ndarray]:
    return one.checkpoint().tensors


def test_history_has_a_row_for_each_tenth_step_and_the_last(trained):
    found = rows(trained.history)
    assert list(found[0]) == ROW
    assert [int(row["step"]) for row in found] == [10, 20, 24]
    assert all(math.isfinite(float(row["loss"])) and float(row["images_per_second"]) > 0 for row in found)
    assert float(found[-1]["loss"]) < float(found[0]["loss"])


def test_learning_rate_follows_the_schedule(trained):
    for row in rows(trained.history):
        rate = poly(int(row["step"]) - 1, steps=24, base=0.002, power=0.9, warmup=3, final=0.0)
        assert float(row["learning_rate"]) == pytest.approx(rate, rel=1e-12)


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
    reader = train.ShardReader(trained.shards)
    with Checkpoints(tmp_path, f"{chosen.fingerprint()}-{reader.fingerprint}") as store:
        store.save(trainer().checkpoint())
    run = {"settings": trained.settings, "checkpoints": tmp_path, "out": tmp_path / "w", "history": tmp_path / "h",
           "workers": 0}  # fmt: skip
    train.run(**run, shards=trained.shards, changes=["steps=1"])
    assert "continuing" not in capsys.readouterr().err
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


@pytest.mark.parametrize("changes", [{}, SGD], ids=["adamw", "sgd"])
def test_restoring_loses_nothing(changes, capsys):
    """Steps 0 … 3 at a stretch, and with a checkpoint after the second, are the same to the last bit."""
    whole = trainer(**changes)
    losses = [whole.step(*batch(step)) for step in range(2)]
    checkpoint = whole.checkpoint()
    losses += [whole.step(*batch(step)) for step in range(2, 4)]
    continued = trainer(**changes)
    continued.restore(checkpoint)
    assert "continuing from step 2 of 24" in capsys.readouterr().err
    assert [continued.step(*batch(step)) for step in range(2, 4)] == losses[2:]
    ours, theirs = weights_of(continued), weights_of(whole)
    assert all(np.array_equal(ours[name], theirs[name]) for name in theirs)
    assert any(name.startswith("optimizer.") and value.any() for name, value in theirs.items())


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_loss_that_is_no_number_ends_the_training(value, monkeypatch):
    one = trainer()
    monkeypatch.setattr(one, "_loss", lambda images, labels: jt.array(value) * one.model.head.attention.gamma.sum())
    one.model.head.attention.gamma.assign(jt.ones(1))
    with pytest.raises(InputError, match=r"the loss is (nan|inf) at step 1: lower learning_rate \(now 0\.0005\)"):
        one.step(*batch())


@pytest.mark.parametrize("value", [math.nan, -math.inf])
def test_weights_that_are_no_numbers_are_not_saved(value):
    """Jittor's ReLU makes 0 of NaN: the loss may stay a number while the weights no longer are."""
    one = trainer()
    one.step(*batch())
    one.checkpoint()
    weight = one.model.backbone.norm2.weight
    weight.assign(jt.full(weight.shape, value))
    with pytest.raises(
        InputError, match=r"^backbone\.norm2\.weight is not finite at step 1: lower learning_rate \(now "
    ):
        one.checkpoint()


@pytest.mark.parametrize(
    "loss",
    [{"loss": "ohem"}, {"auxiliary_weight": 0.0}, {"category_consistency": 0.1}],
    ids=lambda loss: next(iter(loss)),
)
def test_every_loss_trains(loss):
    one = trainer(**loss)
    before = weights_of(one)
    assert math.isfinite(one.step(*batch()))
    assert any(not np.array_equal(before[name], value) for name, value in weights_of(one).items())


def test_a_warm_up_that_never_ends_is_warned_of(trained, tmp_path):
    done = subprocess.run(trained.command(tmp_path, "--set", "steps=2"), capture_output=True, text=True)
    assert done.returncode == 0
    assert "ccnet train: warning: steps 2 is not above warmup_steps 3: " in done.stderr


def test_shards_without_images_are_refused(trained, tmp_path):
    empty = tiny.shard(tmp_path / "empty.h5", [])
    with pytest.raises(InputError, match=r"empty\.h5: no images"):
        train.run(settings=trained.settings, shards=[empty], checkpoints=tmp_path / "c", out=tmp_path / "w",
                  history=tmp_path / "h")  # fmt: skip


def labelled(share: float, seed: int):
    """A batch of four, the last two of which have this share of their pixels labelled."""
    pairs = [tiny.draw(seed + i, 32, 32) for i in range(4)]
    images, labels = (np.stack(arrays) for arrays in zip(*pairs, strict=True))
    labels[2:, int(32 * share) :] = 255
    return images.transpose(0, 3, 1, 2), labels


def frozen(norm, x, residual=None, slope=1.0):
    scale, shift = (value.reshape(1, -1, 1, 1) for value in (norm.weight, norm.bias))
    x = x * scale + shift if residual is None else x * scale + shift + residual
    return x if slope == 1 else nn.leaky_relu(x, slope)


@pytest.mark.parametrize("share", [1.0, 0.3, 0.0])
@pytest.mark.parametrize("changes", [{}, SGD | {"backbone": "resnet18"}], ids=["adamw", "sgd"])
def test_accumulated_batches_are_one_large_one(changes, share, monkeypatch):
    """Once batch norm, which sees each alone, is frozen; two parts of unlike weight.

    The moments tell it: AdamW's weights would show the rounding of gradients that are next to nothing.
    """
    monkeypatch.setattr(BatchNorm, "execute", frozen)
    whole, parts = (trainer(**changes, dropout=0.0, batch_size=4 // n, accumulate=n) for n in (1, 2))
    losses = [one.step(*labelled(share, 0)) for one in (whole, parts)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    assert parts.optimizer.n_step == 1
    ours, theirs = weights_of(parts), weights_of(whole)
    moments = [name for name in theirs if name.startswith("optimizer.")]
    assert sum(theirs[name].any() for name in moments) > 50
    for name in moments:
        assert np.linalg.norm(ours[name] - theirs[name]) <= 1e-3 * np.linalg.norm(theirs[name]) + 1e-7, name


def test_what_is_dropped_depends_on_seed_step_and_part_alone(monkeypatch):
    drawn: list[float] = []

    def loss(one: train.Trainer):
        return lambda *_: drawn.append(one.drops[0].generator.random()) or one.model.head.attention.gamma.sum()

    for done in (0, 1):  # from the start, and continued behind the first step
        one = trainer(batch_size=1, accumulate=2)
        monkeypatch.setattr(one, "_loss", loss(one))
        one.done = done
        jt.rand(1 + done).sync()  # Jittor's own generator moves on
        for _ in range(done, 2):
            one.step(*batch())
    assert len(set(drawn[:4])) == 4
    assert drawn[4:] == drawn[2:4]


class Pair(nn.Module):
    """A matrix, which decays, and a vector, which does not."""

    def __init__(self, matrix: np.ndarray, vector: np.ndarray):
        self.matrix, self.vector = nn.Parameter(jt.array(matrix)), nn.Parameter(jt.array(vector))

    def loss(self, x):
        return ((x @ self.matrix + self.vector) ** 2).mean()


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_optimisers_are_those_of_pytorch(optimizer):
    import torch

    rng = np.random.default_rng(0)
    matrix, vector, x = (rng.standard_normal(shape).astype(np.float32) for shape in ((4, 3), (3,), (5, 4)))
    ours = Pair(matrix, vector)
    mine = train._optimizer(ours, tiny.settings(optimizer=optimizer, learning_rate=0.1, momentum=0.8, weight_decay=0.3))
    theirs = [torch.tensor(array, requires_grad=True) for array in (matrix, vector)]
    if optimizer == "sgd":
        other = torch.optim.SGD(theirs, 0.1, 0.8, weight_decay=0.3)
    else:
        other = torch.optim.AdamW([{"params": theirs[:1], "weight_decay": 0.3},
                                   {"params": theirs[1:], "weight_decay": 0.0}], 0.1, betas=(0.8, 0.999))  # fmt: skip
    for step in range(20):
        mine.lr = 0.1 / (step + 1)
        for group in other.param_groups:
            group["lr"] = 0.1 / (step + 1)
        mine.step(ours.loss(jt.array(x)))
        other.zero_grad()
        ((torch.tensor(x) @ theirs[0] + theirs[1]) ** 2).mean().backward()
        other.step()
    np.testing.assert_allclose(ours.matrix.numpy(), theirs[0].detach().numpy(), rtol=2e-5, atol=5e-6)
    np.testing.assert_allclose(ours.vector.numpy(), theirs[1].detach().numpy(), rtol=2e-5, atol=5e-6)


def loaded_kernels() -> int:
    """Kernels of Jittor's that this process has loaded, compiled or from the cache."""
    maps = Path("/proc/self/maps").read_text()
    return len({line.split()[-1] for line in maps.splitlines() if "/jit/" in line and line.endswith(".so")})


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.slow
def test_a_long_training_neither_compiles_nor_grows():
    """The learning rate, AdamW's bias correction and the dropout change each step; kernels and memory must not."""
    one = trainer(steps=300)
    for step in range(60):
        one.step(*batch(step))
    kernels, before = loaded_kernels(), resident()
    for step in range(60, 240):
        one.step(*batch(step))
    assert kernels > 50
    assert loaded_kernels() == kernels
    assert resident() - before < 2**25
