"""The built-in dataset `streets`: synthetic street scenes with exact labels, drawn from seeds, like a small CamVid."""

import io
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from ccnet.data import labels
from ccnet.data.shards import Record
from ccnet.data.streets import poles, setting, things
from ccnet.data.streets.canvas import Canvas
from ccnet.files import atomic
from ccnet.progress import progress

CLASS_NAMES = ("sky", "building", "road", "pavement", "tree", "car", "person", "pole", "sign")
# CamVid's colours of these classes.
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
# Amplitude of each class's surface texture, in grey levels.
GRAIN = (2, 9, 10, 7, 24, 4, 4, 4, 3)

FIRST_SEED = {"train": 0, "val": 1_000_000, "photos": 2_000_000}
PHOTO_SIZES = ((320, 240), (400, 225), (240, 320))


class Street(NamedTuple):
    """A street's plan in metres.

    `middle` is the x of its centre line, `half` half the road's width, `wall` the distance of the walls from the
    centre line, `crossing` the range of z of a side street, or None.
    """

    middle: float
    half: float
    wall: float
    crossing: tuple[float, float] | None

    def crosses(self, z: float) -> bool:
        """Whether z is in the side street."""
        return self.crossing is not None and self.crossing[0] <= z < self.crossing[1]


class Step(NamedTuple):
    """An object to be drawn: the z of its far end, its x, and the function that draws it."""

    z: float
    x: float
    draw: Callable[[], None]


def draw(seed: int, size: tuple[int, int] = (192, 144)) -> tuple[Image.Image, Image.Image]:
    """Draw one scene: an RGB image and its label map (mode L, values 0 to 8), both of `size` (width, height).

    The result is deterministic in seed and size.
    """
    c = Canvas(seed, size)
    half = c.between(2.4, 2.9)
    junction = c.between(11, 18)
    crossing = (junction, junction + 8) if c.chance(0.4) else None
    street = Street(c.between(-1.4, 1.4), half, half + c.between(4.2, 5.6), crossing)
    setting.sky(c)
    setting.backdrop(c)
    setting.ground(c, street.middle, half, crossing)
    posts = furniture(c, street)
    steps = row(c, street, -1) + row(c, street, 1) + posts + people(c, street, posts) + traffic(c, street)
    for step in sorted(steps, key=lambda step: -step.z):
        step.draw()
    return c.develop(GRAIN)


def row(c: Canvas, street: Street, side: int) -> list[Step]:
    """The houses or the park along one side (-1 left, 1 right), with a gap for the side street."""
    steps: list[Step] = []
    x, (start, end) = street.middle + side * street.wall, street.crossing or (90, 90)
    park, low = c.chance(0.15), c.chance(0.4)
    z = 2.0
    while z < 76:
        far = z + c.between(6, 12)
        if z < start:
            far = min(far, start)
        if park or c.chance(0.08):
            steps.append(Step(far, x, partial(setting.hedge, c, side, x, z, far)))
            steps.append(_at(c, things.tree, x + side * c.between(1.5, 4), c.between(z, far)))
        else:
            steps.append(Step(far, x, partial(setting.building, c, side, x, z, far, low)))
        z = end if far == start else far
    return steps


def furniture(c: Canvas, street: Street) -> list[Step]:
    """Lamps, signs and trees along both kerbs; at larger distances only trees, since posts would be too thin."""
    lights = (poles.lamp_post, poles.lantern, poles.traffic_light)
    kinds = [c.pick(lights), poles.sign, c.pick((*lights, poles.sign)), c.pick((poles.sign, things.tree))]
    steps: list[Step] = []
    for slot, index in enumerate(c.rng.permutation(len(kinds))):
        side, place = (-1, 1)[slot % 2], slot // 2
        x = street.middle + side * (street.half + 0.7)
        z = c.nearest(x) * c.between(1.15, 1.3) * 1.45**place
        if street.crossing and street.crosses(z):
            z = street.crossing[0] - 0.4
        steps.append(_at(c, kinds[index], x, z))
    for side in (-1, 1):
        x = street.middle + side * (street.half + 1)
        steps += [_at(c, things.tree, x, z) for z in (15, 21, 30) if c.chance(0.45) and not street.crosses(z)]
    return steps


def people(c: Canvas, street: Street, posts: list[Step]) -> list[Step]:
    """People on the pavements and at most one on the road, placed where neither posts nor other people hide them."""
    steps: list[Step] = []
    room = c.size[0] * 0.07
    columns = [c.project(post.x, 0, post.z)[0] for post in posts if post.z < 16]
    on_road, crowd = c.pick((0, 1, 1)), c.pick((4, 5))
    for _ in range(80):
        if len(steps) < on_road:
            across, z = c.between(-1, 1) * street.half, c.between(6.5, 9)
        else:
            across, z = c.pick((-1, 1)) * c.between(street.half + 0.5, street.wall - 0.5), c.between(7, 12.5)
        x = street.middle + across
        column = c.project(x, 0, z)[0]
        clear = all(abs(column - other) > room for other in columns)
        if len(steps) < crowd and clear and room < column < c.size[0] - room:
            columns.append(column)
            steps.append(_at(c, things.person, x, z))
    return steps


def traffic(c: Canvas, street: Street) -> list[Step]:
    """Cars ahead, oncoming or parked in either lane; at a junction possibly a crossing car."""
    steps: list[Step] = []
    away, parked = c.pick((-1, 1)), c.pick((-1, 0, 1))
    for lane in (-1, 1):
        x = street.middle + lane * street.half / 2
        if lane == parked:
            x += lane * (street.half / 2 - 0.8)
            places = (c.between(9, 10.5), c.between(15, 16.5))
            steps += [_at(c, things.car, x, z, (0, 1)) for z in places if not street.crosses(z + 2)]
        elif c.chance(0.85):
            z = c.between(9, 15)
            steps.append(_at(c, things.car, x, z, (0, 1)) if lane == away else _at(c, things.car, x, z + 4, (0, -1)))
    if street.crossing and c.chance(0.8):
        x, z = street.middle + c.between(-4, 4), street.crossing[0] + 4
        steps.append(_at(c, things.car, x, z, (c.pick((-1, 1)), 0)))
    return steps


def _at(c: Canvas, thing: Callable[..., None], x: float, z: float, *details: tuple[int, int]) -> Step:
    return Step(z, x, partial(thing, c, x, z, *details))


def record(seed: int, size: tuple[int, int], kind: str, **options: int) -> Record:
    """A scene of `size` (width, height) as a shard's record; `kind` ("PNG", "JPEG") and `options` are for Pillow."""
    image, label = draw(seed, size)
    buffer, ids = io.BytesIO(), np.asarray(label)
    image.save(buffer, kind, **options)
    counts = labels.histogram(ids, len(CLASS_NAMES))
    return Record(f"{seed:03d}", buffer.getvalue(), labels.encode(ids), *size, counts)


def write(out: Path, train: int = 480, val: int = 80, photos: int = 6) -> None:
    """Draw the dataset into `out`: images/, labels/, and photos/ of other sizes without labels.

    Files are written atomically and existing ones are kept, so an interrupted run can be resumed.
    """
    counts = {"train": train, "val": val, "photos": photos}
    jobs = [(split, number) for split, count in counts.items() for number in range(1, count + 1)]
    for split, number in progress(jobs, desc="drawing streets", unit="scene"):
        files, size = _files(Path(out), split, f"street_{number:04d}"), (192, 144)
        if split == "photos":
            size = PHOTO_SIZES[number % len(PHOTO_SIZES)]
        if all(file.exists() for file in files):
            continue
        for file, picture in zip(files, draw(FIRST_SEED[split] + number, size), strict=False):
            with atomic(file) as temporary:
                picture.save(temporary, quality=95)


def _files(out: Path, split: str, name: str) -> list[Path]:
    if split == "photos":
        return [out / "photos" / f"{name}.jpg"]
    return [out / "images" / split / f"{name}.jpg", out / "labels" / split / f"{name}.png"]
