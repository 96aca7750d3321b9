"""The page is parsed, and where Chromium is at hand rendered: numbers, names, and nothing from outside."""

import html
import io
import json
import os
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Browser

from ccnet import InputError
from ccnet.attention import Look
from ccnet.commands import report
from ccnet.data.catalog import DATASETS
from ccnet.data.shards import Record, write_shard
from tests.page.browser import Page, Watched, barriers, needs_chromium, on_a_phone

CLASSES = ["road", "<script>alert(1)</script>", "sky & more", "ünseen"]
PALETTE = [[128, 64, 128], [70, 70, 70], [0, 130, 180], [255, 255, 0]]


def png(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, "png")
    return buffer.getvalue()


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    """A dataset's folder with three val pictures of 40 × 24 and labels.json; class 3 never occurs."""
    folder, random = tmp_path / "streets", np.random.default_rng(0)
    records = []
    for index in range(3):
        label = np.repeat(np.array([2, 1, 0, 255], np.uint8), 6)[:, None].repeat(40, axis=1)
        image = random.integers(0, 256, (24, 40, 3), dtype=np.uint8)
        counts = np.array([240, 240, 240, 0, 240])
        records.append(Record(f"val/{index}", png(image), png(label), 40, 24, counts))
    write_shard(folder / "val.h5", records, class_names=CLASSES, palette=PALETTE, split="val")
    split = {"pixels": [600, 300, 100, 0], "ignored_share": 0.25, "sizes": {"40x24": 3}, "absent": ["ünseen"]}
    splits = {"train": {"images": 1200, **split}, "val": {"images": 3, **split}}
    contents = {"class_names": CLASSES, "palette": PALETTE, "splits": splits}
    (folder / "labels.json").write_text(json.dumps(contents))
    return folder


def add_run(dataset: Path, name: str, iou: float = 0.5, rows: int = 30, **changed) -> Path:
    """A run's folder whose measures all follow from `iou`."""
    folder = dataset / name
    folder.mkdir()
    settings = {"model": {"backbone": "van_tiny", "head": "rcca", "recurrence": 2}, "optimizer": {"learning_rate": iou}}
    metrics = {
        "mean_iou": iou,
        "pixel_accuracy": iou + 0.1,
        "mean_accuracy": iou + 0.05,
        "per_class": dict(zip(CLASSES, [iou, iou / 2, iou / 3, None], strict=True)),
        "confusion": [[90, 10, 0, 0], [25, 75, 0, 0], [0, 0, 100, 0], [0, 0, 0, 0]],
        "protocol": {"mode": "whole", "scales": [1.0], "flip": False, "images": 3, "weights_sha256": "0f" * 32},
        "seconds_per_image": iou / 10,
    }
    (folder / "settings.json").write_text(json.dumps(settings))
    (folder / "metrics.json").write_text(json.dumps(metrics | changed))
    history = [f"{10 * i + 10},0.01,{2 / (i + 1)},9.5\n" for i in range(rows)]
    (folder / "history.csv").write_text("step,learning_rate,loss,images_per_second\n" + "".join(history))
    return folder


def add_example(run: Path, name: str, value: int = 1) -> None:
    path = run / "examples" / f"{name}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = Image.fromarray(np.full((24, 40), value, np.uint8)).convert("P")
    picture.putpalette(np.array(PALETTE).ravel().tolist())
    picture.save(path)


def build(dataset: Path, *runs: Path, protocols: tuple[str, ...] = ()) -> Page:
    out = dataset / "report.html"
    report.run(
        labels=dataset / "labels.json", shards=[dataset / "val.h5"], runs=list(runs), out=out, protocols=protocols
    )
    return Page(out)


def test_tables_have_the_numbers_of_the_metrics(dataset):
    page = build(dataset, add_run(dataset, "b", 0.6123), add_run(dataset, "a", 0.45))
    assert page.row("b") == ["61.23", "71.23", "66.23", "van_tiny", "rcca", "2", "300", "9.50", "16.3"]
    assert page.row("a") == ["45.00", "55.00", "50.00", "van_tiny", "rcca", "2", "300", "9.50", "22.2"]
    assert page.row("road") == ["60.00", "61.2", "45.0"]
    assert page.row("mean") == ["", "61.2", "45.0"]
    assert page.row("ünseen") == ["0.00", "–", "–"]
    assert page.row("train")[:4] == ["1\u2009200", "40 × 24 (3)", "25.00", "ünseen"]
    assert page.row("optimizer.learning_rate") == ["0.6123", "0.45"]
    assert page.row("scales") == ["1.0", "1.0"]
    assert page.row("road", 1) == ["90", "10", "0", "0"]
    assert page.row("ünseen", 1) == ["–"] * 4
    assert re.findall("<strong>(.+?)</strong>", page.text) == ["61.23", "71.23", "66.23", "22.2"]
    assert "<h1>streets</h1>" in page.text
    assert [line.split(",")[1] for line in (dataset / "results.csv").read_text().splitlines()] == ["run", "b", "a"]
    assert r"a & 45.00 & 55.00 & 50.00 \\" in (dataset / "results.tex").read_text()
    assert "1\u2009203 images · 4 classes" in page.text


def add_seeds(dataset: Path, name: str, ious: dict[int, float], **changed) -> list[Path]:
    """Runs that differ by their seed alone."""
    runs = [add_run(dataset, f"{name}_seed{seed}", iou, **changed) for seed, iou in ious.items()]
    for run, seed in zip(runs, ious, strict=True):
        settings = {"model": {"backbone": name, "head": "rcca", "recurrence": 2}, "seed": seed}
        (run / "settings.json").write_text(json.dumps(settings))
        add_protocol(run, "tiled", ious[seed] + 0.1, "Windows.")
    return runs


def test_seeds_are_compared_by_mean_and_standard_deviation(dataset):
    three = add_seeds(dataset, "resnet18", {1: 0.5, 2: 0.6, 3: 0.7})
    two = add_seeds(dataset, "van_tiny", {1: 0.64, 2: 0.64})
    alone = add_run(dataset, "alone", 0.62)
    add_protocol(alone, "tiled", 0.9, "Windows.")
    for run in (*three, *two, alone):
        add_example(run, "val/0")
    page = build(dataset, *three, alone, *two, protocols=("tiled",))
    assert page.row("resnet18 3 seeds")[:3] == ["60.00 ± 10.00", "70.00 ± 10.00", "65.00 ± 10.00"]
    assert page.row("resnet18 3 seeds")[6:] == ["300", "9.50 ± 0", "17.0 ± 2.87"]
    assert page.row("van_tiny 2 seeds")[0] == "64.00 ± 0.00"
    assert page.row("alone")[0] == "62.00"
    assert page.row("resnet18_seed3")[0] == "70.00"
    assert page.row("tiled") == ["70.00 ± 10.00", "90.00", "74.00 ± 0.00", "Windows."]
    assert page.row("road") == ["60.00", "60.0 ± 10.0", "62.0", "64.0 ± 0.0"]
    assert page.row("ünseen") == ["0.00", "–", "–", "–"]
    assert page.row("mean") == ["", "60.0 ± 10.0", "62.0", "64.0 ± 0.0"]
    assert page.row("seed") == ["1, 2, 3", "–", "1, 2"]
    assert page.text.count("<summary>Each seed by itself</summary>") == 1
    assert len(re.findall('<img [^>]*alt="Prediction of', page.text)) == 3
    chart = page.charts()["loss"]
    assert Counter(row["group"] for row in chart["datasets"]["values"]) == {"resnet18": 90, "alone": 30, "van_tiny": 60}
    assert len(set(chart["layer"][1]["encoding"]["color"]["scale"]["range"])) == 3
    assert "<strong>64.00</strong>" in page.text


def test_runs_of_one_group_measured_differently_are_pointed_out(dataset):
    one, other = add_seeds(dataset, "resnet18", {1: 0.5, 2: 0.6})
    metrics = json.loads((other / "metrics.json").read_text())
    metrics["protocol"] |= {"images": 2, "weights_sha256": "1" * 64}
    (other / "metrics.json").write_text(json.dumps(metrics))
    page = build(dataset, one, other)
    assert "Not measured alike:</strong> the runs differ in images (" in page.text
    assert page.row("images") == ["3, 2"]


TRAINING = {
    "commit": "0123456789abcdef" * 2,
    "dirty": True,
    "device": "cpu",
    "processor": "EPYC",
    "threads": 2,
    "seconds": 200.0,
    "peak_memory": 1_900_000_000,
    "a key of a later version": 1,
}


def test_how_each_run_was_trained_is_told_where_it_is_known(dataset):
    one, other, old = (
        add_run(dataset, "one", training=TRAINING),
        add_run(dataset, "b", training={}),
        add_run(dataset, "c"),
    )
    page = build(dataset, one, other, old)
    assert page.row("one", 1) == ["0123456789ab, changed", "cpu, EPYC", "2", "3 min", "1.90 GB"]
    assert page.row("b", 1) == page.row("c", 1) == ["–"] * 5
    assert "How each run was trained" not in build(dataset, old).text


def test_each_figure_has_the_command_that_made_it_and_the_digests(dataset):
    made = {"versions": {"jittor": "1.3.11.0"}, "commit": "c0" * 20, "command": "ccnet train --settings 'a b'"}
    run = add_run(dataset, "a", training=made, provenance={"command": "ccnet evaluate <1>"}, shards={"v.h5": "5a" * 32})
    add_protocol(run, "tiled", 0.6, "Windows.")
    page = build(dataset, run, add_run(dataset, "old"), protocols=())
    text = html.unescape(page.text)
    for shown in ("ccnet train --settings 'a b'", "ccnet evaluate <1>", "5a" * 32, "0f" * 32, "c0" * 20):
        assert f"<code>{shown}</code>" in text
    assert "mIoU 50.00 under standard" in text
    assert "jittor 1.3.11.0" in text
    assert text.count("does not say by which commands") == 1
    assert "mIoU 60.00 under tiled" in build(dataset, run, protocols=("tiled",)).text


def test_bibtex_cites_the_methods_that_were_used(dataset):
    run = add_run(dataset, "a")
    text = html.unescape(build(dataset, run).text)
    assert re.findall(r"@\w+\{(\w+),", text) == ["huang2019ccnet", "guo2022van", "ccnet"]
    (bibtex,) = re.findall(r"<code>(@inproceedings.*?)</code>", text, re.DOTALL)
    assert bibtex.count("{") == bibtex.count("}")
    (run / "settings.json").write_text('{"model": {"backbone": "resnet18"}}')
    assert "guo2022van" not in build(dataset, run).text


def test_skipped_pairs_are_counted_and_listed(dataset):
    run = add_run(dataset, "a")
    assert "skipped" not in build(dataset, run).text
    labels = json.loads((dataset / "labels.json").read_text())
    labels["splits"]["train"]["skipped"] = [{"name": "街 <1>", "reason": "labels/街 <1>.png: the file is empty"}]
    labels["splits"]["val"]["skipped"] = [{"name": str(number), "reason": "torn"} for number in range(11)]
    (dataset / "labels.json").write_text(json.dumps(labels))
    page = build(dataset, run)
    assert page.row("街 <1>") == ["labels/街 <1>.png: the file is empty"]
    assert page.row("10") == ["torn"]
    shown = re.findall(r"<details( open)?>\s*<summary>(.*) were skipped</summary>", page.text)
    assert shown == [(" open", "1 of 1\u2009201 pairs of train"), ("", "11 of 14 pairs of val")]


def test_costs_are_shown_where_they_are_known(dataset):
    flops = {"count": 52_360_000_000, "height": 360, "width": 480}
    runs = [add_run(dataset, "a", parameters=11_400_000, flops=flops, training=TRAINING), add_run(dataset, "b")]
    page = build(dataset, *runs)
    assert page.row("a")[7:] == ["11.4 M", "52.4", "9.50", "20.0", "3 min", "1.90 GB"]
    assert page.row("b")[7:] == ["–", "–", "9.50", "20.0", "–", "–"]
    assert "on an image of 360 × 480 pixels" in page.text
    assert "GFLOPs" not in build(dataset, runs[1]).text


def as_camvid(dataset: Path) -> None:
    """Give a dataset CamVid's classes, and its runs metrics of these."""
    names = list(DATASETS["camvid"].class_names)
    labels = json.loads((dataset / "labels.json").read_text())
    labels |= {"class_names": names, "palette": [[0, 0, 9]] * len(names)}
    for split in labels["splits"].values():
        split["pixels"] = [1] * len(names)
    (dataset / "labels.json").write_text(json.dumps(labels))
    for path in dataset.glob("*/metrics*.json"):
        measured = {"per_class": dict.fromkeys(names, 0.5), "confusion": np.eye(len(names), dtype=int).tolist()}
        path.write_text(json.dumps(json.loads(path.read_text()) | measured))


def test_published_figures_stand_beside_runs_on_the_same_classes(dataset):
    runs = [add_run(dataset, "a")]
    assert "published figures" not in build(dataset, *runs).text
    as_camvid(dataset)
    page = build(dataset, *runs)
    anchor = page.row("FC-DenseNet103The One Hundred Layers Tiramisu, 2017")
    assert anchor[0] == "66.9"
    assert anchor[1].startswith("Not measured like standard: test split there, val split here.")


def test_the_page_needs_nothing_from_outside(dataset):
    run = add_run(dataset, "a")
    add_example(run, "val/0")
    page = build(dataset, run)
    assert page.references
    assert all(reference.startswith(("#", "data:image/")) for reference in page.references)
    assert not re.search(r"url\((?!#)|@import|<link", re.sub("<script>.*?</script>", "", page.text, flags=re.DOTALL))


def test_names_are_escaped(dataset):
    run = add_run(dataset, '"><script>alert(2)<script>')
    add_example(run, "val/0")
    page = build(dataset, run)
    assert page.tags.count("script") == 3
    assert CLASSES[1] not in page.text
    assert page.row(CLASSES[1])[1] == "25.0"
    assert page.row('"><script>alert(2)<script>')[3] == "van_tiny"


def test_pictures_are_those_that_were_predicted(dataset):
    one, other = add_run(dataset, "one"), add_run(dataset, "other")
    add_example(one, "val/2")
    add_example(one, "not in the shards")
    page = build(dataset, one, other)
    assert re.findall("<h3>(val/.|not.*)</h3>", page.text) == ["val/2"]
    assert page.tags.count("img") == 4
    # two thirds of the labelled pixels are another class than 1
    assert "33.3 % right" in page.text
    assert "other: no prediction kept" in page.text


def test_one_run_without_anything_optional(dataset):
    page = build(dataset, add_run(dataset, "a", rows=1, seconds_per_image=None, mean_iou=None))
    assert page.row("a") == ["–", "60.00", "55.00", "van_tiny", "rcca", "2", "10", "9.50"]
    assert "No run has kept predictions" in page.text
    assert "Segmented" not in page.text
    assert "<strong>" not in page.text


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("losses", [[], ["nan"], ["nan", "inf", "2"]])
def test_a_training_that_logged_little_or_diverged(dataset, losses):
    run = add_run(dataset, "日本語")
    rows = "".join(f"{10 * i},0,{loss}\n" for i, loss in enumerate(losses, 1))
    (run / "history.csv").write_text("step,learning_rate,loss\n" + rows)
    page = build(dataset, run)
    assert page.row("日本語")[6] == (str(10 * len(losses)) if losses else "–")


def test_runs_measured_differently_are_pointed_out(dataset):
    one, other = add_run(dataset, "one"), add_run(dataset, "other", protocol={"mode": "sliding", "weights_sha256": "1"})
    text = build(dataset, one, other).text
    assert "Not measured alike:</strong> the runs differ in mode, scales, flip, images" in text
    assert "Not measured alike" not in build(dataset, one).text


def add_protocol(run: Path, name: str, iou: float | None, words: str) -> None:
    metrics = json.loads((run / "metrics.json").read_text())
    changed = {"mean_iou": iou, "protocol": metrics["protocol"] | {"in_words": words}}
    (run / f"metrics_{name}.json").write_text(json.dumps(metrics | changed))


def test_protocols_are_compared_with_a_sentence_each(dataset):
    runs = [add_run(dataset, "one", 0.5), add_run(dataset, "other", 0.4)]
    for run, iou in zip(runs, (0.51, 0.6), strict=True):
        add_protocol(run, "tiled", iou, "Windows <everywhere>.")
        add_protocol(run, "stale", 0.9, "Removed from the config.")
    add_protocol(runs[0], "dark", None, "All ignored.")
    add_protocol(runs[1], "dark", 0.1, "All ignored.")
    page = build(dataset, *runs, protocols=("tiled", "dark"))
    assert page.row("standard") == ["50.00", "40.00", ""]
    assert page.row("tiled") == ["51.00", "60.00", "Windows <everywhere>."]
    assert page.row("dark") == ["–", "10.00", "All ignored."]
    assert "<strong>60.00</strong>" in page.text
    assert "Removed from the config" not in page.text
    assert "mIoU % by protocol" not in build(dataset, *runs).text


def test_a_protocol_not_measured_is_named(dataset):
    with pytest.raises(InputError, match=r"metrics_tiled\.json: No such file.*`ccnet evaluate` writes it"):
        build(dataset, add_run(dataset, "a"), protocols=("tiled",))


def test_segmented_folders_show_overlays_and_failures(dataset):
    run = add_run(dataset, "a")
    folder = run / "segmented" / "my photos"
    folder.mkdir(parents=True)
    rows = ["cat.jpg,ok,,400,300,0.1", 'broken.jpg,failed,"truncated, at byte 12",,,']
    (folder / "index.csv").write_text("\n".join(["file,status,reason,width,height,seconds", *rows]))
    Image.new("RGB", (400, 300)).save(folder / "cat_overlay.jpg")
    page = build(dataset, run)
    assert page.row("broken.jpg") == ["failed", "truncated, at byte 12"]
    assert "by a: 1 ok, 1 failed" in page.text
    assert page.tags.count("img") == 1


def test_overlays_of_removed_and_failed_photos_are_not_shown(dataset):
    run = add_run(dataset, "a")
    folder = run / "segmented" / "photos"
    (folder / "deep").mkdir(parents=True)
    rows = ["deep/cat.jpg,skipped,", "broken.jpg,failed,cut", "lost.jpg,ok,"]
    (folder / "index.csv").write_text("\n".join(["file,status,reason", *rows]))
    for name in ("deep/cat", "broken", "removed"):
        Image.new("RGB", (40, 30)).save(folder / f"{name}_overlay.jpg")
    assert re.findall('alt="Overlay of (.*?)"', build(dataset, run).text) == ["cat"]


def test_names_that_are_not_utf8_are_spelt_out(dataset):
    run = add_run(dataset, "a")
    folder = run / "segmented" / "photos"
    folder.mkdir(parents=True)
    (folder / "index.csv").write_bytes(b"file,status,reason\ncaf\xe9.jpg,skipped,done\n")
    Image.new("RGB", (40, 30)).save(folder / os.fsdecode(b"caf\xe9_overlay.jpg"))
    page = build(dataset, run)
    assert page.row(r"caf\udce9.jpg") == ["skipped", "done"]
    assert page.tags.count("img") == 1


def test_many_classes_are_drawn_and_the_file_stays_small(dataset):
    names, count = [f"class {i}" for i in range(150)], 150
    labels = json.loads((dataset / "labels.json").read_text())
    labels |= {"class_names": names, "palette": [[i, 0, 0] for i in range(count)]}
    for split in labels["splits"].values():
        split["pixels"] = list(range(count))
    (dataset / "labels.json").write_text(json.dumps(labels))
    measured = {"per_class": dict.fromkeys(names, 0.5), "confusion": np.eye(count, dtype=int).tolist()}
    page = build(dataset, *(add_run(dataset, f"run {i}", **measured) for i in range(12)))
    assert page.row("class 149") == ["1.33", *["50.0"] * 12]
    assert page.tags.count("img") == 12
    assert len(page.text) < 5e6


def test_the_same_inputs_give_the_same_page(dataset):
    run = add_run(dataset, "a")
    add_example(run, "val/1")
    first, second = (re.sub("<time.*?</time>", "", build(dataset, run).text) for _ in range(2))
    assert first == second


@pytest.mark.parametrize("name", ["settings.json", "history.csv", "metrics.json"])
def test_a_missing_file_is_named(dataset, name):
    run = add_run(dataset, "a")
    (run / name).unlink()
    with pytest.raises(InputError, match=rf"{re.escape(str(run / name))}: No such file.*`ccnet \w+` writes it"):
        build(dataset, run)
    assert not (dataset / "report.html").exists()


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        ("metrics.json", "{", "Invalid JSON"),
        ("metrics.json", "{}", "mean_iou: Field required"),
        ("settings.json", "[1]", "an object"),
        ("history.csv", "step,learning_rate,loss\n10,0.1,high\n", "0.loss: .* number"),
    ],
)
def test_an_invalid_file_is_named(dataset, name, text, reason):
    run = add_run(dataset, "a")
    (run / name).write_text(text)
    with pytest.raises(InputError, match=f"{re.escape(str(run / name))}: .*{reason}"):
        build(dataset, run)


def test_metrics_of_another_dataset_are_refused(dataset):
    run = add_run(dataset, "a", per_class={"cat": 1.0})
    with pytest.raises(InputError, match=r"metrics\.json: other classes than labels\.json"):
        build(dataset, run)


def test_a_prediction_of_another_size_is_refused(dataset):
    run = add_run(dataset, "a")
    add_example(run, "val/0")
    Image.new("P", (8, 8)).save(run / "examples/val/0.png")
    with pytest.raises(InputError, match=r"0\.png: \(8, 8\)"):
        build(dataset, run)


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
    shown = on_a_phone(build(dataset, *runs), tmp_path, f"{cells}.map(cell => cell.textContent)")
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
    opened.tab.goto(build(dataset, *runs).path.as_uri())
    opened.tab.wait_for_selector(".chart svg")
    assert barriers(opened.tab) == []
