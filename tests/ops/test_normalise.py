import numpy as np
import pytest

from ccnet.ops.normalise import MEAN, STD, normalise
from ccnet.runtime import jt


@pytest.mark.parametrize("given", [(), ((1.5, 2, 3), (4, 5, 6))])
def test_each_channel_has_its_own_mean_and_std(given):
    images = np.random.default_rng(0).integers(0, 256, (2, 3, 5, 7), np.uint8)
    found = normalise(jt.array(images), *given)
    assert (found.shape, found.dtype) == ((2, 3, 5, 7), "float32")
    mean, std = (np.reshape(values, (3, 1, 1)) for values in given or (MEAN, STD))
    np.testing.assert_allclose(found.numpy(), (images.astype(float) - mean) / std, rtol=1e-5, atol=1e-6)


def test_agrees_with_torchvisions_numbers():
    """The published networks expect (x / 255 - mean) / std with these, of R, G and B."""
    np.testing.assert_allclose(np.array(MEAN) / 255, [0.485, 0.456, 0.406], rtol=1e-6)
    np.testing.assert_allclose(np.array(STD) / 255, [0.229, 0.224, 0.225], rtol=1e-6)
