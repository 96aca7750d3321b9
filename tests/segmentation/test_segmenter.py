import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ccnet import results, weights
from ccnet.commands import segment
from ccnet.data.photos import Photo
from ccnet.predictor import Predictor
from ccnet.protocol import Protocol
from ccnet.results import CONFIDENCE, OVERLAY, PROBABILITIES
from ccnet.segmentation import segmenter
from ccnet.segmentation.segmenter import Job, Segmenter, Wanted
from tests import tiny
from tests.segmented import expected, few, statuses, table

__all__ = ["few"]


def test_a_mask_is_a_palette_png_of_the_prediction_with_its_figures(few, trained, tmp_path):
    assert statuses(few, trained, tmp_path / "out") == ["ok"] * 3
    image = Image.open(few / "1.png")
    with Image.open(tmp_path / "out/1.png") as mask:
        assert (mask.mode, mask.getpalette()[:12]) == ("P", list(np.ravel(tiny.PALETTE)))
        label = np.asarray(mask)
    np.testing.assert_array_equal(label, expected(trained, image))
    row = table(tmp_path / "out")["1.png"]
    assert row["mask"] == "1.png"
    shares = [float(row[f"share_{name}"]) for name in tiny.CLASSES]
    np.testing.assert_allclose(shares, [np.mean(label == k) for k in range(4)], atol=1e-6)
    assert row["protocol"] == "resized to fit within 48 × 40, aspect kept, whole, one scale"
    with Image.open(tmp_path / f"out/1{OVERLAY}") as overlay:
        blended = (np.asarray(image, float) + np.array(tiny.PALETTE)[label]) / 2
        assert np.abs(np.asarray(overlay, float) - blended).mean() < 12  # JPEG blurs the colours


@pytest.mark.parametrize("options", [{}, {"scales": [0.75, 1.5], "flip": True}, {"window": 32, "own_size": True}])
def test_confidence_and_probabilities_are_those_of_the_mask(few, trained, tmp_path, options):
    wanted = {"confidence": True, "probabilities": True, "overlay": False, **options}
    assert statuses(few, trained, tmp_path / "out", **wanted) == ["ok"] * 3
    shares = np.load(tmp_path / f"out/0{PROBABILITIES}")
    confidence, label = (np.asarray(Image.open(tmp_path / f"out/0{ending}")) for ending in (CONFIDENCE, ".png"))
    assert (shares.dtype, shares.shape, confidence.dtype) == (np.float16, (4, 36, 40), np.uint8)
    np.testing.assert_allclose(shares.astype(float).sum(axis=0), 1, atol=2e-3)
    np.testing.assert_allclose(confidence / 255, shares.max(axis=0), atol=3e-3)
    assert np.take_along_axis(shares, label[None].astype(int), 0).min() >= shares.max(axis=0).min() - 1e-3
    assert not (tmp_path / f"out/0{OVERLAY}").exists()
    row = table(tmp_path / "out")["0.png"]
    assert float(row["confidence"]) == pytest.approx(shares.max(axis=0).astype(float).mean(), abs=3e-3)
    plain = tmp_path / "plain"
    assert statuses(few, trained, plain, **options) == ["ok"] * 3
    assert np.array_equal(Image.open(plain / "0.png"), label)


def test_what_is_wanted_besides_is_made_later_and_what_is_not_is_removed(few, trained, tmp_path):
    out = tmp_path / "out"
    assert statuses(few, trained, out) == ["ok"] * 3
    assert statuses(few, trained, out, confidence=True) == ["ok"] * 3
    assert statuses(few, trained, out, confidence=True) == ["skipped"] * 3
    assert statuses(few, trained, out, flip=True, overlay=False) == ["ok"] * 3
    assert sorted(path.name for path in out.iterdir()) == ["0.png", "1.png", "2.png", "index.csv", "index.html"]


def test_skipped_rows_have_the_figures_of_the_first_run(few, trained, tmp_path):
    figures = []
    for status in ("ok", "skipped"):
        assert statuses(few, trained, tmp_path / "out") == [status] * 3
        own = ("status", "reason", "seconds")
        figures.append([{key: row[key] for key in row if key not in own} for row in table(tmp_path / "out").values()])
    assert figures[0] == figures[1]


def test_what_changed_is_done_again(few, trained, tmp_path):
    out = tmp_path / "out"
    assert statuses(few, trained, out) == ["ok", "ok", "ok"]
    Image.fromarray(tiny.draw(7, 40, 36)[0]).save(few / "0.png")
    (out / f"1{OVERLAY}").unlink()
    (out / "2.png").write_bytes(b"torn")
    assert statuses(few, trained, out) == ["ok", "ok", "ok"]
    (out / "2.png").unlink()
    assert statuses(few, trained, out) == ["skipped", "skipped", "ok"]
    other = weights.load(trained.weights)
    weights.save(tmp_path / "other.safetensors", other._replace(palette=[[0, 0, 0]] * 4))
    segment.run(inputs=[few], weights_file=tmp_path / "other.safetensors", out=out)
    assert {row["status"] for row in table(out).values()} == {"ok"}


def test_the_same_size_and_time_are_not_the_same_photo(few, trained, tmp_path):
    for name, seed in (("a.bmp", 5), ("b.bmp", 6)):
        Image.fromarray(tiny.draw(seed)[0]).save(few / name)
        os.utime(few / name, (1, 1))
    assert statuses(few, trained, tmp_path / "out") == ["ok"] * 5
    (few / "a.bmp").rename(few / "c.bmp")
    (few / "b.bmp").rename(few / "a.bmp")
    (few / "c.bmp").rename(few / "b.bmp")
    assert statuses(few, trained, tmp_path / "out") == ["skipped"] * 3 + ["ok"] * 2


def test_a_mask_does_not_vouch_for_another_networks_overlay(few, trained, tmp_path, monkeypatch):
    """Other weights were interrupted between the overlay and the mask: the first are not done any more."""
    out = tmp_path / "out"
    statuses(few, trained, out)
    overlay = (out / f"0{OVERLAY}").read_bytes()

    class Killed(BaseException):
        pass

    def killed(path, image, mask):
        path.write_bytes(b"another network's")
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(segmenter, "_write_overlay", killed)
        one = Segmenter(weights.load(trained.weights), "other", Protocol(), out, Wanted())
        with pytest.raises(Killed):
            one.row(Job(Photo(few / "0.png", Path("0.png")), Path("0")), one.label)
    assert statuses(few, trained, out) == ["ok", "skipped", "skipped"]
    assert (out / f"0{OVERLAY}").read_bytes() == overlay


def test_an_interrupted_run_leaves_no_table_of_an_earlier_one(few, trained, tmp_path, monkeypatch):
    out = tmp_path / "out"
    statuses(few, trained, out)

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(segment.processes, "rows", interrupted)
    with pytest.raises(KeyboardInterrupt):
        segment.run(inputs=[few], weights_file=trained.weights, out=out)
    assert not (out / "index.csv").exists()
    assert not (out / "index.html").exists()


def test_a_skipped_row_says_again_what_was_lost(few, trained, tmp_path):
    Image.fromarray(np.full((40, 36), 9000, np.uint16)).save(few / "3.png")
    for status in ("ok", "skipped"):
        assert statuses(few, trained, tmp_path / "out") == [status] * 4
        assert table(tmp_path / "out")["3.png"]["reason"].endswith("over 8 bits: only the upper 8 of 16 are used")


def test_all_views_together_decide_what_is_segmented_whole(few, trained, monkeypatch):
    monkeypatch.setattr(segmenter, "LARGEST", 3 * 40 * 36)
    network = weights.load(trained.weights)
    for flip, words in ((False, []), (True, ["over 0.0 megapixels in 4 views: in windows of 1024 pixels"])):
        one = Segmenter(network, "", Protocol.checked(scales=[1.0, 1.0], flip=flip), few, Wanted())
        assert list(one._remarks(40, 36)) == words


@pytest.mark.parametrize("size", [(65_501, 9), (9, 65_501)])
def test_an_overlay_too_long_for_a_jpeg_is_reduced(few, trained, tmp_path, monkeypatch, size):
    monkeypatch.setattr(segmenter.Predictor, "with_confidence", lambda self, image: (np.ones_like(image[..., 0]),) * 2)
    Image.new("RGB", size).save(few / "1.png")
    assert statuses(few, trained, tmp_path / "out") == ["ok", "ok", "ok"]
    assert "overlay is reduced to 65500 pixels" in table(tmp_path / "out")["1.png"]["reason"]
    for name, longest in (("1.png", 65_501), (f"1{OVERLAY}", 65_500)):
        with Image.open(tmp_path / "out" / name) as image:
            assert max(image.size) == longest


def test_the_longest_names_are_shortened(few, trained, tmp_path):
    names = ["x" * 249 + ".png", "x" * 248 + "y.png", "街" * 83 + ".png"]
    for name in names:
        Image.new("RGB", (40, 36)).save(few / "new.png")
        (few / "new.png").rename(few / name)
    for status in ("ok", "skipped"):
        assert statuses(few, trained, tmp_path / "out", probabilities=True) == [status] * 6
    listed = results.read(tmp_path / "out/index.csv", list[results.Segmented], "segment")
    assert len(set(results.overlays(tmp_path / "out", listed))) == 6


def test_windows_slide_over_an_image_too_large_for_memory(few, trained, tmp_path, monkeypatch):
    monkeypatch.setattr(segmenter, "LARGEST", 40 * 36)
    monkeypatch.setattr(segmenter, "WINDOW", 32)
    image = tiny.draw(5, 81, 50)[0]
    Image.fromarray(image).save(few / "large.png")
    statuses(few, trained, tmp_path / "out", own_size=True)
    rows = table(tmp_path / "out")
    assert rows["large.png"]["reason"] == "over 0.0 megapixels: in windows of 32 pixels"
    assert rows["large.png"]["protocol"] == "at their own size, windows of 32 pixels every 22, one scale"
    assert {name: row["reason"] for name, row in rows.items() if name != "large.png"} == dict.fromkeys(
        ["0.png", "1.png", "2.png"], ""
    )
    with Image.open(tmp_path / "out/large.png") as mask:
        found = Predictor(weights.load(trained.weights).model, Protocol(window=32))(image)
        np.testing.assert_array_equal(mask, found)


def test_many_classes_lower_what_is_segmented_whole(few, trained):
    few_classes = weights.load(trained.weights)
    many = few_classes._replace(class_names=[str(i) for i in range(150)])
    largest = [Segmenter(each, "", Protocol(), few, Wanted()).largest for each in (few_classes, many)]
    assert largest == [24_000_000, 2**29 // 150]
