import json
import os
import signal
import time

import pytest

from ccnet import InputError, cli, launcher, weights
from ccnet.data.shards import ShardReader
from ccnet.training.validation import Validation
from tests import tiny


def processes(pid: int) -> list[int]:
    """A launcher's mpirun, its ranks and their workers."""
    found = tiny.children(pid)
    return found + [other for child in found for other in processes(child)]


def started(trained, folder, *options: str):
    """A training on two devices that has saved, and its processes."""
    process = tiny.start(trained.command(folder, "--devices", "2", "--checkpoint-every", "0", *options))
    end = time.monotonic() + 300
    while not list((folder / "checkpoints").glob("[!.]*_step_*.safetensors")):
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < end
        time.sleep(0.05)
    return process, processes(process.pid)


def wait_until_gone(others: list[int]) -> None:
    end = time.monotonic() + 20
    while any(map(tiny.alive, others)):
        assert time.monotonic() < end
        time.sleep(0.05)


@tiny.needs_mpi
def test_a_killed_rank_ends_all_and_another_number_of_devices_continues(trained, tmp_path):
    process, others = started(trained, tmp_path, "--set", "steps=60")
    killed = time.monotonic()
    os.kill(tiny.children(others[0])[1], signal.SIGKILL)
    said = process.communicate(timeout=60)[1]
    wait_until_gone(others)
    assert time.monotonic() - killed < 30
    assert process.returncode == 1
    assert "error: one of the 2 processes was killed (exit status 137); the same command continues from the" in said
    again = tiny.start(trained.command(tmp_path, "--devices", "1", "--set", "steps=60"))
    said = again.communicate(timeout=300)[1]
    assert again.returncode == 0, said
    assert "ccnet: continuing from step" in said


@tiny.needs_mpi
def test_sigterm_saves_and_leaves_nobody_behind(trained, tmp_path):
    process, others = started(trained, tmp_path, "--set", "steps=100000")
    assert len(others) == 5  # mpirun, two ranks, a worker each
    for pid in [process.pid, *others]:  # as SLURM does it
        os.kill(pid, signal.SIGTERM)
    said = process.communicate(timeout=120)[1]
    assert process.returncode == 130, said
    assert said.count("ccnet: interrupted; saved at step") == 1
    assert "Traceback" not in said
    wait_until_gone(others)


GROWN = """
import os
from pathlib import Path

mark = Path("MARK")
if os.environ.get("OMPI_COMM_WORLD_RANK") == "1" and not mark.exists():
    mark.touch()
    from ccnet.training import memory

    steps, held, memory.SETTLED = iter(range(14)), memory.resident, 0
    memory.resident = lambda: held() + (next(steps, None) is None) * 2**50
"""


@tiny.needs_mpi
def test_a_rank_that_grows_restarts_all_and_changes_no_bit(trained, tmp_path):
    """With EMA, measurements that the devices share, and the category consistent loss, which sees one device's part."""
    changes = {"ema": 0.9, "validate_every": 5, "keep": "best", "category_consistency": 1.0, "batch_size": 4}
    settings, chosen = tiny.settings(**changes), tmp_path / "settings.json"
    chosen.write_text(json.dumps(settings.as_dict()))
    val = tiny.shard(tmp_path / "val.h5", range(20, 25), split="val")
    whole, grown, code = (tmp_path / name for name in ("whole", "grown", "code"))
    code.mkdir()
    (code / "sitecustomize.py").write_text(GROWN.replace("MARK", str(code / "mark")))  # Python imports it at its start
    for folder, path in ((whole, []), (grown, [str(code)])):
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(path)}
        command = trained.command(folder, "--devices", "2", "--val-shards", val, settings=chosen)
        process = tiny.start(command, env=environment)
        said = process.communicate(timeout=600)[1]
        assert process.returncode == 0, said
        assert said.count("saved at step 15 of 24, restarting") == len(path)
        assert said.count("continuing from step 15 of 24") == len(path)
    assert tiny.same(whole, grown)
    rows = tiny.logged(whole)
    assert rows == tiny.logged(grown)
    assert [row["step"] for row in rows if row["mean_iou"]] == ["5", "10", "15", "20", "24"]
    model = weights.load(whole / "weights_last.safetensors").model
    alone = Validation(ShardReader([val]), settings).measure(model, lambda: False)
    assert float(rows[-1]["mean_iou"]) == pytest.approx(alone.mean_iou, abs=1e-3)


@tiny.needs_mpi
def test_a_batch_that_the_devices_cannot_share_is_one_line(trained, tmp_path):
    process = tiny.start(trained.command(tmp_path, "--devices", "2", "--set", "batch_size=3"))
    said = process.communicate(timeout=120)[1]
    assert process.returncode == 1
    assert said.count("error") == 1
    assert "error: batch_size: 3: 2 devices share it: make it a multiple of that" in said


def test_without_mpi_the_remedy_is_told(monkeypatch, capsys):
    monkeypatch.setattr(launcher.shutil, "which", lambda name: None)
    names = ["settings", "shards", "checkpoints", "out", "history"]
    arguments = ["train", *(part for name in names for part in (f"--{name}", "x"))]
    assert cli.main([*arguments, "--devices", "2"]) == 1
    assert "devices: 2: no mpirun and no mpicc: apt install openmpi-bin libopenmpi-dev" in capsys.readouterr().err


def test_there_is_at_least_one_device():
    with pytest.raises(InputError, match="devices: 0: must be 1 or more"):
        launcher.launch(0, [])


def test_cores_are_divided_among_the_devices(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "6")
    assert launcher._threads() == 6
    monkeypatch.delenv("OMP_NUM_THREADS")
    assert launcher._threads() == len(os.sched_getaffinity(0))
