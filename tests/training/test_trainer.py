import math
import os
from pathlib import Path

import numpy as np
import pytest

from ccnet.ops.batch_norm import BatchNorm
from ccnet.runtime import jt, nn
from ccnet.training.trainer import Diverged, Trainer, _optimizer
from tests import tiny

SGD = {"optimizer": "sgd", "learning_rate": 0.01, "weight_decay": 0.0005}


def batch(seed: int = 0):
    images, labels = (np.stack(arrays) for arrays in zip(*(tiny.draw(seed + i, 32, 32) for i in range(2)), strict=True))
    return images.transpose(0, 3, 1, 2), labels


def trainer(**changes) -> Trainer:
    one = Trainer(tiny.settings(**changes), len(tiny.CLASSES))
    one.begin(None, None, tiny.CLASSES)
    return one


def train_whole(one: Trainer) -> Trainer:
    for step in range(one.settings.schedule.steps):
        one.step(*batch(step))
    return one


def weights_of(one: Trainer) -> dict[str, np.ndarray]:
    return one.checkpoint().tensors


@pytest.mark.parametrize("changes", [{}, SGD, {"ema": 0.9, "clip_norm": 1.0}], ids=["adamw", "sgd", "ema"])
def test_restoring_loses_nothing(changes, capsys):
    """Steps 0 … 3 at a stretch, and with a checkpoint after the second, are the same to the last bit."""
    whole = trainer(**changes)
    losses = [whole.step(*batch(step)) for step in range(2)]
    whole.history.rows.append({"mean_iou": None})
    whole.measured(0.5)
    checkpoint = whole.checkpoint()._replace(peak_memory=10**15, seconds=1000)
    losses += [whole.step(*batch(step)) for step in range(2, 4)]
    continued = trainer(**changes)
    assert 20e6 < continued.peak_memory < 1e12
    continued.restore(checkpoint)
    assert continued.peak_memory == 10**15
    assert continued.seconds > 1000
    assert "continuing from step 2 of 24" in capsys.readouterr().err
    assert [continued.step(*batch(step)) for step in range(2, 4)] == losses[2:]
    ours, theirs = weights_of(continued), weights_of(whole)
    assert all(np.array_equal(ours[name], theirs[name]) for name in theirs)
    assert any(name.startswith("optimizer.") and value.any() for name, value in theirs.items())
    assert ours.keys() == theirs.keys()
    assert any(name.startswith("best.") for name in ours)
    assert any(name.startswith("average.") for name in ours) == ("ema" in changes)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_loss_that_is_no_number_ends_the_training(value, monkeypatch):
    one = trainer()
    monkeypatch.setattr(one, "_loss", lambda images, labels: jt.array(value) * one.model.head.attention.gamma.sum())
    one.model.head.attention.gamma.assign(jt.ones(1))
    with pytest.raises(Diverged, match=r"the loss is (nan|inf) at step 1: lower learning_rate \(now 0\.0005\)"):
        one.step(*batch())
    assert one.done == 0


@pytest.mark.parametrize("value", [math.nan, -math.inf])
def test_weights_that_are_no_numbers_are_not_saved(value):
    """Jittor's ReLU makes 0 of NaN: the loss may stay a number while the weights no longer are."""
    one = trainer()
    one.step(*batch())
    one.checkpoint()
    weight = one.model.backbone.norm2.weight
    weight.assign(jt.full(weight.shape, value))
    with pytest.raises(Diverged, match=r"^backbone\.norm2\.weight is not finite at step 1: lower learning_rate \(now "):
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

    def loss(one: Trainer):
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
    mine = _optimizer(ours, tiny.settings(optimizer=optimizer, learning_rate=0.1, momentum=0.8, weight_decay=0.3))
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


def test_a_gradient_that_is_no_number_changes_nothing(monkeypatch):
    """The loss is finite, as after Jittor's ReLU, which maps NaN to 0."""
    one = trainer()
    before = weights_of(one)
    gamma = one.model.head.attention.gamma
    monkeypatch.setattr(one, "_loss", lambda *_: jt.sqrt((gamma * gamma).sum()))  # infinite slope at 0
    with pytest.raises(Diverged, match=r"the gradient's norm is (nan|inf) at step 1"):
        one.step(*batch())
    after = weights_of(one)
    assert all(np.array_equal(before[name], after[name]) for name in before)


def test_gradients_are_clipped_to_the_norm():
    free, clipped = trainer(), trainer(clip_norm=0.1)
    for one in (free, clipped):
        one.step(*batch())
    assert free.norm == clipped.norm > 0.1
    ours, theirs = weights_of(clipped), weights_of(free)
    first_moments = [name for name in theirs if name.startswith("optimizer.") and ".m." in name]
    assert first_moments
    for name in first_moments:
        np.testing.assert_allclose(ours[name], theirs[name] * (0.1 / free.norm), rtol=1e-4, atol=1e-9)


def test_a_limit_above_the_norm_changes_no_bit():
    free, limited = trainer(), trainer(clip_norm=1e9)
    for one in (free, limited):
        one.step(*batch())
    ours, theirs = weights_of(limited), weights_of(free)
    assert all(np.array_equal(ours[name], theirs[name]) for name in theirs)


def test_the_average_is_measured_and_kept_and_the_weights_train_on():
    plain, averaged = trainer(), trainer(ema=0.5)
    for one in (plain, averaged):
        for step in range(2):
            one.step(*batch(step))
    kept = averaged.kept()
    own = averaged.model.state_dict()["classifier.conv.weight"].numpy()
    assert not np.array_equal(kept["classifier.conv.weight"], own)
    with averaged.measuring():
        assert not averaged.model.is_training()
        np.testing.assert_array_equal(averaged.model.classifier.conv.weight.numpy(), kept["classifier.conv.weight"])
    assert averaged.model.is_training()
    losses = [one.step(*batch(2)) for one in (plain, averaged)]
    assert losses[0] == losses[1]


def test_the_best_weights_are_those_of_the_highest_iou():
    one, found = trainer(), []
    for step, mean_iou in enumerate([0.3, 0.5, 0.4]):
        one.step(*batch(step))
        one.history.rows.append({"mean_iou": None})
        one.measured(mean_iou)
        found.append(one.kept())
    assert one.best is not None
    assert all(np.array_equal(one.best[name], found[1][name]) for name in found[1])
    assert not np.array_equal(one.best["classifier.conv.weight"], found[2]["classifier.conv.weight"])
