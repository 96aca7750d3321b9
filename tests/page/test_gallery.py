"""The gallery refers to files by links that lead to them, copies what browsers would not show, and works in one."""

import json
import os
import re
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote_to_bytes, urljoin, urlsplit

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Browser, expect
from playwright.sync_api import Page as Tab

from ccnet.data.images import ORIENTATION
from ccnet.data.labels import save_palette_png
from ccnet.page import gallery
from ccnet.page.gallery import Picture
from tests.drawn import CLASSES, PALETTE, SIZE, picture
from tests.page.browser import Watched, barriers, needs_chromium

HOSTILE = [
    "plain.jpg", "a b.jpg", "50%.jpg", "%41.jpg", "what?.jpg", "#1.jpg", "it's.jpg", 'say "cheese".jpg', "a:b.jpg",
    "</script><script>alert(1)<!--.jpg", "<img src=x onerror=alert(1)>.jpg", "犬 – Straße.jpg", "back\\slash.jpg",
    "two\nlines.jpg", "&amp;.jpg", "{{ 1 }}.jpg", "-a.jpg", "\u202egpj.exe.jpg", os.fsdecode(b"latin-\xe9.jpg"),
]  # fmt: skip
XMP = (
    b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    b'<rdf:Description xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="6"/></rdf:RDF></x:xmpmeta>'
)


class Parsed(HTMLParser):
    """What a gallery's HTML says without its script: the attributes of each tag, its text, and its data block."""

    def __init__(self, out: Path) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words = ""
        self.text = (out / "index.html").read_text(encoding="utf-8")
        self.out = out
        self.feed(self.text)
        self.data: dict[str, Any] = json.loads(re.findall(r'id="data">(.*?)</script>', self.text, re.DOTALL)[0])

    def handle_starttag(self, tag: str, attrs: list) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.words += data

    def originals(self) -> list[str]:
        """The URLs of the originals in the thumbnails."""
        return [str(attrs["src"]) for tag, attrs in self.tags if tag == "img" and attrs.get("class") == "original"]

    def leads_to(self, url: str) -> Path:
        """The file that a browser opens at a URL relative to the page."""
        base = "file://" + self.out.as_posix() + "/index.html"
        parts = urlsplit(urljoin(base, url))
        assert not parts.query
        assert not parts.fragment
        return Path(os.fsdecode(unquote_to_bytes(parts.path)))


class Folder:
    """Photos in `folder`/photos, and their masks in `folder`/out."""

    def __init__(self, folder: Path) -> None:
        self.photos, self.out = folder / "photos", folder / "out"
        self.pictures: list[Picture] = []

    def add(self, name: str, *, classes: tuple[int, int] = (0, 1), image: Image.Image | None = None, **options) -> Path:
        """Draw one more photo, whose upper quarter has the second class; `options` are for saving it."""
        original, mask = self.photos / name, self.out / (name + ".png")
        for path in (original, mask):
            path.parent.mkdir(parents=True, exist_ok=True)
        (image or picture(len(self.pictures))).save(original, **options)
        width, height = SIZE if "exif" not in options and "xmp" not in options else SIZE[::-1]
        ids = np.full((height, width), classes[0], np.uint8)
        ids[: height // 4] = classes[1]
        save_palette_png(mask, ids, PALETTE)
        shares = (np.bincount(ids.ravel(), minlength=4) / ids.size).tolist()
        confidence = 0.5 + len(self.pictures) / 100
        listed = Picture(name, original, name + ".png", "ok", "", width, height, confidence, shares, "whole")
        self.pictures.append(listed)
        return original

    def fail(self, name: str, reason: str) -> None:
        """List an image that could not be segmented."""
        self.pictures.append(Picture(name, self.photos / name, None, "failed", reason))

    def write(self) -> Parsed:
        """Write the gallery."""
        gallery.write(self.out, self.pictures, CLASSES, PALETTE, "photos", "tiny network")
        return Parsed(self.out)


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


def turned(value: int) -> Image.Exif:
    exif = Image.Exif()
    exif[ORIENTATION] = value
    return exif


def test_links_lead_to_the_originals_whatever_they_are_called(folder):
    originals = [folder.add(f"deep/er/{name}" if number % 2 else name) for number, name in enumerate(HOSTILE)]
    page = folder.write()
    assert [page.leads_to(url) for url in page.originals()] == originals
    assert not (folder.out / gallery.COPIES).exists()
    masks = [attrs["href"] for tag, attrs in page.tags if tag == "a" and str(attrs.get("href")).endswith(".png")]
    assert [page.leads_to(str(url)) for url in masks] == [folder.out / str(each.mask) for each in folder.pictures]


def test_names_and_reasons_are_text_on_the_page(folder):
    for name in HOSTILE:
        folder.add(name)
    folder.fail("x</script><b>.jpg", "</script><script>alert(1)</script>\udcff")
    page = folder.write()
    assert [tag for tag, _ in page.tags].count("script") == 2
    assert "b" not in [tag for tag, _ in page.tags]
    assert "latin-\\xe9.jpg" in page.words
    assert "</script><script>alert(1)</script>\\xff" in page.words
    assert page.data["pictures"][-1]["reason"] == "</script><script>alert(1)</script>\\xff"
    assert page.data["classes"] == CLASSES
    assert "<b>sky" not in page.text


def test_nothing_comes_from_outside_and_pictures_wait(folder):
    folder.add("a.jpg")
    page = folder.write()
    assert not re.search(r"url\((?!#)|@import|<link|https?://|data:image", page.text)
    pictures = [attrs for tag, attrs in page.tags if tag == "img"]
    assert len(pictures) == 2
    assert all(attrs["loading"] == "lazy" for attrs in pictures)


def test_what_was_found_is_readable_without_the_script(folder):
    folder.add("a.jpg", classes=(1, 3))
    folder.fail("cut.jpg", "cannot be decoded (image file is truncated)")
    page = folder.write()
    for words in ("2 images", "confidence 50.0 %", "tree 75 %, cat 25 %", "cut.jpg", "(image file is truncated)"):
        assert words in page.words
    hidden = [attrs["class"] for tag, attrs in page.tags if "hidden" in attrs]
    assert hidden == ["bars scripted"]


def test_the_data_say_what_is_known(folder):
    folder.add("a.jpg", classes=(0, 2))
    folder.add("b.jpg", classes=(0, 2))
    folder.fail("c.jpg", "no")
    again = Picture("d.jpg", folder.photos / "a.jpg", "a.jpg.png", "skipped", "done before", done="windows")
    folder.pictures.append(again)
    rows = folder.write().data["pictures"]
    assert rows[0] == {
        "status": "ok", "size": list(SIZE), "confidence": 0.5, "shares": [[0, 75.0], [2, 25.0]], "reason": "", "done": 0
    }  # fmt: skip
    assert [row["shares"] for row in rows[1:]] == [[[0, 75.0], [2, 25.0]], [], []]
    assert [row["done"] for row in rows] == [0, 0, 1, 2]
    assert Parsed(folder.out).data["done"] == ["whole", "", "windows"]


def test_no_picture_is_a_page_too(folder):
    folder.out.mkdir()
    assert "0 images" in folder.write().words


COPIED: dict[str, dict[str, Any]] = {
    "grey.tif": {},
    "turned.png": {"exif": turned(6)},
    "turned.webp": {"exif": turned(6)},
    "xmp.jpg": {"xmp": XMP},
    "moving.gif": {"save_all": True, "append_images": [picture(98)]},
    "moving.png": {"save_all": True, "append_images": [picture(98)]},
    "called.jpg": {"format": "TIFF"},
}
LINKED: dict[str, dict[str, Any]] = {
    "turned.jpg": {"exif": turned(6)},
    "upright.png": {"exif": turned(1)},
    "still.gif": {},
    "a.webp": {},
    "a.bmp": {},
    "phone.jpg": {"format": "MPO", "save_all": True, "append_images": [picture(98)]},
}


@pytest.mark.parametrize("name", COPIED)
def test_what_browsers_show_otherwise_is_copied(folder, name):
    original = folder.add(name, **COPIED[name])
    page = folder.write()
    (url,) = page.originals()
    assert url == f"originals/{name}.png.jpg"
    shown = Image.open(folder.out / url)
    assert shown.size == (folder.pictures[0].width, folder.pictures[0].height)
    expected = Image.open(original).convert("RGB")
    if shown.size != expected.size:
        expected = expected.transpose(Image.Transpose.ROTATE_270)
    assert np.abs(np.asarray(shown, int) - np.asarray(expected, int)).mean() < 12  # JPEG


@pytest.mark.parametrize("name", LINKED)
def test_what_browsers_show_as_it_is_is_not_copied(folder, name):
    original = folder.add(name, **LINKED[name])
    if name == "upright.png":
        folder.pictures = [Picture(name, original, f"{name}.png", "ok", width=SIZE[0], height=SIZE[1])]
    page = folder.write()
    assert [page.leads_to(url) for url in page.originals()] == [original]


def test_copies_are_reduced(folder):
    folder.add("large.tif", image=picture(0).resize((2000, 1500)))
    (url,) = folder.write().originals()
    assert Image.open(folder.out / url).size == (1280, 960)


def test_a_copy_is_made_again_only_after_its_original_changed(folder):
    original = folder.add("a.tif")
    (url,) = folder.write().originals()
    made = (folder.out / url).stat().st_mtime_ns
    folder.write()
    assert (folder.out / url).stat().st_mtime_ns == made
    picture(77).save(original)
    os.utime(original, ns=(1, 1))
    folder.write()
    assert (folder.out / url).stat().st_mtime_ns > made
    (folder.out / url).write_bytes(b"torn")
    folder.write()
    assert Image.open(folder.out / url).size == SIZE


def test_without_a_common_folder_the_page_has_copies(folder, monkeypatch):
    folder.add("a.jpg")
    monkeypatch.setattr(os.path, "commonpath", lambda paths: os.sep)
    assert folder.write().originals() == ["originals/a.jpg.png.jpg"]


def test_a_link_that_leads_elsewhere_through_a_symbolic_link_is_not_written(tmp_path):
    folder = Folder(tmp_path)
    original = folder.add("a.jpg")
    (tmp_path / "other/deep").mkdir(parents=True)
    folder.out = tmp_path / "named"
    folder.out.symlink_to(tmp_path / "other/deep")
    assert folder.write().originals() == ["originals/a.jpg.png.jpg"]
    # one beside the folder it stands for changes nothing
    folder.out = tmp_path / "beside"
    folder.out.symlink_to(tmp_path / "out")
    page = folder.write()
    assert [page.leads_to(url) for url in page.originals()] == [original]


def test_folders_may_be_named_from_the_working_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = Folder(Path())
    folder.add("a.jpg")
    assert folder.write().originals() == ["../photos/a.jpg"]


def remove(path: Path) -> None:
    path.unlink()


def tear(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:300])


def empty(path: Path) -> None:
    path.write_bytes(b"")


@pytest.mark.parametrize("spoil", [remove, tear, empty])
def test_an_original_that_cannot_be_shown_stops_nothing(folder, spoil: Callable[[Path], None]):
    spoil(folder.add("a.tif"))
    folder.add("b.jpg")
    page = folder.write()
    assert page.originals() == ["../photos/b.jpg"]
    assert len([tag for tag, attrs in page.tags if attrs.get("class") == "label"]) == 2


def test_frames_have_the_usual_shape_of_the_images(folder):
    for number in range(3):
        folder.add(f"{number}.jpg")
    assert "--ratio: 1.3333" in folder.write().text
    folder.pictures = [Picture("a", folder.photos / "0.jpg", "0.jpg.png", "ok", width=5000, height=40)]
    assert "--ratio: 2.0000" in folder.write().text


class Seen(Watched):
    """A tab that shows a gallery."""

    def open(self, folder: Folder, fragment: str = "") -> Tab:
        """Open the gallery of a folder."""
        self.tab.goto(folder.out.as_uri() + "/index.html" + fragment)
        return self.tab

    def names(self) -> list[str]:
        """The names of the thumbnails, in their order."""
        return self.tab.locator(".gallery bdi").all_text_contents()

    def variable(self, selector: str, name: str) -> str:
        """A computed style of an element."""
        return self.tab.locator(selector).first.evaluate(f"element => getComputedStyle(element).{name}")


@pytest.fixture
def seen(browser: Browser) -> Iterator[Seen]:
    opened = Seen(browser, viewport={"width": 1000, "height": 800})
    yield opened
    opened.tab.close()
    assert opened.wrong == []


@pytest.fixture
def street(folder: Folder) -> Folder:
    """Six images, one of them failed."""
    classes = {"a.jpg": (0, 1), "b.jpg": (1, 0), "c.jpg": (2, 3), "d.tif": (0, 3), "e.jpg": (1, 2)}
    for name, drawn in classes.items():
        folder.add(name, classes=drawn)
    folder.fail("f.jpg", "the file is empty")
    folder.write()
    return folder


LOADED = "[...document.images].every(image => image.complete && image.naturalWidth)"


@needs_chromium
def test_hostile_names_are_shown_and_nothing_else_is_asked_for(folder, seen):
    for name in HOSTILE:
        folder.add(name)
    for name in (*COPIED, *LINKED):
        folder.add(name, **(COPIED | LINKED)[name])
    folder.write()
    tab = seen.open(folder)
    for tile in tab.locator(".gallery li").all():
        tile.scroll_into_view_if_needed()
    tab.wait_for_function(LOADED)
    above = folder.photos.parent.as_uri() + "/"
    assert len(seen.asked) == 1 + 2 * len(folder.pictures)
    assert all(url.startswith(above) for url in seen.asked)
    sizes = tab.eval_on_selector_all(".original", "all => all.map(each => [each.naturalWidth, each.naturalHeight])")
    wanted = [[each.width, each.height] for each in folder.pictures]
    wanted[[each.file for each in folder.pictures].index("upright.png")] = list(SIZE)
    assert sizes == wanted


@needs_chromium
def test_images_are_sorted(street, seen):
    tab = seen.open(street)
    order = {"unsure": "abcdef", "sure": "edcbaf", "most": "abcdef", "status": "fabcde"}
    for sort, names in order.items():
        tab.get_by_label("Sort by").select_option(sort)
        assert "".join(name[0] for name in seen.names()) == names
    tab.locator("[name=kind]").select_option("cat")
    tab.get_by_label("Sort by").select_option("most")
    assert "".join(name[0] for name in seen.names()) == "cdabef"
    tab.get_by_label("Sort by").select_option("least")
    assert "".join(name[0] for name in seen.names()) == "abecdf"


@needs_chromium
def test_images_are_filtered_and_counted(street, seen):
    tab = seen.open(street)
    count = tab.locator(".count")
    assert count.text_content() == "6 of 6 images"
    tab.locator("[name=kind]").select_option("road")
    tab.get_by_label("Its share, at least %").fill("25")
    assert [name[0] for name in seen.names()] == ["a", "b", "d"]
    tab.get_by_label("Confidence, at most %").fill("51")
    assert [name[0] for name in seen.names()] == ["a", "b"]
    tab.get_by_label("File name contains").fill("B.JP")
    assert seen.names() == ["b.jpg"]
    assert count.text_content() == "1 of 6 images"
    tab.get_by_label("File name contains").press("Enter")
    assert seen.names() == ["b.jpg"]
    tab.get_by_role("button", name="Show all").click()
    tab.wait_for_function("document.querySelectorAll('.gallery li').length === 6")
    tab.locator("[name=status]").select_option("failed")
    assert seen.names() == ["f.jpg"]
    assert "the file is empty" in str(tab.locator(".gallery").text_content())


@needs_chromium
def test_the_keyboard_is_enough(street, seen):
    tab = seen.open(street)
    tab.locator(".gallery a").first.focus()
    tab.keyboard.press("Tab")
    tab.keyboard.press("Enter")
    viewer = tab.locator("dialog")
    expect(viewer.locator("h2")).to_have_text("b.jpg")  # the address changes first, then the viewer
    assert "64 × 48 pixels · confidence 51.0 % · ok" in str(viewer.text_content())
    assert viewer.locator("tbody tr").all_text_contents() == ["tree75.00 %", "road25.00 %"]
    tab.keyboard.press("ArrowRight")
    expect(viewer.locator("h2")).to_have_text("c.jpg")
    assert tab.url.endswith("#c.jpg.png")
    slider = tab.get_by_label("Division")
    slider.focus()
    assert seen.variable(".pictures .label", "clipPath") == "inset(0px 0px 0px 50%)"
    for _ in range(20):
        tab.keyboard.press("ArrowRight")
    assert seen.variable(".pictures .label", "clipPath") == "inset(0px 0px 0px 60%)"
    expect(viewer.locator("h2")).to_have_text("c.jpg")
    opacity = viewer.get_by_label("Opacity")
    opacity.focus()
    tab.keyboard.press("End")
    assert seen.variable(".pictures .label", "opacity") == "1"
    assert seen.variable(".gallery .label", "opacity") == "1"
    assert tab.locator(".bars output").last.text_content() == "100 %"
    tab.keyboard.press("Escape")
    expect(viewer).to_be_hidden()
    tab.wait_for_function("document.activeElement.textContent === 'c.jpg'")
    assert "#" not in tab.url


@needs_chromium
def test_the_viewer_goes_through_the_images_that_are_listed(street, seen):
    tab = seen.open(street)
    tab.get_by_label("Sort by").select_option("sure")
    tab.locator(".gallery a").nth(0).click()
    places = []
    while tab.get_by_role("button", name="Next").is_enabled():
        places.append(f"{tab.locator('h2').text_content()} {tab.locator('.place').text_content()}")
        tab.get_by_role("button", name="Next").click()
    assert places == ["e.jpg 1 of 5", "d.tif 2 of 5", "c.jpg 3 of 5", "b.jpg 4 of 5"]
    tab.get_by_role("button", name="Previous").click()
    expect(tab.locator("h2")).to_have_text("b.jpg")
    assert tab.locator(".pictures img").count() == 2
    tab.get_by_role("button", name="Close").click()
    expect(tab.locator("dialog")).to_be_hidden()


@needs_chromium
def test_the_division_follows_the_pointer(street, seen):
    tab = seen.open(street)
    tab.locator(".gallery a").first.click()
    box = tab.locator(".stage .laid").bounding_box()
    assert box is not None
    tab.mouse.move(box["x"] + box["width"] / 2, box["y"] + 20)
    tab.mouse.down()
    tab.mouse.move(box["x"] + box["width"] / 4, box["y"] + 20)
    tab.mouse.up()
    assert abs(float(tab.get_by_label("Division").input_value()) - 25) < 1


@needs_chromium
def test_an_address_leads_to_an_image_and_back_closes_it(street, seen):
    tab = seen.open(street, "#c.jpg.png")
    expect(tab.locator("h2")).to_have_text("c.jpg")
    tab.keyboard.press("Escape")
    tab.locator(".gallery a").first.click()
    assert tab.url.endswith("#a.jpg.png")
    tab.go_back()
    expect(tab.locator("dialog")).to_be_hidden()


@needs_chromium
def test_many_images_are_all_there_at_last(folder, seen):
    folder.add("a.jpg")
    folder.pictures *= 450
    folder.write()
    tab = seen.open(folder)
    tab.get_by_label("File name contains").fill("b")
    tab.get_by_label("File name contains").fill("")
    tab.wait_for_function("document.querySelectorAll('.gallery li').length === 450")


@needs_chromium
def test_a_phone_needs_no_sideways_scrolling(street, browser):
    street.add("a_very_long_name_without_any_place_to_break_it" * 4 + ".jpg")
    street.write()
    phone = Seen(browser, viewport={"width": 390, "height": 844}, is_mobile=True, has_touch=True)
    tab = phone.open(street)
    assert tab.evaluate("document.documentElement.scrollWidth") == 390
    tab.locator(".gallery a").last.tap()
    expect(tab.locator("dialog")).to_be_visible()
    assert tab.evaluate("document.querySelector('dialog').scrollWidth") == 390
    assert phone.wrong == []
    tab.close()


@needs_chromium
def test_without_the_script_images_are_seen_and_lead_to_their_masks(street, browser):
    plain = Seen(browser, java_script_enabled=False)
    tab = plain.open(street)
    expect(tab.locator(".bars")).to_be_hidden()
    assert tab.locator(".gallery img").count() == 10
    tab.locator(".gallery a").first.click()
    assert tab.url.endswith("/a.jpg.png")
    tab.close()


@needs_chromium
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_barrier_keeps_people_out(street, browser, scheme):
    seen = Seen(browser, color_scheme=scheme)
    tab = seen.open(street)
    assert barriers(tab) == []
    tab.locator(".gallery a").first.click()
    expect(tab.locator("dialog")).to_be_visible()
    assert barriers(tab) == []
