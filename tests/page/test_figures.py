"""Curves are well-formed SVG without text of their own size; pictures say what the arrays say."""

import base64
import io
import re
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from ccnet.page import figures
from ccnet.page.figures import Curve

PALETTE = [[10, 20, 30], [200, 100, 0]]


def picture(uri: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(uri.split(",", 1)[1])))


# Jittor's kernels switch subnormal numbers off in the whole process, and hypothesis wants to know
NUMBERS = st.floats(-10, 10, allow_subnormal=False) | st.just(float("nan"))


@given(st.lists(NUMBERS, min_size=1, max_size=30), st.integers(1, 40))
def test_running_mean_is_the_mean_of_the_finite_neighbours(values, window):
    smooth = figures.running_mean(values, window)
    for middle, mean in enumerate(smooth):
        near = np.array(values[max(0, middle - window // 2) : middle + window // 2 + 1])
        finite = near[np.isfinite(near)]
        assert mean == pytest.approx(finite.mean(), abs=1e-6) if finite.size else np.isnan(mean)


@given(st.integers(1, 40))
def test_colours_are_distinct(count):
    names = figures.colours(count)
    assert len(set(names)) == count
    assert all(re.fullmatch("#[0-9a-f]{6}", name) for name in names)


def test_figures_follow_the_page_and_share_no_identifiers():
    curve = Curve(range(10, 5010, 10), np.linspace(2, 1, 500), "#2f7fc1")
    drawn = [figures.loss_svg([curve]), figures.learning_rate_svg([curve])]
    trees = [ElementTree.fromstring(svg) for svg in drawn]
    loss, rate = ({node.get("id") for node in tree.iter()} - {None} for tree in trees)
    assert not loss & rate
    for svg, identifiers in zip(drawn, (loss, rate), strict=True):
        assert {
            found for found in re.findall(r'href="#(.+?)"|url\(#(.+?)\)', svg) for found in found if found
        } <= identifiers
        assert "currentColor" in svg
        assert figures.INK not in svg


def test_learning_rates_far_apart_get_a_logarithmic_axis():
    rates = [Curve([1, 2], [peak, peak / 2], "#000000") for peak in (0.01, 0.00001)]
    ticks = re.findall(">([0-9.e-]+)</text>", figures.learning_rate_svg(rates))
    assert {"0.01", "0.001", "0.0001"} <= set(ticks)
    assert "0.001" not in re.findall(">([0-9.e-]+)</text>", figures.learning_rate_svg(rates[:1]))


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
