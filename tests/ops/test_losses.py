from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ccnet import InputError
from ccnet.ops.losses import category_consistent, cross_entropy, ohem
from ccnet.runtime import jt
from tests.ops.helpers import assert_close, draw

OHEM = partial(ohem, threshold=0.6, keep=30)
LOSSES = [cross_entropy, OHEM, category_consistent]


def example(seed: int = 0, image: tuple[int, ...] = (2, 5, 6, 7), ignored: float = 0.2, dtype=np.int32):
    """Logits (or features), and labels of which a share is ignored."""
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, image[1], (image[0], *image[2:])).astype(dtype)
    labels[generator.random(labels.shape) < ignored] = 255
    return draw(seed, image)[0] * 3, labels


def loss_and_gradient(loss, x: np.ndarray, labels: np.ndarray, **options) -> tuple[np.ndarray, np.ndarray]:
    variable = jt.array(x)
    value = loss(variable, jt.array(labels), **options)
    return value.numpy(), jt.grad(value, variable).numpy()


@settings(max_examples=20, deadline=None)
@given(
    image=st.tuples(st.integers(1, 3), st.integers(1, 20), st.integers(1, 40), st.integers(1, 40)),
    ignored=st.sampled_from([0, 0.3, 0.9]),
    dtype=st.sampled_from([np.int32, np.uint8]),
)
def test_cross_entropy_agrees_with_torch(image, ignored, dtype):
    import torch

    logits, labels = example(sum(image), image, ignored, dtype)
    if (labels == 255).all():
        labels[:] = 0
    expected = torch.tensor(logits, requires_grad=True)
    target = torch.tensor(labels.astype(np.int64))
    value = torch.nn.functional.cross_entropy(expected, target, ignore_index=255)
    value.backward()
    ours, gradient = loss_and_gradient(cross_entropy, logits, labels)
    assert_close(ours.reshape(()), value.item(), tolerance=1e-5)
    assert_close(gradient, expected.grad.numpy())


@pytest.mark.parametrize("loss", [cross_entropy, OHEM])
def test_fast_and_plain_agree(loss, monkeypatch):
    fast = loss_and_gradient(loss, *example())
    monkeypatch.setattr("ccnet.ops.kernel.available", lambda *variables: False)
    for ours, plain in zip(fast, loss_and_gradient(loss, *example()), strict=True):
        assert_close(ours, plain)


@pytest.mark.parametrize("loss", LOSSES)
def test_zero_with_zero_gradient_where_everything_is_ignored(loss):
    value, gradient = loss_and_gradient(loss, *example(ignored=1))
    assert value == 0
    assert np.array_equal(gradient, np.zeros_like(gradient))


@pytest.mark.parametrize("loss", [cross_entropy, OHEM])
@pytest.mark.parametrize("bad", [5, -1, 254])
def test_refuses_labels_out_of_range(loss, bad):
    logits, labels = example()
    labels[1, 2, 3] = bad
    with pytest.raises(InputError, match=f"label {bad} "):
        loss(jt.array(logits), jt.array(labels))


def test_refuses_labels_of_another_size():
    logits, labels = example()
    with pytest.raises(ValueError, match="do not fit"):
        cross_entropy(jt.array(logits), jt.array(labels[:, :-1]))


@pytest.mark.parametrize("loss", LOSSES)
def test_a_nan_is_not_swallowed(loss):
    x, labels = example(ignored=0)
    x[1, 2, 3, 4] = np.nan
    assert not np.isfinite(loss(jt.array(x), jt.array(labels)).numpy()).any()


def probabilities(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Softmax probability of each counted pixel's label."""
    softmax = np.exp(logits.astype(np.float64))
    softmax /= softmax.sum(axis=1, keepdims=True)
    places = np.nonzero(labels != 255)
    return softmax[places[0], labels[places], places[1], places[2]]


def test_ohem_takes_the_pixels_below_the_threshold():
    logits, labels = example()
    p = probabilities(logits, labels)
    value, _ = loss_and_gradient(ohem, logits, labels, threshold=0.3, keep=1)
    assert_close(value.reshape(()), -np.log(p[p <= 0.3]).mean())


def test_ohem_takes_at_least_so_many():
    logits, labels = example()
    p = np.sort(probabilities(logits, labels))
    value, gradient = loss_and_gradient(ohem, logits, labels, threshold=0.0, keep=5)
    pixels = 5 * len(labels)  # `keep` is per image, as the official code's is per process
    assert_close(value.reshape(()), -np.log(p[:pixels]).mean())
    assert (np.abs(gradient).max(axis=1) > 0).sum() == pixels


def category_consistent_by_definition(features: np.ndarray, labels: np.ndarray) -> float:
    """The paper's sums, pixel by pixel and pair by pair."""
    classes = sorted(set(labels.flat) - {255})
    members = {c: features.transpose(0, 2, 3, 1)[labels == c].astype(np.float64) for c in classes}
    means = {c: h.mean(axis=0) for c, h in members.items()}

    def pull(distance: float) -> float:
        if distance > 1.5:
            return distance - 1.5 + (1.5 - 0.5) ** 2
        return (distance - 0.5) ** 2 if distance > 0.5 else 0.0

    variance = np.mean([np.mean([pull(np.linalg.norm(means[c] - h)) for h in members[c]]) for c in classes])
    pairs = [(a, b) for a in classes for b in classes if a != b]
    apart = np.mean([max(0.0, 3 - np.linalg.norm(means[a] - means[b])) ** 2 for a, b in pairs]) if pairs else 0.0
    return variance + apart + 0.001 * np.mean([np.linalg.norm(mean) for mean in means.values()])


@pytest.mark.parametrize("spread", [0.2, 1.0, 3.0])
@pytest.mark.parametrize("classes", [1, 2, 5])
def test_category_consistent_agrees_with_the_definition(spread, classes):
    features, labels = example(classes, (2, 5, 6, 7))
    features *= np.float32(spread / 3)
    labels[labels != 255] %= classes
    value, _ = loss_and_gradient(category_consistent, features, labels)
    assert_close(value.reshape(()), category_consistent_by_definition(features, labels))


@pytest.mark.parametrize("spread", [0.3, 1.0])
def test_category_consistent_gradient(spread):
    features, labels = example(1, (1, 4, 5, 6))
    features *= np.float32(spread / 3)
    _, gradient = loss_and_gradient(category_consistent, features, labels)
    (direction,) = draw(2, features.shape)
    step = 1e-6 * direction.astype(np.float64)
    ahead, behind = (category_consistent_by_definition(features + s, labels) for s in (step, -step))
    assert (ahead - behind) / 2e-6 == pytest.approx((gradient * direction).sum(), rel=1e-4)


def test_category_consistent_with_one_pixel_of_a_class():
    features, labels = example()
    labels[:] = 1
    labels[0, 0, 0] = 0
    value, gradient = loss_and_gradient(category_consistent, features, labels)
    assert np.isfinite(gradient).all()
    assert_close(value.reshape(()), category_consistent_by_definition(features, labels))


def test_category_consistent_samples_larger_labels():
    features, labels = example()
    large = labels.repeat(4, axis=1).repeat(4, axis=2)
    at_once = loss_and_gradient(category_consistent, features, labels)
    for ours, theirs in zip(loss_and_gradient(category_consistent, features, large), at_once, strict=True):
        assert_close(ours, theirs)
