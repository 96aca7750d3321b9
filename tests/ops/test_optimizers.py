import numpy as np
import pytest

from ccnet.ops import kernel
from ccnet.ops.optimizers import SGD, AdamW
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
