"""A canvas with coordinates in metres: one camera projects each shape into both the image and the label map."""

from collections.abc import Sequence
from math import sqrt
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

Colour = tuple[float, float, float]
Point = tuple[float, float, float]

SKY, BUILDING, ROAD, PAVEMENT, TREE, CAR, PERSON, POLE, SIGN = range(9)

WHITE, BLACK = (238.0, 238.0, 234.0), (30.0, 31.0, 36.0)
RED, BLUE, YELLOW = (206.0, 24.0, 34.0), (22.0, 78.0, 186.0), (246.0, 196.0, 28.0)
LEAVES = ((52, 104, 44), (66, 118, 40), (44, 92, 52), (84, 124, 44))

# Samples per pixel and axis. Odd, so that one sample is at the pixel's centre; that sample is its label.
SAMPLES = 3


class Mood(NamedTuple):
    """Lighting: sky colours at zenith and skyline, tint of the light, and, 0 to 1, shadows, clouds and lit windows."""

    zenith: Colour
    skyline: Colour
    light: Colour
    shadow: float
    clouds: float
    lamps: float


MOODS = (
    Mood((92, 150, 224), (196, 220, 240), (1.04, 1.02, 0.98), 0.42, 0.8, 0.05),
    Mood((70, 128, 214), (176, 208, 240), (1.08, 1.06, 1.00), 0.48, 0.2, 0.05),
    Mood((168, 178, 192), (214, 218, 222), (0.93, 0.94, 0.97), 0.18, 0.6, 0.15),
    Mood((120, 150, 200), (248, 216, 172), (1.10, 1.00, 0.86), 0.46, 0.5, 0.20),
    Mood((104, 112, 176), (246, 184, 164), (0.95, 0.84, 0.84), 0.30, 0.6, 0.60),
    Mood((138, 182, 218), (232, 232, 222), (1.00, 1.00, 0.95), 0.34, 0.4, 0.05),
)


def mix(a: Colour, b: Colour, share: float) -> Colour:
    """Linear interpolation from colour `a` to `b`; `share` in 0 to 1."""
    return (a[0] + (b[0] - a[0]) * share, a[1] + (b[1] - a[1]) * share, a[2] + (b[2] - a[2]) * share)


def shade(colour: Colour, factor: float) -> Colour:
    """A colour multiplied by `factor`: darker (< 1) or lighter (> 1)."""
    return (colour[0] * factor, colour[1] * factor, colour[2] * factor)


class Canvas:
    """A camera over a street: x to the right, y up from the ground, z ahead, in metres; the street bends with z².

    `face` and `disc` draw into image and label map; with `label` None they draw into the image only (windows,
    markings, shadows). Later shapes cover earlier ones, so draw from far to near.
    """

    def __init__(self, seed: int, size: tuple[int, int]):
        width, height = size
        self.rng = np.random.default_rng(seed)
        self.size = (width * SAMPLES, height * SAMPLES)
        self.image = Image.new("RGB", self.size)
        self.label = Image.new("L", self.size)
        self._paint = ImageDraw.Draw(self.image, "RGBA")
        self._mark = ImageDraw.Draw(self.label)
        self.focal = 1.08 * sqrt(self.size[0] * self.size[1])
        self.centre = self.size[0] * self.between(0.42, 0.58)
        self.horizon = self.size[1] * self.between(0.41, 0.52)
        self.eye = self.between(1.9, 2.4)
        self.bend = self.between(-0.0045, 0.0045)
        self.sun = self.pick((-1, 1))
        self.mood: Mood = self.pick(MOODS)

    def between(self, low: float, high: float) -> float:
        """A random number in [low, high)."""
        return low + (high - low) * self.rng.random()

    def chance(self, probability: float) -> bool:
        """True with this probability."""
        return self.rng.random() < probability

    def pick(self, options: Sequence):
        """One of the options at random."""
        return options[int(self.rng.integers(len(options)))]

    def vary(self, colour: Colour, by: float = 10) -> Colour:
        """A colour with a random offset of up to `by` in brightness and `by` / 3 in each channel."""
        step = self.between(-by, by)
        red, green, blue = (value + step + self.between(-by, by) / 3 for value in colour)
        return (red, green, blue)

    def noise(self, cells: tuple[int, int], size: tuple[int, int]) -> Image.Image:
        """Smooth noise, mode L, 0 to 255: a random grid `cells` (rows, columns) resized to `size` (width, height)."""
        grid = self.rng.integers(0, 256, cells, dtype=np.uint8)
        return Image.fromarray(grid).resize(size, Image.Resampling.BICUBIC)

    def project(self, x: float, y: float, z: float) -> tuple[float, float]:
        """Project a point to a sample (column, row)."""
        scale = self.focal / z
        return (self.centre + scale * (x + self.bend * z * z), self.horizon + scale * (self.eye - y))

    def nearest(self, x: float) -> float:
        """The smallest distance z at which a point x metres to the side is in view."""
        room = self.size[0] - self.centre if x > 0 else self.centre
        return abs(x) * self.focal / room

    def _seen(self, colour: Colour, z: float, alpha: float = 1.0) -> tuple[int, int, int, int]:
        """The RGBA colour of an object at distance z: it fades into the skyline's colour."""
        red, green, blue = mix(colour, self.mood.skyline, min(0.4, max(0.0, z - 8) / 160))
        return (_byte(red), _byte(green), _byte(blue), _byte(255 * alpha))

    def face(self, points: Sequence[Point], colour: Colour, label: int | None = None, alpha: float = 1.0) -> None:
        """Draw a flat polygon."""
        outline = [self.project(*point) for point in points]
        self._paint.polygon(outline, self._seen(colour, points[0][2], alpha))
        if label is not None:
            self._mark.polygon(outline, label)

    def front(self, points: Sequence[Point], colour: Colour, label: int | None = None) -> None:
        """Draw a polygon only if its corners appear clockwise: a visible side of a solid (back-face culling)."""
        outline = [self.project(*point) for point in points]
        turn = sum(a[0] * b[1] - b[0] * a[1] for a, b in zip(outline, [*outline[1:], outline[0]], strict=True))
        if turn > 0:
            self.face(points, colour, label)

    def upright(
        self, x: float, z: float, corners: Sequence[tuple[float, float]], colour: Colour, label: int | None = None
    ) -> None:
        """Draw a polygon facing the camera at (x, z), with corners (across, up) in metres."""
        self.face([(x + across, up, z) for across, up in corners], colour, label)

    def disc(self, at: Point, radii: tuple[float, float], colour: Colour, label: int | None = None) -> None:
        """Draw an ellipse facing the camera, with `radii` (across, up) in metres."""
        column, row = self.project(*at)
        across, up = (radius * self.focal / at[2] for radius in radii)
        box = (column - across, row - up, column + across, row + up)
        self._paint.ellipse(box, self._seen(colour, at[2]))
        if label is not None:
            self._mark.ellipse(box, label)

    def shadow(self, points: Sequence[Point], strength: float = 1.0) -> None:
        """Darken a polygon of the image."""
        self.face(points, (16, 18, 34), alpha=self.mood.shadow * strength)

    def develop(self, grain: Sequence[float]) -> tuple[Image.Image, Image.Image]:
        """Render (image, label): adds light, texture of `grain[label]` grey levels, blur and noise; reduces samples."""
        middle = SAMPLES // 2
        label = np.asarray(self.label)[middle::SAMPLES, middle::SAMPLES]
        image = self.image.reduce(SAMPLES).filter(ImageFilter.GaussianBlur(self.between(0.2, 0.5)))
        height, width = label.shape
        texture = self.rng.random((height, width)) + self.rng.random((height, width)) - 1
        patches = self.noise((9, 12), (width, height))
        light = np.asarray(self.mood.light) * self.between(0.88, 1.08)
        pixels = np.asarray(image) * light * (0.94 + np.asarray(patches)[..., None] * (0.12 / 255))
        pixels += (texture * np.asarray(grain)[label])[..., None]
        pixels += (self.rng.random((height, width, 3)) - 0.5) * self.between(4, 11)
        return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)), Image.fromarray(label.copy())


def _byte(value: float) -> int:
    return min(255, max(0, int(value)))
