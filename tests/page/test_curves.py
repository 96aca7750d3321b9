"""Charts have the values of the runs; as SVG they are well-formed and take the colour of the page."""

import math
import re
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ccnet.page import curves
from ccnet.page.curves import Curve

# Jittor's kernels switch subnormal numbers off in the whole process, and hypothesis wants to know
NUMBERS = st.floats(-10, 10, allow_subnormal=False) | st.just(float("nan"))


@given(st.lists(NUMBERS, min_size=1, max_size=30), st.integers(1, 40))
def test_running_mean_is_the_mean_of_the_finite_neighbours(values, window):
    smooth = curves.running_mean(values, window)
    for middle, mean in enumerate(smooth):
        near = np.array(values[max(0, middle - window // 2) : middle + window // 2 + 1])
        finite = near[np.isfinite(near)]
        assert mean == pytest.approx(finite.mean(), abs=1e-6) if finite.size else np.isnan(mean)


STEPS = range(10, 5010, 10)
LOSSES = Curve("a.b[0]", "<a>", 0, "#0072b2", STEPS, np.linspace(2, 1, 500).tolist())
MEASURED = [Curve("one", "one", 0, "#0072b2", [10, 20, 30], [0.1, 0.4, 0.3]),
            Curve("other", "other", 1, "#d55e00", [10, 20], [0.2, math.nan])]  # fmt: skip


def test_curves_have_the_measured_values_and_the_pointer_finds_those_of_all_runs():
    chart = curves.mean_ious(MEASURED)
    rows = [(row["curve"], row["step"], row["value"]) for row in chart["datasets"]["values"]]
    assert rows == [("c0", 10, 0.1), ("c0", 20, 0.4), ("c0", 30, 0.3), ("c1", 10, 0.2)]
    (rule,) = [layer for layer in chart["layer"] if layer["mark"]["type"] == "rule"]
    assert [(each["field"], each["title"]) for each in rule["encoding"]["tooltip"]] == [
        ("step", "step"), ("c0", "one"), ("c1", "other")
    ]  # fmt: skip
    dashes = chart["layer"][0]["encoding"]["strokeDash"]["scale"]["range"]
    assert dashes[0] != dashes[1]


def test_long_curves_are_thinned_and_an_outlier_does_not_flatten_them():
    chart = curves.losses([LOSSES._replace(values=[1e6, *LOSSES.values[1:]])])
    assert all(100 < len(rows) <= curves.POINTS for rows in chart["datasets"].values())
    assert chart["datasets"]["raw"][0]["value"] == 1e6
    calm = curves.losses([LOSSES])["layer"][1]["encoding"]["y"]["scale"]["domain"]
    assert calm == [0, pytest.approx(2.5, abs=0.1)]


@pytest.mark.parametrize("legend", [True, False])
def test_stills_follow_the_page_and_have_a_legend_where_asked(legend):
    for chart in (curves.losses([LOSSES]), curves.learning_rates([LOSSES])):
        svg = curves.svg(chart, legend)
        texts = [node.text for node in ElementTree.fromstring(svg).iter() if node.tag.endswith("text")]
        assert ("<a>" in texts) == legend
        assert "step" in texts
        assert "currentColor" in svg
        assert not re.findall(r'(?:fill|stroke)="(?:black|#000|#fff|white)"', svg)


def test_stills_share_no_identifiers_and_are_the_same_each_time():
    charts = [curves.losses([LOSSES]), curves.learning_rates([LOSSES])]
    drawn = [curves.svg(chart) for chart in charts]
    assert drawn == [curves.svg(chart) for chart in charts]
    loss, rate = ({node.get("id") for node in ElementTree.fromstring(svg).iter()} - {None} for svg in drawn)
    assert loss
    assert not loss & rate
    for svg, identifiers in zip(drawn, (loss, rate), strict=True):
        assert set(re.findall(r"url\(#(.+?)\)", svg)) <= identifiers


def test_a_single_value_is_a_point():
    alone = LOSSES._replace(steps=[10], values=[2.0])
    assert curves.losses([alone])["layer"][1]["mark"]["point"]
    assert not curves.losses([LOSSES])["layer"][1]["mark"]["point"]


def test_nothing_measured_is_an_empty_chart():
    assert ElementTree.fromstring(curves.svg(curves.mean_ious([])))


def test_the_script_defines_vega_embed_and_ends_no_script():
    assert "vegaEmbed" in curves.javascript()
    assert "</script" not in curves.javascript().lower()


def test_areas_are_shares_on_a_logarithmic_axis():
    chart = curves.areas([Curve("one", "one", 0, "#0072b2", [0.01, 0.1], [0.2, 0.7])])
    assert chart["datasets"]["values"][1] == {"step": 0.1, "value": 0.7, "group": "one", "curve": "c0"}
    lines, rule = chart["layer"]
    assert lines["encoding"]["x"]["scale"] == {"type": "log"}
    assert rule["encoding"]["tooltip"][0]["format"] == "~%"
    assert "10%" in "".join(ElementTree.fromstring(curves.svg(chart)).itertext())
