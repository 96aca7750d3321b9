"""Files of the stages are read back as they were meant, or named when they cannot be."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from ccnet import InputError
from ccnet.results import Run, Segmented, Step, flat, overlays, pixels, read, stems

LEAVES = st.integers() | st.text() | st.lists(st.integers())
NAMES = st.text("abc", min_size=1)


def test_groups_become_dotted_keys():
    assert flat({"a": {"b": {"c": 1}, "d": [2]}, "e": None}) == {"a.b.c": 1, "a.d": [2], "e": None}


@given(st.dictionaries(NAMES, LEAVES | st.dictionaries(NAMES, LEAVES)))
def test_flattening_loses_no_leaf(tree):
    leaves = sum(len(value) if isinstance(value, dict) else 1 for value in tree.values())
    assert len(flat(tree)) == leaves


def test_csv_rows_become_numbers_and_quoted_text_stays_whole(tmp_path):
    (tmp_path / "history.csv").write_text("step,learning_rate,loss,images_per_second\n10,1e-3,nan,5\n")
    (step,) = read(tmp_path / "history.csv", list[Step], "train")
    assert (step.step, step.learning_rate) == (10, 0.001)
    assert np.isnan(step.loss)
    (tmp_path / "index.csv").write_text('file,status,reason\n"a,b.jpg",failed,"two\nlines"\n')
    (row,) = read(tmp_path / "index.csv", list[Segmented], "segment")
    assert (row.file, row.reason) == ("a,b.jpg", "two\nlines")


def test_stems_never_collide():
    files = ["a.jpg", "a.png", "a.jpg.png", "b.png", "c/a.png", "c/a.webp", "c/b.png", "a.jpg.png.bmp"]
    named = stems([Path(file) for file in files])
    assert len(set(map(str, named))) == len(files)
    assert dict(zip(files, map(str, named), strict=True))["b.png"] == "b"


@given(
    st.lists(st.text("x街.", min_size=240, max_size=251).filter(lambda name: len(name.encode()) <= 251), unique=True)
)
def test_stems_leave_room_for_every_ending(names):
    files = [Path("folder", f"{name}.jpg") for name in [*names, "x" * 251, "x" * 250 + "y", "街" * 83]]
    named = stems(files)
    assert len(set(named)) == len(set(files))
    assert all(len(f"{stem.name}_probabilities.npy".encode()) <= 255 for stem in named)
    assert stems([Path("x" * 237 + ".jpg")]) == [Path("x" * 237)]


def test_overlays_are_sought_where_segment_puts_them(tmp_path):
    files = ["a.jpg", "a.png", "a.jpg.png", "b.png", "c/a.png", "c/b.png", "a.jpg.png.bmp", "failed.jpg"]
    written = [tmp_path / f"{stem}_overlay.jpg" for stem in stems([Path(file) for file in files])]
    (tmp_path / "c").mkdir()
    for path in [*written, tmp_path / "removed_overlay.jpg"]:
        path.touch()
    rows = [Segmented(file=file, status="failed" if file == "failed.jpg" else "ok") for file in files]
    assert overlays(tmp_path, rows) == written[:-1]
    written[0].unlink()
    assert overlays(tmp_path, rows) == written[1:-1]


@pytest.mark.parametrize("content", [b"\xff\xfe", b"", b"[]"])
def test_what_is_not_a_table_of_settings_is_named(tmp_path, content):
    path = tmp_path / "settings.json"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"settings\.json: .*`ccnet settings`") as caught:
        read(path, dict[str, int], "settings")
    assert "\n" not in str(caught.value)


def test_palette_pictures_are_read_as_indices(tmp_path):
    image = Image.fromarray(np.array([[0, 7, 255]], np.uint8)).convert("P")
    image.putpalette([9] * 768)
    image.save(tmp_path / "a.png")
    assert pixels(tmp_path / "a.png").tolist() == [[0, 7, 255]]


def test_what_is_not_a_picture_is_named(tmp_path):
    (tmp_path / "a.png").write_bytes(b"no")
    with pytest.raises(InputError, match=r"a\.png: not an image"):
        pixels(tmp_path / "a.png")


def test_a_history_has_cells_that_are_empty_and_older_ones_lack_columns(tmp_path):
    header = "step,learning_rate,loss,gradient_norm,images_per_second,mean_iou"
    (tmp_path / "history.csv").write_text(f"{header}\n10,0.1,2,1,4.0,\n20,0.1,1,1,8.0,0.25\n30,0.1,1,1,6.0,0\n")
    rows = read(tmp_path / "history.csv", list[Step], "train")
    run = Run("a", tmp_path, {}, rows, None, {})
    assert run.known("mean_iou") == ([20, 30], [0.25, 0.0])
    assert run.images_per_second() == 6
    (tmp_path / "history.csv").write_text("step,learning_rate,loss\n10,0.1,2\n")
    old = Run("a", tmp_path, {}, read(tmp_path / "history.csv", list[Step], "train"), None, {})
    assert (old.known("mean_iou"), old.images_per_second()) == (([], []), None)
