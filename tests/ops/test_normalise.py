import numpy as np

from ccnet.ops.normalise import MEAN, STD, normalise
from ccnet.runtime import jt


def test_channels_come_first_and_each_has_its_own_mean():
    image = np.random.default_rng(0).integers(0, 256, (2, 5, 7, 3), np.uint8)
    found = normalise(jt.array(image))
    assert (found.shape, found.dtype) == ((2, 3, 5, 7), "float32")
    expected = (image.astype(float) - MEAN) / STD
    np.testing.assert_allclose(found.numpy(), expected.transpose(0, 3, 1, 2), rtol=1e-5, atol=1e-6)


def test_agrees_with_torchvisions_numbers():
    """The published networks expect (x / 255 - mean) / std with these, of R, G and B."""
    np.testing.assert_allclose(np.array(MEAN) / 255, [0.485, 0.456, 0.406], rtol=1e-6)
    np.testing.assert_allclose(np.array(STD) / 255, [0.229, 0.224, 0.225], rtol=1e-6)
