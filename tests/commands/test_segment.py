import csv
import io
import os
import signal
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ccnet import InputError, results, weights
from ccnet.commands import segment
from ccnet.predictor import Predictor
from ccnet.protocol import Protocol
from tests import tiny
from tests.odd_exif import ODD_EXIF

UPRIGHT = (40, 60)  # width, height of the photo that lies on its side
GOOD = {
    "plain.jpg": (50, 40), "plain.png": (50, 40), "alpha.png": (33, 21), "grey.tif": (64, 48), "ink.jpg": (40, 40),
    "deep.png": (35, 47), "lying.jpg": UPRIGHT, "dot.bmp": (1, 1), "long.webp": (5000, 40),
    "moving.gif": (44, 33), "deep/er/plain.jpg": (50, 40), "Straße mit Hund – 犬.JPG": (50, 40),
}  # fmt: skip
BAD = {
    "cut.jpg": "cannot be decoded", "empty.png": "the file is empty", "letter.jpg": "not an image of a known format",
    "bomb.png": "limit of 178956970 pixels",
}  # fmt: skip
RESULTS = [
    ("plain.jpg", "plain.jpg"),
    ("plain.png", "plain.png"),
    ("grey.tif", "grey"),
    ("deep/er/plain.jpg", "deep/er/plain"),
]


def bomb() -> bytes:
    """A PNG of 60000×60000 pixels in a few bytes."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        body = kind + data
        return len(data).to_bytes(4, "big") + body + zlib.crc32(body).to_bytes(4, "big")

    size = (60000).to_bytes(4, "big")
    header = size + size + bytes([8, 2, 0, 0, 0])
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")


def fill(folder: Path) -> None:
    """Images of every kind that a folder of photos may hold, good and bad."""
    (folder / "deep/er").mkdir(parents=True)
    drawn = {name: Image.fromarray(tiny.draw(i, *size)[0]) for i, (name, size) in enumerate(GOOD.items())}
    drawn["alpha.png"].putalpha(Image.fromarray(tiny.draw(99, *GOOD["alpha.png"])[1]))
    drawn["grey.tif"] = drawn["grey.tif"].convert("L")
    drawn["ink.jpg"] = drawn["ink.jpg"].convert("CMYK")
    drawn["deep.png"] = Image.fromarray(np.asarray(drawn["deep.png"].convert("L")).astype(np.uint16) * 257)
    orientation = Image.Exif()
    orientation[0x0112] = 6  # the camera was turned: show it rotated by 90° clockwise
    for name, image in drawn.items():
        lying = {"exif": orientation} if name == "lying.jpg" else {}
        (image.rotate(90, expand=True) if lying else image).save(folder / name, **lying)
    whole = io.BytesIO()
    drawn["plain.jpg"].save(whole, "JPEG")
    (folder / "cut.jpg").write_bytes(whole.getvalue()[: len(whole.getvalue()) // 2])
    (folder / "empty.png").touch()
    (folder / "letter.jpg").write_text("Dear Sir or Madam")
    (folder / "bomb.png").write_bytes(bomb())
    (folder / "notes.txt").write_text("no image, and not called one")
    (folder / "._plain.jpg").write_bytes(b"what a Mac leaves behind")


def table(out: Path) -> dict[str, dict[str, str]]:
    with open(out / "index.csv", newline="", encoding="utf-8", errors="surrogateescape") as file:
        return {row["file"]: row for row in csv.DictReader(file)}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("photos")
    fill(made)
    return made


@pytest.fixture(scope="module")
def out(folder, trained):
    """The folder's results, made inside it."""
    segment.run(folder=folder, weights_file=trained.weights, out=folder / "results")
    return folder / "results"


@pytest.fixture(params=[0, 2], ids=["here", "workers"])
def ways(request, monkeypatch):
    """Without processes of their own for reading and writing, and with them, as on a GPU."""
    monkeypatch.setattr(segment, "WORKERS", dict.fromkeys(("cpu", "cuda"), request.param))
    return request.param


@pytest.fixture
def few(tmp_path):
    """A folder of three small images, to change."""
    made = tmp_path / "few"
    made.mkdir()
    for i in range(3):
        Image.fromarray(tiny.draw(i, 40, 36)[0]).save(made / f"{i}.png")
    return made


def test_every_image_has_a_row(out):
    rows = table(out)
    assert list(next(iter(rows.values()))) == ["file", "status", "reason", "width", "height", "seconds"]
    assert {name: row["status"] for name, row in rows.items()} == dict.fromkeys(GOOD, "ok") | dict.fromkeys(
        BAD, "failed"
    )
    for name, size in GOOD.items():
        assert (int(rows[name]["width"]), int(rows[name]["height"])) == size
        assert float(rows[name]["seconds"]) >= 0
    for name, reason in BAD.items():
        assert reason in rows[name]["reason"]
        assert name not in rows[name]["reason"]
        assert "\n" not in rows[name]["reason"]


def test_masks_and_overlays_have_the_size_of_the_upright_image(out):
    assert len(list(out.rglob("*.png"))) == len(list(out.rglob("*_overlay.jpg"))) == len(GOOD)
    for ending in (".png", "_overlay.jpg"):
        with Image.open(out / f"lying{ending}") as image:
            assert image.size == UPRIGHT
    assert not [path for path in out.rglob(".*")]


@pytest.mark.parametrize(("file", "stem"), RESULTS)
def test_masks_are_palette_pngs_of_the_prediction(folder, out, trained, file, stem):
    image = Image.open(folder / file).convert("RGB")
    with Image.open(out / f"{stem}.png") as mask:
        assert mask.mode == "P"
        assert mask.getpalette()[:12] == list(np.ravel(tiny.PALETTE))
        label = np.asarray(mask)
    np.testing.assert_array_equal(label, Predictor(weights.load(trained.weights).model)(np.asarray(image)))
    with Image.open(out / f"{stem}_overlay.jpg") as overlay:
        expected = (np.asarray(image, float) + np.array(tiny.PALETTE)[label]) / 2
        assert np.abs(np.asarray(overlay, float) - expected).mean() < 12  # JPEG blurs the colours


def test_orientation_is_applied_before_the_network_sees_it(folder, out, trained):
    lying = Image.open(folder / "lying.jpg")
    upright = np.asarray(lying.transpose(Image.Transpose.ROTATE_270).convert("RGB"))
    with Image.open(out / "lying.png") as mask:
        np.testing.assert_array_equal(mask, Predictor(weights.load(trained.weights).model)(upright))


def test_exif_that_cannot_be_written_back_ends_nothing(few, trained, tmp_path):
    for name, exif in ODD_EXIF.items():
        Image.fromarray(tiny.draw(5, 50, 40)[0]).save(few / f"{name}.jpg", exif=exif)
    segment.run(folder=few, weights_file=trained.weights, out=tmp_path / "out")
    rows = table(tmp_path / "out")
    assert {row["status"] for row in rows.values()} == {"ok"}
    for name in ODD_EXIF:
        assert (rows[f"{name}.jpg"]["width"], rows[f"{name}.jpg"]["height"]) == ("40", "50")


def test_of_a_gif_the_first_frame_is_segmented(few, trained, tmp_path):
    first, second = (Image.fromarray(tiny.draw(i, 40, 36)[0]).quantize() for i in (0, 1))
    first.save(few / "moving.gif", save_all=True, append_images=[second])
    segment.run(folder=few, weights_file=trained.weights, out=tmp_path / "out")
    with Image.open(tmp_path / "out/moving.png") as mask:
        found = Predictor(weights.load(trained.weights).model)(np.asarray(first.convert("RGB")))
        np.testing.assert_array_equal(mask, found)


@pytest.mark.parametrize("size", [(65_501, 9), (9, 65_501)])
def test_an_overlay_too_long_for_a_jpeg_is_reduced(few, trained, tmp_path, monkeypatch, size):
    monkeypatch.setattr(segment, "LARGEST", 40 * 36)
    monkeypatch.setattr(segment.Predictor, "__call__", lambda self, image: np.ones(image.shape[:2], np.uint8))
    Image.new("RGB", size).save(few / "1.png")
    assert statuses(few, trained, tmp_path / "out") == ["ok", "ok", "ok"]
    assert "overlay is reduced to 65500 pixels" in table(tmp_path / "out")["1.png"]["reason"]
    for name, expected in (("1.png", 65_501), ("1_overlay.jpg", 65_500)):
        with Image.open(tmp_path / "out" / name) as image:
            assert max(image.size) == expected


def test_the_longest_names_are_shortened(few, trained, tmp_path):
    names = ["x" * 249 + ".png", "x" * 248 + "y.png", "街" * 83 + ".png"]
    for name in names:
        Image.new("RGB", (40, 36)).save(few / "new.png")
        (few / "new.png").rename(few / name)
    for expected in ("ok", "skipped"):
        segment.run(folder=few, weights_file=trained.weights, out=tmp_path / "out")
        rows = table(tmp_path / "out")
        assert [rows[name]["status"] for name in names] == [expected] * 3
    listed = results.read(tmp_path / "out/index.csv", list[results.Segmented], "segment")
    assert len(set(results.overlays(tmp_path / "out", listed))) == 6


def test_a_result_that_cannot_be_placed_costs_one_image(few, trained, tmp_path, ways):
    (tmp_path / "out/1.png").mkdir(parents=True)
    assert statuses(few, trained, tmp_path / "out") == ["ok", "failed", "ok"]
    assert table(tmp_path / "out")["1.png"]["reason"] == "its results cannot be written (Is a directory)"


def test_a_second_run_skips_what_is_done(folder, out, trained, capsys):
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*.*g")}
    rows = table(out)
    segment.run(folder=folder, weights_file=trained.weights, out=out)
    again = table(out)
    assert {name: row["status"] for name, row in again.items()} == dict.fromkeys(GOOD, "skipped") | dict.fromkeys(
        BAD, "failed"
    )
    assert all(
        again[name]["width"] == rows[name]["width"] and again[name]["height"] == rows[name]["height"] for name in GOOD
    )
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*.*g")} == before
    printed = capsys.readouterr()
    assert f"{len(GOOD)} of {len(GOOD) + len(BAD)} images segmented" in printed.out
    assert all(f"{name}: " in printed.err for name in BAD)


def statuses(few: Path, trained, out: Path) -> list[str]:
    segment.run(folder=few, weights_file=trained.weights, out=out)
    return [row["status"] for row in table(out).values()]


def test_what_changed_is_done_again(few, trained, tmp_path):
    out = tmp_path / "out"
    assert statuses(few, trained, out) == ["ok", "ok", "ok"]
    Image.fromarray(tiny.draw(7, 40, 36)[0]).save(few / "0.png")
    (out / "1_overlay.jpg").unlink()
    (out / "2.png").write_bytes(b"torn")
    assert statuses(few, trained, out) == ["ok", "ok", "ok"]
    (out / "2.png").unlink()
    assert statuses(few, trained, out) == ["skipped", "skipped", "ok"]
    other = weights.load(trained.weights)
    weights.save(tmp_path / "other.safetensors", other.model, other.settings, other.class_names, [[0, 0, 0]] * 4)
    segment.run(folder=few, weights_file=tmp_path / "other.safetensors", out=out)
    assert {row["status"] for row in table(out).values()} == {"ok"}


def test_workers_change_nothing(trained, tmp_path, monkeypatch):
    fill(tmp_path / "in")
    before = set(tiny.children(os.getpid()))
    made, rows = [], []
    for workers in (0, 2):
        out = tmp_path / str(workers)
        monkeypatch.setattr(segment, "WORKERS", dict.fromkeys(("cpu", "cuda"), workers))
        segment.run(folder=tmp_path / "in", weights_file=trained.weights, out=out)
        made.append({path.relative_to(out): path.read_bytes() for path in out.rglob("*.*g")})
        rows.append([{**row, "seconds": ""} for row in table(out).values()])
    assert made[0] == made[1]
    assert rows[0] == rows[1]
    assert set(tiny.children(os.getpid())) <= before


@pytest.mark.parametrize("killed", [1, 2])
def test_a_killed_worker_costs_no_image(few, trained, tmp_path, monkeypatch, capfd, killed):
    before = set(tiny.children(os.getpid()))
    real = Predictor.__call__

    def predict(*arguments):
        for worker in sorted(set(tiny.children(os.getpid())) - before)[:killed]:
            os.kill(worker, signal.SIGKILL)
        return real(*arguments)

    monkeypatch.setattr(segment, "WORKERS", dict.fromkeys(("cpu", "cuda"), 2))
    monkeypatch.setattr(Predictor, "__call__", predict)
    assert statuses(few, trained, tmp_path / "out") == ["ok", "ok", "ok"]
    assert capfd.readouterr().err.count("died; going on without it") == killed


def test_an_interrupted_run_is_continued(few, trained, tmp_path, monkeypatch, ways):
    made = []
    real = Predictor.__call__

    def predict(*arguments):
        if len(made) == 2:
            raise KeyboardInterrupt
        made.append(1)
        return real(*arguments)

    monkeypatch.setattr(Predictor, "__call__", predict)
    before = set(tiny.children(os.getpid()))
    with pytest.raises(KeyboardInterrupt):
        segment.run(folder=few, weights_file=trained.weights, out=tmp_path / "out")
    assert not [path for path in (tmp_path / "out").iterdir() if path.suffix == ".csv" or path.name.startswith(".")]
    assert set(tiny.children(os.getpid())) <= before
    monkeypatch.undo()
    assert sorted(statuses(few, trained, tmp_path / "out")) == ["ok", "skipped", "skipped"]


def test_names_need_not_be_utf8(few, trained, tmp_path):
    name = os.fsdecode(b"caf\xe9.png")
    (few / "0.png").rename(few / name)
    segment.run(folder=few, weights_file=trained.weights, out=tmp_path / "out")
    assert table(tmp_path / "out")[name]["status"] == "ok"


def test_results_must_not_overwrite_the_images(few, trained):
    for out in (few, few.parent):
        with pytest.raises(InputError, match="could overwrite the images"):
            segment.run(folder=few, weights_file=trained.weights, out=out)


@pytest.mark.parametrize(
    ("folder", "words"),
    [("nowhere", "nowhere: not a folder"), ("bare", r"bare: no images \(\.jpg, .*\) in it or below it")],
)
def test_no_images(folder, words, trained, tmp_path):
    (tmp_path / "bare").mkdir()
    (tmp_path / "bare/readme.txt").touch()
    with pytest.raises(InputError, match=words):
        segment.run(folder=tmp_path / folder, weights_file=trained.weights, out=tmp_path / "out")


def test_none_that_can_be_read_is_a_failure_with_a_table(trained, tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in/a.jpg").write_text("no")
    with pytest.raises(InputError, match="none of its 1 images could be segmented"):
        segment.run(folder=tmp_path / "in", weights_file=trained.weights, out=tmp_path / "out")
    assert table(tmp_path / "out")["a.jpg"]["status"] == "failed"


def test_an_unwritable_place_is_one_line_before_any_work(few, trained, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="file"):
        segment.run(folder=few, weights_file=trained.weights, out=tmp_path / "file")
    with pytest.raises(OSError, match="file"):
        segment.run(folder=few, weights_file=trained.weights, out=tmp_path / "file/below")


def test_a_full_disk_ends_the_run(few, trained, tmp_path, monkeypatch, ways):
    monkeypatch.setattr("os.fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(OSError, match="No space left"):
        segment.run(folder=few, weights_file=trained.weights, out=tmp_path / "out")
    assert not [path for path in (tmp_path / "out").rglob("*") if path.is_file()]


def test_the_command(few, trained, tmp_path):
    """Bad weights: exit 1 and one line; good ones: exit 0."""
    (tmp_path / "bad.safetensors").write_bytes(b"\x80\x04}")
    command = [sys.executable, "-m", "ccnet", "segment", few, "--out", tmp_path / "out", "--weights"]
    bad = subprocess.run([*command, tmp_path / "bad.safetensors"], capture_output=True, text=True)
    assert bad.returncode == 1
    (line,) = [line for line in bad.stderr.splitlines() if not line.startswith("ccnet: computing on")]
    assert line.startswith(f"ccnet segment: error: {tmp_path / 'bad.safetensors'}: not a readable weights file")
    good = subprocess.run([*command, trained.weights], capture_output=True, text=True)
    assert good.returncode == 0, good.stderr
    assert "3 of 3 images segmented" in good.stdout


def test_windows_slide_over_an_image_too_large_for_memory(few, trained, tmp_path, monkeypatch):
    monkeypatch.setattr(segment, "LARGEST", 40 * 36)
    monkeypatch.setattr(segment, "WINDOW", 32)
    image = tiny.draw(5, 81, 50)[0]
    Image.fromarray(image).save(few / "large.png")
    segment.run(folder=few, weights_file=trained.weights, out=tmp_path / "out")
    rows = table(tmp_path / "out")
    assert rows["large.png"]["reason"] == "over 0.0 megapixels: in windows of 32 pixels"
    assert {name: row["reason"] for name, row in rows.items() if name != "large.png"} == dict.fromkeys(
        ["0.png", "1.png", "2.png"], ""
    )
    with Image.open(tmp_path / "out/large.png") as mask:
        found = Predictor(weights.load(trained.weights).model, Protocol(window=32))(image)
        np.testing.assert_array_equal(mask, found)


def test_many_classes_lower_what_is_segmented_whole(few, trained):
    few_classes = weights.load(trained.weights)
    many = few_classes._replace(class_names=[str(i) for i in range(150)])
    assert segment._Segmenter(few_classes, "", few, few).largest == 24_000_000
    assert segment._Segmenter(many, "", few, few).largest == 2**29 // 150


def test_a_network_out_of_memory_costs_one_image(few, trained, tmp_path, monkeypatch, ways):
    Image.new("RGB", (50, 40)).save(few / "1.png")
    real = Predictor.__call__

    def predict(self, image):
        if image.shape == (40, 50, 3):
            raise RuntimeError(f"{'x' * 500}\n[Reason]: Unable to alloc cuda device memory for size 9")
        return real(self, image)

    monkeypatch.setattr(Predictor, "__call__", predict)
    assert statuses(few, trained, tmp_path / "out") == ["ok", "failed", "ok"]
    assert table(tmp_path / "out")["1.png"]["reason"].startswith(
        "out of memory (Unable to alloc cuda device memory for size 9): scale the image"
    )
