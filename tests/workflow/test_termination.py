"""A cluster's SIGTERM, which reaches every process of a job: a training as its rule runs it, on a tiny dataset."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests import tiny
from tests.workflow.conftest import ROOT, Workplace

RUN = Path("results/streets/van_tiny")
LOG = Path("results/streets/logs/train-van_tiny.log")


@pytest.fixture
def command(trained: tiny.Trained, tmp_path: Path) -> list[str]:
    """What the rule would run in the test's folder, for longer than the test takes."""
    done = Workplace(tmp_path).snakemake("--dry-run", "--printshellcmds", RUN / "weights.safetensors")
    shell = re.search(r"^Shell command: (.*ccnet train .*)$", done.stdout + done.stderr, re.MULTILINE)[1]
    for folder in (RUN, "results/streets/shards", LOG.parent):
        (tmp_path / folder).mkdir(parents=True)
    settings = json.loads(trained.settings.read_text())
    settings["schedule"]["steps"] = 100_000
    (tmp_path / RUN / "settings.json").write_text(json.dumps(settings))
    shards = [*trained.shards, trained.shards[0]]  # the last stands in for val
    for name, shard in zip(re.findall(r"\S+\.h5", shell), shards, strict=True):
        shutil.copy(shard, tmp_path / name)
    return ["bash", "-c", f"set -euo pipefail; {shell}"]  # as Snakemake calls it


def start(command: list[str], folder: Path) -> subprocess.Popen:
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = os.environ | {"PATH": path, "PYTHONPATH": str(ROOT), "nvcc_path": ""}
    return subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.DEVNULL, start_new_session=True)


def wait_for(said: str, folder: Path, process: subprocess.Popen) -> None:
    end = time.monotonic() + 300
    while not re.search(said, (folder / LOG).read_text() if (folder / LOG).exists() else ""):
        assert process.poll() is None
        assert time.monotonic() < end
        time.sleep(0.05)


def terminate(process: subprocess.Popen, status: int = 130) -> None:
    """SIGTERM to all of the job; its shell stays until the training has ended, or SLURM would end the job."""
    os.killpg(process.pid, signal.SIGTERM)
    assert process.wait(timeout=60) == status
    end = time.monotonic() + 20
    while _any(process.pid):
        assert time.monotonic() < end
        time.sleep(0.05)


def _any(group: int) -> bool:
    """Whether a process of this group is left."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def saved(folder: Path) -> list[int]:
    """The steps of the checkpoints."""
    return sorted(int(path.stem.rpartition("_")[2]) for path in (folder / RUN / "checkpoints").glob("*.safetensors"))


def test_a_terminated_job_saves_and_goes_on_from_there(command: list[str], tmp_path: Path):
    steps: list[int] = []
    for begins in (r"computing on", r"continuing from step"):
        process = start(command, tmp_path)
        wait_for(rf"(?s){begins}.*[1-9]\d*/100000 \[[^?]*step", tmp_path, process)
        terminate(process)
        log = (tmp_path / LOG).read_text()
        assert "Traceback" not in log
        steps += map(int, re.findall(r"interrupted; saved at step (\d+) of 100000", log))
    assert 0 < steps[0] < steps[1]
    assert saved(tmp_path) == steps
    assert f"continuing from step {steps[0]} of 100000" in log


def wait_for_jittor(process: subprocess.Popen) -> None:
    """Wait until the training has begun to load it."""
    while not any("jit_utils_core" in Path(f"/proc/{child}/maps").read_text() for child in tiny.children(process.pid)):
        assert process.poll() is None
        time.sleep(0.02)


def test_a_job_terminated_while_jittor_is_loaded_ends_at_once(command: list[str], tmp_path: Path):
    process = start(command, tmp_path)
    wait_for_jittor(process)
    terminate(process, 128 + signal.SIGTERM)  # there is nothing to say
    assert (tmp_path / LOG).read_text() == ""


def test_a_job_terminated_before_its_first_step_ends_at_once(command: list[str], tmp_path: Path):
    process = start(command, tmp_path)
    wait_for("computing on", tmp_path, process)
    terminate(process)
    log = (tmp_path / LOG).read_text()
    assert "Traceback" not in log
    assert log.endswith("ccnet train: interrupted\n")
    assert not saved(tmp_path)
