"""`ccnet attend`: show where pixels look after each loop of criss-cross attention, as a picture and numbers."""

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from ccnet import InputError, runtime, weights
from ccnet.attention import Look
from ccnet.data import photos
from ccnet.files import atomic
from ccnet.progress import progress
from ccnet.projections import look
from ccnet.protocol import Protocol, Size

LARGEST = 24_000_000  # pixels of an image that is seen whole: memory grows with them
PANEL = 4  # width of a panel in inches
SHAPES = 0.5, 3  # height / width of a panel; an image of another shape has margins
DOTS = 120  # per inch of the picture
DARKENED = 0.65  # brightness of the grey image under the weights
OPACITY = 0.35, 0.9  # of the colours over it: of the weights below the scale, and of the largest
DECADES = 4  # of the logarithmic colour scale, down from the largest weight
Point = tuple[int, int]  # x, y: a pixel of the upright image, from 0 at its top left


def run(*, image: Path, weights_file: Path, at: list[Point], out: Path, device: str = "auto") -> None:
    """Write the picture `out` (.png) and, beside it as .npy, the weights of the pixels `at` after 1, … R loops.

    The array is float32 `(R, h, w)`, h and w those of the network's feature map, or `(N, R, h, w)` for N > 1 pixels;
    each map sums to 1. Raises InputError for a pixel outside the image, an image that cannot be read or has over
    LARGEST pixels, a network without criss-cross attention, and an `out` that is no .png or would overwrite the image.
    """
    if out.suffix.lower() != ".png":
        raise InputError(f"{out}: the picture is a PNG; name a file that ends in .png")
    numbers = out.with_suffix(".npy")
    if image.resolve() in (out.resolve(), numbers.resolve()):
        raise InputError(f"--out {out}: it would overwrite the image; choose another file")
    photo = np.asarray(photos.decode(image)[0])
    _check(image, photo.shape, at)
    runtime.select(device)
    weights_file = weights.located(weights_file)
    trained = weights.load(weights_file)
    seen = _seen(image, photo, trained.protocol)
    with progress(total=1, desc="attend", unit="image") as bar:
        looked = look(trained.model, photo, seen, str(weights_file))
        found = np.stack([looked.maps(*point) for point in at])
        with atomic(numbers) as temporary:
            np.save(temporary, found if len(at) > 1 else found[0])
        with atomic(out) as temporary:
            _picture(photo, at, found, looked).savefig(temporary, dpi=DOTS)
        bar.update()
    loops, height, width = found.shape[1:]
    print(f"{out}, {numbers}: maps of {height} × {width} positions after {_counted(loops)}")


def _check(image: Path, shape: tuple[int, ...], at: list[Point]) -> None:
    height, width = shape[:2]
    for x, y in at:
        if not (0 <= x < width and 0 <= y < height):
            raise InputError(
                f"{image}: pixel {x},{y} is outside its {width}×{height}: --at takes 0,0 to {width - 1},{height - 1}"
            )


def _seen(image: Path, photo: np.ndarray, protocol: Protocol) -> Size:
    """The (height, width) at which the network sees the image: whole, at the scale that it was trained for."""
    height, width = size = protocol.size(photo.shape[:2])
    if height * width > LARGEST:
        raise InputError(f"{image}: {width}×{height} is over {LARGEST / 1e6:.0f} megapixels: scale it down")
    return size


def _picture(image: np.ndarray, at: list[Point], found: np.ndarray, looked: Look) -> Figure:
    """A row of panels for each point: the image `(H, W, 3)` with the point marked, then its maps over the grey image.

    `found` is `(N, R, h, w)`. All maps have one logarithmic colour scale: the many small weights show beside the few
    large ones.
    """
    height, width = image.shape[:2]
    step = -(-max(height, width) // round(2 * PANEL * DOTS))  # a panel has no more pixels
    rows, columns = looked.rows[::step, None], looked.columns[::step]
    image = image[::step, ::step]
    grey = DARKENED * image @ np.array([0.299, 0.587, 0.114])  # luma
    count, loops = found.shape[:2]
    tall = np.clip(height / width, *SHAPES)
    size = PANEL * (loops + 1) + 0.9, PANEL * tall * count + 0.3
    figure = Figure(figsize=size, layout="constrained")
    panels = figure.subplots(count, loops + 1, squeeze=False)
    shown = {"extent": (-0.5, width - 0.5, height - 0.5, -0.5)}
    scale = LogNorm(found.max() / 10**DECADES, found.max(), clip=True)
    for row, point, layers in zip(panels, at, found, strict=True):
        row[0].imshow(image, **shown)
        row[0].set_ylabel("pixel {},{}".format(*point))
        for axes, layer in zip(row[1:], layers, strict=True):
            axes.imshow(grey, cmap="gray", vmin=0, vmax=255, **shown)
            weight = layer[rows, columns]
            opacity = np.interp(scale(weight), (0, 1), OPACITY) * (weight > 0)
            axes.imshow(weight, cmap="inferno", norm=scale, alpha=opacity, **shown)
        for axes in row:
            _mark(axes, *point)
    for loop, axes in enumerate(panels[0]):
        axes.set_title(f"after {loop} loop{'s' * (loop > 1)}" if loop else "image")
    colours = ScalarMappable(scale, "inferno")
    figure.colorbar(colours, ax=panels, label="weight (a map sums to 1)", extend="min", aspect=20 * count, pad=0.01)
    return figure


def _mark(axes: Axes, x: int, y: int) -> None:
    """A ring around a pixel, legible on light and on dark."""
    axes.set(xticks=[], yticks=[])
    for colour, width in (("black", 3.5), ("cyan", 1.5)):
        axes.plot(x, y, "o", markersize=9, markerfacecolor="none", markeredgecolor=colour, markeredgewidth=width)


def _counted(loops: int) -> str:
    """The loops in words: 1 loop; 1 and 2 loops; 1, 2 and 3 loops."""
    numbers = [str(number) for number in range(1, loops + 1)]
    return " and ".join(filter(None, [", ".join(numbers[:-1]), numbers[-1]])) + " loop" + "s" * (loops > 1)
