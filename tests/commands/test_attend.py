import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ccnet import InputError, attention, cli, weights
from ccnet.attention import Look
from ccnet.commands import attend
from ccnet.data.images import resized
from ccnet.models import build_from_settings
from ccnet.projections import nearest, projections
from ccnet.protocol import Protocol
from ccnet.runtime import jt
from tests import tiny

OWN = Protocol()  # at its own size


def saved(path: Path, protocol: Protocol = OWN, **changes) -> Path:
    """The weights of an untrained network whose loops change the features: gamma is not 0."""
    settings = tiny.settings(**changes)
    model = build_from_settings(settings, len(tiny.CLASSES))
    if settings.model.recurrence:
        model.head.attention.gamma.assign(jt.array([0.7]))
    weights.save(path, weights.Weights(model, settings, tiny.CLASSES, tiny.PALETTE, protocol=protocol))
    return path


@pytest.fixture(scope="module")
def network(tmp_path_factory) -> Path:
    return saved(tmp_path_factory.mktemp("network") / "weights.safetensors")


@pytest.fixture
def photo(tmp_path) -> Path:
    """An image of 90 × 50 pixels: a feature map of 7 × 12."""
    Image.fromarray(tiny.draw(1, 90, 50)[0]).save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


def attended(photo: Path, network: Path, *at: tuple[int, int]) -> np.ndarray:
    out = photo.parent / "made" / "a.png"
    attend.run(image=photo, weights_file=network, at=list(at), out=out, device="cpu")
    with Image.open(out) as picture:
        assert picture.format == "PNG"
        assert np.ptp(np.asarray(picture)) > 200
    assert sorted(os.listdir(out.parent)) == ["a.npy", "a.png"]
    return np.load(out.with_suffix(".npy"))


@pytest.mark.parametrize("size", [(2, 5000), (5000, 2)])
def test_the_picture_of_a_long_image_has_margins(size, network, tmp_path):
    Image.new("RGB", size, "teal").save(tmp_path / "photo.png")
    found = attended(tmp_path / "photo.png", network, (1, 1))
    np.testing.assert_allclose(found.sum(axis=(1, 2)), 1, atol=1e-5)
    with Image.open(tmp_path / "made/a.png") as picture:
        assert max(picture.size) < 2500


def test_the_numbers_are_the_pixels_maps(photo, network, capsys):
    found = attended(photo, network, (89, 20))
    assert found.shape == (2, 7, 12)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found.sum(axis=(1, 2)), 1, atol=1e-5)
    query, key = projections(weights.load(network).model, np.asarray(Image.open(photo)))
    np.testing.assert_array_equal(found, attention.maps(query, key, 2, 11))
    assert "a.npy: maps of 7 × 12 positions after 1 and 2 loops" in capsys.readouterr().out


def test_an_image_is_seen_at_the_scale_the_weights_were_trained_for(photo, tmp_path):
    network = saved(tmp_path / "w.safetensors", Protocol(keep_ratio=(90, 50)))
    with Image.open(photo) as image:
        large = image.resize((360, 200))
    large.save(photo)
    query, key = projections(weights.load(network).model, resized(np.asarray(large), (50, 90)))
    np.testing.assert_array_equal(attended(photo, network, (242, 82)), attention.maps(query, key, 2, 8))


def test_several_pixels_have_a_map_each(photo, network):
    both = attended(photo, network, (3, 4), (70, 33))
    assert both.shape == (2, 2, 7, 12)
    for maps, pixel in zip(both, [(3, 4), (70, 33)], strict=True):
        np.testing.assert_array_equal(maps, attended(photo, network, pixel))


@pytest.mark.parametrize("recurrence", [1, 3])
def test_a_map_for_each_loop(photo, tmp_path, recurrence, capsys):
    found = attended(photo, saved(tmp_path / "w.safetensors", recurrence=recurrence), (10, 10))
    assert found.shape == (recurrence, 7, 12)
    said = {1: "after 1 loop\n", 3: "after 1, 2 and 3 loops\n"}
    assert capsys.readouterr().out.endswith(said[recurrence])


def test_pixels_are_those_of_the_upright_image(photo, network):
    expected = attended(photo, network, (80, 5))
    lying = Image.Exif()
    lying[0x0112] = 6  # to be shown rotated by 90° clockwise
    with Image.open(photo) as image:
        image.rotate(90, expand=True).save(photo.with_name("lying.png"), exif=lying)
    np.testing.assert_array_equal(attended(photo.with_name("lying.png"), network, (80, 5)), expected)


def test_a_small_image_is_seen_as_the_predictor_pads_it(photo, network):
    with Image.open(photo) as image:
        image.crop((0, 0, 40, 9)).save(photo)
    found = attended(photo, network, (39, 8))
    assert found.shape == (2, 4, 5)
    assert found[0].argmax() != 0
    np.testing.assert_array_equal(found[0, [0, 2, 3]][:, :4], 0)  # the cross of row 1 and column 4


def test_a_run_folder_names_its_weights(photo, network, tmp_path):
    (tmp_path / "run").mkdir()
    shutil.copy(network, tmp_path / "run")
    np.testing.assert_array_equal(attended(photo, tmp_path / "run", (1, 1)), attended(photo, network, (1, 1)))


@pytest.mark.parametrize("pixel", [(90, 0), (0, 50), (-1, 3), (3, -1)])
def test_a_pixel_outside_is_named_with_the_images_size(photo, network, pixel):
    with pytest.raises(InputError, match=r"photo\.png: pixel {},{} is outside its 90×50: .* 89,49".format(*pixel)):
        attended(photo, network, (1, 1), pixel)


def test_what_cannot_be_shown_is_refused(photo, network, tmp_path, monkeypatch):
    def refused(words: str, **changes):
        arguments = {"image": photo, "weights_file": network, "at": [(1, 1)], "out": tmp_path / "a.png"} | changes
        with pytest.raises(InputError, match=words):
            attend.run(**arguments)

    (tmp_path / "letter.jpg").write_text("Dear Sir or Madam")
    refused(r"letter\.jpg: not an image", image=tmp_path / "letter.jpg")
    refused(r"a\.jpg: .* ends in \.png", out=tmp_path / "a.jpg")
    refused(r"--out .*photo\.png: it would overwrite the image", out=photo)
    for name, changes in (("none", {"recurrence": 0}), ("all", {"head": "non_local"})):
        path = saved(tmp_path / f"{name}.safetensors", **changes)
        refused(rf"{name}\.safetensors: the network has no criss-cross attention", weights_file=path)
    monkeypatch.setattr(attend, "LARGEST", 90 * 50 - 1)
    refused(r"photo\.png: 90×50 is over .* megapixels: scale it down")
    assert not list(tmp_path.glob("a.*"))


def test_a_pixel_that_is_none_is_a_usage_error(capsys):
    for said in ("12", "1,2,3", "a,b", "1.5,2"):
        with pytest.raises(SystemExit) as stopped:
            cli.main(["attend", "photo.png", "--weights", "w", "--out", "a.png", "--at", said])
        assert stopped.value.code == 2
        assert f"--at: '{said}': a pixel is X,Y, such as 120,80" in capsys.readouterr().err


def test_the_command(photo, network, capsys):
    command = ["attend", str(photo), "--weights", str(network), "--out", str(photo.with_name("a.png")), "--at", "1,2"]
    assert cli.main([*command, "--at", "30,4"]) == 0
    assert np.load(photo.with_name("a.npy")).shape == (2, 2, 7, 12)
    capsys.readouterr()
    assert cli.main([*command, "--at", "90,2"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"ccnet attend: error: {photo}: pixel 90,2 is outside its 90×50")


@pytest.mark.parametrize(("dots", "step"), [(100, 1), (4, 3)], ids=["whole", "large"])
def test_the_picture_has_the_maps_over_the_image(monkeypatch, dots, step):
    monkeypatch.setattr(attend, "DOTS", dots)
    image, found = tiny.draw(1, 90, 50)[0], np.random.default_rng(0).random((1, 2, 7, 12), np.float32)
    rows, columns = nearest(50, 7), nearest(90, 12)
    first, *maps, bar = attend._picture(image, [(80, 5)], found, Look(found, found, rows, columns)).axes
    np.testing.assert_array_equal(first.get_images()[0].get_array(), image[::step, ::step])
    for axes, weights_ in zip(maps, found[0], strict=True):
        drawn = axes.get_images()[1]
        np.testing.assert_array_equal(drawn.get_array(), weights_[rows][:, columns][::step, ::step])
        assert drawn.get_extent() == [-0.5, 89.5, 49.5, -0.5]
    assert [axes.get_title() for axes in (first, *maps)] == ["image", "after 1 loop", "after 2 loops"]
    assert bar.get_ylabel() == "weight (a map sums to 1)"
