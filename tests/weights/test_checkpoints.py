import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from ccnet import InputError
from ccnet.weights.checkpoints import Checkpoint, Checkpoints, newest, of_model


def checkpoint(step: int) -> Checkpoint:
    row = {"step": step, "learning_rate": 0.1, "loss": 1.5, "gradient_norm": 2.0, "images_per_second": 3.0,
           "mean_iou": None}  # fmt: skip
    return Checkpoint(step, {"model.w": np.full(3, step, np.float32)}, [row], [[1.5, 2.0]], 12.5, 2**31)


def test_the_newest_is_loaded_and_two_are_kept(tmp_path):
    with Checkpoints(tmp_path, "a") as store:
        assert store.load() is None
        for step in (1, 2, 30):
            store.save(checkpoint(step))
        loaded = store.load()
    assert loaded is not None
    assert loaded[:1] + loaded[2:] == checkpoint(30)[:1] + checkpoint(30)[2:]
    np.testing.assert_array_equal(loaded.tensors["model.w"], [30, 30, 30])
    assert len(list(tmp_path.glob("*.safetensors"))) == 2


def test_the_newest_is_found_while_a_training_removes_older_ones(tmp_path, monkeypatch):
    with Checkpoints(tmp_path, "a") as store:
        for step in (1, 2):
            store.save(checkpoint(step))
    older = tmp_path / "a_step_00000001.safetensors"
    stat = Path.stat

    def late(path: Path, **options):
        if path == older:  # listed, and gone before it is looked at
            older.unlink(missing_ok=True)
        return stat(path, **options)

    monkeypatch.setattr(Path, "stat", late)
    assert newest(tmp_path) == tmp_path / "a_step_00000002.safetensors"


def flipped(data: bytes, place: int) -> bytes:
    return data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]


DAMAGE = {
    "truncated": lambda data: data[:-5],
    "empty": lambda data: b"",
    "foreign": lambda data: b"\x89PNG" + bytes(1000),
    "a flipped bit of a tensor": lambda data: flipped(data, len(data) - 3),
    "a flipped bit of the step": lambda data: data.replace(b'"step":"2"', b'"step":"3"'),
    "a flipped bit of the history": lambda data: flipped(data, data.index(b"loss") + 8),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_file_is_named_and_passed_over(tmp_path, damage, capsys):
    with Checkpoints(tmp_path, "a") as store:
        store.save(checkpoint(1))
        store.save(checkpoint(2))
        newest = tmp_path / "a_step_00000002.safetensors"
        before = newest.read_bytes()
        newest.write_bytes(damage(before))
        assert newest.read_bytes() != before
        loaded = store.load()
    assert loaded is not None
    assert loaded.step == 1
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert newest.name in said


def test_other_settings_are_not_continued_and_lose_nothing(tmp_path):
    with Checkpoints(tmp_path, "a") as store:
        store.save(checkpoint(5))
    with Checkpoints(tmp_path, "b") as store:
        assert store.load() is None
        for step in (1, 2, 3):
            store.save(checkpoint(step))
    with Checkpoints(tmp_path, "a") as store:
        loaded = store.load()
    assert loaded is not None
    assert loaded.step == 5


def test_what_a_kill_tore_while_saving_is_swept_away(tmp_path):
    (tmp_path / ".a_step_00000001.1234.safetensors").write_bytes(b"torn")
    with Checkpoints(tmp_path, "a"):
        assert not list(tmp_path.glob(".*"))


def test_a_folder_without_locks_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr("fcntl.lockf", lambda *_: (_ for _ in ()).throw(OSError(37, "No locks available")))
    with pytest.raises(OSError, match="No locks"), Checkpoints(tmp_path, "a"):
        pass


def test_a_full_disk_leaves_the_last_checkpoint(tmp_path, monkeypatch):
    with Checkpoints(tmp_path, "a") as store:
        store.save(checkpoint(1))
        monkeypatch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space left on device")))
        with pytest.raises(OSError, match="No space"):
            store.save(checkpoint(2))
        loaded = store.load()
    assert loaded is not None
    assert loaded.step == 1
    assert not list(tmp_path.glob(".*"))


def test_only_one_process_trains_in_a_folder(tmp_path):
    code = f"from ccnet.weights.checkpoints import Checkpoints\nCheckpoints({str(tmp_path)!r}, 'a').__enter__()"
    with Checkpoints(tmp_path, "a"):
        other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert other.returncode != 0
    assert f"process {os.getpid()}" in other.stderr
    with Checkpoints(tmp_path, "a"):
        pass  # and it is free again


def test_the_lock_refuses_with_a_reason(tmp_path, monkeypatch):
    monkeypatch.setattr("fcntl.lockf", lambda *_: (_ for _ in ()).throw(BlockingIOError()))
    with pytest.raises(InputError, match="another training"), Checkpoints(tmp_path, "a"):
        pass


@pytest.mark.parametrize(
    "metadata",
    [
        {"step": "2"}, {"history": "[]"}, {"step": '"2"', "history": "[]"}, {"step": "-2", "history": "[]"},
        {"step": "2", "history": "5"}, {"step": "2", "history": "[" * 100_000},
    ],
)  # fmt: skip
def test_a_file_without_a_step_and_a_history_is_passed_over(tmp_path, metadata, capsys):
    with Checkpoints(tmp_path, "a") as store:
        store.save(checkpoint(1))
        save_file({"model.w": np.zeros(3)}, tmp_path / "a_step_00000002.safetensors", metadata)
        loaded = store.load()
    assert loaded is not None
    assert loaded.step == 1
    assert capsys.readouterr().err.count("\n") == 1


def test_the_average_is_what_a_checkpoint_predicts_with():
    tensors = {"model.w": np.zeros(1), "best.w": np.ones(1), "optimizer.w": np.ones(1)}
    assert of_model(tensors)["w"] == 0
    assert of_model(tensors | {"average.w": np.full(1, 2.0)})["w"] == 2
