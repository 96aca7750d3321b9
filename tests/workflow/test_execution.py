"""What the rules run, and what they run at once."""

import json
import os
import signal
import subprocess
import time
import zipfile
from pathlib import Path

import pytest

from tests.workflow.conftest import ROOT, Workplace


def test_every_command_is_called_as_agreed(finished: Workplace):
    calls = {line.removeprefix("start ") for line in finished.calls() if line.startswith("start")}
    streets = "results/streets"
    assert f"fetch --dataset streets --out {streets}/source" in calls
    assert f"inspect {streets}/source/index.json --out {streets}/inspect.html" in calls
    assert (
        f"prepare {streets}/source/index.json --split train --shard 1 --of 2 --on-bad-pair fail"
        f" --out {streets}/shards/train-1-of-2.h5"
    ) in calls
    assert (
        f"train --settings {streets}/van_tiny/settings.json"
        f" --shards {streets}/shards/train-0-of-2.h5 {streets}/shards/train-1-of-2.h5"
        f" --checkpoints {streets}/van_tiny/checkpoints --val-shards {streets}/shards/val-0-of-1.h5"
        f" --out {streets}/van_tiny/weights.safetensors"
        f" --history {streets}/van_tiny/history.csv --device auto --devices 1 --workers 1"
    ) in calls
    assert (
        f"segment {streets}/source/photos --weights {streets}/resnet18/weights.safetensors"
        f" --out {streets}/resnet18/segmented/photos --device auto"
    ) in calls
    assert (
        f"report --labels {streets}/labels.json --shards {streets}/shards/val-0-of-1.h5"
        f" --runs {streets}/resnet18 {streets}/van_tiny --folders photos --out {streets}/report.html"
    ) in calls


def test_a_run_overrides_its_family_and_its_family_the_shared_recipe(workplace: Workplace):
    overlay = workplace.overlay("""
        training: {steps: 1, power: 1.0, seed: 1, van: {power: 2.0, seed: 2}}
        runs: {mine: {backbone: van_small, seed: 3}}
    """)
    settings = "results/streets/mine/settings.json"
    assert workplace.snakemake(settings, overlays=(overlay,)).returncode == 0
    recipe = json.loads((workplace.folder / settings).read_text())
    assert (recipe["steps"], recipe["power"], recipe["seed"]) == (1, 2.0, 3)
    assert recipe["backbone"] == "van_small"
    assert "van" not in recipe
    assert "resnet" not in recipe


def test_the_options_of_a_preparation_reach_it(workplace: Workplace):
    (workplace.folder / "a b").mkdir()
    overlay = workplace.overlay("dataset: {source: 'a b', max_size: 64, limit: {train: 8}, on_bad_pair: skip}")
    assert workplace.snakemake("prepare", overlays=(overlay,)).returncode == 0
    calls = workplace.calls()
    assert "start fetch --dataset streets --source a b --out results/streets/source" in calls
    train, val = (next(call for call in calls if f"--split {split}" in call) for split in ("train", "val"))
    assert "--max-size 64 --limit 8 --on-bad-pair skip" in train
    assert "--max-size 64 --on-bad-pair skip --out" in val


def test_the_options_of_a_folder_reach_fetch(workplace: Workplace):
    (workplace.folder / "x").mkdir()
    overlay = workplace.overlay("""
        dataset: {name: mine, layout: folder, source: x, val_share: 0.2, image_ending: _a b, label_ending: -seg}
        segment: {photos: null}
    """)
    assert workplace.snakemake("fetch", overlays=(overlay,)).returncode == 0
    options = "--val-share 0.2 --image-ending _a b --label-ending=-seg"
    (call,) = [call for call in workplace.calls() if call.startswith("start")]
    assert call == f"start fetch --dataset mine --layout folder --source x {options} --out results/mine/source"


def test_a_tilde_is_the_home_folder(workplace: Workplace, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HOME", str(workplace.folder))
    (workplace.folder / "mine").mkdir()
    (workplace.folder / "names.txt").touch()
    pretrained = f"{{path: ~/w.pth, sha256: {'ab' * 32}}}"
    overlay = workplace.overlay(f"""
        dataset: {{name: folder, source: ~/mine, classes: ~/names.txt}}
        segment: {{photos: null}}
        runs: {{resnet18: null, van_tiny: {{pretrained: {pretrained}}}}}
    """)
    assert workplace.snakemake("train", overlays=(overlay,)).returncode == 0
    calls, home = workplace.calls(), workplace.folder
    assert (
        f"start fetch --dataset folder --source {home}/mine --classes {home}/names.txt --out results/folder/source"
        in calls
    )
    assert any(call.startswith(f"start import-weights {home}/w.pth ") for call in calls)


def test_two_networks_never_share_the_gpu(finished: Workplace):
    needing = [line for line in finished.calls() if line.split()[1] in ("train", "evaluate", "segment")]
    assert len(needing) == 12
    for start, end in zip(needing[::2], needing[1::2], strict=True):
        assert start.removeprefix("start ") == end.removeprefix("end ")


def test_shards_are_prepared_side_by_side(finished: Workplace):
    # In the finished folder a shard waits for another one to be started.
    assert sum(call.startswith("end prepare") for call in finished.calls()) == 3


def test_with_two_gpus_two_trainings_run_at_once(workplace: Workplace):
    done = workplace.snakemake("train", "--resources", "gpu=2")
    assert done.returncode == 0
    trainings = [call.split()[0] for call in workplace.calls() if call.split()[1] == "train"]
    assert trainings == ["start", "start", "end", "end"]


def test_an_interrupted_training_may_save_and_says_so_in_its_log(workplace: Workplace):
    (workplace.folder / "hold").touch()
    command = workplace.command("results/streets/resnet18/weights.safetensors")
    process = subprocess.Popen(command, cwd=ROOT, env=workplace.environment(), start_new_session=True)
    calls = workplace.folder / "calls.log"
    while "start train" not in (calls.read_text() if calls.exists() else ""):
        assert process.poll() is None
        time.sleep(0.1)
    time.sleep(0.5)
    os.killpg(process.pid, signal.SIGINT)
    assert process.wait(timeout=60) != 0
    assert (workplace.folder / "saved").exists()
    assert "saved" in (workplace.folder / "results/streets/logs/train-resnet18.log").read_text()


def test_only_scores_that_are_up_to_date_are_printed(copy: Workplace):
    page = copy.folder / "results/streets/report.html"
    done = copy.snakemake("-R", "write_report")
    assert {"resnet18: mIoU 0.5000", "van_tiny: mIoU 0.5000", f"report: {page}"} <= set(done.stdout.splitlines())
    changed = (copy.overlay("runs: {van_tiny: {learning_rate: 0.1}}"),)
    old = "van_tiny: its score is out of date: `snakemake evaluate`, with the same options, measures it again"
    for targets in (["results/streets/van_tiny/settings.json"], ["train"]):  # before the training and after it
        done = copy.snakemake(*targets, overlays=changed)
        assert done.returncode == 0, done.stderr
        lines = set(done.stdout.splitlines())
        assert {"resnet18: mIoU 0.5000", old} <= lines
        assert f"report: {page} is out of date: `snakemake report`, with the same options, writes it again" in lines
        assert not [line for line in lines if line.startswith("van_tiny: mIoU")]
    done = copy.snakemake("evaluate", overlays=changed)
    assert "van_tiny: mIoU 0.5000" in done.stdout
    assert f"report: {page} is out of date" in done.stdout


def test_scores_are_not_printed_where_nothing_says_whether_they_hold(copy: Workplace):
    """The photos go away while a network is trained."""
    photos, hold = copy.folder / "photos", copy.folder / "hold"
    photos.mkdir()
    hold.touch()
    overlay = copy.overlay("{segment: {mine: photos, photos: null}, runs: {van_tiny: {learning_rate: 0.1}}}")
    before = len(copy.calls())
    with subprocess.Popen(
        copy.command("train", overlays=(overlay,)), cwd=ROOT, env=copy.environment(), stdout=subprocess.PIPE, text=True
    ) as process:
        while not any(call.startswith("start train") for call in copy.calls()[before:]):
            assert process.poll() is None
            time.sleep(0.1)
        photos.rmdir()
        hold.unlink()
        said = process.communicate(timeout=60)[0]
    assert process.returncode == 0
    assert "scores: not shown, since `snakemake report` cannot be planned: see `snakemake report --dry-run`" in said
    assert "mIoU" not in said


def test_commands_run_in_the_image_if_asked(workplace: Workplace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "apptainer").write_text(f"""#!/bin/sh
        [ "$1" = --version ] && echo apptainer version 1.0.0 && exit
        echo "$@" >> {tmp_path}/apptainer.log
        while [ "$1" != ccnet.sif ]; do shift; done
        shift
        exec "$@"
    """)
    (tmp_path / "apptainer").chmod(0o755)
    monkeypatch.setenv("PATH", os.pathsep.join([str(tmp_path), os.environ["PATH"]]))
    done = workplace.snakemake("fetch", "--software-deployment-method", "apptainer")
    assert done.returncode == 0, done.stderr
    assert "ccnet fetch --dataset streets" in (tmp_path / "apptainer.log").read_text()


@pytest.mark.parametrize("command", ["prepare", "train"])
def test_a_failed_command_fails_its_job_in_its_own_words(workplace: Workplace, command: str):
    (workplace.folder / "fail").write_text(command)
    done = workplace.snakemake("train")
    assert done.returncode != 0
    assert f"ccnet {command}: error: no luck" in done.stdout + done.stderr
    assert not any(workplace.folder.glob("results/streets/*/weights.safetensors"))


def test_snakemakes_own_report(copy: Workplace):
    archive = copy.folder / "report.zip"
    done = copy.snakemake("--report", archive)
    assert done.returncode == 0, done.stderr
    assert any(name.endswith("report.html") for name in zipfile.ZipFile(archive).namelist())


@pytest.mark.slow
def test_the_pipeline_itself_on_a_few_small_images(tmp_path):
    workplace = Workplace(tmp_path)
    overlay = workplace.overlay("""
        dataset: {limit: {train: 8, val: 4}}
        training: {steps: 2, warmup_steps: 0, batch_size: 2, crop_size: 64}
    """)
    done = workplace.snakemake(overlays=(overlay,))
    assert done.returncode == 0, done.stderr
    results = tmp_path / "results" / "streets"
    assert (results / "report.html").read_text().lstrip().lower().startswith("<!doctype html")
    for run in ("resnet18", "van_tiny"):
        metrics = json.loads((results / run / "metrics.json").read_text())
        assert 0 <= metrics["mean_iou"] <= 1
        assert metrics["protocol"]["images"] == 4
        assert "ok" in (results / run / "segmented/photos/index.csv").read_text()
    assert workplace.jobs(overlays=(overlay,)) == set()
