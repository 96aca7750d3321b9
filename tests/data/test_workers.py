import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from ccnet import InputError
from ccnet.data.workers import Channel, Worker
from tests import tiny

ITEMS = [
    7, None, "word", [], {"a": (1, 2)}, np.arange(6, dtype=np.uint8).reshape(2, 3), np.zeros((0, 3)),
    [np.full((300, 500, 3), 9, np.uint8), np.float32(0.5), np.arange(5.0), b"bytes"],
    np.arange(12).reshape(3, 4)[:, ::-1], np.arange(12).reshape(3, 4).T,
]  # fmt: skip


def echo(channel: Channel) -> None:
    while True:
        channel.send(channel.receive())


def wait_until(condition, seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_items_arrive_as_they_were_sent():
    with Worker(echo) as worker:
        for item in ITEMS:
            worker.send(item)
        for item in ITEMS:
            np.testing.assert_equal(worker.receive(), item)


def test_received_arrays_can_be_written_and_stay_when_the_worker_is_gone():
    with Worker(echo) as worker:
        for number in range(3):
            worker.send(np.full(5000, number))
        first, second, third = (worker.receive() for _ in range(3))
    first += 10
    assert [set(array.tolist()) for array in (first, second, third)] == [{10}, {1}, {2}]


def test_nothing_is_kept_of_what_was_received():
    """Neither open files nor memory."""

    def held() -> tuple[int, int]:
        maps = Path("/proc/self/maps").read_text().count("memfd:ccnet")
        return len(os.listdir("/proc/self/fd")), maps

    with Worker(echo) as worker:
        worker.send(np.zeros(5000))
        worker.receive()
        before = held()
        for _ in range(20):
            worker.send(np.zeros(5000))
            worker.receive()
        assert held() == before
        assert before[1] == 0


@pytest.mark.parametrize("error", [InputError("x.h5: damaged"), OSError(28, "No space left on device", "a.png")])
def test_an_error_in_a_worker_is_raised_here(error):
    def fail(channel: Channel) -> None:
        channel.send("before")
        raise error

    with Worker(fail) as worker:
        assert worker.receive() == "before"
        with pytest.raises(type(error)) as caught:
            worker.receive()
        assert str(caught.value) == str(error)


def test_what_a_killed_worker_had_sent_still_arrives(capfd, tmp_path):
    def work(channel):
        channel.send(np.zeros(9))
        (tmp_path / "sent").touch()
        channel.receive()

    with Worker(work) as worker:
        wait_until((tmp_path / "sent").exists)
        os.kill(worker.process.pid, signal.SIGKILL)
        wait_until(lambda: not tiny.alive(worker.process.pid))
        np.testing.assert_array_equal(worker.receive(), np.zeros(9))
        for _ in range(2):
            worker.send("more")
            with pytest.raises(EOFError):
                worker.receive()
    assert capfd.readouterr().err.count(f"process {worker.process.pid} died; going on without it") == 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_to_the_group_do_not_end_a_worker(number):
    with Worker(echo) as worker:
        worker.send("before")
        assert worker.receive() == "before"
        os.kill(worker.process.pid, number)
        worker.send("after")
        assert worker.receive() == "after"
    assert not tiny.alive(worker.process.pid)


def test_a_worker_finishes_what_it_is_doing(tmp_path):
    def write(channel: Channel) -> None:
        channel.send("begun")
        time.sleep(0.2)
        (tmp_path / "whole").touch()
        echo(channel)

    with Worker(write) as worker, Worker(echo):  # the second has the first's channel, too
        worker.receive()
    assert (tmp_path / "whole").exists()
    assert not tiny.alive(worker.process.pid)


def test_a_worker_that_does_not_leave_is_killed(monkeypatch):
    def stay(channel: Channel) -> None:
        channel.send("busy")
        time.sleep(60)

    monkeypatch.setattr("ccnet.data.workers.PATIENCE", 0.1)
    with Worker(stay) as worker:
        worker.receive()
    assert not tiny.alive(worker.process.pid)


def test_a_worker_does_not_outlive_a_killed_process():
    code = (
        "import os\nfrom ccnet.data.workers import Worker\n"
        "worker = Worker(lambda channel: channel.send('up') or channel.receive())\n"
        "worker.receive()\nprint(worker.process.pid, flush=True)\nos.kill(os.getpid(), 9)\n"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert ended.returncode == -signal.SIGKILL
    wait_until(lambda: not tiny.alive(int(ended.stdout)))
