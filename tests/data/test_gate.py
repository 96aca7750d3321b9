"""The two files of a pair; what `prepare` refuses is in tests/commands/test_prepare.py."""

import io
import json

import numpy as np
import pytest
from PIL import Image

from ccnet import InputError
from ccnet.data import gate
from ccnet.data.coding import Coding
from ccnet.data.images import ORIENTATION

CODING = Coding(["a", "b"])


def pair(folder, size=(12, 8), label=None, turn=1):
    exif = Image.Exif()
    exif[ORIENTATION] = turn
    Image.new("RGB", size, (9, 9, 9)).save(folder / "image.jpg", exif=exif)
    Image.fromarray(np.zeros((8, 12), np.uint8) if label is None else label).save(folder / "label.png")
    return folder / "image.jpg", folder / "label.png"


def test_a_sound_pair_is_opened_with_its_bytes(tmp_path):
    image, label = pair(tmp_path)
    opened = gate.open_pair(image, label, CODING)
    opened.check()
    assert (opened.image_bytes, opened.label_bytes) == (image.read_bytes(), label.read_bytes())
    assert (opened.rgb.mode, opened.kind, opened.as_stored, opened.label_size) == ("RGB", "JPEG", True, (12, 8))
    assert opened.label.tolist() == np.asarray(Image.open(io.BytesIO(opened.label_bytes))).tolist()


def test_what_cannot_be_opened_is_named(tmp_path):
    image, label = pair(tmp_path)
    with pytest.raises(InputError, match=r"none\.jpg: there is no such image"):
        gate.open_pair(tmp_path / "none.jpg", label, CODING)
    with pytest.raises(InputError, match=r"none\.png: there is no such label map"):
        gate.open_pair(image, tmp_path / "none.png", CODING)
    with pytest.raises(InputError, match=r": cannot be read \(Is a directory\)"):
        gate.open_pair(tmp_path, label, CODING)


def test_two_sizes_are_opened_but_refused(tmp_path):
    opened = gate.open_pair(*pair(tmp_path, size=(13, 8)), CODING)
    assert (opened.rgb.size, opened.label_size) == ((13, 8), (12, 8))
    with pytest.raises(InputError, match=r"image\.jpg: is 13×8, its label .*label\.png 12×8$"):
        opened.check()


def test_a_turned_image_has_a_remedy(tmp_path):
    with pytest.raises(InputError, match=r"12×8; its EXIF orientation turns it: save it upright$"):
        gate.open_pair(*pair(tmp_path, size=(8, 12), turn=6), CODING).check()


def test_a_label_that_is_all_ignored_is_opened_but_refused(tmp_path):
    opened = gate.open_pair(*pair(tmp_path, label=np.full((8, 12), 255, np.uint8)), CODING)
    with pytest.raises(InputError, match=r"label\.png: every pixel is ignored"):
        opened.check()


def test_polygons_on_an_image_that_is_turned_are_refused(tmp_path):
    for turn in (1, 3):
        image, _ = pair(tmp_path, turn=turn)
        shape = {"label": "a", "points": [[0, 0], [4, 4]], "shape_type": "rectangle"}
        label = tmp_path / "label.json"
        label.write_text(json.dumps({"imageHeight": 8, "imageWidth": 12, "shapes": [shape]}))
        opened = gate.open_pair(image, label, CODING)
        if turn == 1:
            opened.check()
            continue
        with pytest.raises(
            InputError, match=r"image\.jpg: has polygons, and its EXIF orientation turns it: save it up"
        ):
            opened.check()
