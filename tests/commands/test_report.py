"""The page is parsed: numbers, names, and nothing from outside. tests/page/test_report_page.py opens it."""

import html
import json
import os
import re
from collections import Counter

import numpy as np
import pytest
from PIL import Image

from ccnet import InputError
from tests.reported import CLASSES, add_costs, add_example, add_protocol, add_run, add_seeds, as_camvid, build, dataset

__all__ = ["dataset"]


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


def test_what_attention_costs_is_shown_if_it_was_measured(dataset):
    run = add_run(dataset, "a")
    assert "What attention costs" not in build(dataset, run).text
    measured = add_costs(dataset)
    page = build(dataset, run, costs=measured)
    assert page.row("non-local") == ["33", "4356.0", "132.0", "33.0"]
    assert "forward, on a CPU, 2 threads" in page.text
    measured.write_text("head,side\nR = 2,33\n")
    with pytest.raises(InputError, match=r"efficiency\.csv: 0\.gflops: Field required; .*`ccnet efficiency`"):
        build(dataset, run, costs=measured)


def test_segmented_folders_show_overlays_and_failures(dataset):
    run = add_run(dataset, "a")
    folder = run / "segmented" / "my photos"
    folder.mkdir(parents=True)
    rows = ["cat.jpg,ok,,400,300,0.1", 'broken.jpg,failed,"truncated, at byte 12",,,']
    (folder / "index.csv").write_text("\n".join(["file,status,reason,width,height,seconds", *rows]))
    Image.new("RGB", (400, 300)).save(folder / "cat_overlay.jpg")
    page = build(dataset, run, folders=("my photos",))
    assert page.row("broken.jpg") == ["truncated, at byte 12"]
    assert "by a: 1 ok, 1 failed" in page.text
    assert page.tags.count("img") == 1
    assert "broken.jpg" not in build(dataset, run).text  # a folder that the config no longer names
    with pytest.raises(InputError, match=r"segmented/other/index\.csv: No such file.*`ccnet segment` writes it"):
        build(dataset, run, folders=("other",))


def test_overlays_of_removed_and_failed_photos_are_not_shown(dataset):
    run = add_run(dataset, "a")
    folder = run / "segmented" / "photos"
    (folder / "deep").mkdir(parents=True)
    rows = ["deep/cat.jpg,skipped,", "broken.jpg,failed,cut", "lost.jpg,ok,"]
    (folder / "index.csv").write_text("\n".join(["file,status,reason", *rows]))
    for name in ("deep/cat", "broken", "removed"):
        Image.new("RGB", (40, 30)).save(folder / f"{name}_overlay.jpg")
    page = build(dataset, run, folders=("photos",))
    assert re.findall('alt="Overlay of (.*?)"', page.text) == ["cat"]
    assert "by a: 2 ok, 1 failed" in page.text  # what an interrupted segmentation had done counts


def test_names_that_are_not_utf8_are_spelt_out(dataset):
    run = add_run(dataset, "a")
    folder = run / "segmented" / "photos"
    folder.mkdir(parents=True)
    (folder / "index.csv").write_bytes(b"file,status,reason\ncaf\xe9.jpg,skipped,done\nna\xefve.jpg,failed,cut\n")
    Image.new("RGB", (40, 30)).save(folder / os.fsdecode(b"caf\xe9_overlay.jpg"))
    page = build(dataset, run, folders=("photos",))
    assert page.row(r"na\udcefve.jpg") == ["cut"]
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
