import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ccnet import predictor, weights
from ccnet.data.images import resized
from ccnet.ops.normalise import MEAN, STD, normalise
from ccnet.ops.resize import resize
from ccnet.ops.sliding_window import starts
from ccnet.predictor import Predictor
from ccnet.protocol import Protocol
from ccnet.runtime import jt
from tests import tiny


@pytest.fixture(scope="module")
def model(trained):
    return weights.load(trained.weights).model


def channels_first(image: np.ndarray) -> jt.Var:
    """An image `(H, W, 3)` uint8 as a network takes it."""
    return normalise(jt.array(np.ascontiguousarray(image.transpose(2, 0, 1)[None])))


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
    logits = model(channels_first(image)).numpy()[0]
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


class Net:
    """Logits of 5 classes that depend on a pixel, its place in the input and all the input: what windows change."""

    mean, std = MEAN, STD

    def __init__(self, align_corners: bool = False):
        self.align_corners = align_corners
        self.mix = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)

    def eval(self):
        pass

    def __call__(self, x: jt.Var) -> jt.Var:
        x = x.numpy()
        logits = np.einsum("ck,bkhw->bchw", self.mix, x + x.mean((2, 3), keepdims=True))
        logits[:, 0] += np.linspace(-2, 2, x.shape[3])
        logits[:, 1] += np.linspace(-2, 2, x.shape[2])[:, None]
        return jt.array(logits)


def one_view(net: Net, image: np.ndarray, protocol: Protocol) -> np.ndarray:
    """Logits `(5, H, W)` of an image of at least 32 × 32: all windows into one sum, then divided by their weights."""
    height, width = image.shape[:2]
    down, across = (min(side, protocol.window or side) for side in (height, width))
    rise, run = (np.minimum(np.r_[1 : n + 1], np.r_[n:0:-1]).astype(float) for n in (down, across))
    weight = np.outer(rise, run)
    total, weights_ = np.zeros((5, height, width)), np.zeros((height, width))
    for top in starts(height, protocol.window or height, protocol.step or height):
        for left in starts(width, protocol.window or width, protocol.step or width):
            part = image[top : top + down, left : left + across]
            total[:, top : top + down, left : left + across] += net(channels_first(part))[0].numpy() * weight
            weights_[top : top + down, left : left + across] += weight
    return (total / weights_).astype(np.float32)


def naive(net: Net, image: np.ndarray, protocol: Protocol, size: tuple[int, int]) -> np.ndarray:
    """Scores `(5, *size)` as mmsegmentation has them: each view's logits resized, their softmax averaged."""
    scores = []
    for scale in protocol.scales:
        scaled = resized(image, protocol.size(image.shape[:2], scale))
        for step in (1, -1) if protocol.flip else (1,):
            logits = one_view(net, np.ascontiguousarray(scaled[:, ::step]), protocol)[:, :, ::step]
            logits = resize(jt.array(np.ascontiguousarray(logits))[None], size, net.align_corners)[0].numpy()
            powers = np.exp(logits - logits.max(0))
            scores.append(powers / powers.sum(0))
    return np.mean(scores, axis=0)


def assert_best(found: np.ndarray, scores: np.ndarray) -> None:
    """Each pixel has the class of the largest score, but for rounding."""
    assert found.dtype == np.uint8
    assert found.shape == scores.shape[1:]
    chosen = np.take_along_axis(scores, found[None].astype(int), axis=0)[0]
    assert (chosen >= scores.max(0) - 1e-5).all()


SIDES = st.integers(32, 90)
PROTOCOLS = st.builds(
    lambda resize, window, stride, scales, flip: Protocol.checked(
        **resize, scales=scales, flip=flip, **({"window": window, "stride": min(window, stride)} if window else {})
    ),
    st.sampled_from([{}, {}, {"keep_ratio": [96, 48]}, {"fixed": [40, 57]}]),
    st.one_of(st.none(), st.integers(32, 70)),
    st.integers(9, 70),
    st.sampled_from([[1.0], [1.0, 1.25], [1.25, 1.5]]),
    st.booleans(),
)


@given(SIDES, SIDES, SIDES, SIDES, PROTOCOLS, st.booleans(), st.integers(1, 400))
def test_strip_by_strip_is_the_naive_computation(height, width, high, wide, protocol, align_corners, strip):
    image = np.random.default_rng(height * width).integers(0, 256, (height, width, 3), dtype=np.uint8)
    net = Net(align_corners)
    for size in ((height, width), (high, wide)):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(predictor, "STRIP", strip)
            patch.setattr(predictor, "PIECE", 5)
            found = Predictor(net, protocol)(image, size)
        if min(protocol.size((height, width), min(protocol.scales))) >= 32:
            assert_best(found, naive(net, image, protocol, size))


@pytest.mark.parametrize("size", [(1, 1), (7, 90), (31, 33), (64, 64)])
def test_a_window_as_large_as_the_image_is_the_whole_image(model, size):
    image, _ = tiny.draw(6, size[1], size[0])
    for window in (max(*size, 32), 1000):
        found = Predictor(model, Protocol.checked(window=window))(image)
        np.testing.assert_array_equal(found, Predictor(model)(image))


@pytest.mark.parametrize("size", [(1, 1), (1, 70), (33, 45), (70, 64)])
def test_a_trained_network_under_every_option_at_once(model, size):
    image, _ = tiny.draw(7, size[1], size[0])
    protocol = Protocol.checked(keep_ratio=[100, 60], window=32, scales=[0.5, 1.0, 1.25], flip=True)
    found = Predictor(model, protocol)(image)
    assert found.shape == size
    assert found.max() < len(tiny.CLASSES)


def test_a_mirrored_image_has_the_mirrored_map_when_both_are_averaged(model):
    image, _ = tiny.draw(8, 45, 37)
    both = Predictor(model, Protocol.checked(flip=True, window=32))
    np.testing.assert_array_equal(both(image[:, ::-1]), both(image)[:, ::-1])
    one = Predictor(Net())
    assert (one(image[:, ::-1]) != one(image)[:, ::-1]).any()  # the test could fail


def test_windows_that_agree_change_nothing():
    """Each logit from its pixel alone: any windows give the whole image's map."""

    class Pixels(Net):
        def __call__(self, x: jt.Var) -> jt.Var:
            return jt.array(np.einsum("ck,bkhw->bchw", self.mix, x.numpy()))

    image, _ = tiny.draw(9, 101, 67)
    whole = Predictor(Pixels())(image)
    for window, stride in ((32, 32), (32, 7), (50, 33), (67, 20)):
        found = Predictor(Pixels(), Protocol.checked(window=window, stride=stride))(image)
        assert (found != whole).mean() < 1e-3  # rounding may decide between equals


def test_no_array_has_the_label_maps_resolution_and_all_classes(monkeypatch):
    """A tall image in windows: what is held at once does not grow with its height."""
    largest = []
    real = predictor.resize_rows
    monkeypatch.setattr(
        predictor, "resize_rows", lambda rows, *rest: largest.append(rows.shape[1]) or real(rows, *rest)
    )
    monkeypatch.setattr(predictor, "STRIP", 500)
    image, _ = tiny.draw(10, 50, 800)
    Predictor(Net(), Protocol.checked(window=40))(image, (1600, 100))
    assert max(largest) < 10
    assert len(largest) == 1600 * 100 // 500
