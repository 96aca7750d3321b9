"""`ccnet attend`: show where pixels look after each loop of criss-cross attention, as a picture and as numbers."""

from pathlib import Path

import numpy as np
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from ccnet import InputError, runtime, weights
from ccnet.attention import maps, nearest, projections
from ccnet.data import images
from ccnet.files import atomic
from ccnet.predictor import padded

LARGEST = 24_000_000  # pixels of an image that is seen whole: memory grows with them
PANEL = 4.2  # width of a panel in inches
DOTS = 160  # per inch of the picture
DARKENED = 0.45  # brightness of the grey image under the weights
OPACITY = 0.8  # of the weights' colours over it
DECADES = 4  # of the logarithmic colour scale, down from the largest weight
Point = tuple[int, int]  # x, y: a pixel of the upright image, from 0 at its top left


def run(*, image: Path, weights_file: Path, at: list[Point], out: Path, device: str = "auto") -> None:
    """Write the picture `out` (.png) and, beside it as .npy, the weights of the pixels `at` after 1, … R loops.

    The array is float32 `(R, h, w)`, h and w those of the network's feature map, or `(N, R, h, w)` for N > 1 pixels;
    each map sums to 1. Raises InputError for a pixel outside the image, an image that cannot be read or has over
    LARGEST pixels, a network without criss-cross attention, and an `out` that is no .png.
    """
    if out.suffix.lower() != ".png":
        raise InputError(f"{out}: the picture is a PNG; name a file that ends in .png")
    photo = np.asarray(images.upright(image.read_bytes(), str(image)))
    _check(image, photo.shape, at)
    runtime.select(device)
    weights_file = weights.located(weights_file)
    model = weights.load(weights_file).model
    seen = _seen(photo)
    query, key = projections(model, seen, str(weights_file))
    rows, columns = (
        nearest(pixels, positions, model.align_corners)
        for pixels, positions in zip(seen.shape[:2], query.shape[1:3], strict=True)
    )
    found = np.stack([maps(query, key, rows[y], columns[x]) for x, y in at])
    numbers = out.with_suffix(".npy")
    with atomic(numbers) as temporary:
        np.save(temporary, found if len(at) > 1 else found[0])
    with atomic(out) as temporary:
        _picture(seen, at, found[:, :, rows[:, None], columns]).savefig(temporary, dpi=DOTS)
    height, width = query.shape[1:3]
    print(f"{out}, {numbers}: maps of {height} × {width} positions after {_counted(len(query))}")


def _check(image: Path, shape: tuple[int, ...], at: list[Point]) -> None:
    height, width = shape[:2]
    if height * width > LARGEST:
        raise InputError(f"{image}: {width}×{height} is over {LARGEST / 1e6:.0f} megapixels: scale it down")
    for x, y in at:
        if not (0 <= x < width and 0 <= y < height):
            raise InputError(
                f"{image}: pixel {x},{y} is outside its {width}×{height}: --at takes 0,0 to {width - 1},{height - 1}"
            )


def _seen(photo: np.ndarray) -> np.ndarray:
    """The image `(H, W, 3)` uint8 as the network sees it: at its own size, short sides padded."""
    return padded(photo)


def _picture(image: np.ndarray, at: list[Point], found: np.ndarray) -> Figure:
    """A row for each point: the image `(H, W, 3)` with the point marked, and its maps, `found` `(N, R, H, W)`, over it.

    The colours are those of a logarithmic scale, so that the many small weights show beside the few large ones.
    """
    count, loops, height, width = found.shape
    tall = PANEL * height / width
    figure = Figure(figsize=(PANEL * (loops + 1) + 0.9, count * tall + 0.35), layout="constrained")
    panels = figure.subplots(count, loops + 1, squeeze=False)
    grey = DARKENED * (image @ (0.299, 0.587, 0.114))
    norm = LogNorm(found.max() / 10**DECADES, found.max(), clip=True)
    for row, (x, y), layers in zip(panels, at, found, strict=True):
        row[0].imshow(image)
        row[0].set_ylabel(f"pixel {x},{y}")
        for axes, layer in zip(row[1:], layers, strict=True):
            axes.imshow(grey, cmap="gray", vmin=0, vmax=255)
            drawn = axes.imshow(np.ma.masked_equal(layer, 0), cmap="inferno", norm=norm, alpha=OPACITY)
        for axes in row:
            axes.plot(x, y, "o", markersize=9, markerfacecolor="none", markeredgecolor="black", markeredgewidth=3)
            axes.plot(x, y, "o", markersize=9, markerfacecolor="none", markeredgecolor="cyan", markeredgewidth=1.5)
            axes.set(xticks=[], yticks=[])
    panels[0, 0].set_title("image")
    for number, axes in enumerate(panels[0, 1:], start=1):
        axes.set_title(f"after {number} loop{'s' * (number > 1)}")
    figure.colorbar(drawn, ax=panels, label="weight (they sum to 1; logarithmic)", fraction=0.05, pad=0.01)
    return figure


def _counted(loops: int) -> str:
    """"1 loop", "1 and 2 loops", "1, 2 and 3 loops"."""
    numbers = [str(number) for number in range(1, loops + 1)]
    return " and ".join(filter(None, [", ".join(numbers[:-1]), numbers[-1]])) + " loop" + "s" * (loops > 1)
