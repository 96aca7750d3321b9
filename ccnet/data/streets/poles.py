"""Objects on posts: street lamps, traffic lights and signs; all lengths in metres."""

from ccnet.data.streets.canvas import BLACK, BLUE, POLE, RED, SIGN, WHITE, YELLOW, Canvas, Colour, Point, shade

METALS = ((74, 80, 86), (92, 98, 104), (62, 70, 72))


def post(c: Canvas, x: float, z: float, height: float, width: float) -> Colour:
    """Draw a metal post with a light edge towards the sun and a darker base; return its colour."""
    metal, half = c.vary(c.pick(METALS), 6), width / 2
    c.shadow([(x, 0, z), (x - c.sun * 4, 0, z + 1), (x - c.sun * 4, 0, z + 1.3), (x, 0, z + 0.3)], 0.8)
    c.upright(x, z, ((-half, 0), (-half, height), (half, height), (half, 0)), metal, POLE)
    glow = half * 0.3
    light = ((c.sun * half * 0.8, 0), (c.sun * half * 0.8, height), (c.sun * glow, height), (c.sun * glow, 0))
    c.upright(x, z, light, shade(metal, 1.7))
    c.upright(x, z, ((-half * 1.4, 0), (-half * 1.4, 0.5), (half * 1.4, 0.5), (half * 1.4, 0)), shade(metal, 0.8), POLE)
    return metal


def lamp_post(c: Canvas, x: float, z: float) -> None:
    """Draw a street lamp with an arm over the road."""
    height, width = c.between(4.2, 6), c.between(0.38, 0.46)
    metal = post(c, x, z, height, width)
    reach = -1.3 if x > 0 else 1.3
    c.upright(x, z, ((0, height), (0, height - 0.3), (reach, height + 0.1), (reach, height + 0.35)), metal, POLE)
    head = (
        (reach - 0.5, height + 0.05),
        (reach - 0.35, height + 0.45),
        (reach + 0.35, height + 0.45),
        (reach + 0.5, height + 0.05),
    )
    c.upright(x, z, head, shade(metal, 0.85), POLE)
    c.disc((x + reach, height + 0.08, z), (0.34, 0.12), (255, 236, 170) if c.chance(c.mood.lamps) else WHITE, POLE)


def lantern(c: Canvas, x: float, z: float) -> None:
    """Draw an old lamp post with a glass lantern."""
    height = c.between(3, 3.8)
    metal = post(c, x, z, height, c.between(0.38, 0.46))
    c.upright(x, z, ((-0.22, height), (-0.42, height + 0.8), (0.42, height + 0.8), (0.22, height)), metal, POLE)
    c.upright(
        x,
        z,
        ((-0.13, height + 0.1), (-0.28, height + 0.72), (0.28, height + 0.72), (0.13, height + 0.1)),
        (250, 236, 186),
    )
    c.upright(x, z, ((-0.5, height + 0.8), (0, height + 1.2), (0.5, height + 0.8)), shade(metal, 0.8), POLE)


def traffic_light(c: Canvas, x: float, z: float) -> None:
    """Draw a traffic light with three lamps, one of which is on."""
    height = c.between(2.3, 3)
    metal = post(c, x, z, height, c.between(0.36, 0.42))
    box = ((-0.36, height - 0.1), (-0.36, height + 1.5), (0.36, height + 1.5), (0.36, height - 0.1))
    c.upright(x, z, box, shade(metal, 0.6), POLE)
    on = c.pick((0, 1, 2))
    for i, colour in enumerate(((70, 226, 120), (250, 190, 50), (244, 60, 48))):
        c.disc((x, height + 0.2 + i * 0.5, z), (0.2, 0.2), colour if i == on else shade(colour, 0.3))


def sign(c: Canvas, x: float, z: float) -> None:
    """Draw a random traffic sign on its post."""
    height, radius = c.between(2.1, 2.7), c.between(0.6, 0.78)
    post(c, x, z, height, c.between(0.32, 0.38))
    c.pick((_ban, _order, _warning, _parking, _stop, _priority))(c, (x, height, z - 0.05), radius)


def _plate(c: Canvas, at: Point, corners: tuple, scale: float, colour: Colour, label: int | None = None) -> None:
    x, y, z = at
    c.face([(x + a * scale, y + b * scale, z) for a, b in corners], colour, label)


SQUARE = ((-1, -1), (-1, 1), (1, 1), (1, -1))
BAR = ((-0.6, -0.14), (-0.6, 0.14), (0.6, 0.14), (0.6, -0.14))
ARROW = ((-0.14, -0.6), (-0.14, 0), (-0.4, 0), (0, 0.6), (0.4, 0), (0.14, 0), (0.14, -0.6))
TRIANGLE = ((-1.1, -0.8), (0, 1.1), (1.1, -0.8))
OCTAGON = ((-1, -0.41), (-1, 0.41), (-0.41, 1), (0.41, 1), (1, 0.41), (1, -0.41), (0.41, -1), (-0.41, -1))
DIAMOND = ((-1.2, 0), (0, 1.2), (1.2, 0), (0, -1.2))


def _ban(c: Canvas, at: Point, r: float) -> None:
    c.disc(at, (r, r), RED, SIGN)
    inside = c.pick((None, WHITE))
    if inside:
        c.disc(at, (r * 0.66, r * 0.66), inside)
    _plate(c, at, BAR, r * 0.9, BLACK if inside else WHITE)


def _order(c: Canvas, at: Point, r: float) -> None:
    c.disc(at, (r, r), WHITE, SIGN)
    c.disc(at, (r * 0.92, r * 0.92), BLUE)
    _plate(c, at, ARROW, r, WHITE)


def _warning(c: Canvas, at: Point, r: float) -> None:
    _plate(c, at, TRIANGLE, r, RED, SIGN)
    _plate(c, at, TRIANGLE, r * 0.58, c.pick((WHITE, YELLOW)))
    _plate(c, at, ((-0.1, -0.3), (-0.1, 0.4), (0.1, 0.4), (0.1, -0.3)), r, BLACK)


def _parking(c: Canvas, at: Point, r: float) -> None:
    _plate(c, at, SQUARE, r * 0.92, WHITE, SIGN)
    _plate(c, at, SQUARE, r * 0.84, BLUE)
    _plate(
        c,
        at,
        ((-0.42, -0.62), (-0.42, 0.62), (0.3, 0.62), (0.46, 0.3), (0.3, -0.1), (-0.14, -0.1), (-0.14, -0.62)),
        r,
        WHITE,
    )
    _plate(c, at, ((-0.14, 0.14), (-0.14, 0.38), (0.18, 0.38), (0.18, 0.14)), r, BLUE)


def _stop(c: Canvas, at: Point, r: float) -> None:
    _plate(c, at, OCTAGON, r, WHITE, SIGN)
    _plate(c, at, OCTAGON, r * 0.9, RED)
    _plate(c, at, BAR, r, WHITE)


def _priority(c: Canvas, at: Point, r: float) -> None:
    _plate(c, at, DIAMOND, r, WHITE, SIGN)
    _plate(c, at, DIAMOND, r * 0.8, YELLOW)
