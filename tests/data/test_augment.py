import colorsys
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from ccnet.data.augment import augment, distort, shift_hsv
from ccnet.data.labels import IGNORE
from ccnet.protocol import Protocol
from ccnet.settings import Data

PLAIN = Data(
    batch_size=1, crop_size=64, resize=None, scale=[1.0, 1.0], flip=False, photometric=False, max_class_share=1.0
)


def scene(height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """An image whose red channel is its label."""
    label = np.random.default_rng(0).integers(0, 9, (height, width)).astype(np.uint8)
    return np.dstack([label, label, label]), label


def test_without_randomness_a_crop_of_that_size_is_the_image():
    image, label = scene(64, 64)
    crop, crop_label = augment(image, label, PLAIN, np.random.default_rng(0))
    np.testing.assert_array_equal(crop, image)
    np.testing.assert_array_equal(crop_label, label)


@given(st.integers(1, 200), st.integers(1, 200), st.floats(0.3, 3), st.integers(0, 99))
def test_any_size_gives_a_crop_with_label_255_exactly_where_padded(height, width, scale, seed):
    image = np.full((height, width, 3), 7, np.uint8)
    data = replace(PLAIN, scale=[scale, scale], flip=True)
    crop, label = augment(image, np.zeros((height, width), np.uint8), data, np.random.default_rng(seed))
    assert crop.shape == (64, 64, 3)
    assert label.shape == (64, 64)
    assert crop.dtype == label.dtype == np.uint8
    np.testing.assert_array_equal((crop == 7).all(-1), label == 0)
    assert set(np.unique(label)) <= {0, IGNORE}
    assert (label == 0).sum() == max(1, min(64, round(height * scale))) * max(1, min(64, round(width * scale)))


@pytest.mark.parametrize("scale", [0.5, 1.0, 2.0])
def test_image_and_label_stay_together(scale):
    label = np.kron(np.arange(9, dtype=np.uint8).reshape(3, 3), np.ones((40, 40), np.uint8))
    image = np.repeat(label[..., None] * 20, 3, axis=2)
    for seed in range(8):
        data = replace(PLAIN, scale=[scale, scale], flip=True)
        crop, crop_label = augment(image, label, data, np.random.default_rng(seed))
        known = crop_label != IGNORE
        agree = np.abs(crop[..., 0].astype(int) - crop_label * 20)[known] <= 2
        assert agree.mean() > 0.9  # all but the blended borders


def test_flip_happens_about_half_of_the_time():
    image, label = scene(64, 64)
    data = replace(PLAIN, flip=True)
    crops = [augment(image, label, data, np.random.default_rng(seed))[1] for seed in range(60)]
    assert 15 < sum(np.array_equal(crop, label[:, ::-1]) for crop in crops) < 45


def test_crops_full_of_one_class_are_drawn_again():
    label = np.zeros((64, 512), np.uint8)
    label[:, 448:] = np.arange(64, dtype=np.uint8) % 4
    data = replace(PLAIN, max_class_share=0.9)
    shares = []
    for limited in (PLAIN, data):
        crops = [augment(np.dstack([label] * 3), label, limited, np.random.default_rng(s))[1] for s in range(40)]
        shares.append(np.mean([(crop == 0).mean() > 0.9 for crop in crops]))
    assert shares[1] < shares[0]


def test_distortion_changes_colours_and_nothing_else():
    picture = Image.fromarray(np.random.default_rng(1).integers(0, 256, (16, 24, 3)).astype(np.uint8))
    results = [np.asarray(distort(picture, np.random.default_rng(seed))) for seed in range(12)]
    assert all(result.shape == (16, 24, 3) for result in results)
    assert sum(not np.array_equal(result, picture) for result in results) >= 8


class Chosen(np.random.Generator):
    """Draws `parts` for the five coins of `distort`, the upper end of every range, and of integers the largest."""

    def __init__(self, *parts: str):
        super().__init__(np.random.PCG64(0))
        names = ["brightness", "contrast", "saturation", "hue", "contrast is last"]
        self.coins = np.array([0.0 if name in parts else 1.0 for name in names])

    def random(self, size):
        return self.coins

    def uniform(self, low, high):
        return high

    def integers(self, low, high):
        return high - 1


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        ([], (100, 60, 20)),
        (["brightness"], (132, 92, 52)),
        (["contrast"], (150, 90, 30)),
        (["contrast", "contrast is last"], (150, 90, 30)),
        (["brightness", "contrast"], (198, 138, 78)),
        (["contrast", "saturation"], (150, 75, 0)),  # full saturation: 150 - 60 * 150 / 120
        (["saturation"], (100, 50, 0)),
        (["hue"], (95, 100, 20)),  # 30° + 34°
    ],
)
def test_distortion_is_mmsegmentations(parts, expected):
    picture = Image.new("RGB", (2, 2), (100, 60, 20))
    found = np.asarray(distort(picture, Chosen(*parts)))[0, 0].astype(int)
    assert np.abs(found - expected).max() <= 3, found  # HSV of 8 bits, as there


@pytest.mark.parametrize("degrees", [-36, -10, 0, 34])
@pytest.mark.parametrize("saturation", [0.5, 1.0, 1.5])
def test_hue_and_saturation_change_as_in_hsv(degrees, saturation):
    colours = np.random.default_rng(2).integers(0, 256, (1, 600, 3)).astype(np.uint8)
    colours[0, :27] = np.array(np.meshgrid(*[[0, 128, 255]] * 3)).reshape(3, 27).T  # greys, and the hexagon's corners
    found = np.asarray(shift_hsv(Image.fromarray(colours), saturation, degrees))
    expected = []
    for colour in colours[0] / 255:
        hue, own, value = colorsys.rgb_to_hsv(*colour)
        turned = colorsys.hsv_to_rgb((hue + degrees / 360) % 1, min(own * saturation, 1), value)
        expected.append(255 * np.array(turned))
    assert np.abs(found[0] - expected).max() <= 12  # hue and saturation are rounded to 8 bits
    assert np.abs(found[0] - expected).mean() <= 1.5


def scales(data: Data, height: int, width: int) -> list[float]:
    """The factors by which images of this size, smaller than the crop, were resized."""
    image, label = np.zeros((height, width, 3), np.uint8), np.zeros((height, width), np.uint8)
    crops = [augment(image, label, data, np.random.default_rng(seed))[1] for seed in range(400)]
    return [(crop == 0).any(axis=0).sum() / width for crop in crops]


def test_the_random_scale_is_uniform():
    found = scales(replace(PLAIN, scale=[0.5, 2.0]), 30, 30)
    assert min(found) == pytest.approx(0.5, abs=0.03)
    assert max(found) == pytest.approx(2.0, abs=0.03)
    assert np.mean(found) == pytest.approx(1.25, abs=0.08)  # a log-uniform one has 1.08


@pytest.mark.parametrize("size", [(375, 500), (500, 375), (1024, 2048), (40, 50)])
def test_images_are_fitted_before_the_random_scale(size):
    data = replace(PLAIN, resize=[256, 64], scale=[0.5, 0.5], crop_size=256)
    crop = augment(np.zeros((*size, 3), np.uint8), np.zeros(size, np.uint8), data, np.random.default_rng(0))[1]
    fitted = Protocol(keep_ratio=(256, 64)).size(size, 0.5)
    assert ((crop == 0).any(axis=1).sum(), (crop == 0).any(axis=0).sum()) == pytest.approx(fitted, abs=1)


@pytest.mark.parametrize("sparse", [np.full((64, 640), IGNORE, np.uint8), np.zeros((64, 640), np.uint8)])
def test_crops_of_less_than_two_classes_are_drawn_again(sparse):
    label = sparse.copy()
    label[:, 160:320] = np.arange(160, dtype=np.uint8) % 3  # a quarter of it
    image, data = np.dstack([label] * 3), replace(PLAIN, max_class_share=0.75)
    crops = [augment(image, label, data, np.random.default_rng(seed))[1] for seed in range(100)]
    bare = sum(len(np.setdiff1d(crop, [IGNORE])) < 2 for crop in crops)
    assert bare <= 10  # ten draws rarely fail all; one draw does two times in three


def test_the_same_seed_gives_the_same_crop():
    image, label = scene(90, 120)
    data = replace(PLAIN, scale=[0.5, 2.0], flip=True, photometric=True, max_class_share=0.75)
    first, second = (augment(image, label, data, np.random.default_rng((3, 4))) for _ in range(2))
    np.testing.assert_array_equal(first[0], second[0])
    np.testing.assert_array_equal(first[1], second[1])
