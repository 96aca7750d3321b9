"""Facts about this machine for `ccnet doctor`. Does not import Jittor, whose import may end the process."""

import ctypes.util
import os
import platform
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import NamedTuple

from ccnet.machine import cuda, toolkit
from ccnet.machine.cuda import Driver
from ccnet.machine.toolkit import Toolkit

TIME_LIMIT = 1800  # seconds for a convolution, including Jittor's compilation on first use
LIBRARIES = ["-lcudart", "-lcublas", "-lcudnn"]


@dataclass(frozen=True)
class Machine:
    """Facts about a machine. Versions are "" if absent, sizes are in bytes, a check is "" if it succeeded."""

    python: str
    python_headers: bool
    python_config: bool
    compiler: str
    openmp: bool
    jittor: str
    cache: Path
    cache_size: int
    cache_writable: bool
    onednn: bool
    nvidia_card: bool
    driver: Driver | None
    toolkit: Toolkit | None
    toolkit_check: str
    memory: int
    disk: int
    shared_memory: int
    mpi: tuple[str, ...]  # those of mpicc and mpirun that are installed
    slurm: bool
    slurm_plugin: str


def this_machine() -> Machine:
    """Examine this machine; takes a few seconds."""
    cache, found = toolkit.cache_home() / "jittor", toolkit.find_toolkit()
    return Machine(
        python=platform.python_version(),
        python_headers=(Path(sysconfig.get_path("include")) / "Python.h").exists(),
        python_config=_has_python_config(),
        compiler=_compiler(),
        openmp=bool(ctypes.util.find_library("gomp")),
        jittor=_version("jittor"),
        cache=cache,
        cache_size=int((_run(["du", "-sb", str(cache)], 60).output.split() or ["0"])[0]),
        cache_writable=os.access(_existing(cache), os.W_OK),
        onednn=any(cache.glob("mkl/*/lib/libmkldnn.so")) or bool(_version("jittor-offline")),
        nvidia_card=_nvidia_card(),
        driver=cuda.find_driver(),
        toolkit=found,
        toolkit_check=check_toolkit(found.tree) if found and found.tree.is_dir() else "",
        memory=_memory(),
        disk=shutil.disk_usage(_existing(cache)).free,
        shared_memory=shutil.disk_usage("/dev/shm").free if os.access("/dev/shm", os.W_OK) else 0,
        mpi=tuple(name for name in ("mpicc", "mpirun") if shutil.which(name)),
        slurm=bool(shutil.which("sbatch")),
        slurm_plugin=_version("snakemake-executor-plugin-slurm"),
    )


def _has_python_config() -> bool:
    """Whether python-config, which Jittor runs for compiler flags, exists in one of the places Jittor searches."""
    name = f"python{sys.version_info.major}.{sys.version_info.minor}-config"
    folder = os.path.dirname(sys.executable)
    places = [os.environ.get("python_config_path", ""), f"{folder}/{name}", f"{sys.executable}-config",
              f"/usr/bin/{name}", f"/usr/local/bin/{name}", f"{folder}/python3-config"]  # fmt: skip
    return any(map(os.path.isfile, places))


def check_toolkit(tree: Path) -> str:
    """Build and run a program with the tree's compiler, headers and libraries; returns the failure, or ""."""
    with tempfile.TemporaryDirectory() as folder:
        program, libraries = f"{folder}/check", f"{tree}/lib64"
        build = [f"{tree}/bin/nvcc", "-std=c++14", "--cudart=shared", f"{tree}/check.cu", "-o", program,
                 f"-I{tree}/include", f"-L{libraries}", *LIBRARIES, "-Xlinker", f"-rpath={libraries}"]  # fmt: skip
        return _run(build, 300).failure or _run([program], 60).failure


class Ran(NamedTuple):
    """A finished process: its standard output, and why it failed ("" if it did not)."""

    output: str
    failure: str


def convolve(device: str) -> Ran:
    """Compare a convolution by Jittor on "cpu" or "cuda" with NumPy; the first call on a machine takes minutes."""
    return _run([sys.executable, "-m", "ccnet.ops.selftest", device], TIME_LIMIT)


def _run(command: list[str], seconds: float) -> Ran:
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=seconds)
    except subprocess.TimeoutExpired:
        return Ran("", f"not done after {seconds:.0f} s")
    except OSError as error:
        return Ran("", str(error))
    lines = [line.strip() for line in done.stderr.splitlines() if line.strip()] or ["without a word"]
    told = next((line for line in lines if "error:" in line), lines[-1]).removeprefix("ccnet.InputError: ")
    ended = f"signal {-done.returncode}" if done.returncode < 0 else f"exit status {done.returncode}"
    return Ran(done.stdout.strip(), f"{told} ({ended})" if done.returncode else "")


def _compiler() -> str:
    program = os.environ.get("cc_path", "g++")
    return _run([program, "-dumpfullversion", "-dumpversion"], 60).output


def _version(distribution: str) -> str:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return ""


def _existing(path: Path) -> Path:
    return next(folder for folder in [path, *path.parents] if folder.exists())


def _nvidia_card() -> bool:
    """Whether the PCI bus has a display controller (class 03) of NVIDIA (10de), with or without a driver."""
    cards = Path("/sys/bus/pci/devices").glob("*/class")
    return any(card.read_text().startswith("0x03") and "10de" in card.with_name("vendor").read_text() for card in cards)


def processor() -> str:
    """The CPU's model, or its architecture where the kernel does not name it."""
    return _of_processor("model name") or platform.machine()


def processor_flags() -> list[str]:
    """What the CPU can do, in the kernel's words, such as "avx512_bf16"; empty where it does not say."""
    return _of_processor("flags").split()


def _of_processor(key: str) -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((text.partition(": ")[2] for text in lines if text.startswith(f"{key}\t")), "")


def _memory() -> int:
    """Available memory in bytes, within the cgroup limit of a container or job."""
    info = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
    free = int(info["MemAvailable"].split()[0]) * 1024
    group = Path("/sys/fs/cgroup")
    try:
        limit, used = ((group / f"memory.{name}").read_text().strip() for name in ("max", "current"))
        return min(free, int(limit) - int(used))
    except (OSError, ValueError):  # no such file, or "max"
        return free
