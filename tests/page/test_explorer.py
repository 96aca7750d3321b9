import base64
import json
import re
from pathlib import Path

import numpy as np
import pytest

from ccnet.attention import Look
from ccnet.page import explorer
from tests.page.browser import Watched, needs_chromium, on_a_phone
from tests.reported import add_example, add_run, build, dataset

__all__ = ["dataset"]

POSITIONS = (3, 5)  # of the feature map of an image of 40 × 24


def add_look(run: Path, name: str, loops: int = 2, seed: int = 0) -> Look:
    query, key = np.random.default_rng(seed).normal(0, 1.5, (2, loops, *POSITIONS, 4)).astype(np.float32)
    look = Look(query, key, np.arange(24) // 8, np.arange(40) // 8)
    look.save(run / "examples" / f"{name}.npz")
    return look


def embedded(text: str) -> dict:
    return json.loads(re.search(r'id="looks">(.*?)</script>', text, re.DOTALL)[1])


@pytest.fixture
def two(dataset):
    """Two runs, of which the second has one loop and one image less."""
    runs = add_run(dataset, "b"), add_run(dataset, "a")
    looks = {("b", name): add_look(runs[0], name, seed=seed) for seed, name in enumerate(["val/0", "val/1"])}
    looks["a", "val/0"] = add_look(runs[1], "val/0", 1, 7)
    add_example(runs[0], "val/0")
    return dataset, runs, looks


def test_the_page_has_the_queries_and_keys(two):
    dataset, runs, looks = two
    found = embedded(build(dataset, *runs).text)
    assert {(each["run"], each["picture"]) for each in found["looks"]} == set(looks)
    assert set(found["pictures"]) == {"val/0", "val/1"}
    for each in found["looks"]:
        look = looks[each["run"], each["picture"]]
        assert tuple(each["shape"]) == look.query.shape
        for name in ("query", "key"):
            values = np.frombuffer(base64.b64decode(each[name]), "<f2").reshape(look.query.shape)
            np.testing.assert_allclose(values, getattr(look, name), rtol=1e-3, atol=1e-4)
        assert each["rows"] == [0, 8, 16, 24]
        assert each["columns"] == [0, 8, 16, 24, 32, 40]


def test_each_runs_first_picture_comes_first_within_the_budget(two, monkeypatch):
    dataset, runs, _ = two
    size = 2 * len(base64.b64encode(bytes(2 * 2 * 15 * 4)))  # of a look with two loops
    monkeypatch.setattr(explorer, "BUDGET", size + size // 2)
    found = embedded(build(dataset, *runs).text)
    assert [(each["run"], each["picture"]) for each in found["looks"]] == [("b", "val/0"), ("a", "val/0")]
    monkeypatch.setattr(explorer, "BUDGET", 10)
    assert 'id="attention"' not in build(dataset, *runs).text


def test_without_looks_there_is_no_explorer(dataset):
    assert 'id="explorer"' not in build(dataset, add_run(dataset, "a")).text


def maps(tab) -> np.ndarray:
    return np.array(tab.evaluate("current.map(weights => [...weights])")).reshape(-1, *POSITIONS)


@needs_chromium
def test_the_maps_are_those_of_attend_wherever_one_looks(two, browser):
    dataset, runs, looks = two
    watched, address = Watched(browser), build(dataset, *runs).path.as_uri()
    tab = watched.tab
    tab.goto(address)
    np.testing.assert_allclose(maps(tab), looks["b", "val/0"].maps(20, 12), atol=1e-2)
    box = tab.locator(".panel").nth(2).bounding_box()
    tab.locator(".panel").nth(2).click(position={"x": box["width"] * 37.5 / 40, "y": box["height"] * 2.5 / 24})
    np.testing.assert_allclose(maps(tab), looks["b", "val/0"].maps(37, 2), atol=1e-2)
    assert tab.locator("#explorer [role=status]").inner_text().startswith("Pixel 37,2.")
    for key, pixel in [("ArrowLeft", (29, 2)), ("ArrowDown", (29, 10)), ("ArrowUp", (29, 2)), ("ArrowUp", (29, 0))]:
        tab.keyboard.press(key)
        np.testing.assert_allclose(maps(tab), looks["b", "val/0"].maps(*pixel), atol=1e-2)
    tab.select_option("[name=picture]", "val/1")
    np.testing.assert_allclose(maps(tab), looks["b", "val/1"].maps(29, 0), atol=1e-2)
    tab.select_option("[name=run]", "a")
    assert tab.locator("[name=picture]").input_value() == "val/0"
    np.testing.assert_allclose(maps(tab), looks["a", "val/0"].maps(29, 0), atol=1e-2)
    assert tab.locator("#explorer figure:visible").count() == 2
    assert (watched.wrong, watched.asked) == ([], [address])


@needs_chromium
def test_the_map_is_drawn_over_the_image(two, browser):
    dataset, runs, looks = two
    tab = Watched(browser).tab
    tab.goto(build(dataset, *runs).path.as_uri())
    painted = tab.evaluate("""[...document.querySelectorAll(".panel canvas")].map(canvas =>
        [...canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data])""")
    for pixels, weights in zip(painted, looks["b", "val/0"].maps(20, 12), strict=True):
        seen = np.array(pixels).reshape(24, 40, 4)[4::8, 4::8, 3] > 0  # the middle of each position
        np.testing.assert_array_equal(seen, weights > 0)


@needs_chromium
def test_it_fits_a_phone(two, tmp_path):
    dataset, runs, _ = two
    figures = "page.querySelectorAll('#explorer figure:not([hidden])').length"
    shown = on_a_phone(build(dataset, *runs), tmp_path, figures)
    assert (shown.width, shown.result) == ("390", "3")
