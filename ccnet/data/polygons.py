"""Polygon annotations, COCO's and LabelMe's: rasterising them to label maps with pycocotools."""

import base64
import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
from PIL import Image
from pycocotools import mask as coco

from ccnet import InputError
from ccnet.data import images
from ccnet.data.classes import IGNORED
from ccnet.data.labels import IGNORE

BACKGROUND = "background"  # the class of pixels in no shape, if there is a class of this name; else they are ignored
FARTHEST = 2  # image sides: coordinates beyond are not of this image
LONGEST = 2**21  # pixels of an annotation's outlines: pycocotools needs 100 bytes for each
CIRCLE = 64  # corners of the polygon that replaces a circle


class _Shape(NamedTuple):
    """A category's name and its area as COCO's run-length encoding `{size, counts}`."""

    category: str
    rle: dict[str, Any]


def decode(data: bytes, name: str, class_names: list[str]) -> np.ndarray:
    """The label map `(H, W)` uint8 of the shapes in a JSON file: LabelMe's, or COCO's with one image.

    Later shapes cover earlier ones; COCO's crowds and shapes called "ignore" are ignored (255). Pixels in no shape are
    of the class "background" if there is one, else ignored. Raises InputError naming the file and the shape.
    """
    contents = parse(data, name)
    ids = {each: place for place, each in enumerate(class_names)} | {IGNORED: IGNORE}
    with refusing_faults(name):
        height, width, shapes = _labelme(contents) if "shapes" in contents else _coco(contents)
        label = np.full((height, width), ids.get(BACKGROUND, IGNORE), np.uint8)
        for shape in shapes:
            if shape.category not in ids:
                known = ", ".join(class_names[:10]) + (" …" if len(class_names) > 10 else "")
                raise ValueError(
                    f"{shape.category!r} is not among the classes ({known}): list it, as a class or by `ignore`"
                )
            label[coco.decode(shape.rle).astype(bool)] = ids[shape.category]
    return label


def parse(data: bytes, name: str) -> dict[str, Any]:
    """The object in a JSON file. Raises InputError naming the file if it has none."""
    try:
        contents = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{name}: not readable as JSON ({error})") from error
    if not isinstance(contents, dict):
        raise InputError(f"{name}: neither COCO's nor LabelMe's JSON: its top is no object")
    return contents


@contextmanager
def refusing_faults(name: str) -> Iterator[None]:
    """Convert errors of malformed annotations to an InputError that names the file."""
    try:
        yield
    except KeyError as error:
        raise InputError(f"{name}: an annotation without {error}: neither COCO's nor LabelMe's JSON") from error
    except (TypeError, AttributeError, IndexError) as error:
        raise InputError(f"{name}: neither COCO's nor LabelMe's JSON ({error})") from error
    except (ValueError, OverflowError) as error:
        raise InputError(f"{name}: {' '.join(str(error).split())}") from error


def _size(height: Any, width: Any) -> tuple[int, int]:
    limit = Image.MAX_IMAGE_PIXELS or math.inf
    if not (type(height) is type(width) is int and height > 0 and width > 0 and height * width <= limit):
        raise ValueError(f"an image of {width!r}×{height!r} pixels: give its height and width, at most {limit} pixels")
    return height, width


def _coco(contents: dict[str, Any]) -> tuple[int, int, Iterator[_Shape]]:
    (image,) = contents["images"]
    height, width = _size(image["height"], image["width"])
    names = {category["id"]: str(category["name"]).strip() for category in contents["categories"]}

    def shapes() -> Iterator[_Shape]:
        for annotation in contents["annotations"]:
            category = IGNORED if annotation.get("iscrowd") else names[annotation["category_id"]]
            segmentation = annotation["segmentation"]
            if isinstance(segmentation, dict):
                yield _Shape(category, _run_lengths(segmentation, height, width))
            elif segmentation:  # boxes without an outline have an empty list
                yield _Shape(category, _filled(segmentation, height, width))

    return height, width, shapes()


def _run_lengths(stored: dict[str, Any], height: int, width: int) -> dict[str, Any]:
    counts = _decompressed(stored["counts"]) if isinstance(stored["counts"], str) else stored["counts"]
    if list(stored["size"]) != [height, width]:
        raise ValueError(f"a mask of size {stored['size']} in an image of height {height} and width {width}")
    if not all(type(count) is int and count >= 0 for count in counts) or sum(counts) != height * width:
        raise ValueError("a mask whose run lengths do not add up to its image's pixels")
    return coco.frPyObjects({"size": [height, width], "counts": counts}, height, width)


def _decompressed(text: str) -> list[int]:
    """COCO's compressed run lengths: 5 bits of a number in each sign; all but the first three are differences.

    pycocotools would read and write outside its memory for malformed ones.
    """
    counts: list[int] = []
    number = shift = 0
    for code in text.encode():
        bits = code - 48
        if not 0 <= bits < 64 or shift > 30:
            raise ValueError("a mask whose run lengths are not COCO's")
        number |= (bits & 31) << shift
        shift += 5
        if not bits & 32:
            number -= (bits & 16) << shift - 4  # the sign
            counts.append(number + (counts[-2] if len(counts) > 2 else 0))
            number = shift = 0
    if shift:
        raise ValueError("a mask whose run lengths are cut off")
    return counts


def _filled(polygons: list[Any], height: int, width: int) -> dict[str, Any]:
    """The area of polygons `[x, y, x, y, …]` together."""
    farthest = FARTHEST * max(height, width)
    for polygon in polygons:
        if len(polygon) < 6 or len(polygon) % 2:
            raise ValueError(f"a polygon of {len(polygon)} coordinates: 6 or more are needed, x and y in turns")
        if not all(isinstance(each, int | float) and abs(each) <= farthest for each in polygon):
            raise ValueError(f"a polygon far outside its image of {width}×{height} pixels")
    if sum(map(_perimeter, polygons)) > min(height * width + farthest, LONGEST):
        raise ValueError(f"polygons whose outlines are longer than fits its image of {width}×{height}: simplify them")
    return coco.merge(coco.frPyObjects([list(map(float, polygon)) for polygon in polygons], height, width))


def _perimeter(polygon: list[float]) -> float:
    points = np.array(polygon, float).reshape(-1, 2)
    return float(np.abs(points - np.roll(points, 1, axis=0)).sum())


def _labelme(contents: dict[str, Any]) -> tuple[int, int, Iterator[_Shape]]:
    height, width = _size(contents["imageHeight"], contents["imageWidth"])

    def shapes() -> Iterator[_Shape]:
        for number, shape in enumerate(contents["shapes"], 1):
            kind = shape.get("shape_type") or "polygon"
            category = str(shape["label"]).strip()
            if kind == "mask":
                yield _Shape(category, _stored_mask(shape, height, width))
                continue
            if kind not in OUTLINES:
                raise ValueError(f"shape {number} is a {kind}, which has no area: delete it, or draw it as a polygon")
            if kind != "polygon" and len(shape["points"]) != 2:
                raise ValueError(f"shape {number} is a {kind} of {len(shape['points'])} points; 2 are needed")
            yield _Shape(category, _filled([OUTLINES[kind](shape["points"])], height, width))

    return height, width, shapes()


def _polygon(points: list[Any]) -> list[float]:
    return [coordinate for x, y in points for coordinate in (x, y)]


def _rectangle(points: list[Any]) -> list[float]:
    (left, top), (right, bottom) = points
    return [left, top, right, top, right, bottom, left, bottom]


def _circle(points: list[Any]) -> list[float]:
    """LabelMe's circle: its centre, and a point on it."""
    (x, y), (edge_x, edge_y) = points
    radius = math.hypot(edge_x - x, edge_y - y)
    angles = np.linspace(0, 2 * np.pi, CIRCLE, endpoint=False)
    with np.errstate(over="ignore", invalid="ignore"):  # the result is checked
        return np.stack([x + radius * np.cos(angles), y + radius * np.sin(angles)], axis=1).ravel().tolist()


OUTLINES = {"polygon": _polygon, "rectangle": _rectangle, "circle": _circle}


def _stored_mask(shape: dict[str, Any], height: int, width: int) -> dict[str, Any]:
    """LabelMe's mask: a PNG in base64, to be placed at its first point."""
    try:
        stored = images.open_image(base64.b64decode(shape["mask"], validate=True), "a mask", ("PNG",))
        with images.refusing_damage("a mask"):
            drawn = np.asarray(stored.convert("L")) > 0
    except InputError as error:
        raise ValueError(str(error)) from error
    left, top = (int(each) for each in shape["points"][0])
    if min(left, top) < 0 or left + stored.width > width or top + stored.height > height:
        raise ValueError(f"a mask of {stored.width}×{stored.height} pixels that exceeds its image")
    area = np.zeros((height, width), np.uint8)
    area[top : top + stored.height, left : left + stored.width] = drawn
    return coco.encode(np.asfortranarray(area))
