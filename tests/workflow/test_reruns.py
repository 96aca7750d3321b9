"""This changed, hence exactly these jobs run again."""

import shutil
from pathlib import Path

import pytest

from tests.workflow.conftest import Workplace

RUNS = ("resnet18", "van_tiny")


def after_settings(run: str) -> set[str]:
    return {f"write_settings {run}", f"train_run {run}", *after_weights(run)}


def after_weights(run: str) -> set[str]:
    return {f"evaluate_run {run}", f"segment_folder {run} photos", "write_report"}


EVALUATED = {"write_report", *(f"evaluate_run {run}" for run in RUNS)}
RETRAINED = {"write_report"}.union(*({f"train_run {run}", *after_weights(run)} for run in RUNS))
PREPARED = {"prepare_shard train 0", "prepare_shard train 1", "prepare_shard val 0", "verify_shards"}

LISTED = {"fetch_dataset", "inspect_dataset"}  # the pairs, and the page about them

TABLE = {
    "nothing": ("{}", set()),
    "one run's learning rate": ("runs: {van_tiny: {learning_rate: 0.005}}", after_settings("van_tiny")),
    "a family's weight decay": ("training: {resnet: {weight_decay: 0.001}}", after_settings("resnet18")),
    "the shared batch size": ("training: {batch_size: 4}", after_settings("resnet18") | after_settings("van_tiny")),
    "what only VANs know": ("training: {drop_path: 0.1}", after_settings("van_tiny")),
    "what only ResNets know": (
        "training: {deep_stem: false, stem_channels: 32, multi_grid: true, contract_dilation: false}",
        after_settings("resnet18"),
    ),
    "a new run": ("runs: {r1: {backbone: resnet18, recurrence: 1}}", after_settings("r1")),
    "one run less": ("runs: {van_tiny: null}", {"write_report"}),
    "a seed more, of one run": (
        "{training: {seed: 3}, runs: {resnet18: {seed: 0}, van_tiny: {seeds: [0, 4]}}}",
        {"write_report"}.union(*(after_settings(f"van_tiny_seed{seed}") for seed in (0, 4))),
    ),
    "the device": ("device: cpu", set()),
    "the workers": ("workers: 3", set()),
    "a size limit": ("dataset: {max_size: 100}", PREPARED | RETRAINED),
    "what becomes of bad pairs": ("dataset: {on_bad_pair: skip}", PREPARED | RETRAINED),
    "fewer train images": ("dataset: {limit: {train: 9}}", (PREPARED | RETRAINED) - {"prepare_shard val 0"}),
    "fewer val images": (
        "dataset: {limit: {val: 9}}",
        {"prepare_shard val 0", "verify_shards"} | EVALUATED,
    ),
    "more val shards": (
        "dataset: {shards: {val: 2}}",
        {"prepare_shard val 0", "prepare_shard val 1", "verify_shards"} | EVALUATED,
    ),
    "another source": (
        "dataset: {source: elsewhere}",
        # no photos come with it
        LISTED | PREPARED | {job for job in RETRAINED if not job.endswith("photos")},
    ),
    "a folder more": (
        "segment: {mine: results/streets/source/elsewhere}",
        {"write_report", *(f"segment_folder {run} mine" for run in RUNS)},
    ),
    "another standard protocol": ("evaluation: {standard: {window: 512, stride: 341}}", EVALUATED),
    "one protocol more": (
        "evaluation: {multi_scale: {scales: [0.5, 1.0], flip: true}}",
        {"write_report", *(f"evaluate_protocol {run} multi_scale" for run in RUNS)},
    ),
    "a protocol that is none": ("evaluation: {multi_scale: null}", set()),
    "pretrained weights for one run": (
        f"runs: {{van_tiny: {{pretrained: {{path: /weights/van_tiny.pth, sha256: {'ab' * 32}}}}}}}",
        {"import_weights"} | after_settings("van_tiny"),
    ),
    "ImageNet weights for all runs": (
        "training: {pretrained: imagenet, deep_stem: false}",
        {"import_imagenet"} | after_settings("resnet18") | after_settings("van_tiny"),
    ),
    "a run that begins with another's weights": (
        "runs: {finer: {backbone: van_tiny, pretrained: {run: van_tiny}}}",
        after_settings("finer"),
    ),
    "the costs of attention": ("efficiency: true", {"measure_efficiency", "write_report"}),
    "no folders": ("segment: {photos: null}", {"write_report"}),
}


@pytest.mark.parametrize("change", TABLE)
def test_a_change_reruns_exactly_what_depends_on_it(finished: Workplace, change: str):
    overlay, expected = TABLE[change]
    (finished.folder / "elsewhere").mkdir(exist_ok=True)
    assert finished.jobs(overlays=(finished.overlay(overlay),)) == expected


@pytest.mark.parametrize("folder", ["results/streets/source/photos", "{here}/results/streets/source/photos"])
def test_three_lines_plan_a_dataset_of_the_users(workplace: Workplace, monkeypatch: pytest.MonkeyPatch, folder: str):
    monkeypatch.setenv("HOME", str(workplace.folder))
    (workplace.folder / "mine").mkdir()
    three_lines = workplace.overlay("dataset:\n  name: folder\n  source: ~/mine\n")
    photos = workplace.folder / "photos.yaml"
    photos.write_text(f"segment: {{photos: {folder.format(here=workplace.folder)}}}")
    jobs = workplace.jobs(overlays=(three_lines, photos))
    both = after_settings("resnet18") | after_settings("van_tiny")
    assert jobs == LISTED | PREPARED | {job for job in both if not job.endswith("photos")}


def test_everything_runs_in_an_empty_folder(workplace: Workplace):
    both = after_settings("resnet18") | after_settings("van_tiny")
    assert workplace.jobs() == LISTED | PREPARED | both


def test_a_folder_of_the_users_is_segmented_again_when_photos_come(copy: Workplace):
    photos = copy.folder / "my photos"
    photos.mkdir()
    overlay = copy.overlay(f"segment: {{mine: {photos}, photos: null}}")
    assert copy.snakemake(overlays=(overlay,)).returncode == 0
    assert copy.jobs(overlays=(overlay,)) == set()
    (photos / "new.jpg").touch()
    expected = {"write_report", *(f"segment_folder {run} mine" for run in RUNS)}
    assert copy.jobs(overlays=(overlay,)) == expected


def test_photos_count_that_come_in_a_subfolder(copy: Workplace, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HOME", str(copy.folder / "home"))
    below = copy.folder / "home/photos/of/june"
    below.mkdir(parents=True)
    overlay = copy.overlay("segment: {mine: ~/photos, photos: null}")
    assert copy.snakemake(overlays=(overlay,)).returncode == 0
    assert any(f"start segment {copy.folder}/home/photos --weights" in call for call in copy.calls())
    assert copy.jobs(overlays=(overlay,)) == set()
    (below / "new.jpg").touch()
    expected = {"write_report", *(f"segment_folder {run} mine" for run in RUNS)}
    assert copy.jobs(overlays=(overlay,)) == expected


def test_results_below_a_folder_of_the_users_are_no_photos(copy: Workplace):
    overlay = copy.overlay(f"segment: {{mine: {copy.folder}, photos: null}}")
    assert copy.snakemake(overlays=(overlay,)).returncode == 0
    assert copy.jobs(overlays=(overlay,)) == set()


def listed_source(copy: Workplace, link: bool = False) -> tuple[Path, Path]:
    """A folder dataset that has been through the pipeline, maybe by way of a link, and its overlay."""
    source = copy.folder / "mine"
    for name in ("images/train/a.jpg", "labels/train/a.png", "labels/train/b.png"):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).touch()
    if link:
        (source / "labels").rename(copy.folder / "elsewhere")
        (source / "labels").symlink_to(copy.folder / "elsewhere")
        (copy.folder / "elsewhere/circle").symlink_to(source)
    overlay = copy.overlay("{dataset: {name: folder, source: mine}, segment: {photos: null}}")
    assert copy.snakemake("prepare", overlays=(overlay,)).returncode == 0
    assert copy.jobs("prepare", overlays=(overlay,)) == set()
    return source, overlay


@pytest.mark.parametrize(("link", "new"), [(False, "c.png"), (True, "c.png"), (False, "c.mat")])
def test_a_label_that_went_or_came_has_the_pairs_listed_again(copy: Workplace, link: bool, new: str):
    source, overlay = listed_source(copy, link)
    (source / "labels/train/b.png").unlink()
    assert copy.jobs("prepare", overlays=(overlay,)) == LISTED | PREPARED
    (source / "labels/train/b.png").touch()
    assert copy.jobs("prepare", overlays=(overlay,)) == set()
    (source / "labels/train" / new).touch()
    assert copy.jobs("prepare", overlays=(overlay,)) == LISTED | PREPARED


def test_other_files_beside_a_dataset_rerun_nothing(copy: Workplace):
    source, overlay = listed_source(copy)
    for name in (".hidden.png/x.png", "notes.txt", "images/train/Thumbs.db", "labels/.DS_Store"):
        (source / name).parent.mkdir(exist_ok=True)
        (source / name).touch()
    assert copy.jobs("prepare", overlays=(overlay,)) == set()


def test_a_replaced_archive_is_unpacked_again(copy: Workplace):
    (copy.folder / "mine.zip").write_bytes(b"one")
    overlay = copy.overlay("{dataset: {name: folder, source: mine.zip}, segment: {photos: null}}")
    assert copy.snakemake("fetch", overlays=(overlay,)).returncode == 0
    assert copy.jobs("fetch", overlays=(overlay,)) == set()
    (copy.folder / "mine.zip").write_bytes(b"other")
    assert copy.jobs("fetch", overlays=(overlay,)) == {"fetch_dataset"}


def test_pretrained_weights_are_imported_and_moving_their_file_reruns_nothing(copy: Workplace):
    text = "runs: {{van_tiny: {{pretrained: {{path: '{path}', sha256: {sha256}}}}}}}"
    there = copy.overlay(text.format(path="/my weights/van.pth", sha256="ab" * 32))
    assert copy.snakemake("train", overlays=(there,)).returncode == 0
    imported = "results/pretrained/van_tiny-abababababab.safetensors"
    calls = copy.calls()
    assert f"start import-weights /my weights/van.pth --for van_tiny --sha256 {'ab' * 32} --out {imported}" in calls
    assert sum(f"--pretrained {imported}" in call for call in calls if call.startswith("start train")) == 1
    elsewhere = copy.overlay(text.format(path="https://example.org/van.pth", sha256="ab" * 32))
    assert copy.jobs("train", overlays=(elsewhere,)) == set()
    other = copy.overlay(text.format(path="/my weights/van.pth", sha256="cd" * 32))
    assert copy.jobs("train", overlays=(other,)) == {"import_weights", "write_settings van_tiny", "train_run van_tiny"}


def test_a_seed_more_trains_that_one_alone(copy: Workplace):
    text = "runs: {{resnet18: null, van_tiny: {{seeds: {seeds}}}}}"
    target = "results/streets/van_tiny_seed2/weights.safetensors"
    before = copy.overlay(text.format(seeds=[1, 2]))
    assert copy.jobs(target, overlays=(before,)) == {"write_settings van_tiny_seed2", "train_run van_tiny_seed2"}
    done = copy.snakemake(overlays=(before,))
    assert done.returncode == 0, done.stderr
    assert copy.jobs(overlays=(before,)) == set()
    assert copy.jobs(overlays=(copy.overlay(text.format(seeds=[3, 2, 1])),)) == after_settings("van_tiny_seed3")
    assert copy.jobs(overlays=(copy.overlay(text.format(seeds=[2])),)) == {"write_report"}
    lines = done.stdout.splitlines()
    assert {"van_tiny_seed1: mIoU 0.5100", "van_tiny_seed2: mIoU 0.5200"} <= set(lines)
    assert "van_tiny, 2 seeds: mIoU 0.5150 ± 0.0071" in lines


FINER = "runs: {van_tiny: {seed: SEED}, finer: {backbone: van_tiny, pretrained: {run: van_tiny}}}"


def test_a_run_begins_with_the_weights_of_another_and_follows_them(copy: Workplace):
    before = copy.overlay(FINER.replace("SEED", "0"))
    assert copy.snakemake("train", overlays=(before,)).returncode == 0
    other = "results/streets/van_tiny/weights.safetensors"
    calls = [call for call in copy.calls() if f"--pretrained {other}" in call]
    assert [call.split()[:2] for call in calls] == [
        [time, command] for command in ("settings", "train") for time in ("start", "end")
    ]
    assert copy.jobs("train", overlays=(before,)) == set()
    after = copy.overlay(FINER.replace("SEED", "1"))
    again = {f"{rule} {run}" for rule in ("write_settings", "train_run") for run in ("van_tiny", "finer")}
    assert copy.jobs("train", overlays=(after,)) == again
    assert copy.snakemake("train", overlays=(after,)).returncode == 0
    assert copy.jobs("train", overlays=(after,)) == set()
    trained = [call.split()[3] for call in copy.calls() if call.startswith("start train")][-2:]
    assert trained == [f"results/streets/{run}/settings.json" for run in ("van_tiny", "finer")]


def test_a_weights_file_of_the_users_that_changed_trains_again(copy: Workplace, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HOME", str(copy.folder))
    mine = copy.folder / "mine.safetensors"
    mine.write_text("one")
    overlay = copy.overlay("runs: {van_tiny: {pretrained: {path: ~/mine.safetensors}}}")
    assert copy.snakemake("train", overlays=(overlay,)).returncode == 0
    assert any(f"--pretrained {mine} " in call for call in copy.calls() if call.startswith("start train"))
    assert copy.jobs("train", overlays=(overlay,)) == set()
    mine.write_text("other")
    assert copy.jobs("train", overlays=(overlay,)) == {"write_settings van_tiny", "train_run van_tiny"}


def test_imagenet_names_the_weights_of_each_backbone_and_stem(copy: Workplace):
    overlay = copy.overlay(
        "{training: {pretrained: imagenet}, runs: {plain: {backbone: resnet18, deep_stem: false},"
        " resnet34: {deep_stem: false}}}"
    )
    assert copy.snakemake("train", overlays=(overlay,)).returncode == 0
    names = {"resnet18": "resnet18-deep", "plain": "resnet18", "resnet34": "resnet34", "van_tiny": "van_tiny"}
    for run, name in names.items():
        imported = f"results/pretrained/imagenet-{name}.safetensors"
        assert f"start import-weights imagenet-{name} --out {imported}" in copy.calls()
        (trained,) = [call for call in copy.calls() if f"start train --settings results/streets/{run}/" in call][-1:]
        assert f"--pretrained {imported} " in trained
    assert copy.jobs("train", overlays=(overlay,)) == set()


def test_one_protocol_changed_is_measured_again_alone(copy: Workplace):
    text = "evaluation: {{standard: {{}}, tiled: {{window: 64}}, loose: {{fixed: [256, 256], flip: {flip}}}}}"
    before = copy.overlay(text.format(flip="false"))
    assert copy.snakemake(overlays=(before,)).returncode == 0
    streets = "results/streets"
    evaluate = f"evaluate --weights {streets}/van_tiny/weights.safetensors --shards {streets}/shards/val-0-of-1.h5"
    loose = f"start {evaluate} --out {streets}/van_tiny/metrics_loose.json --fixed 256 256 --device auto"
    assert loose in copy.calls()
    assert any(" --protocols tiled loose --folders photos --out " in call for call in copy.calls())
    assert copy.jobs(overlays=(before,)) == set()
    changed = {"write_report", *(f"evaluate_protocol {run} loose" for run in RUNS)}
    assert copy.jobs(overlays=(copy.overlay(text.format(flip="true")),)) == changed
    removed = copy.overlay("evaluation: {tiled: {window: 64}, loose: null}")
    assert copy.jobs(overlays=(removed,)) == {"write_report"}


def test_a_lost_run_is_made_again_alone(copy: Workplace):
    shutil.rmtree(copy.folder / "results/streets/van_tiny")
    assert copy.jobs() == after_settings("van_tiny")


LOST = {
    "report.html": {"write_report"},
    "results.csv": {"write_report"},
    "results.tex": {"write_report"},
    "loss.svg": {"write_report"},
    "mean_iou.svg": {"write_report"},
    "inspect.html": {"inspect_dataset"},
    "van_tiny/history.csv": {"train_run van_tiny", *after_weights("van_tiny")},
    "van_tiny/metrics.json": {"evaluate_run van_tiny", "write_report"},
    "van_tiny/segmented/photos/index.html": {"segment_folder van_tiny photos", "write_report"},
}


@pytest.mark.parametrize("name", LOST)
def test_a_lost_result_is_made_again(copy: Workplace, name: str):
    (copy.folder / "results/streets" / name).unlink()
    assert copy.jobs() == LOST[name]


@pytest.mark.parametrize("target", ["train", "segment"])
def test_lost_weights_are_made_again_where_val_changes_too(copy: Workplace, target: str):
    for run in RUNS:
        (copy.folder / f"results/streets/{run}/weights.safetensors").unlink()
        shutil.rmtree(copy.folder / f"results/streets/{run}/segmented")
    overlay = copy.overlay("dataset: {limit: {val: 9}}")
    assert copy.snakemake(target, overlays=(overlay,)).returncode == 0
    for run in RUNS:
        assert (copy.folder / f"results/streets/{run}/weights.safetensors").exists()


def test_lost_weights_are_made_again(copy: Workplace):
    (copy.folder / "results/streets/van_tiny/weights.safetensors").unlink()
    assert copy.jobs() == {"train_run van_tiny", *after_weights("van_tiny")}


@pytest.mark.parametrize(
    ("target", "expected"),
    {
        "fetch": {"fetch_dataset"},
        "prepare": LISTED | PREPARED,
        "train": {"fetch_dataset"}
        | PREPARED
        | {f"{rule} {run}" for rule in ("write_settings", "train_run") for run in RUNS},
    }.items(),
)
def test_a_named_target_stands_for_its_stage(workplace: Workplace, target: str, expected: set[str]):
    assert workplace.jobs(target) == expected


def test_the_later_targets_leave_the_report_out(workplace: Workplace):
    jobs = workplace.jobs("evaluate", "segment")
    assert {f"evaluate_run {run}" for run in RUNS} < jobs
    assert {f"segment_folder {run} photos" for run in RUNS} < jobs
    assert "write_report" not in jobs
