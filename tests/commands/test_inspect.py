"""Each finding has its planted fault, and a clean set has none."""

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageEnhance

from ccnet import InputError
from ccnet.commands import inspect
from tests.drawn import CLASSES, Drawn, label
from tests.page.browser import Page, barriers, needs_chromium, on_a_phone


@pytest.fixture
def drawn(tmp_path: Path) -> Drawn:
    return Drawn(tmp_path / "drawn")


def build(drawn: Drawn) -> Page:
    out = drawn.folder / "inspect.html"
    inspect.run(index=drawn.write(), out=out)
    return Page(out)


def listing(page: Page) -> list[tuple[str, str]]:
    """The findings of the first screen: their sections and sentences."""
    return re.findall(r'<li><a href="#(\w+)">(.*?)</a></li>', page.text)


def miss_an_image(drawn: Drawn) -> None:
    (drawn.folder / "images/train/1.png").unlink()


def tear_a_label(drawn: Drawn) -> None:
    path = drawn.folder / "labels/train/1.png"
    path.write_bytes(path.read_bytes()[:60])


def paint_an_unknown_value(drawn: Drawn) -> None:
    drawn.paint("train/1", np.full((48, 64), 77, np.uint8))


def shift_two_labels(drawn: Drawn) -> None:
    drawn.paint("train/1", label(1)[1:])
    drawn.paint("train/2", label(2)[:24, :32])


def paint_one_class(drawn: Drawn) -> None:
    drawn.paint("train/3", np.full((48, 64), 3, np.uint8))


def ignore_everything(drawn: Drawn) -> None:
    drawn.paint("train/3", np.full((48, 64), 255, np.uint8))


def take_the_cats_from_val(drawn: Drawn) -> None:
    for number in range(4):
        drawn.paint(f"val/{number}", label(number, (0, 1, 2)))


def repeat_a_file(drawn: Drawn) -> None:
    drawn.copy("train/4", "train/0")


def leak_a_file(drawn: Drawn) -> None:
    drawn.copy("val/2", "train/0")


def leak_a_brighter_copy(drawn: Drawn) -> None:
    image = Image.open(drawn.folder / "images/train/0.png")
    ImageEnhance.Brightness(image).enhance(0.8).resize((64, 48)).save(drawn.folder / "images/val/2.png")


def repeat_a_frame_in_val(drawn: Drawn) -> None:
    image = Image.open(drawn.folder / "images/val/0.png")
    ImageEnhance.Contrast(image).enhance(0.8).save(drawn.folder / "images/val/3.png")


PLANTED: dict[Callable[[Drawn], None], tuple[str, str]] = {
    miss_an_image: ("undecodable", "1 pair cannot be decoded."),
    tear_a_label: ("undecodable", "1 pair cannot be decoded."),
    paint_an_unknown_value: ("undecodable", "1 pair cannot be decoded."),
    shift_two_labels: ("sizes", "2 label maps differ in size from the image, 1 by a single pixel."),
    paint_one_class: ("uniform", "1 label map holds a single class."),
    ignore_everything: ("uniform", "1 label map holds a single class or none, 1 of them only ignored pixels."),
    take_the_cats_from_val: ("classes", "Never in val: cat."),
    repeat_a_file: ("repeated", "1 image is there more than once."),
    leak_a_file: ("repeated", "1 image is there more than once, 1 of them in several splits."),
    leak_a_brighter_copy: ("twins", "1 of 4 images of val is nearly the same as one of train."),
    repeat_a_frame_in_val: ("twins", "1 of 4 images of val is nearly the same as an earlier one of val."),
}


def test_a_clean_set_has_no_finding(drawn, capsys):
    page = build(drawn)
    assert listing(page) == []
    assert "Nothing suspicious found." in page.text
    assert "cannot be used" not in page.text
    assert "nothing suspicious found" in capsys.readouterr().out


@pytest.mark.parametrize("plant", PLANTED, ids=lambda plant: plant.__name__)
def test_a_planted_fault_is_the_only_finding(drawn, plant, capsys):
    plant(drawn)
    page = build(drawn)
    assert listing(page) == [PLANTED[plant]]
    assert f'<section id="{PLANTED[plant][0]}">' in page.text
    assert PLANTED[plant][1][1:-1] in capsys.readouterr().out


def test_all_faults_together_stop_nothing(drawn):
    drawn.add("train", "6")
    drawn.paint("train/6", np.full((48, 64), 3, np.uint8))
    for plant in (take_the_cats_from_val, repeat_a_frame_in_val, shift_two_labels, tear_a_label, leak_a_file):
        plant(drawn)
    ignore_everything(drawn)
    page = build(drawn)
    assert [section for section, _ in listing(page)] == [
        "undecodable",
        "sizes",
        "classes",
        "uniform",
        "repeated",
        "twins",
    ]
    assert "3 of 11 pairs cannot be used." in page.text


def test_files_are_named_by_their_place_in_the_dataset(drawn):
    tear_a_label(drawn)
    drawn.paint("train/2", label(2)[:, 1:])
    page = build(drawn)
    assert page.row("train", 1)[0].startswith("labels/train/1.png: cannot be decoded")
    assert page.row("train", 2) == ["labels/train/2.png", "63 × 48", "images/train/2.png", "64 × 48", "-1 × +0"]
    assert str(drawn.folder) not in page.text


def test_shares_are_of_the_pairs_that_can_be_used(drawn):
    half = np.zeros((48, 64), np.uint8)
    half[:, 32:], half[:12, 32:] = 1, 255
    for number in range(6):
        drawn.paint(f"train/{number}", half)
    drawn.paint("train/5", np.full((48, 64), 255, np.uint8))
    page = build(drawn)
    assert page.row("train") == ["6", "5", "64 × 48 (5)", "2 of 4", "12.50"]
    assert page.row("road")[:3] == ["57.14", "", "5"]
    assert page.row("cat")[:3] == ["never", "", "0"]
    assert page.row(CLASSES[2])[:1] == ["never"]


def test_the_rest_of_a_long_list_is_counted(drawn):
    for number in range(6, 22):
        drawn.add("train", str(number))
        (drawn.folder / f"labels/train/{number}.png").write_bytes(b"")
    page = build(drawn)
    assert page.text.count("the file is empty") == 12
    assert "and 4 more" in page.text


def test_the_same_image_with_other_labels_is_pointed_out(drawn):
    leak_a_file(drawn)
    assert "labelled differently" in build(drawn).text
    drawn.paint("val/2", label(0))
    assert "labelled differently" not in build(drawn).text


def test_pairs_are_overlaid_from_all_splits_and_always_the_same(tmp_path):
    drawn = Drawn(tmp_path / "drawn", train=40, val=9, test=3)
    page = build(drawn)
    shown = re.findall(r"<figcaption>(\w+) · (\d+)</figcaption>", page.text)
    assert [[split for split, _ in shown].count(split) for split in ("train", "val", "test")] == [12, 9, 3]
    first, second = (re.sub("<time.*?</time>", "", build(drawn).text) for _ in range(2))
    assert first == second


def test_no_usable_pair_is_a_page_too(drawn):
    for path in (drawn.folder / "labels").rglob("*.png"):
        path.write_bytes(b"")
    page = build(drawn)
    assert listing(page) == [("undecodable", "10 pairs cannot be decoded.")]
    assert "No pair can be used." in page.text
    assert page.row("train")[:3] == ["6", "0", "–"]


def test_a_missing_index_is_named(tmp_path):
    with pytest.raises(InputError, match=r"index\.json: cannot be read .*: fetch the dataset first"):
        inspect.run(index=tmp_path / "index.json", out=tmp_path / "inspect.html")
    assert not (tmp_path / "inspect.html").exists()


def test_the_page_needs_nothing_from_outside_and_escapes_names(drawn):
    leak_a_brighter_copy(drawn)
    page = build(drawn)
    assert all(reference.startswith(("#", "data:image/")) for reference in page.references)
    assert not re.search(r"url\((?!#)|@import|<link|https?://", page.text)
    assert page.tags.count("script") == 1
    assert "<b>sky" not in page.text


def many(drawn: Drawn) -> Page:
    """The page of a set of 150 classes."""
    drawn.index.class_names = [f"class {number} of quite a number" for number in range(150)]
    drawn.index.palette = [(number, 255 - number, 90) for number in range(150)]
    for number in range(6):
        drawn.paint(f"train/{number}", (np.arange(48 * 64) % 150).astype(np.uint8).reshape(48, 64))
    leak_a_brighter_copy(drawn)
    return build(drawn)


def test_many_classes_are_all_in_the_table(drawn):
    page = many(drawn)
    assert page.row("class 149 of quite a number")[:3] == ["0.65", "", "6"]
    assert ("classes", f"Never in val: {', '.join(drawn.index.class_names[4:16])} and 134 more.") in listing(page)


@needs_chromium
def test_a_phone_shows_it_without_sideways_scrolling_or_errors(drawn, tmp_path):
    shown = on_a_phone(many(drawn), tmp_path, "[...page.querySelectorAll('.laid')].length")
    assert shown.width == "390"
    assert int(shown.result) == 10
    assert "CONSOLE" not in shown.log


@needs_chromium
def test_the_slider_sets_the_opacity_which_is_half_without_it(drawn, tmp_path):
    move = (
        "(() => { const seen = () => getComputedStyle(page.querySelector('.laid .label')).opacity;"
        "const slider = page.querySelector('.opacity input'); const before = seen(); slider.value = 80;"
        "slider.dispatchEvent(new Event('input'));"
        "return [before, seen(), page.querySelector('.opacity').hidden].join(' '); })()"
    )
    assert on_a_phone(build(drawn), tmp_path, move).result == "0.5 0.8 false"
    page = build(drawn)
    page.text = re.sub("<script>.*</script>", "", page.text, flags=re.DOTALL)
    still = "getComputedStyle(page.querySelector('.laid .label')).opacity + page.querySelector('.opacity').hidden"
    assert on_a_phone(page, tmp_path, still).result == "0.5true"


@needs_chromium
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_barrier_keeps_people_out(drawn, browser, scheme):
    tab = browser.new_page(color_scheme=scheme)
    tab.goto(many(drawn).path.as_uri())
    assert barriers(tab) == []
