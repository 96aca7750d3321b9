import os
import signal

import pytest
from PIL import Image

from ccnet.commands import segment
from ccnet.predictor import Predictor
from ccnet.segmentation import processes
from tests import segmented, tiny
from tests.segmented import few, statuses, table

__all__ = ["few"]


@pytest.fixture(params=[0, 2], ids=["here", "workers"])
def ways(request, monkeypatch):
    """Without processes of their own for reading and writing, and with them, as on a GPU."""
    monkeypatch.setattr(processes, "WORKERS", request.param)
    return request.param


def test_a_result_that_cannot_be_placed_costs_one_image(few, trained, tmp_path, ways):
    (tmp_path / "out/1.png").mkdir(parents=True)
    assert statuses(few, trained, tmp_path / "out") == ["ok", "failed", "ok"]
    assert table(tmp_path / "out")["1.png"]["reason"] == "its results cannot be written (Is a directory)"


def test_workers_change_nothing(trained, tmp_path, monkeypatch):
    segmented.write(tmp_path / "in", segmented.good() | {name: data for name, (data, _) in segmented.bad().items()})
    before = set(tiny.children(os.getpid()))
    made, rows = [], []
    for workers in (0, 2):
        out = tmp_path / str(workers)
        monkeypatch.setattr(processes, "WORKERS", workers)
        segment.run(inputs=[tmp_path / "in"], weights_file=trained.weights, out=out)
        made.append({path.relative_to(out): path.read_bytes() for path in out.rglob("*.*g")})
        rows.append([{**row, "seconds": ""} for row in table(out).values()])
    assert made[0] == made[1]
    assert rows[0] == rows[1]
    assert set(tiny.children(os.getpid())) <= before


@pytest.mark.parametrize("killed", [1, 2])
def test_a_killed_worker_costs_no_image(few, trained, tmp_path, monkeypatch, capfd, killed):
    before = set(tiny.children(os.getpid()))
    real = Predictor.with_confidence

    def predict(*arguments):
        for worker in sorted(set(tiny.children(os.getpid())) - before)[:killed]:
            os.kill(worker, signal.SIGKILL)
        return real(*arguments)

    monkeypatch.setattr(processes, "WORKERS", 2)
    monkeypatch.setattr(Predictor, "with_confidence", predict)
    assert statuses(few, trained, tmp_path / "out") == ["ok", "ok", "ok"]
    assert capfd.readouterr().err.count("died; going on without it") == killed


def test_an_interrupted_run_is_continued(few, trained, tmp_path, monkeypatch, ways):
    made = []
    real = Predictor.with_confidence

    def predict(*arguments):
        if len(made) == 2:
            raise KeyboardInterrupt
        made.append(1)
        return real(*arguments)

    monkeypatch.setattr(Predictor, "with_confidence", predict)
    before = set(tiny.children(os.getpid()))
    with pytest.raises(KeyboardInterrupt):
        segment.run(inputs=[few], weights_file=trained.weights, out=tmp_path / "out")
    assert not [path for path in (tmp_path / "out").iterdir() if path.suffix == ".csv" or path.name.startswith(".")]
    assert set(tiny.children(os.getpid())) <= before
    monkeypatch.undo()
    assert sorted(statuses(few, trained, tmp_path / "out")) == ["ok", "skipped", "skipped"]


def test_a_full_disk_ends_the_run(few, trained, tmp_path, monkeypatch, ways):
    monkeypatch.setattr("os.fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(OSError, match="No space left"):
        segment.run(inputs=[few], weights_file=trained.weights, out=tmp_path / "out")
    assert not [path for path in (tmp_path / "out").rglob("*") if path.is_file()]


def test_a_network_out_of_memory_costs_one_image(few, trained, tmp_path, monkeypatch, ways):
    Image.new("RGB", (50, 40)).save(few / "1.png")
    real = Predictor.with_confidence

    def predict(self, image, *more):
        if image.shape == (40, 50, 3):
            raise RuntimeError(f"{'x' * 500}\n[Reason]: Unable to alloc cuda device memory for size 9")
        return real(self, image, *more)

    monkeypatch.setattr(Predictor, "with_confidence", predict)
    assert statuses(few, trained, tmp_path / "out") == ["ok", "failed", "ok"]
    assert table(tmp_path / "out")["1.png"]["reason"].startswith(
        "out of memory (Unable to alloc cuda device memory for size 9): scale the image"
    )
