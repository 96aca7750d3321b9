"""The one door to Jittor: `from ccnet.runtime import jt`; everybody else imports Jittor after this module.

Jittor decides while it is imported whether to compile itself for CUDA, and crashes where nvcc is present but CUDA is
not complete. So the decision is made here, before the import: a GPU build where everything it needs answers, else a
CPU build (`nvcc_path=""`), and `select` says in one line which it is.
"""

import ctypes
import ctypes.util
import glob
import os
import shutil
import sys
import threading
from pathlib import Path

from ccnet import InputError
from ccnet.progress import progress


def cuda_problem() -> str | None:
    """Why Jittor cannot be built for CUDA on this machine, in a few words; None where it can."""
    compiler = os.environ.get("nvcc_path") or shutil.which("nvcc")
    if not compiler:
        return "no nvcc on PATH"
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return f"nvcc is here ({compiler}), but no NVIDIA driver (libcuda.so.1)"
    count = ctypes.c_int(0)
    if driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count)) or not count.value:
        return "an NVIDIA driver is here, but no GPU answers"
    if not any(map(ctypes.util.find_library, ("cudnn", "cudnn_graph"))):
        return "a GPU answers, but cuDNN is not installed (libcudnn.so)"
    return None


def _announce_compilation(finished: threading.Event) -> None:
    """Jittor compiles itself at its first import on a machine, for minutes and in silence: show how far it is."""
    if finished.wait(6):
        return
    home = os.environ.get("JITTOR_HOME", str(Path.home()))
    pattern = f"{home}/.cache/jittor/jt*/**/obj_files/*.o"
    with progress(total=150, desc="compiling Jittor for this machine, once", unit="file") as bar:
        while not finished.wait(1):
            bar.n = min(bar.total, len(glob.glob(pattern, recursive=True)))
            bar.refresh()


def _import_jittor():
    if shutil.which("g++") is None and "cc_path" not in os.environ:
        raise InputError("no C++ compiler: Jittor needs g++ (apt install g++, or set cc_path)")
    os.environ.setdefault("log_silent", "1")
    finished = threading.Event()
    threading.Thread(target=_announce_compilation, args=(finished,), daemon=True).start()
    try:
        import jittor
    finally:
        finished.set()
    return jittor


PROBLEM = cuda_problem()
if PROBLEM:
    os.environ["nvcc_path"] = ""
jt = _import_jittor()


def select(device: str) -> str:
    """Compute on `device` ("auto", "cpu" or "cuda") from here on; returns "cpu" or "cuda" and says so on stderr.

    Raises InputError for "cuda" where Jittor has no working CUDA.
    """
    if device == "cuda" and not jt.has_cuda:
        raise InputError(f"device: 'cuda' is not possible here: {PROBLEM}; use 'auto' or 'cpu'")
    jt.flags.use_cuda = int(bool(jt.has_cuda) and device != "cpu")
    chosen = "cuda" if jt.flags.use_cuda else "cpu"
    reason = f" ({PROBLEM})" if chosen == "cpu" and device == "auto" else ""
    print(f"ccnet: computing on {chosen}{reason}", file=sys.stderr, flush=True)
    return chosen


def seed(value: int) -> None:
    """Seed Jittor, NumPy and Python's random, all three."""
    jt.set_global_seed(value)
