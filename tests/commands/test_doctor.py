import json
from dataclasses import replace
from pathlib import Path

import pytest

from ccnet import cli
from ccnet.commands import doctor
from ccnet.machine import cuda, examine, toolkit
from ccnet.machine.examine import Machine, Ran
from ccnet.machine.toolkit import Toolkit

TOOLKIT = Toolkit(Path("/cuda"), 13000, "9.19.1", (), {})
DRIVER = cuda.Driver(13000, (cuda.Gpu("NVIDIA H200", 90),))
GOOD = Machine(
    python="3.12.3", python_headers=True, python_config=True, compiler="12.2.0", openmp=True, jittor="1.3.11.0",
    cache=Path.home() / ".cache/jittor", cache_size=2 * 10**9, cache_writable=True, onednn=True, nvidia_card=True,
    driver=DRIVER, toolkit=TOOLKIT, toolkit_check="", memory=2 * 10**10, disk=10**11, shared_memory=10**10,
    mpi=("mpicc", "mpirun"), slurm=True, slurm_plugin="2.8.0",
)  # fmt: skip
NO_GPU = {"driver": None, "nvidia_card": False}


@pytest.fixture(autouse=True)
def prepared(monkeypatch, tmp_path):
    monkeypatch.setattr(Toolkit, "tree", tmp_path)


def test_a_good_machine_has_nothing_amiss():
    lines = doctor.judge(GOOD)
    assert {line.state for line in lines} == {"ok"}
    assert [line.subject for line in lines] == [
        "Python", "C++ compiler", "Jittor", "caches", "oneDNN", "driver", "GPU", "CUDA", "cuDNN", "memory", "disk",
        "shared memory", "MPI", "SLURM",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "subject", "state", "text", "remedy"),
    [
        ({"python_headers": False}, "Python", "broken", "without Python.h", "apt install python3.12-dev"),
        ({"python_config": False}, "Python", "broken", "without python3.12-config", "apt install python3.12-dev"),
        ({"compiler": ""}, "C++ compiler", "broken", "no g++", "apt install g++"),
        ({"compiler": "4.8.5"}, "C++ compiler", "broken", "4.8.5 is too old", "cc_path"),
        ({"openmp": False}, "C++ compiler", "broken", "without OpenMP", "libgomp1"),
        ({"jittor": ""}, "Jittor", "broken", "not installed", "pip install"),
        ({"cache_writable": False}, "caches", "broken", "not writable", "JITTOR_HOME"),
        ({"onednn": False}, "oneDNN", "broken", "download", "jittor-offline==0.0.7"),
        ({"driver": None}, "driver", "broken", "no NVIDIA driver", "driver 580"),
        ({**NO_GPU}, "driver", "warning", "no NVIDIA driver", "driver 580"),
        ({**NO_GPU}, "CUDA", "ok", "13.0, complete and prepared for Jittor, in /cuda", ""),
        ({**NO_GPU}, "cuDNN", "ok", "9.19.1", ""),
        ({**NO_GPU, "toolkit": None}, "GPU", "ok", "computed on the CPU", ""),
        ({"driver": cuda.Driver(12040, DRIVER.gpus)}, "driver", "broken", "CUDA 12.4 at most", "driver 580"),
        ({"driver": cuda.Driver(13000, (), 803)}, "GPU", "broken", "error 803", "nvidia-smi"),
        ({"toolkit": replace(TOOLKIT, cudnn="")}, "cuDNN", "broken", "no cuDNN", "pip install '.[cuda13]'"),
        ({**NO_GPU, "toolkit": replace(TOOLKIT, cudnn="")}, "cuDNN", "warning", "no cuDNN", "pip install"),
        ({"toolkit": None}, "CUDA", "broken", "no CUDA toolkit", "pip install '.[cuda13]'"),
        ({"toolkit": replace(TOOLKIT, missing=("libcublas.so",))}, "CUDA", "broken", "lacks libcublas.so", "[cuda13]"),
        ({"toolkit_check": "error: unsupported GNU version"}, "CUDA", "broken", "unsupported GNU", "cc_path"),
        ({"memory": 10**9}, "memory", "warning", "1.0 GB free", "batch_size"),
        ({"disk": 10**8}, "disk", "warning", "0.1 GB free", "JITTOR_HOME"),
        ({"shared_memory": 0}, "shared memory", "broken", "none left", "--shm-size"),
        ({"shared_memory": 10**6}, "shared memory", "warning", "free in /dev/shm", "--shm-size"),
        ({"mpi": ()}, "MPI", "ok", "none", ""),
        ({"mpi": ("mpirun",)}, "MPI", "warning", "mpirun alone", "libopenmpi-dev"),
        ({"slurm_plugin": ""}, "SLURM", "warning", "without Snakemake's plugin", "pip install '.[slurm]'"),
        ({"slurm": False, "slurm_plugin": ""}, "SLURM", "ok", "none", ""),
    ],
)  # fmt: skip
def test_what_is_amiss_has_its_remedy(changes, subject, state, text, remedy):
    lines = {line.subject: line for line in doctor.judge(replace(GOOD, **changes))}
    assert lines[subject].state == state
    assert text in lines[subject].text
    assert remedy in lines[subject].remedy
    assert bool(lines[subject].remedy) == (state != "ok")


@pytest.mark.parametrize(
    ("device", "ran", "state", "text"),
    [
        ("cpu", Ran("4e-07", ""), "ok", "4e-07"),
        ("cuda", Ran("4e-04", ""), "ok", "4e-04"),
        ("cuda", Ran("0.3", ""), "broken", "differs"),
        ("cuda", Ran("nan", ""), "broken", "differs"),
        ("cpu", Ran("", "terminate called (signal 6)"), "broken", "terminate called (signal 6)"),
    ],
)
def test_a_convolution_is_judged(device, ran, state, text):
    line = doctor.judge_convolution(device, ran)
    assert (line.subject, line.state) == (device, state)
    assert text in line.text
    assert ("nvcc_path" in line.remedy) == (state == "broken" and device == "cuda")


@pytest.fixture
def pretend(monkeypatch):
    """pretend(found, failure) makes the command see that machine; returns the devices it computed on."""

    def set_up(found: Machine, failure: str = "") -> list[str]:
        devices: list[str] = []
        monkeypatch.setattr(examine, "this_machine", lambda: found)
        monkeypatch.setattr(examine, "convolve", lambda device: devices.append(device) or Ran("1e-7", failure))
        return devices

    return set_up


@pytest.mark.parametrize(
    ("found", "failure", "code", "devices"),
    [
        (GOOD, "", 0, ["cpu", "cuda"]),
        (replace(GOOD, **NO_GPU), "", 0, ["cpu"]),
        (replace(GOOD, memory=10**9), "", 0, ["cpu", "cuda"]),
        (replace(GOOD, driver=None), "", 1, ["cpu"]),
        (GOOD, "exit status 1", 1, ["cpu", "cuda"]),
    ],
)
def test_broken_is_an_exit_code(found, failure, code, devices, pretend, capsys):
    computed = pretend(found, failure)
    assert cli.main(["doctor"]) == code
    assert computed == devices
    shown = capsys.readouterr()
    assert len(shown.out.splitlines()) <= 40  # one screen
    assert "\033" not in shown.out  # no terminal
    assert ("ccnet doctor: error: broken: " in shown.err) == bool(code)


def test_causes_come_before_consequences(pretend, capsys):
    pretend(replace(GOOD, compiler="", **NO_GPU), "no C++ compiler (exit status 1)")
    assert cli.main(["doctor"]) == 1
    shown = capsys.readouterr()
    assert "first put right what is broken above" in shown.out
    assert "broken: C++ compiler, cpu" in shown.err


def test_json_for_a_bug_report(pretend, capsys):
    pretend(replace(GOOD, compiler="", toolkit=replace(TOOLKIT, root=Path.home() / "cuda")))
    assert cli.main(["doctor", "--json"]) == 1
    shown = capsys.readouterr().out
    found = json.loads(shown)
    assert found["broken"] == ["C++ compiler"]
    assert {"subject", "state", "text", "remedy"} == set(found["lines"][0])
    assert str(Path.home()) not in shown
    assert "~/cuda" in shown


def test_colours_are_for_a_terminal(pretend, capsys, monkeypatch):
    pretend(replace(GOOD, compiler=""))
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    cli.main(["doctor"])
    assert "\033[31mbroken" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("found", "prepared"),
    [(TOOLKIT, True), (None, False), (replace(TOOLKIT, cudnn=""), False), (replace(TOOLKIT, missing=("a",)), False)],
)
def test_fix_prepares_what_is_complete(found, prepared, pretend, monkeypatch, tmp_path, capsys):
    asked = []
    pretend(replace(GOOD, toolkit=found, **NO_GPU))
    monkeypatch.setattr(toolkit, "find_toolkit", lambda: found)
    monkeypatch.setattr(toolkit, "prepare", lambda toolkit: asked.append(toolkit) or tmp_path)
    monkeypatch.setattr(examine, "check_toolkit", lambda tree: "")
    assert cli.main(["doctor", "--fix"]) == 0
    assert asked == [found] * prepared


def test_fix_leaves_nothing_that_does_not_work(pretend, monkeypatch, tmp_path, capsys):
    tree = tmp_path / "tree"
    tree.mkdir()
    monkeypatch.setattr(toolkit, "find_toolkit", lambda: TOOLKIT)
    monkeypatch.setattr(toolkit, "prepare", lambda toolkit: tree)
    monkeypatch.setattr(examine, "check_toolkit", lambda tree: "error: unsupported GNU version")
    assert cli.main(["doctor", "--fix"]) == 1
    assert "CUDA in /cuda does not build a program: error: unsupported GNU version: if a g++" in capsys.readouterr().err
    assert not tree.exists()
