import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ccnet.ops.sliding_window import starts, window_weights

SIDES = st.integers(1, 300)


@pytest.mark.parametrize(
    ("size", "window", "stride", "expected"),
    [
        (10, 4, 3, [0, 3, 6]),
        (11, 4, 3, [0, 3, 6, 7]),  # the last is shifted back
        (4, 4, 3, [0]),
        (3, 4, 3, [0]),  # an image smaller than the window
        (5, 4, 4, [0, 1]),
        (2048, 769, 513, [0, 513, 1026, 1279]),
    ],
)
def test_windows_by_hand(size, window, stride, expected):
    assert starts(size, window, stride) == expected


@given(SIDES, SIDES, SIDES)
def test_every_pixel_is_covered_and_no_window_leaves_the_image(size, window, stride):
    stride, length = min(stride, window), min(window, size)
    found = starts(size, window, stride)
    covered = np.zeros(size, int)
    for start in found:
        assert 0 <= start <= size - length
        covered[start : start + length] += 1
    assert covered.all()
    assert len(set(found)) == len(found) == 1 + -(-(size - length) // stride)


@given(SIDES, SIDES, SIDES)
def test_shares_sum_to_one_at_every_pixel(size, window, stride):
    total = np.zeros(size)
    for start, share in window_weights(size, window, min(stride, window)):
        assert (share > 0).all()
        total[start : start + len(share)] += share
    np.testing.assert_allclose(total, 1, rtol=1e-5)


def test_a_window_counts_less_towards_its_edges():
    (_, first), (_, second) = window_weights(6, 4, 2)
    np.testing.assert_allclose(first, [1, 1, 2 / 3, 1 / 3])
    np.testing.assert_allclose(second, [1 / 3, 2 / 3, 1, 1])
