import os
import platform
import shutil
from pathlib import Path

import pytest

from ccnet.machine import examine, toolkit


def test_a_machine_is_examined(monkeypatch, tmp_path):
    monkeypatch.setenv("JITTOR_HOME", str(tmp_path))
    found = examine.this_machine()
    assert (found.python, found.jittor) == (platform.python_version(), "1.3.11.0")
    assert found.compiler.split(".")[0].isdigit()
    assert found.python_headers
    assert found.python_config
    assert found.openmp
    assert found.onednn
    assert (found.cache, found.cache_size, found.cache_writable) == (tmp_path / ".cache" / "jittor", 0, True)
    assert 0 < found.memory < os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    assert found.disk == pytest.approx(shutil.disk_usage(tmp_path).free, rel=0.2)


def test_a_bare_machine_is_examined(monkeypatch, tmp_path):
    """Where nothing is on PATH, the headers are gone and the caches' folder cannot be written."""
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o500)
    monkeypatch.setenv("JITTOR_HOME", str(locked / "home"))
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("cc_path", raising=False)
    monkeypatch.setattr(examine.sysconfig, "get_path", lambda name: str(tmp_path))
    found = examine.this_machine()
    assert (found.compiler, found.python_headers, found.mpi, found.slurm) == ("", False, (), False)
    assert found.cache_writable == os.access(locked, os.W_OK)  # root may write anywhere
    assert found.disk > 0


def test_memory_is_what_a_container_leaves(monkeypatch):
    files = {
        "memory.max": "3000000\n",
        "memory.current": "1000000\n",
        "meminfo": "MemTotal: 9 kB\nMemAvailable: 5000 kB",
    }
    monkeypatch.setattr(Path, "read_text", lambda self: files[self.name])
    assert examine._memory() == 2_000_000
    files["memory.max"] = "max\n"
    assert examine._memory() == 5_120_000


@pytest.mark.parametrize(
    ("script", "failure"),
    [
        ("echo 1e-7", ""),
        ("echo starting >&2; echo 'a.cu(3): error: identifier' >&2; echo '1 error detected' >&2; exit 2",
         "a.cu(3): error: identifier (exit status 2)"),
        ("echo first >&2; echo 'ValueError: no' >&2; exit 1", "ValueError: no (exit status 1)"),
        ("kill -SEGV $$", "without a word (signal 11)"),
        ("exit 3", "without a word (exit status 3)"),
        ("sleep 60", "not done after 1 s"),
    ],
)  # fmt: skip
def test_how_a_process_ended(script, failure):
    assert examine._run(["sh", "-c", script], 1).failure == failure


def test_a_toolkit_that_does_not_work_says_why(tmp_path):
    (tmp_path / "bin").mkdir()
    assert "No such file" in examine.check_toolkit(tmp_path)
    nvcc = tmp_path / "bin" / "nvcc"
    nvcc.write_text("#!/bin/sh\necho 'host_config.h: error: unsupported GNU version!' >&2\nexit 1\n")
    nvcc.chmod(0o755)
    assert examine.check_toolkit(tmp_path) == "host_config.h: error: unsupported GNU version! (exit status 1)"


def test_the_toolkit_here_works(tmp_path, monkeypatch):
    monkeypatch.setenv("JITTOR_HOME", str(tmp_path))
    found = toolkit.find_toolkit()
    if not found or found.missing or not found.cudnn:
        pytest.skip("no complete CUDA toolkit with cuDNN here (pip install '.[cuda13]')")
    assert examine.check_toolkit(toolkit.prepare(found)) == ""


def test_a_convolution_by_jittor():
    ran = examine.convolve("cpu")
    assert ran.failure == ""
    assert float(ran.output) < 1e-5


def test_a_convolution_where_jittor_cannot_be_imported(monkeypatch, tmp_path):
    (tmp_path / "jittor.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGABRT)\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert examine.convolve("cpu").failure == "without a word (signal 6)"


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("processor: 0\nmodel name\t: EPYC: 9B14\nflags\t\t: fpu avx\nmodel name\t: other\n", "EPYC: 9B14"),
        ("", platform.machine()),
    ],
)
def test_the_processor_is_named_as_the_kernel_does(monkeypatch, text, name):
    monkeypatch.setattr(Path, "read_text", lambda path: text)
    assert examine.processor() == name
    assert examine.processor_flags() == (["fpu", "avx"] if text else [])
