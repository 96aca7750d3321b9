"""The maps against an explicit (H·W) × (H·W) matrix, and against what the networks compute."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ccnet import InputError
from ccnet.attention import composed, cross, maps, nearest, projections
from ccnet.models import build
from ccnet.ops.criss_cross import CrissCrossAttention
from ccnet.ops.resize import resize
from ccnet.predictor import network_input
from ccnet.runtime import jt
from tests import tiny
from tests.ops.helpers import assert_close, draw

SIZES = [(5, 7), (1, 6), (6, 1), (1, 1), (9, 4)]


def network(recurrence: int, head: str = "rcca"):
    """An untrained network whose loops change the features: gamma is not 0."""
    model = build("van_tiny", 4, recurrence, head=head, head_channels=16)
    if recurrence:
        model.head.attention.gamma.assign(jt.array([0.7]))
    return model.eval()


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


@pytest.mark.parametrize("recurrence", [1, 2, 3])
def test_projections_are_those_of_each_loop(recurrence):
    model, (image, _) = network(recurrence), tiny.draw(1)
    model.train()
    query, key = projections(model, image)
    assert not model.is_training()
    assert query.dtype == key.dtype == np.float32
    with jt.no_grad():
        x = model.head.before(model.fused(model.backbone(network_input(model, image))))
        for loop in range(recurrence):
            for found, convolution in ((query, model.head.attention.query_conv), (key, model.head.attention.key_conv)):
                assert found.shape == (recurrence, 5, 6, 2)
                assert_close(found[loop], convolution(x).numpy()[0].transpose(1, 2, 0))
            x = model.head.attention(x)
    again, _ = projections(model, image)
    assert again.shape == query.shape  # no hook was left behind
    np.testing.assert_array_equal(again, query)


@pytest.mark.parametrize(("recurrence", "head"), [(0, "rcca"), (2, "non_local")])
def test_networks_without_crosses_are_refused(recurrence, head):
    with pytest.raises(InputError, match=r"^w\.safetensors: the network has no criss-cross attention"):
        projections(network(recurrence, head), tiny.draw(1)[0], "w.safetensors")


@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize(("pixels", "positions"), [(48, 6), (45, 6), (33, 5), (7, 7), (32, 1)])
def test_the_nearest_position_has_the_largest_part_in_the_pixels_logits(pixels, positions, align_corners):
    one_hot = jt.array(np.eye(positions, dtype=np.float32)[None, :, :, None])  # a channel for each position
    parts = resize(one_hot, (pixels, 1), align_corners).numpy()[0, :, :, 0]
    chosen = nearest(pixels, positions, align_corners)
    np.testing.assert_allclose(parts[chosen, np.arange(pixels)], parts.max(axis=0), atol=1e-5)
