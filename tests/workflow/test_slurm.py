"""The pipeline on a real SLURM, whose jobs are cancelled and killed."""

import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.workflow import slurm
from tests.workflow.conftest import ROOT, Workplace

pytestmark = [pytest.mark.slow, pytest.mark.skipif(bool(slurm.missing()), reason=slurm.missing())]
STEPS = 300
LOG = Path("results/streets/logs/train-van_tiny.log")


@pytest.fixture
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[slurm.Cluster]:
    with slurm.cluster(tmp_path_factory.mktemp("slurm")) as running:
        yield running


def profile(folder: Path) -> Path:
    """The profile as shipped, with what a node of two cores has, and without its long pauses between checks."""
    values = yaml.safe_load((ROOT / "profiles/slurm/config.yaml").read_text())
    values["default-resources"]["mem_mb"] = 1000
    for rule, resources in values["set-resources"].items():
        values["set-threads"][rule] = 1
        resources["mem_mb"] = 3000
    values |= {"slurm-init-seconds-before-status-checks": 2, "seconds-between-status-checks": 2}
    (folder / "profile").mkdir()
    (folder / "profile/config.yaml").write_text(yaml.safe_dump(values))
    return folder / "profile"


@pytest.fixture
def pipeline(cluster: slurm.Cluster, tmp_path: Path) -> Iterator[subprocess.Popen]:
    """Snakemake on the cluster, at one short training."""
    overlay = Workplace(tmp_path).overlay(f"""
        dataset: {{limit: {{train: 8, val: 4}}, shards: {{train: 1}}}}
        training: {{steps: {STEPS}, warmup_steps: 0, batch_size: 2, crop_size: 64}}
        runs: {{resnet18: null}}
        segment: {{photos: null}}
        device: cpu
    """)
    command = [sys.executable, "-m", "snakemake", "--workflow-profile", profile(tmp_path), "--directory", tmp_path]
    command += ["--configfile", ROOT / "config.yaml", overlay]
    with open(tmp_path / "out", "w") as out:
        process = subprocess.Popen(command, cwd=ROOT, env=cluster.environment, stdout=out, stderr=out)
    yield process
    process.kill()
    process.wait()


def wait_for_step(pipeline: subprocess.Popen, log: Path, begins: str) -> None:
    """Wait until a training whose log begins like this has done a step."""
    end = time.monotonic() + 600  # kernels may have to be compiled
    while not re.search(rf"(?s){begins}.*[1-9]\d*/{STEPS} \[[^?]*step", log.read_text() if log.exists() else ""):
        assert pipeline.poll() is None
        assert time.monotonic() < end
        time.sleep(0.05)


def trainings(cluster: slurm.Cluster) -> dict[str, str]:
    """Job -> state of all trainings, in the order of their submission."""
    jobs = cluster.ask("squeue", "--noheader", "--states=all", "--sort=i", "--format=%i %T %k").splitlines()
    return dict(job.split()[:2] for job in jobs if "rule_train_run" in job)


def test_cancelled_and_killed_trainings_continue_to_the_report(
    cluster: slurm.Cluster, pipeline: subprocess.Popen, tmp_path: Path
):
    log = tmp_path / LOG
    wait_for_step(pipeline, log, "computing on cpu")
    (first,) = trainings(cluster)
    cluster.ask("scancel", first)
    wait_for_step(pipeline, log, "continuing from step")
    _, second = trainings(cluster)
    cluster.ask("scancel", "--signal=KILL", f"{second}.0")
    code, out = pipeline.wait(timeout=600), (tmp_path / "out").read_text()
    assert code == 0, out
    assert list(trainings(cluster).values()) == ["CANCELLED", "FAILED", "COMPLETED"]
    # Only the first saved as it ended
    (saved,) = set(re.findall(rf"interrupted; saved at step (\d+) of {STEPS}", out))
    assert int(saved) <= int(re.search(rf"continuing from step (\d+) of {STEPS}", log.read_text())[1]) < STEPS
    assert (tmp_path / "results/streets/report.html").exists()
