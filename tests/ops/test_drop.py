import numpy as np
import pytest

from ccnet.ops.drop import Dropout2d, DropPath
from ccnet.runtime import jt


@pytest.mark.parametrize(("kind", "parts"), [(Dropout2d, (400, 10)), (DropPath, (4000,))])
def test_whole_parts_are_dropped_and_the_expectation_is_kept(kind, parts):
    drop = kind(0.3)
    drop.train()
    dropped = drop(jt.ones((*parts, *(2,) * (4 - len(parts))))).numpy()
    each = dropped.reshape(4000, -1)
    assert (each == each[:, :1]).all()
    assert set(each.ravel()) == {np.float32(0), np.float32(1 / 0.7)}
    assert dropped.mean() == pytest.approx(1, abs=0.05)
    drop.eval()
    assert (drop(jt.ones((100, 1, 1, 1))).numpy() == 1).all()


@pytest.mark.parametrize("kind", [Dropout2d, DropPath])
def test_what_is_dropped_depends_on_the_generator_given_and_on_nothing_else(kind):
    drop, x = kind(0.5), jt.ones((20, 3, 2, 2))
    drop.train()
    found = []
    for drawn in (0, 5):
        jt.rand(drawn + 1).sync()  # Jittor's own generator moves on
        drop.generator = np.random.default_rng(1)
        found.append(drop(x).numpy())
    assert np.array_equal(*found)
    assert not np.array_equal(found[0], drop(x).numpy())
