"""Curves of trainings as Vega-Lite charts: interactive in a page with `javascript`, and as SVG without it."""

import copy
import math
import re
from collections.abc import Sequence
from functools import cache
from typing import Any, NamedTuple

import altair as alt
import numpy as np
import vl_convert

WIDTH, HEIGHT = 460, 230  # pixels; in a page the charts are as wide as their columns
POINTS = 300  # per curve: more than a column can show
DASHES = ([1, 0], [7, 2], [2, 2], [8, 2, 2, 2])  # tell curves apart where colours do not
FAINT, GRID = 0.28, 0.15  # opacities


class Curve(NamedTuple):
    """A run's values by step, of equal length; not finite: not known. `colour` is #rrggbb; curves of a group share it.

    `group` is the number of the run's group, which decides on the dashes, and `legend` the group's name.
    """

    run: str
    legend: str
    group: int
    colour: str
    steps: Sequence[float]
    values: Sequence[float]


class Across(NamedTuple):
    """The horizontal axis, and what the tooltip says of a step on it."""

    axis: Any
    tooltip: Any


STEPS = Across(
    alt.X("step:Q", title="step").axis(tickCount=6, format=",d").scale(domainMin=0, nice=False),
    alt.Tooltip("step:Q", title="step", format=","),
)
AREAS = Across(
    alt.X("step:Q", title="area of the class in its image, up to").axis(format="~%").scale(type="log"),
    alt.Tooltip("step:Q", title="area up to", format="~%"),
)


def running_mean(values: Sequence[float], window: int) -> np.ndarray:
    """The mean `(N,)` of each value and its `window` // 2 neighbours on each side, ignoring non-finite values."""
    array = np.asarray(values, dtype=float)
    finite = np.isfinite(array)
    sums, counts = (np.cumsum(np.r_[0.0, part]) for part in (np.where(finite, array, 0), finite))
    middle = np.arange(len(array))
    first, last = np.maximum(middle - window // 2, 0), np.minimum(middle + window // 2 + 1, len(array))
    with np.errstate(invalid="ignore"):
        return (sums[last] - sums[first]) / (counts[last] - counts[first])


def losses(curves: Sequence[Curve]) -> dict[str, Any]:
    """A chart of losses (faint) and their running means over a twentieth of the rows, five at least."""
    means = [running_mean(each.values, max(5, len(each.values) // 20)).tolist() for each in curves]
    smooth = [each._replace(values=values) for each, values in zip(curves, means, strict=True)]
    top = max((value for each in smooth for value in each.values if math.isfinite(value)), default=0.0)
    # limit the axis, so that a single outlier does not flatten the curves
    axis = alt.Y("value:Q", title="loss").scale(domain=[0, 1.25 * top or 1])
    return _chart("loss", smooth, axis, ".3f", raw=curves)


def mean_ious(curves: Sequence[Curve]) -> dict[str, Any]:
    """A chart of mean IoUs in 0..1 at the measured steps."""
    return _chart("mean_iou", curves, alt.Y("value:Q", title="validation mIoU").axis(format="%"), ".2%", points=True)


def learning_rates(curves: Sequence[Curve]) -> dict[str, Any]:
    """A chart of learning rates."""
    return _chart("learning_rate", curves, alt.Y("value:Q", title="learning rate"), ".3~g")


def areas(curves: Sequence[Curve]) -> dict[str, Any]:
    """A chart of IoUs in 0..1 by the share of its image that a class covers; the curves' steps are these shares."""
    return _chart("areas", curves, alt.Y("value:Q", title="IoU").axis(format="%"), ".1%", points=True, across=AREAS)


def svg(chart: dict[str, Any], legend: bool = False) -> str:
    """A chart as an inline `<svg>` in the colour of the text around it, without what follows the pointer."""
    still = {key: value for key, value in copy.deepcopy(chart).items() if key != "params"}
    still["layer"] = [layer for layer in still["layer"] if layer["mark"]["type"] != "rule"]
    for layer in still["layer"] if legend else ():
        for channel in ("color", "strokeDash"):
            del layer["encoding"][channel]["legend"]
    return drawn(still, chart["name"])


def drawn(chart: dict[str, Any], name: str) -> str:
    """A Vega-Lite chart as an `<svg>`. Identifiers in it begin with `name`, which is unique in a page."""
    found = vl_convert.vegalite_to_svg(chart)
    # Vega numbers identifiers by process; they must be the same in each process
    for number, each in enumerate(dict.fromkeys(re.findall(r'id="(\w+)"', found))):
        found = re.sub(rf"\b{each}\b", f"{name}-{number}", found)
    return found


def inked(chart):
    """An Altair chart whose axes and legend are in the colour of the text around it."""
    ink = {"labelColor": "currentColor", "titleColor": "currentColor"}
    line = {"domainColor": "currentColor", "tickColor": "currentColor", "gridColor": "currentColor"}
    return (
        chart.configure_view(stroke=None)
        .configure_axis(**ink, **line, gridOpacity=GRID, domainOpacity=0.5, tickOpacity=0.5, titleFontWeight="normal")
        .configure_axisX(grid=False)
        .configure_legend(**ink, orient="top", title=None, labelLimit=WIDTH, symbolType="stroke", symbolOpacity=1)
    )


@cache
def javascript() -> str:
    """The script that defines `vegaEmbed`, which draws charts, with all that it needs."""
    return vl_convert.javascript_bundle()  # type: ignore[call-arg]


def _chart(
    name: str, curves: Sequence[Curve], axis, format: str, raw=(), points=False, across: Across = STEPS
) -> dict[str, Any]:
    """Lines over faint lines of the `raw` curves, and a rule at the step under the pointer with each run's value."""
    lines = _lines("values", curves, across.axis, axis)
    faint = _lines("raw", raw, across.axis, axis).mark_line(clip=True, strokeWidth=0.7, opacity=FAINT)
    points = points or all(len(each.values) < 2 for each in curves)  # which make no line
    shown = lines.mark_line(clip=bool(raw), strokeWidth=1.6, point={"size": 28} if points else False)
    layers = [*[faint] * bool(raw), shown, *[_rule(curves, format, across.tooltip)] * bool(curves)]
    chart = alt.layer(*layers).properties(name=name, width=WIDTH, height=HEIGHT, background="transparent")
    return inked(chart).to_dict(validate=False) | {"datasets": {"values": _rows(curves), "raw": _rows(raw)}}


def _lines(data: str, curves: Sequence[Curve], across, axis) -> alt.Chart:
    groups = {each.legend: each for each in curves}
    dashes = [DASHES[each.group % len(DASHES)] for each in groups.values()]
    return alt.Chart(alt.NamedData(data)).encode(
        across,
        axis,
        alt.Color("group:N", legend=None).scale(domain=list(groups), range=[each.colour for each in groups.values()]),
        alt.StrokeDash("group:N", legend=None).scale(domain=list(groups), range=dashes),
        detail="curve:N",
    )


def _rows(curves: Sequence[Curve]) -> list[dict[str, Any]]:
    """The points of all curves. Curves have numbers, since names of runs may have what Vega takes for paths."""
    rows = []
    for number, curve in enumerate(curves):
        known = [point for point in zip(curve.steps, curve.values, strict=True) if math.isfinite(point[1])]
        for step, value in known[:: -(-len(known) // POINTS) or 1]:
            rows.append({"step": step, "value": float(f"{value:.4g}"), "group": curve.legend, "curve": f"c{number}"})
    return rows


def _rule(curves: Sequence[Curve], format: str, head: alt.Tooltip) -> alt.Chart:
    nearest = alt.selection_point(
        "pointer", nearest=True, on="pointermove", fields=["step"], empty=False, clear="pointerout"
    )
    values = [alt.Tooltip(f"c{number}:Q", title=each.run, format=format) for number, each in enumerate(curves)]
    return (
        alt.Chart(alt.NamedData("values"), name="pointed")
        .transform_pivot("curve", value="value", groupby=["step"])
        .mark_rule(color="currentColor")
        .encode(
            alt.X("step:Q"),
            opacity=alt.condition(nearest, alt.value(0.5), alt.value(0)),
            tooltip=[head, *values],
        )
        .add_params(nearest)
    )
