import os
import random
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from ccnet import InputError, runtime
from ccnet.machine.cuda import Driver, Gpu
from ccnet.machine.toolkit import Toolkit
from ccnet.runtime import jt

TOOLKIT = Toolkit(Path("/cuda"), 13000, "9.19.1", (), {})
DRIVER = Driver(13000, (Gpu("NVIDIA H200", 90),))


@pytest.fixture
def machine(monkeypatch, tmp_path):
    """machine(driver, toolkit) pretends to be that machine; what is decided there changes nothing here."""

    def pretend(driver: Driver | None = DRIVER, toolkit: Toolkit | None = TOOLKIT, prepared: bool = True):
        monkeypatch.setattr(runtime.os, "environ", {"PATH": os.environ["PATH"]})
        monkeypatch.setattr(runtime.sys, "modules", dict(sys.modules))
        monkeypatch.setattr(runtime.cuda, "find_driver", lambda: driver)
        monkeypatch.setattr(runtime, "find_toolkit", lambda: toolkit)
        monkeypatch.setattr(Toolkit, "tree", tmp_path / "tree")
        (tmp_path / "tree" / "bin").mkdir(parents=True)
        if not prepared:
            monkeypatch.setattr(Toolkit, "tree", tmp_path / "not yet")

    return pretend


@pytest.mark.parametrize(
    ("parts", "problem"),
    [
        ({"driver": None}, "no NVIDIA driver (libcuda.so.1)"),
        ({"driver": Driver(13000, (), 100)}, "an NVIDIA driver is here, but no GPU answers (error 100): look at "),
        ({"toolkit": None}, "no CUDA toolkit"),
        ({"toolkit": replace(TOOLKIT, cudnn="")}, "no cuDNN for CUDA 13: in ccnet's folder: pip install"),
        ({"driver": Driver(12040, DRIVER.gpus)}, "the driver runs CUDA 12.4 at most"),
        ({"prepared": False}, "CUDA 13.0 in /cuda is not yet prepared for Jittor: ccnet doctor --fix"),
    ],
)
def test_what_is_missing_for_cuda(machine, parts, problem):
    machine(**parts)
    assert runtime.cuda_problem().startswith(problem)
    assert "nvcc_path" not in os.environ


def test_a_prepared_toolkit_is_used(machine, tmp_path):
    machine()
    assert runtime.cuda_problem() is None
    assert os.environ["nvcc_path"] == str(tmp_path / "tree" / "bin" / "nvcc")
    assert os.environ["use_cutlass"] == "0"  # it would be downloaded


def test_a_gpu_newer_than_jittor_gets_its_own_code(machine, tmp_path):
    """A driver that reports compute capability 12.0."""
    machine(driver=Driver(13000, (Gpu("RTX 5090", 120),)))
    assert runtime.cuda_problem() is None
    assert os.environ["CCNET_GPU_CODE"] == "sm_120"
    chosen = tmp_path / "bin" / "nvcc"  # which would be asked for sm_90
    chosen.parent.mkdir()
    chosen.touch(0o755)
    os.environ["nvcc_path"] = str(chosen)
    assert runtime.cuda_problem().startswith(
        "RTX 5090 is sm_120; Jittor 1.3.11 asks for sm_90 at most: unset nvcc_path"
    )
    chosen.with_name("toolkit-nvcc").touch(0o755)  # as in the tree
    assert runtime.cuda_problem() is None


def test_a_chosen_nvcc_is_the_one_that_counts(machine, tmp_path):
    machine(toolkit=None)
    chosen = tmp_path / "bin" / "nvcc"
    chosen.parent.mkdir()
    chosen.touch(0o755)
    os.environ["nvcc_path"] = str(chosen)
    assert runtime.cuda_problem() is None
    assert os.environ["nvcc_path"] == str(chosen)
    for wrong in ("", "/gone/nvcc"):  # the empty one is Jittor's way to ask for the CPU
        os.environ["nvcc_path"] = wrong
        assert runtime.cuda_problem() == f"nvcc_path={wrong} names no program"


@pytest.mark.parametrize(("device", "reason"), [("cpu", ""), ("auto", " (no NVIDIA driver)")])
def test_the_device_is_said_in_one_line(device, reason, monkeypatch, capfd):
    monkeypatch.setattr(runtime, "PROBLEM", "no NVIDIA driver")
    monkeypatch.setattr(jt, "has_cuda", 0)
    assert runtime.select(device) == "cpu"
    assert capfd.readouterr().err == f"ccnet: computing on cpu{reason}\n"


def test_cuda_without_cuda_is_refused(monkeypatch):
    monkeypatch.setattr(runtime, "PROBLEM", "no NVIDIA driver")
    monkeypatch.setattr(jt, "has_cuda", 0)
    with pytest.raises(
        InputError, match=r"^device: 'cuda' is not possible here: no NVIDIA driver; use 'auto' or 'cpu'$"
    ):
        runtime.select("cuda")


def test_cudnns_search_is_bounded(monkeypatch):
    bounds: list[float] = []
    cudnn = SimpleNamespace(set_max_workspace_ratio=bounds.append)
    for has_cuda in (0, 1):
        fake = SimpleNamespace(has_cuda=has_cuda, flags=SimpleNamespace(use_cuda=0), cudnn=cudnn if has_cuda else None)
        monkeypatch.setattr(runtime, "jt", fake)
        assert runtime.select("auto") == ("cuda" if has_cuda else "cpu")
        assert bounds == [0.05] * has_cuda


def test_a_seed_seeds_all_three():
    drawn = []
    for _ in range(2):
        runtime.seed(5)
        drawn.append((random.random(), np.random.rand(), jt.rand(3).numpy().tolist()))
    assert drawn[0] == drawn[1]
    runtime.seed(6)
    assert random.random() != drawn[0][0]


def test_numbers_asked_for_before_a_seed_are_not_drawn_from_it():
    def draw():
        runtime.seed(3)
        return runtime.jt.randn(4).numpy()

    first, pending = draw(), runtime.jt.randn(5)
    assert (draw() == first).all()
    assert pending.shape == [5]


def test_a_new_process_decides_before_the_import(tmp_path):
    """With an nvcc on PATH, and a GPU or none: the import works, and the handlers of signals are as they were."""
    code = """if True:
        import os, signal, sys
        signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in the background of a script
        before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGCHLD)]
        import ccnet.runtime as runtime
        assert (os.environ.get("nvcc_path") == "") == bool(runtime.PROBLEM)
        assert bool(runtime.jt.has_cuda) == (runtime.PROBLEM is None)
        optimised = [flag for flag in runtime.jt.flags.cc_flags.split() if flag.startswith("-O")]
        assert not runtime.PROBLEM or optimised == ["-Og", "-Ofast"], optimised
        assert not runtime.PROBLEM or os.path.basename(runtime.jt.flags.cache_path) == "ccnet-Og"
        assert os.environ["log_silent"] == "1" and os.environ["OMP_WAIT_POLICY"] == "PASSIVE"
        assert os.environ["GOMP_SPINCOUNT"] == "1000"
        assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGCHLD)] == before
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        child = os.fork()
        if child == 0:
            assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
            os.kill(os.getpid(), signal.SIGKILL)
        assert os.WIFSIGNALED(os.waitpid(child, 0)[1])
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
    ours = ("nvcc_path", "log_silent", "OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "cc_flags", "kernel_flags", "cache_name")
    for name in ours:
        environment.pop(name, None)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert done.stdout.split("\n") == ["alive", "and told", ""], done.stderr


@pytest.mark.parametrize(("before", "status"), [("default_int_handler", -signal.SIGINT), ("SIG_IGN", 0)])
def test_ctrl_c_while_jittor_is_imported(before, status):
    """It ends the process as a signal does, in a shell with status 130, without Jittor's message; unless ignored."""
    code = f"""if True:
        import os, signal, sys
        signal.signal(signal.SIGINT, signal.{before})
        class Interrupt:
            def find_spec(self, name, path, target=None):
                if name == "jittor.nn":
                    os.kill(os.getpid(), signal.SIGINT)
        sys.meta_path.insert(0, Interrupt())
        import ccnet.runtime
        """
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (status, "")


def test_jittor_compiled_anew_does_not_end_the_process():
    """Jittor exits with status 0 in its import once it has compiled its helper library with other flags."""
    code = """if True:
        import sys
        class Exit:
            asked = 0
            def find_spec(self, name, path, target=None):
                self.asked += name == "jittor.compile_extern"
                if name == "jittor.compile_extern" and self.asked == 1:
                    sys.exit(0)
        sys.meta_path.insert(0, Exit())
        import ccnet.runtime as runtime
        print(sys.meta_path[0].asked, (runtime.jt.ones(2) + 1).numpy())
        """
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.stdout, done.returncode) == ("2 [2. 2.]\n", 0), done.stderr


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


def test_hosts_of_other_names_share_a_cache():
    """What a node of a cluster has compiled serves the others, that mount the same home."""
    code = """if True:
        import platform, sys
        platform.node = lambda: sys.argv[1]
        from ccnet import runtime
        assert platform.node() == sys.argv[1]
        print(runtime.jittor_utils.cache_path)
        """
    paths = set()
    for name in ("node-1", "node-2"):
        done = subprocess.run([sys.executable, "-c", code, name], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        paths.add(done.stdout)
    assert len(paths) == 1


def test_pythons_of_other_names_share_kernels():
    """`ccnet` and `python -m ccnet` call one Python by two names, and its name is part of each kernel's key."""
    code = "from ccnet.runtime import jt; print(jt.flags.python_path)"
    names = [Path(sys.prefix, "bin", name) for name in ("python", "python3")]
    paths = {subprocess.run([name, "-c", code], capture_output=True, text=True, check=True).stdout for name in names}
    assert len(paths) == 1
