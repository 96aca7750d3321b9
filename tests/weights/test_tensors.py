import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ccnet.weights.tensors import Storage, Tensor, torch_storage

NUMBERS = np.arange(24, dtype="<f4")


@given(st.permutations(range(3)), st.sampled_from([(2, 3, 4), (1, 24, 1), (4, 0, 6)]))
def test_a_view_is_what_numpy_makes_of_it(order, shape):
    expected = np.zeros(shape, np.float32) if 0 in shape else NUMBERS.reshape(shape)
    expected = expected.transpose(order)
    strides = tuple(stride // 4 for stride in expected.strides)
    found = Tensor(Storage("<f4", 24, NUMBERS.tobytes()), 0, expected.shape, strides).numpy()
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(("offset", "shape", "strides"), [(1, (24,), (1,)), (0, (5, 5), (5, 1)), (0, (48,), (0,))])
def test_a_view_that_takes_more_than_its_storage_has_is_refused(offset, shape, strides):
    with pytest.raises(ValueError, match="beyond its storage"):
        Tensor(Storage("<f4", 24, NUMBERS.tobytes()), offset, shape, strides).numpy()


def test_a_storage_of_an_unknown_kind_is_refused():
    with pytest.raises(ValueError, match="unknown kind of storage"):
        torch_storage(("tape", None, "0", "cpu", 4))
