"""Objects in a street: trees, cars and people; all lengths in metres."""

from collections.abc import Callable
from itertools import pairwise, product

from ccnet.data.streets.canvas import BLACK, CAR, LEAVES, PERSON, TREE, WHITE, YELLOW, Canvas, Colour, Point, shade

PAINTS = (
    (190, 30, 36),
    (36, 70, 150),
    (226, 228, 230),
    (150, 156, 164),
    (40, 42, 50),
    (232, 170, 34),
    (24, 108, 110),
    (110, 34, 60),
)
CLOTHES = (
    (210, 60, 70),
    (52, 92, 176),
    (240, 206, 80),
    (242, 240, 236),
    (150, 72, 150),
    (236, 130, 50),
    (54, 150, 150),
    (230, 140, 170),
)
TROUSERS = ((44, 52, 88), (56, 50, 48), (110, 100, 84), (36, 36, 42), (84, 104, 140))
SKINS = ((236, 190, 160), (198, 146, 112), (140, 96, 70), (96, 64, 48))
HAIRS = ((44, 32, 26), (96, 62, 36), (190, 150, 90), (120, 116, 114))

_COSINES = (1, 0.866, 0.5, 0, -0.5, -0.866, -1, -0.866, -0.5, 0, 0.5, 0.866)
CIRCLE = tuple(zip(_COSINES, _COSINES[-3:] + _COSINES[:-3], strict=True))

# (length, width, outline (ahead, up) from lower rear over roof to lower front, side windows (first, last, sill, top))
CARS = (
    (
        4.1,
        1.8,
        ((0, 0.35), (0, 0.95), (0.45, 1.5), (2.2, 1.52), (3.0, 1.0), (4.1, 0.85), (4.1, 0.35)),
        (0.45, 2.75, 0.95, 1.4),
    ),
    (
        4.5,
        1.8,
        ((0, 0.35), (0, 0.95), (0.7, 1.0), (1.25, 1.45), (2.6, 1.46), (3.3, 0.98), (4.5, 0.82), (4.5, 0.35)),
        (1.1, 3.0, 0.97, 1.36),
    ),
    (
        4.6,
        2.0,
        ((0, 0.4), (0, 1.1), (0.2, 1.8), (2.9, 1.82), (3.6, 1.15), (4.6, 1.05), (4.6, 0.4)),
        (0.35, 3.3, 1.12, 1.66),
    ),
    (
        5.0,
        2.1,
        ((0, 0.4), (0, 1.3), (0.05, 2.3), (3.9, 2.3), (4.6, 1.3), (5.0, 1.15), (5.0, 0.4)),
        (3.0, 4.4, 1.3, 2.0),
    ),
)


def tree(c: Canvas, x: float, z: float) -> None:
    """Draw a trunk and a crown of leaf clumps, lighter towards the sun."""
    leaf, size = c.vary(c.pick(LEAVES)), c.between(0.8, 1.25)
    c.shadow([(x + c.sun * -3 * a + b * 1.2, 0, z + b * 0.8 + a * 0.4) for a, b in CIRCLE], 0.9)
    foot, bark = 0.2 * size, c.vary((92, 72, 54))
    c.upright(x, z, ((-foot, 0), (-foot * 0.7, 2.6 * size), (foot * 0.7, 2.6 * size), (foot, 0)), bark, TREE)
    for light in (0.72, 0.95, 1.2, 1.45):
        for _ in range(13):
            spread = (1.55 - light) * size
            across, up = c.between(-1.7, 1.7) * spread, c.between(-1.35, 1.35) * spread
            centre = (x + across + c.sun * (light - 0.8) * 0.9 * size, 3.6 * size + up + (light - 0.8) * size, z)
            radius = c.between(0.3, 0.62) * size * (1.4 - light * 0.5)
            c.disc(centre, (radius, radius * 0.85), c.vary(shade(leaf, light)), TREE)


def car(c: Canvas, x: float, z: float, heading: tuple[int, int]) -> None:
    """Draw a car, van or estate with its rear at (x, z); `heading` is its driving direction as a unit vector (x, z)."""
    length, width, outline, (first, last, sill, top) = c.pick(CARS)
    paint, glass = c.vary(c.pick(PAINTS), 8), (46, 56, 70)
    ahead, across = heading, (heading[1], -heading[0])

    def at(u: float, y: float, v: float) -> Point:
        return (x + u * ahead[0] + v * width * across[0], y, z + u * ahead[1] + v * width * across[1])

    c.shadow([at(u * length - 0.2, 0, v) for u, v in ((0, -0.6), (0, 0.6), (1.1, 0.6), (1.1, -0.6))], 1.6)
    for u in (0.1, length - 0.1):
        for v in (-0.45, 0.22):
            c.face([at(u, 0, v), at(u, 0.5, v), at(u, 0.5, v + 0.23), at(u, 0, v + 0.23)], BLACK, CAR)
    for (u0, y0), (u1, y1) in pairwise(outline):
        rise, along = y1 - y0, u1 - u0
        quad = [at(u0, y0, -0.5), at(u1, y1, -0.5), at(u1, y1, 0.5), at(u0, y0, 0.5)]
        c.front(quad, shade(paint, 1.15 if abs(rise) < 0.3 else 0.9), CAR)
        if min(y0, y1) > 0.9 and abs(rise) > 0.3:
            pane = ((0.1, -0.42), (0.9, -0.38), (0.9, 0.38), (0.1, 0.42))
            c.front([at(u0 + s * along, y0 + s * rise, v) for s, v in pane], glass)
    lit = 1.0 if (x > 0) != (c.sun > 0) else 0.78
    window = ((first, sill), (first + 0.35, top), (last - 0.7, top), (last, sill))
    for v, order in ((-0.5, -1), (0.5, 1)):
        c.front([at(u, y, v) for u, y in outline][::order], shade(paint, lit), CAR)
        c.front([at(u, y, v) for u, y in window][::order], glass)
        for hub, (radius, colour) in product((0.8, length - 0.85), ((0.36, BLACK), (0.2, (150, 152, 156)))):
            c.front([at(hub + a * radius, 0.36 + b * radius, v) for a, b in CIRCLE][::-order], colour, CAR)
    _lamps(c, at, length)


def _lamps(c: Canvas, at: Callable[[float, float, float], Point], length: float) -> None:
    """Draw red lamps and a yellow plate at the rear, white ones at the front."""
    for u, order, lamp, plate in ((-0.01, 1, (222, 34, 30), YELLOW), (length + 0.01, -1, (252, 246, 214), WHITE)):
        for v, wide, y, colour in ((-0.48, 0.2, 0.68, lamp), (0.28, 0.2, 0.68, lamp), (-0.17, 0.34, 0.48, plate)):
            corners = [at(u, y, v), at(u, y + 0.18, v), at(u, y + 0.18, v + wide), at(u, y, v + wide)]
            c.front(corners[::order], colour)


def person(c: Canvas, x: float, z: float) -> None:
    """Draw a walking or standing person."""
    size, stride = c.between(0.98, 1.15), c.between(0.0, 0.12)
    top, legs, skin = c.vary(c.pick(CLOTHES)), c.vary(c.pick(TROUSERS), 6), c.vary(c.pick(SKINS), 6)
    swing = c.between(-0.1, 0.12)
    c.shadow([(x + a * 0.5 - c.sun * 0.4, 0, z + b * 0.3) for a, b in CIRCLE], 1.2)

    def part(corners: tuple[tuple[float, float], ...], colour: Colour) -> None:
        c.upright(x, z, [(1.15 * across * size, up * size) for across, up in corners], colour, PERSON)

    for s in (-1, 1):
        part(((s * 0.02, 0.85), (s * 0.24, 0.85), (s * (0.2 + stride), 0), (s * stride, 0)), shade(legs, 1 - 0.1 * s))
        part(((s * stride, 0.1), (s * (0.22 + stride), 0.1), (s * (0.24 + stride), 0), (s * stride, 0)), BLACK)
    for s in (-1, 1):
        part(
            ((s * 0.2, 1.45), (s * 0.36, 1.38), (s * (0.42 + swing), 0.84), (s * (0.3 + swing), 0.84)), shade(top, 0.82)
        )
        c.disc((x + s * (0.36 + swing) * size, 0.82 * size, z), (0.07, 0.07), skin, PERSON)
    part(((-0.3, 1.42), (-0.16, 1.52), (0.16, 1.52), (0.3, 1.42), (0.27, 0.78), (-0.27, 0.78)), top)
    part(((c.sun * 0.3, 1.42), (c.sun * 0.12, 1.5), (c.sun * 0.1, 0.78), (c.sun * 0.27, 0.78)), shade(top, 1.12))
    if c.chance(0.3):
        part(((-0.24, 0.95), (0.24, 0.95), (0.36, 0.42), (-0.36, 0.42)), shade(top, 0.9))
    if c.chance(0.3):
        part(((0.3, 0.62), (0.3, 0.98), (0.62, 0.98), (0.62, 0.62)), c.pick(CLOTHES))
    c.disc((x, 1.69 * size, z), (0.17 * size, 0.19 * size), c.pick(HAIRS), PERSON)
    if c.chance(0.65):
        c.disc((x, 1.62 * size, z), (0.145 * size, 0.15 * size), skin, PERSON)
