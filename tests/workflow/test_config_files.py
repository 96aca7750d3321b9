"""The files of the config: what is read, from where, and what they name that is not there."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.workflow.conftest import ROOT, Workplace


def dry_run_elsewhere(folder: Path, *arguments: str) -> subprocess.CompletedProcess:
    """Plans in `folder`, with no config but the one beside the Snakefile and what `arguments` name."""
    options = ["--snakefile", str(ROOT / "Snakefile"), "--directory", str(folder), "--cores", "1", "--dry-run"]
    command = [sys.executable, "-m", "snakemake", *options, *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True)


UNREADABLE = {
    "training:\n  steps: [3\nruns: {}\n": "overlay.yaml, line 3, column 5: expected ',' or ']', but got ':';",
    "runs:\n\tvan_tiny: {}\n": "overlay.yaml, line 2, column 1: found character '\\t' that cannot start any token;",
    "device: cpu\n  workers: 1\n": "overlay.yaml, line 2, column 10: mapping values are not allowed here;",
    "\x00": "overlay.yaml: cannot be read as YAML: ",
    "runs:\n  x: {seed: 1}\n  x: {seed: 2}\n": "overlay.yaml, line 3, column 3: 'x' is there twice;",
    "# nothing yet\n": "overlay.yaml: empty; write lines like  device: cpu",
    "- device: cpu\n": "overlay.yaml: no mapping; write lines like  device: cpu",
}


@pytest.mark.parametrize("text", UNREADABLE)
def test_a_config_file_that_is_no_yaml_is_named_with_its_line(workplace: Workplace, text: str):
    overlay = workplace.overlay(text)
    for profile in ("default", "slurm"):
        done = workplace.snakemake("--dry-run", "--workflow-profile", f"profiles/{profile}", overlays=(overlay,))
        assert done.returncode == 1
        assert f"\nconfig: {workplace.folder / UNREADABLE[text]}" in done.stderr
        assert "Traceback" not in done.stderr


def test_config_yaml_itself_is_named_with_its_line(tmp_path: Path):
    for part in ("Snakefile", "config.yaml", "profiles", "workflow"):
        (tmp_path / part).parent.mkdir(exist_ok=True)
        (shutil.copytree if (ROOT / part).is_dir() else shutil.copy)(ROOT / part, tmp_path / part)
    with open(tmp_path / "config.yaml", "a") as config:
        config.write("device: [cpu\n")
    command = [sys.executable, "-m", "snakemake", "--dry-run"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    lines = len((tmp_path / "config.yaml").read_text().splitlines())
    assert done.returncode == 1
    assert f"\nconfig: {tmp_path}/config.yaml, line {lines + 1}, column 1: " in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("folder", ["here", "elsewhere"])
def test_a_target_after_configfile_is_told_where_it_belongs(workplace: Workplace, tmp_path: Path, folder: str):
    overlay = workplace.overlay("device: cpu")
    if folder == "here":
        done = workplace.snakemake("--dry-run", overlays=(overlay, "evaluate"))
    else:
        done = dry_run_elsewhere(tmp_path, "--configfile", str(overlay), "evaluate")
    assert done.returncode == 1
    assert "evaluate: no such file; a target comes before --configfile, as in: snakemake " in done.stderr
    assert "Traceback" not in done.stderr


def test_a_missing_key_is_named(workplace: Workplace):
    overlay = workplace.overlay("training: {}")
    done = dry_run_elsewhere(workplace.folder, "--replace-workflow-config", "--configfile", str(overlay))
    assert done.returncode == 1
    assert "config: dataset: missing\n" in done.stderr


def test_another_working_directory_needs_no_config_of_its_own(tmp_path: Path):
    done = dry_run_elsewhere(tmp_path)
    assert done.returncode == 0, done.stderr
    assert "train_run" in done.stdout + done.stderr


PLACES = {
    "dataset: {name: folder, source: gone}": "dataset.source: no such file or folder: gone; is its disk mounted?",
    "dataset: {name: folder, source: /, classes: ~/no.txt}": "dataset.classes: no such file or folder: ~/no.txt; is",
    "segment: {june: /gone/photos}": "segment.june: no such file or folder: /gone/photos; is its disk mounted? Else",
}


@pytest.mark.parametrize("text", PLACES)
def test_what_is_away_is_told_before_anything_is_run(copy: Workplace, text: str):
    done = copy.snakemake(overlays=(copy.overlay(text),))
    assert done.returncode == 1
    assert f"\nconfig: {PLACES[text]}" in f"\n{done.stderr}"
    assert "Traceback" not in done.stderr
    assert copy.jobs() == set()  # nothing was deleted


def test_what_is_fetched_need_not_be_there(workplace: Workplace):
    overlay = "{dataset: {name: mine, layout: camvid, source: 'http://127.0.0.1:1/mine.zip'}, segment: {photos: null}}"
    assert "fetch_dataset" in workplace.jobs(overlays=(workplace.overlay(overlay),))
