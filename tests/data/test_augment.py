import colorsys
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from ccnet.data.augment import HUE, augment, distort, turn_hue
from ccnet.data.labels import IGNORE
from ccnet.settings import Data

PLAIN = Data(
    batch_size=1, crop_size=64, scale=[1.0, 1.0], flip=False, photometric=False, max_class_share=1.0
)  # fmt: skip


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


@pytest.mark.parametrize("steps", [-21, -HUE, -1, 0, 5, HUE, 21])
def test_hue_turns_as_in_hsv(steps):
    colours = np.random.default_rng(2).integers(0, 256, (1, 600, 3)).astype(np.uint8)
    colours[0, :27] = np.array(np.meshgrid(*[[0, 128, 255]] * 3)).reshape(3, 27).T  # greys, and the hexagon's corners
    found = np.asarray(turn_hue(Image.fromarray(colours), steps))
    for colour, turned in zip(colours[0] / 255, found[0], strict=True):
        hue, saturation, value = colorsys.rgb_to_hsv(*colour)
        expected = 255 * np.array(colorsys.hsv_to_rgb((hue + steps / 256) % 1, saturation, value))
        assert np.abs(turned - expected).max() <= 0.51  # rounded, once


def test_the_same_seed_gives_the_same_crop():
    image, label = scene(90, 120)
    data = replace(PLAIN, scale=[0.5, 2.0], flip=True, photometric=True, max_class_share=0.75)
    first, second = (augment(image, label, data, np.random.default_rng((3, 4))) for _ in range(2))
    np.testing.assert_array_equal(first[0], second[0])
    np.testing.assert_array_equal(first[1], second[1])
