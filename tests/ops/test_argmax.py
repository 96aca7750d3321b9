from contextlib import nullcontext

import numpy as np
import pytest

from ccnet.ops import kernel
from ccnet.ops.argmax import argmax, with_probability
from ccnet.runtime import jt
from tests.ops.helpers import draw


@pytest.fixture(params=[nullcontext, kernel.without_kernels], ids=["kernel", "plain"], autouse=True)
def _with_and_without_kernel(request):
    with request.param():
        yield


@pytest.mark.parametrize("shape", [(1, 3, 4), (19, 33, 70), (255, 2, 3)])
def test_it_is_the_first_of_the_largest_scores(shape):
    rng = np.random.default_rng(0)
    for scores in (rng.normal(size=shape), rng.integers(-2, 2, shape)):
        scores = scores.astype(np.float32)
        for labels in (argmax(jt.array(scores)), with_probability(jt.array(scores))[0]):
            assert labels.dtype == "uint8"
            np.testing.assert_array_equal(labels.numpy(), scores.argmax(axis=0))


@pytest.mark.parametrize("value", [np.nan, -np.inf, np.inf])
def test_scores_that_are_no_numbers_give_a_class_all_the_same(value):
    assert argmax(jt.array(np.full((4, 5, 6), value, np.float32))).numpy().max() < 4


@pytest.mark.parametrize("classes", [1, 3, 150])
def test_the_probability_of_logits_is_their_softmax(classes):
    (logits,) = draw(0, (classes, 17, 60))
    powers = np.exp(4 * logits.astype(np.float64))
    found = with_probability(jt.array(4 * logits))[1]
    assert found.dtype == "uint8"
    assert np.abs(found.numpy() - 255 * powers.max(axis=0) / powers.sum(axis=0)).max() < 0.501


def test_the_probability_of_several_views_is_their_mean():
    probabilities = np.random.default_rng(0).dirichlet(np.ones(5), (9, 11)).transpose(2, 0, 1).astype(np.float32)
    found = with_probability(jt.array(3 * probabilities), views=3)[1].numpy()
    assert np.abs(found - 255 * probabilities.max(axis=0)).max() < 0.501
