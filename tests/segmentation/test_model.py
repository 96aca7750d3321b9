import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

import ccnet
from ccnet import InputError
from tests import tiny
from tests.segmented import expected


@pytest.fixture(scope="module")
def model(trained):
    return ccnet.load(trained.weights)


def test_a_path_an_image_and_an_array_are_the_same(model, trained, tmp_path):
    image = Image.fromarray(tiny.draw(1, 50, 37)[0])
    image.save(tmp_path / "a.png")
    wanted = expected(trained, image)
    for same in (tmp_path / "a.png", str(tmp_path / "a.png"), image, image.convert("RGBA"), np.asarray(image)):
        assert np.array_equal(model(same), wanted)
    assert (model.class_names, model.palette) == (tiny.CLASSES, tiny.PALETTE)


def test_probabilities_have_their_largest_where_the_class_is(model):
    image = tiny.draw(2, 45, 61)[0]
    shares = model.probabilities(image)
    assert (shares.dtype, shares.shape) == (np.float32, (4, 61, 45))
    np.testing.assert_allclose(shares.sum(axis=0), 1, rtol=1e-5)
    np.testing.assert_array_equal(shares.argmax(axis=0), model(image))


def test_an_iterable_is_segmented_as_it_is_asked_for(model):
    asked = []

    def images():
        for seed in range(3):
            asked.append(seed)
            yield tiny.draw(seed)[0]

    found = model(images())
    assert not asked
    assert np.array_equal(next(found), model(tiny.draw(0)[0]))
    assert asked == [0]
    assert len(list(found)) == 2
    batch = np.stack([tiny.draw(seed)[0] for seed in range(2)])
    assert [shares.shape for shares in model.probabilities(batch)] == [(4, 40, 48)] * 2


def test_an_opened_image_is_turned_and_laid_over_white_like_its_file(model, tmp_path):
    clear = Image.fromarray(np.dstack([tiny.draw(3, 50, 37)[0], np.tile(np.uint8([0, 255] * 25), (37, 1))]))
    exif = Image.Exif()
    exif[0x0112] = 6
    clear.save(tmp_path / "a.png", exif=exif)
    assert model(tmp_path / "a.png").shape == (50, 37)
    with Image.open(tmp_path / "a.png") as image:
        assert np.array_equal(model(image), model(tmp_path / "a.png"))


@pytest.mark.parametrize("array", [np.zeros((5, 5), np.uint8), np.zeros((5, 5, 3)), np.zeros((0, 5, 3), np.uint8)])
def test_an_array_that_is_no_image_is_refused(model, array):
    with pytest.raises(InputError, match=r"give uint8 \(height, width, 3\), RGB from 0 to 255"):
        model(array)


def test_what_is_no_image_is_refused_by_its_type(model):
    with pytest.raises(InputError, match="an image of type int: give a path"):
        next(model(b"P6"))


def test_a_device_of_another_name_is_refused(trained):
    with pytest.raises(InputError, match="device: 'cuda:0': choose 'auto', 'cpu' or 'cuda'"):
        ccnet.load(trained.weights, device="cuda:0")


def test_what_cannot_be_read_is_named(model, tmp_path):
    (tmp_path / "a.png").touch()
    with pytest.raises(InputError, match=r"a\.png: the file is empty"):
        model(tmp_path / "a.png")


def test_importing_the_package_loads_no_jittor():
    script = "import sys, ccnet; sys.exit('jittor' in sys.modules or 'numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script]).returncode == 0
