import ctypes
import ctypes.util
import os
import random
import shutil
import signal
import subprocess
import sys

import numpy as np
import pytest

from ccnet import InputError, runtime
from ccnet.runtime import jt


class Driver:
    """libcuda with a given number of GPUs; `broken` is what cuInit returns."""

    def __init__(self, count: int, broken: int = 0):
        self.count, self.broken = count, broken

    def cuInit(self, flags: int) -> int:  # noqa: N802 (NVIDIA's name)
        return self.broken

    def cuDeviceGetCount(self, count) -> int:  # noqa: N802
        count._obj.value = self.count
        return 0


@pytest.fixture
def machine(monkeypatch):
    """machine(nvcc=…, driver=…, cudnn=…) pretends to be that machine."""

    def pretend(nvcc: str | None = "/cuda/bin/nvcc", driver: Driver | None = None, cudnn: str | None = None):
        def load(name):
            if driver is None:
                raise OSError(f"{name}: cannot open shared object file")
            return driver

        monkeypatch.delenv("nvcc_path", raising=False)
        monkeypatch.setattr(runtime.shutil, "which", lambda name: nvcc if name in ("nvcc", nvcc) else None)
        monkeypatch.setattr(ctypes, "CDLL", load)
        monkeypatch.setattr(ctypes.util, "find_library", lambda name: cudnn if name == "cudnn" else None)

    return pretend


@pytest.mark.parametrize(
    ("parts", "problem"),
    [
        ({"nvcc": None}, "no nvcc on PATH"),
        ({}, "nvcc is here (/cuda/bin/nvcc), but no NVIDIA driver (libcuda.so.1)"),
        ({"driver": Driver(0)}, "an NVIDIA driver is here, but no GPU answers"),
        ({"driver": Driver(1, broken=100)}, "an NVIDIA driver is here, but no GPU answers"),
        ({"driver": Driver(1)}, "a GPU answers, but cuDNN is not installed (libcudnn.so)"),
        ({"driver": Driver(2), "cudnn": "libcudnn.so.8"}, None),
    ],
)
def test_what_is_missing_for_cuda(machine, parts, problem):
    machine(**parts)
    assert runtime.cuda_problem() == problem


def test_a_chosen_nvcc_is_the_one_that_counts(machine, monkeypatch):
    machine(nvcc="/mine/nvcc", driver=Driver(1), cudnn="libcudnn.so.8")
    monkeypatch.setenv("nvcc_path", "/mine/nvcc")
    assert runtime.cuda_problem() is None
    for chosen in ("", "/gone/nvcc"):  # the empty one is Jittor's way to ask for the CPU
        monkeypatch.setenv("nvcc_path", chosen)
        assert runtime.cuda_problem() == f"nvcc_path={chosen} names no program"


@pytest.mark.parametrize(("device", "reason"), [("cpu", ""), ("auto", " (no nvcc on PATH)")])
def test_the_device_is_said_in_one_line(device, reason, monkeypatch, capfd):
    monkeypatch.setattr(runtime, "PROBLEM", "no nvcc on PATH")
    monkeypatch.setattr(jt, "has_cuda", 0)
    assert runtime.select(device) == "cpu"
    assert capfd.readouterr().err == f"ccnet: computing on cpu{reason}\n"


def test_cuda_without_cuda_is_refused(monkeypatch):
    monkeypatch.setattr(runtime, "PROBLEM", "no nvcc on PATH")
    monkeypatch.setattr(jt, "has_cuda", 0)
    with pytest.raises(
        InputError, match=r"^device: 'cuda' is not possible here: no nvcc on PATH; use 'auto' or 'cpu'$"
    ):
        runtime.select("cuda")


def test_a_seed_seeds_all_three():
    drawn = []
    for _ in range(2):
        runtime.seed(5)
        drawn.append((random.random(), np.random.rand(), jt.rand(3).numpy().tolist()))
    assert drawn[0] == drawn[1]
    runtime.seed(6)
    assert random.random() != drawn[0][0]


def test_a_new_process_decides_before_the_import(tmp_path):
    """With an nvcc on PATH, and a GPU or none: the import works, and the handlers of signals are as they were."""
    code = """if True:
        import os, signal, sys
        signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in the background of a script
        before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGCHLD)]
        import ccnet.runtime as runtime
        assert (os.environ.get("nvcc_path") == "") == bool(runtime.PROBLEM)
        assert bool(runtime.jt.has_cuda) == (runtime.PROBLEM is None)
        assert os.environ["log_silent"] == "1" and os.environ["OMP_WAIT_POLICY"] == "PASSIVE"
        assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGCHLD)] == before
        child = os.fork()
        if child == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        os.waitpid(child, 0)
        print("alive")
        try:
            os.kill(os.getpid(), signal.SIGINT)
        except KeyboardInterrupt:
            print("and told")
        """
    if not shutil.which("nvcc"):
        (tmp_path / "nvcc").write_text("#!/bin/sh\nexit 1\n")
        (tmp_path / "nvcc").chmod(0o755)
    environment = os.environ | {"PATH": os.pathsep.join([os.environ["PATH"], str(tmp_path)])}
    for name in ("nvcc_path", "log_silent", "OMP_WAIT_POLICY"):
        environment.pop(name, None)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert done.stdout.split("\n") == ["alive", "and told", ""], done.stderr


def test_no_compiler_is_one_line(tmp_path):
    environment = {key: value for key, value in os.environ.items() if key != "cc_path"} | {"PATH": str(tmp_path)}
    command = [sys.executable, "-m", "ccnet", "segment", tmp_path, "--weights", "w", "--out", "o"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 1
    assert done.stderr.startswith("ccnet segment: error: no C++ compiler: Jittor needs g++")
    assert done.stderr.count("\n") == 1


def test_handlers_here_are_pythons():
    # a job in the background of a script is started with SIGINT ignored
    assert signal.getsignal(signal.SIGINT) in (signal.default_int_handler, signal.SIG_IGN)
