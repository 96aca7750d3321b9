"""The maps against an explicit (H·W) × (H·W) matrix, and against what the operator computes."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ccnet import InputError
from ccnet.attention import Look, composed, cross, maps
from ccnet.ops.criss_cross import CrissCrossAttention
from ccnet.runtime import jt
from tests.ops.helpers import assert_close, draw

SIZES = [(5, 7), (1, 6), (6, 1), (1, 1), (9, 4)]


def loops(count: int, size: tuple[int, int], scale: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Queries and keys `(R, H, W, 3)`, float64."""
    query, key = draw(sum(size) + count, *[(count, *size, 3)] * 2)
    return scale * query.astype(np.float64), scale * key.astype(np.float64)


def matrix(query: np.ndarray, key: np.ndarray) -> np.ndarray:
    """A loop's attention matrix `(H·W, H·W)`, from all pairs of positions."""
    y, x = (place.ravel() for place in np.indices(query.shape[:2]))
    seen = (y[:, None] == y) | (x[:, None] == x)
    weights = np.exp(query.reshape(len(y), -1) @ key.reshape(len(y), -1).T) * seen
    return weights / weights.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("count", [1, 2, 3])
def test_composed_is_a_row_of_the_product_of_the_loops_matrices(count, size):
    query, key = loops(count, size)
    product = np.eye(size[0] * size[1])
    for pair in zip(query, key, strict=True):
        product = matrix(*pair) @ product  # a later loop on the left
    for index, place in enumerate(np.ndindex(size)):
        assert_close(composed(query, key, *place), product[index].reshape(size), 1e-12)


def test_maps_are_those_after_each_loop():
    query, key = loops(3, (5, 7))
    found = maps(query, key, 4, 2)
    np.testing.assert_array_equal(found[0], cross(query[0], key[0], 4, 2))
    np.testing.assert_array_equal(found[1], composed(query[:2], key[:2], 4, 2))
    np.testing.assert_array_equal(found[2], composed(query, key, 4, 2))


def test_one_loop_sees_the_cross_and_two_see_everything():
    query, key = loops(2, (5, 7))
    one, two = maps(query, key, 1, 3)
    on_cross = np.zeros((5, 7), bool)
    on_cross[1], on_cross[:, 3] = True, True
    np.testing.assert_array_equal(one > 0, on_cross)
    assert (two > 0).all()


@given(st.integers(1, 3), st.tuples(st.integers(1, 12), st.integers(1, 12)), st.floats(0, 30, allow_subnormal=False))
def test_maps_are_shares(count, size, scale):
    query, key = (array.astype(np.float32) for array in loops(count, size, scale))
    found = maps(query, key, size[0] // 2, size[1] - 1)
    assert found.shape == (count, *size)
    assert found.dtype == np.float32
    assert (found >= 0).all()
    np.testing.assert_allclose(found.sum(axis=(1, 2)), 1, atol=1e-5)


@pytest.mark.parametrize("size", SIZES)
def test_the_cross_is_what_the_operator_gathers_with(size):
    attention = CrissCrossAttention(16)
    attention.gamma.assign(jt.array([0.7]))
    (x,) = draw(3, (1, 16, *size))
    with jt.no_grad():
        query, key, value, y = (
            layer(jt.array(x)).numpy()[0].transpose(1, 2, 0)
            for layer in (attention.query_conv, attention.key_conv, attention.value_conv, attention)
        )
    for place in np.ndindex(size):
        gathered = np.einsum("hw,hwc->c", cross(query, key, *place), value)
        assert_close(y[place], x[0][:, *place] + 0.7 * gathered)


def test_a_look_is_saved_with_half_the_digits(tmp_path):
    query, key = (array.astype(np.float32) for array in loops(2, (3, 4)))
    look = Look(query, key, np.repeat(np.arange(3), 8), np.repeat(np.arange(4), 9))
    look.save(tmp_path / "a.npz")
    again = Look.load(tmp_path / "a.npz")
    assert again.query.dtype == again.key.dtype == np.float16
    np.testing.assert_array_equal(again.rows, look.rows)
    np.testing.assert_allclose(again.maps(30, 9), look.maps(30, 9), atol=1e-2)
    np.testing.assert_array_equal(look.maps(30, 9), maps(query, key, 1, 3))


@pytest.mark.parametrize("contents", [b"", b"PK\x03\x04", b"no archive"])
def test_another_file_is_refused(tmp_path, contents):
    (tmp_path / "a.npz").write_bytes(contents)
    with pytest.raises(InputError, match=r"a\.npz: .*; evaluate again"):
        Look.load(tmp_path / "a.npz")


def test_an_archive_of_other_arrays_is_refused(tmp_path):
    np.savez(tmp_path / "a.npz", query=np.zeros(3))
    with pytest.raises(InputError, match=r"a\.npz: .*; evaluate again"):
        Look.load(tmp_path / "a.npz")
