"""The embedded dataset: drawn scenes must be the same everywhere, labelled exactly, and hold every class."""

import numpy as np
import pytest
from PIL import Image

from ccnet.data import streets
from ccnet.data.streets import canvas
from ccnet.data.streets.canvas import SAMPLES, Canvas

CLASSES = len(streets.CLASS_NAMES)


@pytest.fixture(scope="module")
def labels() -> np.ndarray:
    return np.stack([np.asarray(streets.draw(seed)[1]) for seed in range(5000, 5030)])


def test_names_and_palette_agree():
    assert streets.CLASS_NAMES == (
        "sky", "building", "road", "pavement", "tree", "car", "person", "pole", "sign",
    )  # fmt: skip
    assert [getattr(canvas, name.upper()) for name in streets.CLASS_NAMES] == list(range(CLASSES))
    assert len(set(streets.PALETTE)) == CLASSES


def test_a_seed_and_size_give_the_same_bytes():
    first, again, other = streets.draw(7), streets.draw(7), streets.draw(8)
    assert [picture.tobytes() for picture in first] == [picture.tobytes() for picture in again]
    assert first[0].tobytes() != other[0].tobytes()
    assert first[1].tobytes() != other[1].tobytes()


@pytest.mark.parametrize("size", [(192, 144), (96, 72), (97, 73), (240, 320), (401, 225), (960, 720)])
def test_any_size(size):
    image, label = streets.draw(3, size)
    assert (image.size, image.mode, label.size, label.mode) == (size, "RGB", size, "L")
    values = np.unique(np.asarray(label))
    assert values.max() < CLASSES
    assert len(values) >= 6


def test_the_composition_does_not_depend_on_the_size():
    small = np.asarray(streets.draw(11)[1])
    large = np.asarray(streets.draw(11, (576, 432))[1])[1::3, 1::3]
    assert (small == large).mean() > 0.97


def test_every_class_is_common(labels):
    present = [(labels == index).any(axis=(1, 2)).mean() for index in range(CLASSES)]
    share = np.bincount(labels.ravel(), minlength=CLASSES) / labels.size
    assert min(present) >= 0.6, dict(zip(streets.CLASS_NAMES, present, strict=True))
    assert share.min() >= 0.005, dict(zip(streets.CLASS_NAMES, share, strict=True))


def test_scenes_differ_in_light_and_layout(labels):
    brightness = [np.asarray(streets.draw(seed, (96, 72))[0]).mean() for seed in range(12)]
    assert np.ptp(brightness) > 15
    assert (labels[0] == labels[1]).mean() < 0.95


def test_strokes_paint_and_label_the_same_pixels():
    canvas = Canvas(0, (60, 40))
    before = np.asarray(canvas.image).copy()
    canvas.face([(-3, 0, 9), (-3, 3, 9), (-1, 2, 9)], (250, 10, 10), 5)
    canvas.disc((1, 1, 9), (0.8, 0.5), (10, 250, 10), 6)
    painted = (np.asarray(canvas.image) != before).any(axis=2)
    np.testing.assert_array_equal(painted, np.asarray(canvas.label) > 0)


def test_the_label_is_the_sample_at_the_pixels_centre():
    canvas = Canvas(0, (60, 40))
    canvas.face([(-9, 0, 9), (-9, 9, 9), (0.3, 9, 9), (0.3, 0, 9)], (255, 255, 255), 5)
    full = np.asarray(canvas.label)
    image, label = canvas.develop([0.0] * CLASSES)
    assert image.size == label.size == (60, 40)
    for y, x in ((20, 10), (20, 30), (5, 31), (39, 59)):
        assert np.asarray(label)[y, x] == full[y * SAMPLES + 1, x * SAMPLES + 1]


def test_image_edges_lie_on_label_edges():
    """Colour changes where labels do: much more than beside those places."""
    contrast = {shift: [] for shift in (0, 3)}
    for seed in range(20):
        image, label = (np.asarray(picture).astype(int) for picture in streets.draw(seed))
        steps = np.abs(np.diff(image, axis=1)).sum(axis=2)[:, 6:-6]
        for shift, found in contrast.items():
            edge = np.roll(np.diff(label, axis=1) != 0, shift, axis=1)[:, 6:-6]
            found.append(steps[edge].mean())
    assert np.mean(contrast[0]) > 2 * np.mean(contrast[3])


def test_only_the_side_of_a_solid_that_is_seen_is_drawn():
    canvas = Canvas(0, (60, 40))
    corners = [(-1, 0, 5), (-1, 2, 5), (1, 2, 5), (1, 0, 5)]
    canvas.front(corners[::-1], (255, 0, 0), 5)
    assert not np.asarray(canvas.label).any()
    canvas.front(corners, (255, 0, 0), 5)
    assert np.asarray(canvas.label).any()


def test_write_lays_the_files_out(tmp_path):
    streets.write(tmp_path, train=3, val=2, photos=3)
    found = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.*"))
    assert found == sorted(
        [f"images/train/street_000{i}.jpg" for i in (1, 2, 3)]
        + [f"labels/train/street_000{i}.png" for i in (1, 2, 3)]
        + [f"images/val/street_000{i}.jpg" for i in (1, 2)]
        + [f"labels/val/street_000{i}.png" for i in (1, 2)]
        + [f"photos/street_000{i}.jpg" for i in (1, 2, 3)]
    )
    with Image.open(tmp_path / "labels/val/street_0001.png") as val:
        assert (val.mode, val.size) == ("L", (192, 144))
        assert val.tobytes() != Image.open(tmp_path / "labels/train/street_0001.png").tobytes()
    sizes = {Image.open(path).size for path in (tmp_path / "photos").iterdir()}
    assert sizes == {(320, 240), (400, 225), (240, 320)}


def test_write_resumes(tmp_path, monkeypatch):
    streets.write(tmp_path, train=2, val=1, photos=0)
    lost = tmp_path / "labels/train/street_0002.png"
    before = lost.read_bytes()
    lost.unlink()
    drawn, draw = [], streets.draw
    monkeypatch.setattr(streets, "draw", lambda seed, size: drawn.append(seed) or draw(seed, size))
    streets.write(tmp_path, train=2, val=1, photos=0)
    assert len(drawn) == 1
    assert lost.read_bytes() == before


def test_splits_draw_from_disjoint_seeds(tmp_path, monkeypatch):
    drawn = []
    blank = (Image.new("RGB", (8, 8)), Image.new("L", (8, 8)))
    monkeypatch.setattr(streets, "draw", lambda seed, size: drawn.append(seed) or blank)
    streets.write(tmp_path, train=40, val=30, photos=5)
    assert len(set(drawn)) == 75
