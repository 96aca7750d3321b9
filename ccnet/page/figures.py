"""Figures for a self-contained page: curves as inline SVG, images as data URIs."""

import base64
import io
from collections.abc import Sequence
from typing import Any, NamedTuple

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from ccnet.data.labels import IGNORE

WIDTH = 320  # pixels: enough for a column of a page, and small enough to embed dozens of images
POINTS = 600  # per curve: more points than a column has pixels
WRONG = (222, 35, 75)
HEAT = (38, 110, 180)
COLOURS = ("#2f7fc1", "#d9742b", "#3f9b64", "#c0507d", "#8a6fc9", "#a58a1f", "#2a9d9a", "#8b8f96")
INK = "#010203"  # placeholder, replaced by the page's text colour in the SVG

STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "font.size": 8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.5,
    "xtick.major.width": 0.5,
    "ytick.major.width": 0.5,
    "grid.linewidth": 0.5,
    "grid.alpha": 0.15,
    **{f"{part}.color": INK for part in ("text", "xtick", "ytick", "grid")},
    **{f"axes.{part}color": INK for part in ("edge", "label")},
}


class Curve(NamedTuple):
    """A line of a figure: x and y of equal length, and its colour as #rrggbb."""

    x: Sequence[float]
    y: Sequence[float]
    colour: str


def colours(count: int) -> list[str]:
    """`count` distinct colours (#rrggbb), legible on white and on black; the first eight are fixed if count ≤ 8."""
    if count <= len(COLOURS):
        return list(COLOURS[:count])
    hues = matplotlib.colormaps["hsv"](np.linspace(0, 1, count, endpoint=False))
    return [matplotlib.colors.to_hex(0.75 * hue[:3] + 0.1) for hue in hues]


def running_mean(values: Sequence[float], window: int) -> np.ndarray:
    """The mean `(N,)` of each value and its `window` // 2 neighbours on each side, ignoring non-finite values."""
    array = np.asarray(values, dtype=float)
    finite = np.isfinite(array)
    sums, counts = (np.cumsum(np.r_[0.0, part]) for part in (np.where(finite, array, 0), finite))
    middle = np.arange(len(array))
    first, last = np.maximum(middle - window // 2, 0), np.minimum(middle + window // 2 + 1, len(array))
    with np.errstate(invalid="ignore"):
        return (sums[last] - sums[first]) / (counts[last] - counts[first])


def loss_svg(curves: list[Curve]) -> str:
    """Losses (faint) and their running means over a twentieth of the rows (5 at least), as an inline `<svg>`."""
    figure, axes = _axes("loss")
    highest = 0.0
    for curve in curves:
        smooth = running_mean(curve.y, max(5, len(curve.y) // 20))
        _draw(axes, curve, alpha=0.3, linewidth=0.7)
        _draw(axes, curve._replace(y=list(smooth)), linewidth=1.4)
        highest = max(highest, np.nanmax(smooth, initial=0.0))
    # limit the axis, so that a single outlier does not flatten the curves
    axes.set_ylim(0, 1.25 * highest or 1)
    axes.set_xlim(left=0)
    return _svg(figure, "loss")


def learning_rate_svg(curves: list[Curve]) -> str:
    """Learning rates as an inline `<svg>`; the axis is logarithmic if the peaks differ by more than a factor of 20."""
    figure, axes = _axes("learning rate")
    for curve in curves:
        _draw(axes, curve, linewidth=1.4)
    peaks = [max(curve.y) for curve in curves if len(curve.y)]
    if peaks and max(peaks) > 20 * min(peaks) > 0:
        axes.set_yscale("log")
        axes.set_ylim(bottom=min(peaks) / 100)
        axes.yaxis.set_major_formatter("{x:g}")
    else:
        axes.set_ylim(bottom=0)
    axes.set_xlim(left=0)
    return _svg(figure, "rate")


def _axes(label: str):
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(4.6, 2.7), layout="constrained")
        axes = figure.add_subplot(xlabel="step", ylabel=label)
        axes.grid(axis="y")
    return figure, axes


def _draw(axes, curve: Curve, **style) -> None:
    stride = -(-len(curve.x) // POINTS) or 1
    marker = "o" if len(curve.x) == 1 else ""
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.plot(curve.x[::stride], curve.y[::stride], color=curve.colour, marker=marker, markersize=4, **style)


def _svg(figure: Figure, name: str) -> str:
    buffer = io.StringIO()
    nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    with matplotlib.rc_context(STYLE | {"svg.hashsalt": name}):
        figure.savefig(buffer, format="svg", transparent=True, metadata=nothing)
    svg = buffer.getvalue().replace(INK, "currentColor")
    # identifiers must be unique among the figures of a page
    for prefix in ('id="', 'href="#', "url(#"):
        svg = svg.replace(prefix, f"{prefix}{name}-")
    return svg[svg.index("<svg") :]


def photo_uri(image: np.ndarray) -> str:
    """An image `(H, W, 3)` uint8 as a JPEG data URI, at most `WIDTH` pixels wide."""
    return _uri(_shrunk(Image.fromarray(image), Image.Resampling.LANCZOS), "jpeg", quality=85)


def label_uri(label: np.ndarray, palette: Sequence[Sequence[int]]) -> str:
    """A label map `(H, W)` uint8 in the colours of `palette` as a PNG data URI; ignored pixels are transparent."""
    picture = Image.fromarray(label).convert("P")
    picture.putpalette([value for colour in palette for value in colour] + [0] * 3 * (256 - len(palette)))
    return _uri(_shrunk(picture, Image.Resampling.NEAREST), "png", transparency=IGNORE)


def error_uri(image: np.ndarray, label: np.ndarray, prediction: np.ndarray) -> str:
    """Errors of `prediction` against `label`, both `(H, W)`, in red on the grey image; ignored pixels are flat grey."""
    grey = np.asarray(Image.fromarray(image).convert("L"), dtype=float)
    picture = np.repeat((0.55 * grey + 90)[..., None], 3, axis=2)
    ignored = label == IGNORE
    wrong = (prediction != label) & ~ignored
    picture[wrong] = 0.15 * picture[wrong] + 0.85 * np.array(WRONG)
    picture[ignored] = 128
    return photo_uri(picture.astype(np.uint8))


def matrix_uri(shares: np.ndarray) -> str:
    """A matrix `(C, C)` of shares in 0..1 as a PNG data URI with one pixel per cell; larger shares are more opaque."""
    picture = np.empty((*shares.shape, 4), dtype=np.uint8)
    picture[..., :3] = HEAT
    # the square root makes rare confusions visible
    picture[..., 3] = np.sqrt(np.nan_to_num(shares)) * 255
    return _uri(Image.fromarray(picture), "png")


def _shrunk(picture: Image.Image, resampling: Image.Resampling) -> Image.Image:
    if picture.width <= WIDTH:
        return picture
    return picture.resize((WIDTH, max(1, round(picture.height * WIDTH / picture.width))), resampling)


def _uri(picture: Image.Image, kind: str, **options) -> str:
    buffer = io.BytesIO()
    picture.save(buffer, kind, optimize=True, **options)
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode()}"
