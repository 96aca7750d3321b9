"""Pictures say what the arrays say."""

import base64
import io
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from ccnet.page import figures

PALETTE = [[10, 20, 30], [200, 100, 0]]


def picture(uri: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(uri.split(",", 1)[1])))


@given(st.integers(1, 40))
def test_colours_are_distinct(count):
    names = figures.colours(count)
    assert len(set(names)) == count
    assert all(re.fullmatch("#[0-9a-f]{6}", name) for name in names)


def test_label_maps_keep_their_colours_and_show_through_where_ignored():
    shown = picture(figures.label_uri(np.array([[0, 1, 255]], np.uint8), PALETTE)).convert("RGBA")
    assert [shown.getpixel((x, 0)) for x in range(3)][:2] == [(10, 20, 30, 255), (200, 100, 0, 255)]
    assert shown.getpixel((2, 0))[3] == 0


def test_wide_pictures_are_shrunk_and_small_ones_are_not():
    assert picture(figures.photo_uri(np.zeros((500, 1000, 3), np.uint8))).size == (320, 160)
    assert picture(figures.label_uri(np.zeros((500, 1000), np.uint8), PALETTE)).size == (320, 160)
    assert picture(figures.photo_uri(np.zeros((30, 40, 3), np.uint8))).size == (40, 30)


def test_errors_are_red_where_the_label_counts():
    label = np.repeat(np.array([0, 1, 255], np.uint8), 16)[None].repeat(16, axis=0)
    uri = figures.error_uri(np.zeros((16, 48, 3), np.uint8), label, np.zeros_like(label))
    right, wrong, ignored = (np.array(picture(uri), int)[8, x] for x in (8, 24, 40))
    assert np.ptp(right) < 12
    assert np.ptp(ignored) < 12
    assert wrong[0] > 150 > wrong[1]


def test_a_matrix_is_opaque_where_it_is_full():
    alpha = np.array(picture(figures.matrix_uri(np.array([[1.0, 0.0], [np.nan, 0.25]]))))[..., 3]
    assert alpha.tolist() == [[255, 0], [0, 127]]


def test_a_mistake_is_the_largest_region_of_its_pair_in_red():
    label = np.zeros((300, 400), np.uint8)
    prediction = np.zeros_like(label)
    prediction[40:60, 50:90], prediction[200:203, 200:203] = 1, 1
    prediction[100:200, 300:400] = 2  # of another pair
    uri = figures.mistake_uri(np.zeros((300, 400, 3), np.uint8), label, prediction, 0, 1)
    shown = np.array(picture(uri), int)
    assert shown.shape == (96, 192, 3)  # rows 2 to 98 and columns 22 to 118, twice
    red = shown[..., 0] > 100
    assert not red[:, :96].any()
    assert red[:, 96:].sum() == pytest.approx(20 * 40, rel=0.1)
    assert red[48, 96 + 48]


def test_a_crop_is_no_larger_than_the_image_and_none_without_mistake():
    label, image = np.zeros((30, 50), np.uint8), np.zeros((30, 50, 3), np.uint8)
    assert picture(figures.mistake_uri(image, label, np.ones_like(label), 0, 1)).size == (60, 30)
    assert figures.mistake_uri(image, label, label, 0, 1) == ""
