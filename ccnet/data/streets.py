"""The embedded dataset `streets`: street scenes drawn from a seed, with exact labels, like a small CamVid."""

from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from ccnet.data import street_poles as poles
from ccnet.data import street_setting as setting
from ccnet.data import street_things as things
from ccnet.data.street_canvas import Canvas
from ccnet.files import atomic
from ccnet.progress import progress

CLASS_NAMES = ("sky", "building", "road", "pavement", "tree", "car", "person", "pole", "sign")
# The colours that CamVid gives to these classes.
PALETTE = (
    (128, 128, 128),
    (128, 0, 0),
    (128, 64, 128),
    (0, 0, 192),
    (128, 128, 0),
    (64, 0, 128),
    (64, 64, 0),
    (192, 192, 128),
    (192, 128, 128),
)
# Roughness of each class's surface, in grey levels.
GRAIN = (2, 10, 12, 9, 26, 5, 6, 5, 4)

FIRST_SEED = {"train": 0, "val": 1_000_000, "photos": 2_000_000}
PHOTO_SIZES = ((320, 240), (400, 225), (240, 320))

Plan = list[tuple[float, partial]]


def draw(seed: int, size: tuple[int, int] = (192, 144)) -> tuple[Image.Image, Image.Image]:
    """One scene: an RGB image and its label map (mode L, values 0 to 8), both of `size` (width, height).

    The same seed and size give the same bytes.
    """
    c = Canvas(seed, size)
    middle, half = c.between(-1.4, 1.4), c.between(2.5, 3.1)
    wall = half + c.between(3.6, 5.0)
    junction = c.between(14, 26) if c.chance(0.4) else None
    setting.sky(c)
    setting.backdrop(c)
    setting.ground(c, middle, half, junction)
    plan: Plan = []
    for side in (-1, 1):
        plan += row(c, side, middle + side * wall, junction)
    plan += furniture(c, middle, half) + people(c, middle, half, wall) + traffic(c, middle, half, junction)
    for _, thing in sorted(plan, key=lambda step: -step[0]):
        thing()
    return c.develop(GRAIN)


def row(c: Canvas, side: int, x: float, junction: float | None) -> Plan:
    """Houses along one side, or a park, with a gap for the side street."""
    plan: Plan = []
    park, low = c.chance(0.15), c.chance(0.4)
    z = 2.0
    while z < 76:
        far = z + c.between(6, 12)
        if junction and z < junction + 7 and far > junction:
            far = junction
        if far - z > 1.5:
            if park or c.chance(0.08):
                plan.append((far, partial(setting.hedge, c, side, x, z, far)))
                plan.append(
                    (far + 0.1, partial(things.tree, c, x + side * c.between(1.5, 4), c.between(z + 1, far)))
                )
            else:
                plan.append((far, partial(setting.building, c, side, x, z, far, low)))
        z = far + (7 if far == junction else 0)
    return plan


def furniture(c: Canvas, middle: float, half: float) -> Plan:
    """Lamps, signs and trees along both kerbs; near ones only where they would be too thin further off."""
    kinds = (poles.lamp_post, poles.lantern, poles.traffic_light)
    near = [c.pick(kinds), c.pick(kinds), poles.sign, poles.sign, "tree", c.pick((poles.sign, "tree"))]
    order = c.rng.permutation(len(near))
    plan: Plan = []
    for slot, index in enumerate(order):
        side, place = (-1, 1)[slot % 2], slot // 2
        x = middle + side * (half + 0.7)
        z = c.nearest(x) * 1.2 * 1.27**place * c.between(0.95, 1.1)
        kind = near[int(index)]
        plan.append((z, partial(things.tree, c, x, z) if kind == "tree" else partial(kind, c, x, z, side)))
    for side in (-1, 1):
        for z in (18, 24, 32, 42):
            if c.chance(0.4):
                x = middle + side * (half + 1)
                plan.append((z, partial(things.tree, c, x, z)))
    return plan


def people(c: Canvas, middle: float, half: float, wall: float) -> Plan:
    """People on the pavements, and sometimes one who crosses the road."""
    plan: Plan = []
    for _ in range(int(c.rng.integers(4, 7))):
        x = middle + c.pick((-1, 1)) * c.between(half + 0.6, wall - 0.6)
        z = c.nearest(x) * c.between(1.05, 1.5)
        plan.append((z, partial(things.person, c, x, z)))
    if c.chance(0.3):
        z = c.between(8, 13)
        plan.append((z, partial(things.person, c, middle + c.between(-1, 1) * half, z)))
    return plan


def traffic(c: Canvas, middle: float, half: float, junction: float | None) -> Plan:
    """Cars ahead, oncoming, parked and, at a junction, crossing."""
    plan: Plan = []
    lane = c.pick((-1, 1))
    if c.chance(0.85):
        z = c.between(8, 20)
        plan.append((z, partial(things.car, c, middle + lane * half / 2, z, (0, 1))))
    if c.chance(0.75):
        z = c.between(9, 26)
        plan.append((z, partial(things.car, c, middle - lane * half / 2, z + 4, (0, -1))))
    if c.chance(0.5):
        side = c.pick((-1, 1))
        x = middle + side * (half - 0.7)
        for z in np.arange(c.between(7.5, 10), 26, c.between(5.6, 7)):
            plan.append((float(z), partial(things.car, c, x, float(z), (0, 1))))
    if junction and c.chance(0.7):
        way = c.pick((-1, 1))
        plan.append((junction + 2, partial(things.car, c, middle + c.between(-4, 4), junction + 3, (way, 0))))
    return plan


def write(out: Path, train: int = 480, val: int = 80, photos: int = 6) -> None:
    """Draw the dataset into `out`: images/, labels/, and photos/ of other sizes without labels.

    Files that are there are kept, so an interrupted run continues.
    """
    jobs = [("train", number) for number in range(1, train + 1)]
    jobs += [("val", number) for number in range(1, val + 1)] + [
        ("photos", number) for number in range(1, photos + 1)
    ]
    for split, number in progress(jobs, desc="drawing streets", unit="scene"):
        name, seed = f"street_{number:04d}", FIRST_SEED[split] + number
        if split == "photos":
            files = [Path(out, "photos", f"{name}.jpg")]
        else:
            files = [Path(out, "images", split, f"{name}.jpg"), Path(out, "labels", split, f"{name}.png")]
        if all(file.exists() for file in files):
            continue
        size = PHOTO_SIZES[number % len(PHOTO_SIZES)] if split == "photos" else (192, 144)
        for file, picture in zip(files, draw(seed, size), strict=False):
            with atomic(file) as temporary:
                picture.save(temporary, quality=95)
