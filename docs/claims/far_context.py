"""The paper's claim of section 3.3: two loops of criss-cross attention carry information between any two pixels.

Each drawn image has one cue, a square of one of three colours, and white pixels. The class of a white pixel is the
cue's colour. No white pixel's receptive field, 5 × 5 before the attention, contains a part of the cue. For half of the
white pixels that of another pixel in their row or column does, so that one loop suffices ("in the cross"); for the
others none does ("elsewhere"). A guess is right for a third.

`python docs/claims/far_context.py` trains every head three times, in six and a half minutes on two CPU cores, and
writes far_context.csv and far_context.svg beside itself.
"""

import csv
from collections.abc import Iterator
from pathlib import Path

import altair as alt
import numpy as np

from ccnet import runtime
from ccnet.data.labels import IGNORE
from ccnet.files import atomic
from ccnet.models.ccnet import ATTENTION, ConvNorm
from ccnet.ops.losses import cross_entropy
from ccnet.ops.optimizers import AdamW
from ccnet.ops.pointwise import PointwiseConv
from ccnet.ops.schedule import poly
from ccnet.progress import progress
from ccnet.runtime import jt, nn

SIDE, OBJECTS, COLOURS = 24, 6, 3  # pixels, white pixels of each placement, classes
SEEN = 3  # rows from the cue's centre at which its edge is seen: 1 of the cue, 2 of the two 3×3 convolutions
PLACEMENTS = ("in the cross", "elsewhere")
HEADS = {"R = 0": ("rcca", 0), "R = 1": ("rcca", 1), "R = 2": ("rcca", 2), "R = 3": ("rcca", 3),
         "non-local": ("non_local", 1)}  # fmt: skip
CHANNELS, BATCH, RATE, WARMUP, TESTED = 64, 12, 0.003, 40, 240
SHADES = {
    "white": "#ffffff",
    "orange": "#e69f00",
    "blue": "#0072b2",
    "green": "#009e73",
}  # Okabe and Ito's


def draw(generator: np.random.Generator, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draw images `(count, 3, SIDE, SIDE)` float32 in 0..1, with labels and placements, both `(count, SIDE, SIDE)`.

    The labels are the cue's colour at white pixels and IGNORE at the others. Placements are indices of `PLACEMENTS`.
    Every colour is equally frequent if `count` is a multiple of their number.
    """
    images = np.zeros((count, 3, SIDE, SIDE), np.float32)
    labels = np.full((count, SIDE, SIDE), IGNORE, np.uint8)
    placements = np.zeros((count, SIDE, SIDE), np.uint8)
    for number, (image, label, placement) in enumerate(zip(images, labels, placements, strict=True)):
        colour, centre = number % COLOURS, generator.integers(1, SIDE - 1, 2)
        rows, columns = (np.abs(np.arange(SIDE) - place) <= SEEN for place in centre)
        placement[:] = ~(rows[:, None] | columns)
        for where in (rows[:, None] ^ columns, placement == 1):
            chosen = tuple(generator.permutation(np.argwhere(where))[:OBJECTS].T)
            image[:, *chosen] = 1
            label[chosen] = colour
        row, column = centre
        image[colour, row - 1 : row + 2, column - 1 : column + 2] = 1
    return images, labels, placements


class Network(nn.Module):
    """Two 3×3 convolutions, `loops` of attention, and a classifier of two 1×1 convolutions that sees both.

    Images `(B, 3, H, W)` -> logits `(B, COLOURS, H, W)`.
    """

    def __init__(self, attention: str, loops: int):
        self.convolutions = nn.Sequential(ConvNorm(3, CHANNELS, 0.0), ConvNorm(CHANNELS, CHANNELS, 0.0))
        self.attention = ATTENTION[attention](CHANNELS)
        self.classifier = nn.Sequential(
            PointwiseConv(2 * CHANNELS, CHANNELS), nn.ReLU(), PointwiseConv(CHANNELS, COLOURS)
        )
        self.loops = loops

    def execute(self, x: jt.Var) -> jt.Var:
        local = context = self.convolutions(x)
        for _ in range(self.loops):
            context = self.attention(context)
        return self.classifier(jt.concat([local, context], dim=1))


def trained(head: str, seed: int, steps: int) -> Network:
    """The network with this head after `steps` steps of AdamW on images drawn from `seed`."""
    runtime.seed(seed)
    network = Network(*HEADS[head])
    optimizer = AdamW([value for value in network.parameters() if not value.is_stop_grad()], RATE, weight_decay=0.01)
    generator = np.random.default_rng(seed)
    for step in progress(range(steps), desc=f"{head}, seed {seed}", unit="step"):
        optimizer.lr = poly(step, steps=steps, base=RATE, power=0.9, warmup=WARMUP)
        images, labels, _ = draw(generator, BATCH)
        optimizer.step(cross_entropy(network(jt.array(images)), jt.array(labels)))
        jt.sync_all()
    network.eval()
    return network


def predicted(network: Network, images: np.ndarray) -> np.ndarray:
    """The class of each pixel `(B, H, W)` of images `(B, 3, H, W)`."""
    with jt.no_grad():
        parts = [network(jt.array(part)).numpy().argmax(1) for part in np.split(images, len(images) // BATCH)]
    return np.concatenate(parts)


def accuracies(classes: np.ndarray, labels: np.ndarray, placements: np.ndarray) -> Iterator[dict]:
    """Yield each placement with the share of its white pixels that are classified rightly, 0..1."""
    for number, name in enumerate(PLACEMENTS):
        mask = (labels != IGNORE) & (placements == number)
        yield {"placement": name, "accuracy": round(float((classes == labels)[mask].mean()), 4)}


def cells(title: str, image: np.ndarray, classes: np.ndarray | None = None) -> Iterator[dict]:
    """Yield the pixels of an image that are not black; `classes` `(H, W)` colour the white ones."""
    shades = list(SHADES)
    for row, column in np.argwhere(image.any(0)):
        white, colour = image[:, row, column].all(), image[:, row, column].argmax()
        shade = 1 + colour if not white else 0 if classes is None else 1 + classes[row, column]
        yield {"head": title, "row": int(row), "column": int(column), "colour": shades[shade]}


def figure(pixels: list[dict], rows: list[dict]) -> alt.VConcatChart:
    """What each head makes of an image, above the accuracies of all heads, placements and seeds."""
    whole = alt.Scale(domain=list(range(SIDE)), padding=0)
    examples = (
        alt.Chart(alt.Data(values=pixels), width=118, height=118, view=alt.ViewConfig(fill="#222"))
        .mark_rect()
        .encode(
            alt.X("column:O", axis=None, scale=whole),
            alt.Y("row:O", axis=None, scale=whole),
            alt.Color("colour:N", legend=None).scale(domain=list(SHADES), range=list(SHADES.values())),
            alt.Column("head:N", title=None, sort=[*HEADS, "image"], spacing=8),
        )
    )
    points = (
        alt.Chart(alt.Data(values=rows), width=118, height=160)
        .mark_point(size=60, strokeWidth=2)
        .encode(
            alt.X("placement:N", title=None, sort=PLACEMENTS).axis(labelAngle=0),
            alt.Y("accuracy:Q", title="classified rightly").axis(format="%").scale(domain=[0, 1]),
            alt.Color("placement:N", legend=None).scale(range=["#0072b2", "#d55e00"]),
            alt.Column("head:N", title=None, sort=list(HEADS), spacing=8),
        )
    )
    return alt.vconcat(examples, points, background="white").resolve_scale(color="independent")


def main(folder: Path, seeds: tuple[int, ...] = (1, 2, 3), steps: int = 600) -> None:
    """Train and test every head with every seed; write far_context.csv and far_context.svg to `folder`."""
    runtime.select("cpu")
    images, labels, placements = draw(np.random.default_rng(0), TESTED)
    pixels, rows = list(cells("image", images[0])), []
    for head in HEADS:
        for seed in seeds:
            classes = predicted(trained(head, seed, steps), images)
            found = accuracies(classes, labels, placements)
            rows += [{"head": head, "seed": seed, **each} for each in found]
            if seed == seeds[0]:
                pixels += cells(head, images[0], classes[0])
    with atomic(folder / "far_context.csv") as path, path.open("w", newline="") as file:
        table = csv.DictWriter(file, rows[0])
        table.writeheader()
        table.writerows(rows)
    with atomic(folder / "far_context.svg") as path:
        figure(pixels, rows).save(path)


if __name__ == "__main__":
    main(Path(__file__).parent)
