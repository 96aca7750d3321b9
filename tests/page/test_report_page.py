"""The report in Chromium: what moves, sorts, copies and is computed there."""

import re
from collections.abc import Iterator

import numpy as np
import pytest
from playwright.sync_api import Browser

from ccnet.attention import Look
from tests.page.browser import Watched, barriers, needs_chromium, on_a_phone
from tests.reported import CLASSES, add_costs, add_example, add_run, add_seeds, as_camvid, build, dataset

__all__ = ["dataset"]


@pytest.fixture
def watched(browser: Browser) -> Iterator[Watched]:
    opened = Watched(browser, viewport={"width": 1300, "height": 900})
    yield opened
    opened.tab.close()
    assert opened.wrong == []
    assert [url for url in opened.asked if not url.startswith(("file:", "data:", "blob:"))] == []


def test_charts_have_the_losses_and_the_mean_ious_of_the_training(dataset):
    run = add_run(dataset, "a")
    assert "No run was measured on val during its training" in build(dataset, run).text
    rows = ["10,0.01,2,9.5,", "20,0.01,1,9.5,0.25", "30,0.01,1,9.5,", "40,0.01,1,9.5,0.5"]
    (run / "history.csv").write_text("\n".join(["step,learning_rate,loss,images_per_second,mean_iou", *rows]))
    page = build(dataset, run)
    points = [(row["step"], row["value"]) for row in page.charts()["mean_iou"]["datasets"]["values"]]
    assert points == [(20, 0.25), (40, 0.5)]
    assert [row["value"] for row in page.charts()["loss"]["datasets"]["raw"]] == [2, 1, 1, 1]
    assert len(re.findall('<div class="chart" [^>]*><svg ', page.text)) == 3
    for name in ("loss", "mean_iou"):
        assert ">a</text>" in (dataset / f"{name}.svg").read_text()


@needs_chromium
def test_the_pointer_shows_the_values_of_all_runs_and_the_scale_changes(dataset, watched):
    runs = [add_run(dataset, name) for name in ("b.c", "a[0]")]
    tab = watched.tab
    tab.goto(build(dataset, *runs).path.as_uri())
    chart = tab.locator("[data-chart=loss]")
    assert chart.locator(".mark-line path").count() == 4
    chart.scroll_into_view_if_needed()
    box = chart.bounding_box()
    for step in range(2):
        tab.mouse.move(box["x"] + box["width"] / 2 + step, box["y"] + box["height"] / 2)
    tip = tab.locator("#vg-tooltip-element.visible")
    tip.wait_for()
    assert {"step", "b.c", "a[0]"} <= {words.rstrip(":") for words in tip.locator("td.key").all_text_contents()}
    assert tip.locator("td.key").first.bounding_box()["height"] > 10

    zero = "[...document.querySelectorAll('[data-chart=loss] text')].some(text => text.textContent === '0.0')"
    tab.get_by_role("radio", name="logarithmic").check()
    tab.wait_for_function(f"!{zero}")
    tab.get_by_role("radio", name="linear").check()
    tab.wait_for_function(zero)


EXTREMES = {"best": {"name": "val/2", "mean_iou": 0.9}, "worst": {"name": "val/0", "mean_iou": 0.125}}


@needs_chromium
def test_the_best_and_worst_images_lie_under_one_slider_and_a_class_is_isolated(dataset, watched):
    run = add_run(dataset, "a", extremes=EXTREMES)
    for name in ("val/0", "val/2"):
        add_example(run, name)
    tab = watched.tab
    tab.goto(build(dataset, run).path.as_uri())
    seen = tab.locator(".peek").first.locator("img:visible")

    def views() -> list[str]:
        return seen.evaluate_all("images => images.map(image => image.dataset.view)")

    assert views() == ["image", "prediction"]
    tab.get_by_role("radio", name="truth").check()
    assert views() == ["image", "truth"]
    tab.get_by_role("slider").fill("100")
    assert seen.nth(1).evaluate("image => getComputedStyle(image).opacity") == "1"
    opaque = """async image => { await image.decode(); const canvas = document.createElement("canvas");
        canvas.width = image.naturalWidth; canvas.height = image.naturalHeight;
        const context = canvas.getContext("2d"); context.drawImage(image, 0, 0);
        return context.getImageData(0, 0, canvas.width, canvas.height).data.filter((_, at) => at % 4 === 3 && _).length
    }"""
    assert seen.nth(1).evaluate(opaque) == 18 * 40
    for item, expected in (("road", 6 * 40), ("sky & more", 6 * 40)):
        tab.locator(".isolating li", has_text=item).focus()
        assert seen.nth(1).evaluate(opaque) == expected
    tab.get_by_role("radio", name="truth").focus()
    assert seen.nth(1).evaluate(opaque) == 18 * 40
    width = tab.locator(".peek").first.bounding_box()["width"]
    tab.get_by_role("button", name="zoom").first.press("Enter")
    assert tab.locator(".peek").first.bounding_box()["width"] > 2 * width


@needs_chromium
def test_a_command_is_copied(dataset, watched):
    tab = watched.tab
    tab.context.grant_permissions(["clipboard-read", "clipboard-write"])
    tab.goto(build(dataset, add_run(dataset, "a", provenance={"command": "ccnet evaluate <1> 'ü'"})).path.as_uri())
    tab.locator("#provenance summary").click()
    button = tab.locator("#provenance details .copy")
    button.press("Enter")
    tab.wait_for_function("document.querySelector('#provenance details .copy').textContent === 'copied'")
    assert tab.evaluate("navigator.clipboard.readText()") == "ccnet evaluate <1> 'ü'"


@needs_chromium
def test_without_the_script_the_curves_are_there_and_no_control_that_does_nothing(dataset, browser):
    page = build(dataset, add_run(dataset, "a"))
    plain = Watched(browser, java_script_enabled=False)
    plain.tab.goto(page.path.as_uri())
    assert plain.tab.locator(".chart > svg").first.is_visible()
    assert not any(control.is_visible() for control in plain.tab.locator("input, button, select").all())
    plain.tab.close()


@needs_chromium
def test_heads_sort_the_runs_by_keyboard(dataset, watched):
    runs = [add_run(dataset, name, iou) for name, iou in {"b": 0.5, "c": 0.6, "a": 0.4}.items()]
    as_camvid(dataset)
    tab = watched.tab
    tab.goto(build(dataset, *runs).path.as_uri())

    def order() -> str:
        return tab.evaluate("[...document.querySelectorAll('.runs tbody th')].map(e => e.dataset.value[0]).join('')")

    assert order() == "bcaT"
    for expected, sorting in (("Tcba", "descending"), ("abcT", "ascending"), ("Tcba", "descending")):
        tab.get_by_role("button", name="mIoU %").press("Enter")
        assert order() == expected
        assert tab.locator("th[aria-sort]").get_attribute("aria-sort") == sorting
    tab.get_by_role("button", name="images/s, inference").click()
    assert order() == "abcT"  # an anchor has no such figure
    tab.get_by_role("button", name="run", exact=True).click()
    assert order() == "abcT"
    assert tab.locator("th[aria-sort]").count() == 1


@needs_chromium
def test_a_phone_shows_it_without_sideways_scrolling_or_errors(dataset, tmp_path):
    """All figures of each run are within its 390 pixels; wider tables scroll in themselves."""
    names = ("one", "another run with quite a long name", "x" * 60)
    runs = [add_run(dataset, name, parameters=11_400_000) for name in names]
    runs += add_seeds(dataset, "resnet18", {1: 0.5, 2: 0.6}, parameters=11_400_000)
    for run in runs:
        add_example(run, "val/0")
    cells = "[...page.querySelectorAll('.runs td')].filter(cell => cell.getBoundingClientRect().right > 390)"
    shown = on_a_phone(
        build(dataset, *runs, costs=add_costs(dataset)), tmp_path, f"{cells}.map(cell => cell.textContent)"
    )
    assert (shown.width, shown.result) == ("390", "")
    assert "CONSOLE" not in shown.log


@needs_chromium
def test_crops_and_areas_show_what_goes_wrong(dataset, watched):
    pair = {"truth": "sky & more", "prediction": CLASSES[1], "images": ["val/0"]}
    areas = [{"area": 0.1, "intersection": 2, "union": 8, "classes": 1}]
    counts = [[90, 10, 0, 0], [25, 75, 0, 0], [0, 50, 50, 0], [0, 0, 0, 0]]
    run = add_run(dataset, "a", confused=[pair], areas=areas, confusion=counts)
    add_example(run, "val/0")
    page = build(dataset, run)
    assert [row["value"] for row in page.charts()["areas"]["datasets"]["values"]] == [0.25]
    tab = watched.tab
    tab.goto(page.path.as_uri())
    tab.locator("#confusion summary").click()
    assert tab.locator(".mistakes img:visible").count() == 1
    assert "50.0 %" in str(tab.locator("#confusion li").first.text_content())
    assert watched.wrong == []


@needs_chromium
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_barrier_keeps_people_out(dataset, browser, scheme):
    pair = {"truth": "sky & more", "prediction": CLASSES[1], "images": ["val/0"]}
    areas = [{"area": 0.1, "intersection": 2, "union": 8, "classes": 1}]
    runs = [add_run(dataset, name, extremes=EXTREMES, confused=[pair], areas=areas) for name in "ab"]
    for run in runs:
        add_example(run, "val/0")
        Look(*np.ones((2, 2, 3, 5, 4), np.float32), np.arange(24) // 8, np.arange(40) // 8).save(
            run / "examples/val/0.npz"
        )
    opened = Watched(browser, color_scheme=scheme)
    opened.tab.goto(build(dataset, *runs, costs=add_costs(dataset)).path.as_uri())
    opened.tab.wait_for_selector(".chart svg")
    assert barriers(opened.tab) == []
