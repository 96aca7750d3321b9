"""The static background of a street: sky, ground, road, houses and hedges; all lengths in metres."""

from collections.abc import Callable

import numpy as np
from PIL import Image

from ccnet.data.streets.canvas import BUILDING, LEAVES, PAVEMENT, ROAD, TREE, WHITE, Canvas, Colour, Point, mix, shade

WALLS = (
    (164, 92, 72),
    (182, 116, 84),
    (206, 178, 136),
    (218, 202, 172),
    (190, 164, 148),
    (176, 140, 120),
    (224, 190, 160),
)
ROOFS = ((124, 70, 58), (96, 84, 88), (142, 86, 66))
AWNINGS = ((128, 74, 64), (74, 98, 88), (178, 148, 104), (92, 92, 116))


def sky(c: Canvas) -> None:
    """Draw a gradient with clouds, from the top to the horizon."""
    width, height = c.size[0] // 6, int(c.horizon) // 6 + 4
    down = np.linspace(0, 1, height)[:, None, None]
    colours = np.asarray(c.mood.zenith) * (1 - down) + np.asarray(c.mood.skyline) * down
    noise = sum(
        np.asarray(c.noise(cells, (width, height)), dtype=float) * weight
        for cells, weight in (((3, 5), 0.5), ((7, 9), 0.3), ((14, 18), 0.2))
    )
    cover = np.clip((noise - 125) / 60, 0, 1)[..., None] * c.mood.clouds
    colours = colours * (1 - cover) + np.asarray(mix(c.mood.skyline, WHITE, 0.6)) * cover
    picture = Image.fromarray(colours.astype(np.uint8)).resize((c.size[0], height * 6), Image.Resampling.BILINEAR)
    c.image.paste(picture, (0, 0))


def strip(
    c: Canvas, left: float, right: float, near: float, far: float, colour: Colour, label: int | None = None
) -> None:
    """Draw a band on the ground along the street, following its bend."""
    steps = [near * (far / near) ** (i / 12) for i in range(13)]
    c.face([(left, 0, z) for z in steps] + [(right, 0, z) for z in reversed(steps)], colour, label)


def ground(c: Canvas, middle: float, half: float, crossing: tuple[float, float] | None) -> None:
    """Draw the pavement with slabs, the road with its markings over it, and a side street at `crossing`."""
    slab = c.vary(c.pick(((186, 174, 160), (176, 170, 166), (196, 180, 156))), 8)
    asphalt = c.vary(c.pick(((84, 86, 94), (74, 76, 84), (96, 96, 102))), 6)
    c.face([(-250, 0, 90), (250, 0, 90), (250, 0, 1), (-250, 0, 1)], slab, PAVEMENT)
    for side in (-1, 1):
        for row in range(30):
            _joint(c, middle + side * half, side * 7, 4 + row * 1.1, shade(slab, 0.84))
        strip(c, middle + side * (half + 1.4), middle + side * (half + 1.46), 3, 40, shade(slab, 0.84))
        strip(c, middle + side * half, middle + side * (half + 0.28), 1.5, 90, shade(slab, 1.14))
    strip(c, middle - half, middle + half, 1, 90, asphalt, ROAD)
    if crossing:
        c.face(
            [(-60, 0, crossing[0]), (60, 0, crossing[0]), (60, 0, crossing[1]), (-60, 0, crossing[1])], asphalt, ROAD
        )
    _markings(c, middle, half, crossing, asphalt)


def _joint(c: Canvas, start: float, reach: float, z: float, colour: Colour) -> None:
    c.face([(start, 0, z), (start + reach, 0, z), (start + reach, 0, z * 1.008), (start, 0, z * 1.008)], colour)


def _markings(c: Canvas, middle: float, half: float, crossing: tuple[float, float] | None, asphalt: Colour) -> None:
    white = mix(asphalt, WHITE, c.between(0.6, 0.9))
    for _ in range(int(c.rng.integers(1, 5))):
        x, z = middle + c.between(-0.8, 0.8) * half, c.between(4, 14)
        strip(c, x, x + c.between(0.5, 1.6), z, z + c.between(0.5, 3), shade(asphalt, c.pick((0.84, 1.12))))
    dash = c.pick((1.5, 2.5))
    for z in np.arange(c.between(2, 4), 60, dash * 2.2):
        strip(c, middle - 0.08, middle + 0.08, float(z), float(z) + dash, white)
    if c.chance(0.6):
        for side in (-1, 1):
            strip(c, middle + side * (half - 0.45), middle + side * (half - 0.3), 2, 70, white)
    if crossing or c.chance(0.3):
        z = crossing[0] - 3 if crossing else c.between(7, 16)
        for x in np.arange(-half + 0.3, half - 0.4, 0.9):
            strip(c, middle + float(x), middle + float(x) + 0.45, z, z + 2.2, white)


def backdrop(c: Canvas) -> None:
    """Draw distant houses and tree tops at the end of the street."""
    x, z = -75.0, 80.0
    while x < 75:
        width, height = c.between(8, 18), c.between(4, 14)
        x += width
        bent = x - c.bend * z * z
        if c.chance(0.55):
            box = [(bent, 0, z), (bent, height, z), (bent - width, height, z), (bent - width, 0, z)]
            c.face(box, c.vary(c.pick(WALLS)), BUILDING)
        else:
            c.disc((bent - width / 2, height * 0.2, z), (width * 0.7, height * 0.6), c.vary(c.pick(LEAVES)), TREE)


def building(c: Canvas, side: int, x: float, near: float, far: float, low: bool) -> None:
    """Draw a house from z `near` to `far` with its front at `x`, on the right (`side` 1) or left (-1)."""
    height = c.between(4.5, 6.5) if low else c.between(6.5, 11.5)
    wall, roof, ridge = c.vary(c.pick(WALLS), 14), c.vary(c.pick(ROOFS)), c.pick((0.0, 1.6, 2.6))
    back = x + side * 9
    lit = 1.08 if side != c.sun else 0.76
    middle, top = (x + back) / 2, height + ridge
    c.face([(x, height, near), (x, height, far), (middle, top, far), (middle, top, near)], shade(roof, lit), BUILDING)
    gable = [(x, 0, near), (x, height, near), (middle, top, near), (back, height, near), (back, 0, near)]
    c.face(gable, shade(wall, 0.9), BUILDING)
    c.face([(x, 0, near), (x, height, near), (x, height, far), (x, 0, far)], shade(wall, lit), BUILDING)
    eaves = [(x, height, near), (x, height - 0.35, near), (x, height - 0.35, far), (x, height, far)]
    c.face(eaves, shade(wall, lit * 1.15 if ridge == 0 else lit * 0.7))
    _windows(c, lambda u, y: (x, y, near + u), far - near, height, shade(wall, lit), near)
    _windows(c, lambda u, y: (x + side * u, y, near), 9, height, shade(wall, 0.9), near)


def _windows(
    c: Canvas, at: Callable[[float, float], Point], length: float, height: float, wall: Colour, near: float
) -> None:
    """Draw rows of windows on a wall `at(along, up)`, with doors and possibly a shop front on the ground floor."""
    floors, bays = max(1, int(height / 2.7)), max(1, int(length / 2.3))
    step, storey = length / bays, height / floors
    shop = c.pick(AWNINGS) if c.chance(0.4) else None
    for floor in range(floors):
        for bay in range(bays):
            u, y = (bay + 0.26) * step, (floor + 0.3) * storey
            wide, high = step * 0.48, storey * 0.52
            door = floor == 0 and bay % 3 == 1
            if door:
                y, high = 0.0, storey * 0.8
            glass = (250, 214, 140) if c.chance(c.mood.lamps) else c.vary((104, 132, 160), 12)
            colour = shade(c.pick(AWNINGS), 0.8) if door else glass
            if near < 30:
                _pane(c, at, u - 0.14, y - 0.14, wide + 0.28, high + 0.28, mix(wall, WHITE, 0.55))
            _pane(c, at, u, y, wide, high, colour)
    if shop:
        _pane(c, at, 0.2, storey * 0.82, length - 0.4, storey * 0.22, shop)


def _pane(
    c: Canvas, at: Callable[[float, float], Point], u: float, y: float, wide: float, high: float, colour: Colour
) -> None:
    c.face([at(u, y), at(u, y + high), at(u + wide, y + high), at(u + wide, y)], colour)


def hedge(c: Canvas, side: int, x: float, near: float, far: float) -> None:
    """Draw a hedge with a ragged top along the pavement, in place of a house."""
    leaf, height = c.vary(c.pick(LEAVES)), c.between(1.6, 2.4)
    lit = 1.05 if side != c.sun else 0.75
    c.face(
        [(x, 0, near), (x, height, near), (x + side * 9, height, near), (x + side * 9, 0, near)], shade(leaf, 0.8), TREE
    )
    c.face([(x, 0, near), (x, height, near), (x, height, far), (x, 0, far)], shade(leaf, lit), TREE)
    for _ in range(26):
        z = c.between(near, far)
        spot = (x + c.between(0, 0.3) * side, c.between(0.3, 1.05) * height, z)
        c.disc(spot, (0.35, 0.28), c.vary(shade(leaf, lit * c.between(0.7, 1.3))), TREE)
