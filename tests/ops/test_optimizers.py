import subprocess
import sys

import numpy as np
import pytest

from ccnet.ops import kernel
from ccnet.ops.optimizers import SGD, AdamW, Average
from ccnet.runtime import jt
from tests.ops.helpers import assert_close, draw

SHAPES = [(7,), (5, 3, 3, 3), (300, 200)]  # the last is shared by threads
OPTIMIZERS = {
    "sgd": lambda library, groups: library.SGD(groups, 0.1, 0.8),
    "adamw": lambda library, groups: library.AdamW(groups, 0.1, betas=(0.8, 0.99)),
}


class Ours:
    SGD, AdamW = SGD, AdamW


def trained(library, name: str, steps: int = 4) -> list[np.ndarray]:
    """Two groups of parameters behind some steps of gradients that depend on where they are."""
    values = [jt.array(array).start_grad() for array in draw(0, *SHAPES)]
    targets = [jt.array(array) for array in draw(1, *SHAPES)]
    groups = [{"params": values[:1], "weight_decay": 0.3}, {"params": values[1:], "weight_decay": 0.0}]
    optimizer = OPTIMIZERS[name](library, groups)
    for _ in range(steps):
        optimizer.step(sum(((value - target) ** 2).sum() for value, target in zip(values, targets, strict=True)))
    return [value.numpy() for value in values]


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_steps_are_those_of_jittor(name):
    for ours, theirs in zip(trained(Ours, name), trained(jt.optim, name), strict=True):
        assert_close(ours, theirs)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_where_the_kernel_does_not_apply_jittor_takes_the_step(name, monkeypatch):
    expected = trained(Ours, name)
    monkeypatch.setattr(kernel, "available", lambda *_: False)
    for ours, plain in zip(trained(Ours, name), expected, strict=True):
        assert_close(ours, plain)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_what_was_computed_lazily_is_of_the_old_weights(name):
    weight = jt.array(np.ones(4, np.float32)).start_grad()
    copied, loss, twice = weight.numpy(), (weight * 3).sum(), weight * 2
    OPTIMIZERS[name](Ours, [weight]).step(loss)
    assert loss.item() == 12
    assert (twice.numpy() == 2).all()
    assert (copied == 1).all()
    assert (weight.numpy() < 1).all()


TINY = """
import numpy as np
from ccnet.ops.optimizers import AdamW
from ccnet.runtime import jt

jt.nn.Conv(64, 64, 5)(jt.randn(4, 64, 64, 64)).sync()
weight = jt.array(np.ones(100_000, np.float32)).start_grad()
exponents = np.random.default_rng(0).uniform(-46, -12, 100_000)
AdamW([weight], 0.1).step((weight * jt.array((10.0**exponents).astype(np.float32))).sum())
assert np.isfinite(weight.numpy()).all()
"""


def test_gradients_whose_squares_are_below_the_normal_numbers_are_harmless():
    """In a process of its own, whose threads began before a fast-math library told the first to round to zero."""
    done = subprocess.run([sys.executable, "-c", TINY], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def after_backward(name: str):
    """An optimizer with gradients 2 · value of three parameters; the values."""
    values = [jt.array(array).start_grad() for array in draw(0, *SHAPES)]
    optimizer = OPTIMIZERS[name](Ours, values)
    optimizer.backward(sum((value**2).sum() for value in values))
    return optimizer, [value.numpy() for value in values]


def test_the_norm_is_of_all_gradients_together():
    optimizer, values = after_backward("sgd")
    expected = np.sqrt(sum((4 * value.astype(np.float64) ** 2).sum() for value in values))
    assert optimizer.gradient_norm() == pytest.approx(expected, rel=1e-6)
    with kernel.without_kernels():
        assert optimizer.gradient_norm() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_the_norm_of_a_gradient_that_is_no_number_is_none(value):
    weight = jt.array(np.ones(70_000, np.float32)).start_grad()
    optimizer = SGD([weight], 0.1)
    factor = np.ones(70_000, np.float32)
    factor[40_000] = value
    optimizer.backward((weight * jt.array(factor)).sum())
    assert not np.isfinite(optimizer.gradient_norm())


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_scaled_gradients_are_those_of_a_scaled_loss(name):
    (one, _), other = after_backward(name), after_backward(name)[0]
    one.step(scale=0.25)
    other.gradients = [gradient * 0.25 for gradient in other.gradients]
    other.step()
    for ours, theirs in zip(one.param_groups[0]["params"], other.param_groups[0]["params"], strict=True):
        np.testing.assert_array_equal(ours.numpy(), theirs.numpy())


@pytest.mark.parametrize("plain", [False, True])
def test_the_average_is_exponential(plain, monkeypatch):
    if plain:
        monkeypatch.setattr(kernel, "available", lambda *_: False)
    first, second = ([jt.array(array) for array in draw(seed, *SHAPES)] for seed in (0, 1))
    average = Average(dict(zip("abc", first, strict=True)), 0.5)
    average.update(dict(zip("abc", second, strict=True)), 1)  # (1 + 1) / (10 + 1) is below 0.5
    for mean, old, new in zip(average.values.values(), first, second, strict=True):
        assert_close(mean.numpy(), old.numpy() * 2 / 11 + new.numpy() * 9 / 11)
    average.update(dict(zip("abc", first, strict=True)), 100)
    for mean, old, new in zip(average.values.values(), first, second, strict=True):
        assert_close(mean.numpy(), (old.numpy() * 2 / 11 + new.numpy() * 9 / 11) / 2 + old.numpy() / 2)
