import base64
import io
import json
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image
from pycocotools import mask

from ccnet import InputError
from ccnet.data import polygons

HEIGHT, WIDTH = 24, 36
NAMES = ["wall", "door"]


def outline(left, top, right, bottom):
    return [left, top, right, top, right, bottom, left, bottom]


def coco(*annotations, height=HEIGHT, width=WIDTH):
    categories = [{"id": 7, "name": "wall"}, {"id": 0, "name": "door"}, {"id": 9, "name": "ignore"}]
    image = {"id": 1, "file_name": "a.jpg", "height": height, "width": width}
    return {"images": [image], "categories": categories, "annotations": list(annotations)}


def labelme(*shapes, **fields):
    return {"imageHeight": HEIGHT, "imageWidth": WIDTH, "shapes": list(shapes), **fields}


def shape(label, points, **fields):
    return {"label": label, "points": points, **fields}


def stored_mask(values):
    buffer = io.BytesIO()
    Image.fromarray(np.array(values, np.uint8)).save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


def decode(contents, names=NAMES):
    return polygons.decode(json.dumps(contents).encode(), "a.json", names)


def rectangle(value, left, top, right, bottom, ground=255):
    label = np.full((HEIGHT, WIDTH), ground, np.uint8)
    label[top:bottom, left:right] = value
    return label


BOXES = st.tuples(st.integers(0, WIDTH - 1), st.integers(0, HEIGHT - 1), st.integers(1, WIDTH), st.integers(1, HEIGHT))


@given(BOXES)
def test_a_rectangle_covers_exactly_its_pixels(box):
    left, top, width, height = box
    right, bottom = min(left + width, WIDTH), min(top + height, HEIGHT)
    expected = rectangle(1, left, top, right, bottom)
    drawn = coco({"category_id": 0, "segmentation": [outline(left, top, right, bottom)]})
    assert np.array_equal(decode(drawn), expected)
    for points, kind in (
        ([[left, top], [right, bottom]], "rectangle"),
        ([[left, top], [right, top], [right, bottom], [left, bottom]], "polygon"),
    ):
        assert np.array_equal(decode(labelme(shape("door", points, shape_type=kind))), expected)


def test_later_shapes_cover_earlier_ones_and_crowds_are_ignored():
    area = np.zeros((HEIGHT, WIDTH), np.uint8, order="F")
    area[:, 30:] = 1
    packed = mask.encode(area)
    columns = {"size": [HEIGHT, WIDTH], "counts": [30 * HEIGHT, 6 * HEIGHT]}
    for crowd in (columns, {"size": packed["size"], "counts": packed["counts"].decode()}):
        label = decode(
            coco(
                {"category_id": 7, "segmentation": [outline(0, 0, 20, 24), outline(24, 0, 36, 24)]},
                {"category_id": 0, "segmentation": [outline(10, 0, 20, 12)]},
                {"category_id": 7, "iscrowd": 1, "segmentation": crowd},
                {"category_id": 9, "segmentation": [outline(0, 0, 4, 4)]},
                {"category_id": 7, "segmentation": []},
            )
        )
        assert np.array_equal(label[:, 30:], np.full((HEIGHT, 6), 255))
        assert [label[20, 5], label[5, 15], label[0, 22], label[0, 0], label[0, 25]] == [0, 1, 255, 255, 0]


@given(arrays(np.uint8, st.tuples(st.integers(1, 40), st.integers(1, 40)), elements=st.integers(0, 1)))
def test_packed_run_lengths_are_read_as_they_were_written(area):
    height, width = area.shape
    counts = mask.encode(np.asfortranarray(area))["counts"].decode()
    annotation = {"category_id": 0, "segmentation": {"size": [height, width], "counts": counts}}
    assert np.array_equal(decode(coco(annotation, height=height, width=width)) == 1, area == 1)


@given(st.text("".join(map(chr, range(40, 120))), max_size=40))
def test_no_run_lengths_leave_the_image(counts):
    """pycocotools itself would read and write outside its memory."""
    with suppress(InputError):
        label = decode(masked(counts))
        assert set(np.unique(label)) <= {1, 255}


def test_what_no_shape_covers_is_background_if_there_is_such_a_class():
    drawn = labelme(shape("door", [[2, 2], [9, 9]], shape_type="rectangle"))
    assert np.array_equal(decode(drawn, ["background", "door"]), rectangle(1, 2, 2, 9, 9, ground=0))
    assert np.array_equal(decode(labelme(), ["background"]), np.zeros((HEIGHT, WIDTH)))


def test_a_circle_and_a_stored_mask_have_their_area():
    area = decode(labelme(shape("wall", [[18, 12], [18, 20]], shape_type="circle"))) == 0
    assert area.sum() == pytest.approx(np.pi * 64, rel=0.05)
    stored = stored_mask([[255, 0], [0, 255]])
    label = decode(labelme(shape("door", [[3, 5], [4, 6]], shape_type="mask", mask=stored)))
    assert np.argwhere(label == 1).tolist() == [[5, 3], [6, 4]]


def masked(counts):
    return coco({"category_id": 0, "segmentation": {"size": [HEIGHT, WIDTH], "counts": counts}})


WRONG = {
    "not JSON": (b"\xff", "not readable as JSON"),
    "deep": (b"[" * 100000, "not readable as JSON"),
    "a list": ([], "neither COCO's nor LabelMe's JSON"),
    "neither": ({"a": 1}, "an annotation without 'images': neither COCO's nor LabelMe's JSON"),
    "an unknown category": (labelme(shape("roof", [[0, 0], [9, 0], [9, 9]])), "'roof' is not among the classes (wall,"),
    "a line": (labelme(shape("door", [[0, 0], [9, 9]], shape_type="line")), "shape 1 is a line, which has no area"),
    "two corners": (labelme(shape("door", [[0, 0], [9, 9]])), "a polygon of 4 coordinates: 6 or more are needed"),
    "no size": (labelme(imageHeight=None), "give its height and width"),
    "absurd size": (coco(height=10**6, width=10**6), "give its height and width"),
    "far away": (coco({"category_id": 0, "segmentation": [outline(0, 0, 1e300, 9)]}), "far outside its image of 36×24"),
    "not a number": (coco({"category_id": 0, "segmentation": [[float("nan")] * 6]}), "far outside"),
    "infinite": (coco({"category_id": 0, "segmentation": [[float("inf")] * 6]}), "far outside"),
    "text": (coco({"category_id": 0, "segmentation": [["a"] * 6]}), "far outside"),
    "another size": (coco({"category_id": 0, "segmentation": {"size": [3, 3], "counts": [9]}}), "mask of size [3, 3]"),
    "too few counts": (masked([9]), "do not add up"),
    "negative counts": (
        masked([-9, 873]),
        "do not add up",
    ),
    "short counts": (masked("0"), "do not add up"),
    "long edges": (coco({"category_id": 0, "segmentation": [[-60, -60, 60, 60] * 40]}),
 "outlines are longer than fits its image of 36×24"),
    "broken counts": (masked("ZZZZ"), "run lengths are cut off"),
    "no counts": (masked(""), "do not add up"),
    "counts that are no COCO's": (masked("é"), "COCO's"),
    "endless counts": (
        masked("o" * 99),
        "run lengths are not COCO's",
    ),
    "few packed counts": (
        masked("44444"),
        "do not add up",
    ),
    "a flat list": (coco({"category_id": 0, "segmentation": [1, 2]}), "neither COCO's nor LabelMe's JSON ("),
    "an endless outline": (
        coco({"category_id": 0, "segmentation": [[0, 0] + [60, 0, 0, 0] * 30]}),
        "outlines are longer than fits its image of 36×24: simplify them",
    ),
    "a circle of one point": (labelme(shape("door", [[1, 1]], shape_type="circle")), "shape 1 is a circle of 1 points"),
    "a circle without end": (
        labelme(shape("door", [[1e308, 0], [0, 1e308]], shape_type="circle")),
        "far outside its image",
    ),
    "text as size": (labelme(imageHeight="24"), "an image of 36×'24' pixels: give its height and width"),
    "a torn mask": (
        labelme(shape("door", [[0, 0]], shape_type="mask", mask=stored_mask(np.eye(24))[:60])),
        "a.json: a mask: ",
    ),
    "an empty mask": (labelme(shape("door", [[0, 0]], shape_type="mask", mask="")), "a mask: the file is empty"),
    "no category": (coco({"category_id": 5, "segmentation": [outline(0, 0, 9, 9)]}), "an annotation without 5"),
    "a mask outside": (
        labelme(shape("door", [[30, 30], [31, 31]], shape_type="mask", mask=stored_mask([[255]]))),
        "a mask of 1×1 pixels that exceeds its image",
    ),
    "no mask": (labelme(shape("door", [[0, 0]], shape_type="mask", mask="???")), "a.json: "),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_is_said_in_one_line(case):
    contents, reason = WRONG[case]
    data = contents if isinstance(contents, bytes) else json.dumps(contents).encode()
    with pytest.raises(InputError) as caught:
        polygons.decode(data, "a.json", NAMES)
    assert str(caught.value).startswith("a.json: ")
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)
