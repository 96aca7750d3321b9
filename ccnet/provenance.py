"""What made weights or metrics: versions, git commit, machine, time, memory and command."""

import ctypes
import os
import platform
import resource
import shlex
import subprocess
import sys
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from ccnet import __version__
from ccnet.machine import cuda, examine

PATIENCE = 5  # seconds for an answer of git


def record(*, device: str, seed: int | None, seconds: float) -> dict[str, Any]:
    """The provenance of what this process makes, to be written as JSON; what cannot be found out is None.

    `device` is "cpu" or "cuda", `seconds` what it took, in all processes that shared in it. `peak_memory` is this
    process's, in bytes, without its children's and the GPU's. The commit is that of the first call in the process, so
    call it before long work: the checkout may change meanwhile.
    """
    commit, dirty = checkout(Path(__file__))
    return {
        "versions": {
            "ccnet": __version__, "jittor": version("jittor"), "numpy": np.__version__,
            "python": platform.python_version(),
        },
        "commit": commit,
        "dirty": dirty,
        "device": device,
        "processor": _gpu() if device == "cuda" else examine.processor(),
        "threads": threads(),
        "seed": seed,
        "seconds": round(seconds, 3),
        "peak_memory": peak_memory(),
        "command": _command(),
    }  # fmt: skip


@cache
def checkout(file: Path) -> tuple[str | None, bool | None]:
    """The commit of the git checkout that tracks `file`, and whether tracked files differ from it.

    (None, None) where git is missing or fails, or does not track the file, as of a package installed below a checkout.
    """
    git = ["git", "--no-optional-locks", "-C", str(file.parent)]
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}  # as set in a hook

    def ask(*arguments: str) -> str:
        return subprocess.run(
            [*git, *arguments], env=inherited, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True,
            timeout=PATIENCE,
        ).stdout.strip()  # fmt: skip

    try:
        ask("ls-files", "--error-unmatch", file.name)
        commit, _, dirty = ask("describe", "--always", "--dirty", "--abbrev=40", "--exclude=*").partition("-")
    except (OSError, subprocess.SubprocessError):
        return None, None
    return commit, bool(dirty)


def peak_memory() -> int:
    """The most bytes that this process has held so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _gpu() -> str | None:
    """The name of the GPU that Jittor uses, the first."""
    driver = cuda.find_driver()
    return driver.gpus[0].name if driver and driver.gpus else None


def threads() -> int | None:
    """The number of threads of OpenMP, which is that of Jittor's operators on the CPU."""
    try:
        return ctypes.CDLL("libgomp.so.1").omp_get_max_threads()
    except OSError:
        return None


def _command() -> str:
    """The command line, quoted for a shell; `python -m ccnet` is written `ccnet`."""
    program = Path(sys.argv[0]).name
    line = shlex.join(["ccnet" if program == "__main__.py" else program, *sys.argv[1:]])
    return line.encode(errors="backslashreplace").decode()  # names of files need not be UTF-8
