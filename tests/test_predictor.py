import numpy as np
import pytest

from ccnet import weights
from ccnet.ops.normalise import normalise
from ccnet.predictor import Predictor
from ccnet.runtime import jt
from tests import tiny


@pytest.fixture(scope="module")
def model(trained):
    return weights.load(trained.weights).model


@pytest.mark.parametrize("size", [(1, 1), (1, 70), (33, 2), (32, 32), (45, 61)])
def test_a_map_of_the_images_size(model, size):
    height, width = size
    found = Predictor(model)(tiny.draw(1, width, height)[0])
    assert found.shape == size
    assert found.dtype == np.uint8
    assert found.max() < len(tiny.CLASSES)


def test_each_pixel_has_the_class_of_its_largest_logit(model):
    image, _ = tiny.draw(2, 50, 37)
    model.eval()
    logits = model(normalise(jt.array(image[None]))).numpy()[0]
    np.testing.assert_array_equal(Predictor(model)(image), logits.argmax(axis=0))


def test_small_images_are_continued_at_their_edges(model):
    image, _ = tiny.draw(3, 20, 40)
    wide = np.concatenate([image, np.repeat(image[:, -1:], 12, axis=1)], axis=1)
    np.testing.assert_array_equal(Predictor(model)(image), Predictor(model)(wide)[:, :20])


def test_a_training_network_is_put_in_eval_mode(model):
    model.train()
    image, _ = tiny.draw(4)
    first = Predictor(model)
    np.testing.assert_array_equal(first(image), first(image))
    assert not model.is_training()


def test_views_are_fine(model):
    image, _ = tiny.draw(5)
    np.testing.assert_array_equal(Predictor(model)(image[:, ::-1]), Predictor(model)(image[:, ::-1].copy()))
