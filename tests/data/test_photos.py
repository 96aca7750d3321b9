import os
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from ccnet import InputError
from ccnet.data import photos
from tests import segmented
from tests.odd_exif import ODD_EXIF
from tests.segmented import encoded

GREY = np.arange(12, dtype=np.uint8).reshape(3, 4) * 20
BAD = segmented.bad()


def decoded(data: bytes, folder: Path, name: str = "a.png") -> Image.Image:
    (folder / name).write_bytes(data)
    return photos.decode(folder / name)[0]


def names(*named: Path | str, listed: Path | None = None, out: Path = Path("out")) -> list[str]:
    return [str(photo.name) for photo in photos.find([Path(each) for each in named], listed, out)]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Two folders of images that nobody reads, and files that are none."""
    monkeypatch.chdir(tmp_path)
    for name in (
        "a/1.jpg",
        "a/2.PNG",
        "a/deep/3.tif",
        "a/.hidden.jpg",
        "a/._1.jpg",
        "a/notes.txt",
        "b/4.webp",
        "b/odd",
    ):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    return tmp_path


@pytest.mark.parametrize("value", range(1, 10))
def test_the_orientation_tag_turns_an_image_and_nothing_else_does(value, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = value
    picture = Image.fromarray(np.stack([GREY, GREY.T.reshape(3, 4), GREY[::-1]], axis=-1))
    turned = ImageOps.exif_transpose(picture_with(picture, exif, tmp_path))
    assert np.array_equal(decoded(encoded(picture, "PNG", exif=exif), tmp_path), turned)
    assert np.array_equal(decoded(encoded(picture, "PNG"), tmp_path), picture)


def picture_with(picture: Image.Image, exif: Image.Exif, folder: Path) -> Image.Image:
    (folder / "exif.png").write_bytes(encoded(picture, "PNG", exif=exif))
    return Image.open(folder / "exif.png")


def test_a_tiff_is_turned_once(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    picture = Image.fromarray(np.stack([GREY] * 3, axis=-1))
    turned = picture.transpose(Image.Transpose.ROTATE_270)
    assert np.array_equal(decoded(encoded(picture, "TIFF", tiffinfo=exif), tmp_path), turned)


@pytest.mark.parametrize("name", ODD_EXIF)
def test_exif_need_not_be_fit_for_writing(name, tmp_path):
    data = encoded(Image.new("RGB", (20, 10)), "JPEG", exif=ODD_EXIF[name])
    assert decoded(data, tmp_path).size == (10, 20)


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("exif", [b"Exif\0\0nonsense", b"Exif\0\0II*\0" + b"\xff" * 40])
def test_an_image_with_damaged_exif_stays_as_it_is(exif, tmp_path):
    assert decoded(encoded(Image.new("RGB", (20, 10)), "JPEG", exif=exif), tmp_path).size == (20, 10)


@pytest.mark.parametrize("name", segmented.GOOD)
def test_every_kind_is_read_and_what_is_lost_is_said(name, tmp_path):
    (tmp_path / "photo").with_suffix(Path(name).suffix).write_bytes(segmented.good()[name])
    image, remarks = photos.decode((tmp_path / "photo").with_suffix(Path(name).suffix))
    assert (image.mode, image.size) == ("RGB", segmented.GOOD[name])
    if name in segmented.REMARKS:
        assert remarks == [segmented.REMARKS[name]]


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_image_is_refused_by_name(name, tmp_path):
    data, reason = BAD[name]
    with pytest.raises(InputError) as caught:
        decoded(data, tmp_path, name)
    assert str(caught.value).startswith(f"{tmp_path / name}: ")
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)


def test_transparent_pixels_are_white(tmp_path):
    image = Image.new("RGBA", (2, 1), (10, 20, 30, 255))
    image.putpixel((1, 0), (10, 20, 30, 0))
    assert np.asarray(decoded(encoded(image, "PNG"), tmp_path)).tolist() == [[[10, 20, 30], [255, 255, 255]]]


def test_one_grey_of_16_bits_may_be_transparent(tmp_path):
    grey = np.array([[0, 8000, 16000, 65535]], np.uint16)
    data = encoded(Image.fromarray(grey), "PNG", transparency=16000)
    assert np.asarray(decoded(data, tmp_path))[..., 0].tolist() == [[0, 31, 255, 255]]


def test_an_opaque_alpha_is_no_remark(tmp_path):
    (tmp_path / "a.png").write_bytes(encoded(Image.new("RGBA", (2, 1), (1, 2, 3, 255)), "PNG"))
    assert photos.decode(tmp_path / "a.png")[1] == []


def test_pages_that_are_damaged_do_not_cost_the_first(tmp_path):
    pages = [Image.new("RGB", (9, 7), (k, k, k)) for k in (10, 20)]
    data = encoded(pages[0], "TIFF", save_all=True, append_images=pages[1:])
    assert decoded(data[: len(data) * 2 // 3], tmp_path, "a.tif").getpixel((0, 0)) == (10, 10, 10)


def test_heic_is_read_by_its_plugin(tmp_path, monkeypatch):
    """A stand-in for pillow_heif: its function registers a format that Pillow did not know."""

    class Plugin:
        @staticmethod
        def register_heif_opener():
            Image.register_open("HEIF", Image.OPEN["PNG"][0], Image.OPEN["PNG"][1])

    monkeypatch.setitem(sys.modules, "pillow_heif", Plugin)
    monkeypatch.setattr(Image, "OPEN", dict(Image.OPEN))
    monkeypatch.setattr(Image, "ID", list(Image.ID))
    assert decoded(encoded(Image.new("RGB", (9, 7)), "PNG"), tmp_path, "a.heic").size == (9, 7)


def test_avif_needs_a_pillow_that_reads_it(tmp_path, monkeypatch):
    monkeypatch.setattr(photos.features, "check", lambda name: name != "avif")
    with pytest.raises(InputError, match=r"a\.avif: this Pillow reads no AVIF: pip install --upgrade pillow"):
        decoded(segmented.good()["photo.avif"], tmp_path, "a.avif")


def test_a_folder_is_searched_without_what_is_hidden(folder):
    assert names("a") == names(folder / "a") == ["1.jpg", "2.PNG", "deep/3.tif"]
    assert names("a", out=folder / "a/deep") == ["1.jpg", "2.PNG"]


def test_files_folders_and_patterns_have_names_below_what_they_share(folder):
    assert names("a/1.jpg") == ["1.jpg"]
    assert names("a/1.jpg", "a/deep/3.tif", "a/1.jpg") == ["1.jpg", "deep/3.tif"]
    assert names("a", "b") == ["a/1.jpg", "a/2.PNG", "a/deep/3.tif", "b/4.webp"]
    assert names("a/*.[jP]*") == ["1.jpg", "2.PNG"]
    assert names("**/*.tif", "b/odd") == ["a/deep/3.tif", "b/odd"]
    assert names("[ab]") == ["a/1.jpg", "a/2.PNG", "a/deep/3.tif", "b/4.webp"]


def test_a_file_may_be_called_like_a_pattern(folder):
    (folder / "a/[1].jpg").touch()
    assert names("a/[1].jpg") == ["[1].jpg"]


def test_a_list_names_files_that_may_be_missing(folder):
    odd = os.fsdecode(b"caf\xe9.png")
    (folder / "list.txt").write_bytes(os.fsencode(f"a/1.jpg\r\n\nb/gone.png\n{odd}\nb/two words.jpg"))
    assert names(listed=Path("list.txt")) == ["a/1.jpg", "b/gone.png", "b/two words.jpg", odd]


def test_linked_folders_are_searched_and_results_are_not(folder, capsys):
    (folder / "a/linked").symlink_to(folder / "b")
    (folder / "b/back").symlink_to(folder / "a")  # which would lead round for ever
    (folder / "a/gone.jpg").symlink_to(folder / "nowhere")
    (folder / "a/.thumbnails").mkdir()
    (folder / "a/.thumbnails/1.jpg").touch()
    results = folder / "a/segmented"
    results.mkdir()
    for name in ("1.png", "index.csv", "index.html"):
        (results / name).touch()
    assert names("a") == ["1.jpg", "2.PNG", "deep/3.tif", "gone.jpg", "linked/4.webp"]
    assert "a/segmented: left out: it has an index.csv" in capsys.readouterr().err
    assert names("a/segmented") == ["1.png"]  # which were asked for


def test_a_name_that_looks_like_a_home_is_a_name(folder):
    (folder / "~no such user.jpg").touch()
    assert names("~no such user.jpg") == ["~no such user.jpg"]


def test_a_list_of_windows_is_read_or_refused_by_name(folder):
    (folder / "bom.txt").write_text("a/1.jpg", encoding="utf-8-sig")
    assert names(listed=Path("bom.txt")) == ["1.jpg"]
    (folder / "wide.txt").write_text("a/1.jpg", encoding="utf-16")
    with pytest.raises(InputError, match=r"wide\.txt: it has NUL bytes, .*: save it as UTF-8"):
        names(listed=Path("wide.txt"))


@pytest.mark.parametrize(
    ("named", "words"),
    [
        ("gone", r"gone: no such file or folder; name images, folders of images, or a pattern in quotes"),
        ("empty", r"empty: no images \(\.jpg, .*\) in it or below it"),
        ("a/*.gif", r"a/\*\.gif: no images"),
    ],
)
def test_what_is_not_there_is_named(folder, named, words):
    (folder / "empty").mkdir()
    with pytest.raises(InputError, match=words):
        names(named)


def test_a_list_that_cannot_be_read_is_named(folder):
    with pytest.raises(InputError, match="a: Is a directory; name a text file with a path on each line"):
        names(listed=Path("a"))
