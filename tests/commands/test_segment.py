import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ccnet import InputError, weights
from ccnet.commands import segment
from ccnet.data import photos
from ccnet.predictor import Predictor
from ccnet.protocol import Protocol
from ccnet.results import OVERLAY, stems
from tests import segmented, tiny
from tests.odd_exif import ODD_EXIF
from tests.segmented import GOOD, UPRIGHT, expected, few, statuses, table

__all__ = ["few"]
BAD = segmented.bad()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Good and bad photos, and what else lies in a folder."""
    made = tmp_path_factory.mktemp("photos")
    segmented.write(made, segmented.good() | {name: data for name, (data, _) in BAD.items()})
    segmented.write(made, {"notes.txt": b"not called an image", "._plain.jpg": b"what a Mac leaves behind"})
    (made / "folder.jpg").mkdir()
    return made


@pytest.fixture(scope="module")
def out(folder, trained, tmp_path_factory):
    """The folder's results."""
    made = tmp_path_factory.mktemp("results")
    segment.run(inputs=[folder], weights_file=trained.weights, out=made)
    return made


def test_every_image_has_a_row(out):
    rows = table(out)
    assert len(BAD) >= 25
    assert len(GOOD) >= 25
    assert {name: row["status"] for name, row in rows.items()} == dict.fromkeys(GOOD, "ok") | dict.fromkeys(
        BAD, "failed"
    )
    for name, size in GOOD.items():
        assert (int(rows[name]["width"]), int(rows[name]["height"])) == size
        assert float(rows[name]["seconds"]) >= 0
        assert rows[name]["reason"] == segmented.REMARKS.get(name, rows[name]["reason"])
    for name, (_, reason) in BAD.items():
        assert reason in rows[name]["reason"]
        assert name not in rows[name]["reason"]
        assert "\n" not in rows[name]["reason"]


def test_every_good_image_has_the_mask_of_its_pixels(folder, out, trained):
    named = stems([Path(name) for name in table(out)])
    for name, stem in zip(table(out), named, strict=True):
        if name in GOOD:
            with Image.open(out / f"{stem}.png") as mask:
                assert np.array_equal(mask, expected(trained, photos.decode(folder / name)[0])), name
    assert len(list(out.rglob("*.png"))) == len(list(out.rglob(f"*{OVERLAY}"))) == len(GOOD)
    assert not [path for path in out.rglob(".*")]


def test_orientation_is_applied_before_the_network_sees_it(folder, out, trained):
    lying = Image.open(folder / "lying.jpg")
    assert lying.size != UPRIGHT
    with Image.open(out / "lying.png") as mask:
        assert np.array_equal(mask, expected(trained, lying.transpose(Image.Transpose.ROTATE_270)))
    with Image.open(out / f"lying{OVERLAY}") as overlay:
        assert overlay.size == UPRIGHT


def test_exif_that_cannot_be_written_back_ends_nothing(few, trained, tmp_path):
    for name, exif in ODD_EXIF.items():
        Image.fromarray(tiny.draw(5, 50, 40)[0]).save(few / f"{name}.jpg", exif=exif)
    assert set(statuses(few, trained, tmp_path / "out")) == {"ok"}
    rows = table(tmp_path / "out")
    for name in ODD_EXIF:
        assert (rows[f"{name}.jpg"]["width"], rows[f"{name}.jpg"]["height"]) == ("40", "50")


def test_a_second_run_skips_what_is_done(folder, out, trained, capsys):
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*.*g")}
    segment.run(inputs=[folder], weights_file=trained.weights, out=out)
    assert {name: row["status"] for name, row in table(out).items()} == dict.fromkeys(GOOD, "skipped") | dict.fromkeys(
        BAD, "failed"
    )
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*.*g")} == before
    printed = capsys.readouterr()
    assert f"{len(GOOD)} of {len(GOOD) + len(BAD)} images segmented" in printed.out
    assert all(f"{name}: " in printed.err for name in BAD)


def test_killed_and_continued_the_results_are_the_same_bytes(folder, out, trained, tmp_path):
    command = [sys.executable, "-m", "ccnet", "segment", folder, "--weights", trained.weights, "--out", tmp_path]
    process = tiny.start(list(map(str, command)))
    while len(list(tmp_path.glob("*.png"))) < 3:
        time.sleep(0.01)
    workers = tiny.children(process.pid)
    process.kill()
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    while any(map(tiny.alive, workers)):
        time.sleep(0.01)
    segment.run(inputs=[folder], weights_file=trained.weights, out=tmp_path)
    assert {row["status"] for row in table(tmp_path).values()} == {"ok", "skipped", "failed"}
    made = [{path.relative_to(place): path.read_bytes() for path in place.rglob("*.*g")} for place in (out, tmp_path)]
    assert made[0] == made[1]


def test_files_and_lists_are_segmented_like_folders(few, trained, tmp_path):
    (tmp_path / "list.txt").write_text(f"{few / '2.png'}\n{few / 'gone.png'}\n")
    segment.run(
        inputs=[few / "0.png", few / "[1].png"], listed=tmp_path / "list.txt", weights_file=trained.weights,
        out=tmp_path / "out",
    )  # fmt: skip
    rows = table(tmp_path / "out")
    assert {name: row["status"] for name, row in rows.items()} == {
        "0.png": "ok", "1.png": "ok", "2.png": "ok", "gone.png": "failed",
    }  # fmt: skip
    assert rows["gone.png"]["reason"] == "No such file or directory"


def test_an_enlarged_photo_keeps_its_mask(trained, tmp_path):
    image = Image.fromarray(tiny.draw(3)[0])
    image.save(tmp_path / "small.png")
    image.resize((image.width * 4, image.height * 4), Image.Resampling.BICUBIC).save(tmp_path / "large.png")
    assert statuses(tmp_path, trained, tmp_path / "out") == ["ok", "ok"]
    small, large = (Image.open(tmp_path / f"out/{name}.png") for name in ("small", "large"))
    assert large.size == (image.width * 4, image.height * 4)
    assert np.mean(np.asarray(large.resize(small.size, Image.Resampling.NEAREST)) == np.asarray(small)) >= 0.95


@pytest.mark.parametrize(
    ("options", "protocol"),
    [
        ({}, Protocol(keep_ratio=(48, 40))),
        ({"own_size": True}, Protocol()),
        ({"flip": True}, Protocol(keep_ratio=(48, 40), flip=True)),
        ({"fixed": [64, 64], "scales": [1.0, 1.5]}, Protocol(fixed=(64, 64), scales=(1.0, 1.5))),
        ({"own_size": True, "window": 32, "stride": 16}, Protocol(window=32, stride=16)),
    ],
)
def test_the_weights_protocol_is_changed_by_what_is_given(few, trained, tmp_path, options, protocol):
    assert statuses(few, trained, tmp_path / "out", **options) == ["ok"] * 3
    assert table(tmp_path / "out")["0.png"]["protocol"] == protocol.in_words()
    found = Predictor(weights.load(trained.weights).model, protocol)(np.asarray(Image.open(few / "0.png")))
    assert np.array_equal(Image.open(tmp_path / "out/0.png"), found)


def test_names_need_not_be_utf8(few, trained, tmp_path):
    name = os.fsdecode(b"caf\xe9.png")
    (few / "0.png").rename(few / name)
    assert statuses(few, trained, tmp_path / "out") == ["ok"] * 3
    assert table(tmp_path / "out")[name]["status"] == "ok"


def test_results_may_lie_below_the_images(few, trained):
    for status in ("ok", "skipped"):
        assert statuses(few, trained, few / "results") == [status] * 3


def test_results_must_not_overwrite_the_images(few, trained):
    for named, out in ((few, few), (few, few.parent), (few / "0.png", few)):
        with pytest.raises(InputError, match="could overwrite the images"):
            segment.run(inputs=[named], weights_file=trained.weights, out=out)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"inputs": []}, "no photos are named: name a folder, files, a pattern in quotes, or a list with --list"),
        ({"inputs": [Path("nowhere")]}, "nowhere: no such file or folder"),
        ({"own_size": True, "fixed": [64, 64]}, "--own-size: images are also resized by --keep-ratio or --fixed"),
        ({"keep_ratio": [64, 5]}, r"protocol: keep_ratio\.1: 5"),
    ],
)
def test_what_makes_no_sense_is_one_line_before_any_work(few, trained, tmp_path, options, words):
    with pytest.raises(InputError, match=words):
        segment.run(**{"inputs": [few], "weights_file": trained.weights, "out": tmp_path / "out", **options})
    assert not list((tmp_path / "out").glob("*"))


def test_none_that_can_be_read_is_a_failure_with_a_table(trained, tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in/a.jpg").write_text("no")
    with pytest.raises(InputError, match="none of the 1 images could be segmented"):
        segment.run(inputs=[tmp_path / "in"], weights_file=trained.weights, out=tmp_path / "out")
    assert table(tmp_path / "out")["a.jpg"]["status"] == "failed"


def test_a_strict_run_fails_by_one_image_when_all_are_done(few, trained, tmp_path):
    (few / "1.png").write_text("no")
    with pytest.raises(InputError, match="1 of 3 images could not be segmented"):
        statuses(few, trained, tmp_path / "out", strict=True)
    assert [row["status"] for row in table(tmp_path / "out").values()] == ["ok", "failed", "ok"]
    (few / "1.png").unlink()
    assert statuses(few, trained, tmp_path / "out", strict=True) == ["skipped", "skipped"]


def test_an_unwritable_place_is_one_line_before_any_work(few, trained, tmp_path):
    (tmp_path / "file").touch()
    for place in ("file", "file/below"):
        with pytest.raises(OSError, match="file"):
            segment.run(inputs=[few], weights_file=trained.weights, out=tmp_path / place)


def test_the_command(few, trained, tmp_path):
    """Bad weights: exit 1 and one line; good ones: exit 0, also with an image that cannot be read; strict: 1."""
    (tmp_path / "bad.safetensors").write_bytes(b"\x80\x04}")
    (few / "a.png").touch()
    command = [sys.executable, "-m", "ccnet", "segment", few, "--out", tmp_path / "out", "--weights"]
    bad = subprocess.run([*command, tmp_path / "bad.safetensors"], capture_output=True, text=True)
    assert bad.returncode == 1
    (line,) = [line for line in bad.stderr.splitlines() if not line.startswith("ccnet: computing on")]
    assert line.startswith(f"ccnet segment: error: {tmp_path / 'bad.safetensors'}: not a readable weights file")
    good = subprocess.run([*command, trained.weights], capture_output=True, text=True)
    assert good.returncode == 0, good.stderr
    assert "3 of 4 images segmented" in good.stdout
    assert "ccnet segment: a.png: the file is empty" in good.stderr
    strict = subprocess.run([*command, trained.weights, "--strict"], capture_output=True, text=True)
    assert strict.returncode == 1
