"""What made a file is recorded as it was, wherever the package lies and without git."""

import json
import os
import platform
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from ccnet import provenance
from ccnet.machine import cuda
from ccnet.machine.cuda import Driver, Gpu

needs_git = pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed: apt-get install git")


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A tracked file of a fresh git checkout, with a commit that has a tag."""
    file = tmp_path / "checkout" / "package" / "module.py"
    file.parent.mkdir(parents=True)
    file.write_text("one")
    git(file, "init", "--quiet")
    git(file, "add", "module.py")
    git(file, "-c", "user.name=a", "-c", "user.email=a@b", "commit", "--quiet", "--message", "one")
    git(file, "tag", "v1")
    provenance.checkout.cache_clear()
    return file


def git(file: Path, *arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=file.parent, check=True, capture_output=True, text=True).stdout


@needs_git
def test_the_commit_and_whether_files_differ_from_it(package: Path, monkeypatch: pytest.MonkeyPatch):
    commit = git(package, "rev-parse", "HEAD").strip()
    (package.parent / "mine.yaml").touch()  # untracked
    monkeypatch.setenv("GIT_DIR", "/nowhere")  # as in a hook of another repository
    assert provenance.checkout(package) == (commit, False)
    package.write_text("other")
    assert provenance.checkout(package) == (commit, False), "the first answer of a process counts"
    provenance.checkout.cache_clear()
    assert provenance.checkout(package) == (commit, True)


@needs_git
def test_a_package_that_is_only_installed_below_a_checkout_has_no_commit(package: Path):
    installed = package.with_name("installed.py")
    installed.touch()
    assert provenance.checkout(installed) == (None, None)


@pytest.mark.parametrize("script", [None, "/bin/false", "/bin/sleep 30"])
def test_without_a_git_that_answers_there_is_no_commit(tmp_path, monkeypatch, script):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(provenance, "PATIENCE", 0.2)
    if script:
        (tmp_path / "git").write_text(f"#!/bin/sh\nexec {script}\n")
        (tmp_path / "git").chmod(0o755)
    start = time.monotonic()
    assert provenance.checkout(tmp_path / "module.py") == (None, None)
    assert time.monotonic() - start < 10


def test_a_record_is_of_this_process_and_machine(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["/bin/ccnet", "train", "--out", "my run/w", os.fsdecode(b"caf\xe9")])
    made = provenance.record(device="cpu", seed=3, seconds=1.23456)
    assert json.loads(json.dumps(made, ensure_ascii=False).encode()) == made
    assert made["versions"]["python"] == platform.python_version()
    assert made["versions"]["numpy"] == np.__version__
    assert set(made["versions"]) == {"ccnet", "jittor", "numpy", "python"}
    assert (made["device"], made["seed"], made["seconds"]) == ("cpu", 3, 1.235)
    assert made["command"] == "ccnet train --out 'my run/w' 'caf\\udce9'"
    assert 20e6 < made["peak_memory"] < 100e9
    assert made["processor"]


def test_a_module_run_by_python_is_the_command(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["/somewhere/ccnet/__main__.py", "evaluate"])
    assert provenance.record(device="cpu", seed=None, seconds=0)["command"] == "ccnet evaluate"


def test_the_processor_of_cuda_is_the_first_gpu(monkeypatch):
    driver = Driver(13000, (Gpu("NVIDIA H100", 90), Gpu("other", 90)))
    monkeypatch.setattr(cuda, "find_driver", lambda: driver)
    assert provenance.record(device="cuda", seed=0, seconds=0)["processor"] == "NVIDIA H100"


def test_threads_are_those_of_openmp():
    program = "from ccnet import provenance; print(provenance.record(device='cpu', seed=0, seconds=0)['threads'])"
    command = f"OMP_NUM_THREADS=3 {shlex.quote(sys.executable)} -c {shlex.quote(program)}"
    assert subprocess.run(command, shell=True, check=True, capture_output=True, text=True).stdout == "3\n"
