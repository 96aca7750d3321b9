import numpy as np
import pytest

from ccnet.segmentation.probabilities import writing


def test_strips_become_one_array(tmp_path):
    whole = np.random.default_rng(0).random((3, 7, 5)).astype(np.float32)
    with writing(tmp_path / "a.npy", (7, 5)) as add:
        for top, end in ((0, 2), (2, 6), (6, 7)):
            add(whole[:, top:end])
    found = np.load(tmp_path / "a.npy")
    assert found.dtype == np.float16
    np.testing.assert_array_equal(found, whole.astype(np.float16))


def test_an_error_leaves_nothing(tmp_path):
    with pytest.raises(IndexError), writing(tmp_path / "a.npy", (7, 5)) as add:
        add(np.zeros(0, np.float32))
    assert not list(tmp_path.iterdir())
