"""The one door to Jittor: `from ccnet.runtime import jt`; everybody else imports Jittor after this module.

Jittor decides while it is imported whether to compile itself for CUDA, and crashes where nvcc is present but CUDA is
not complete. So the decision is made here, before the import: a GPU build where everything it needs answers and
`ccnet doctor --fix` has prepared it, else a CPU build (`nvcc_path=""`), and `select` says in one line which it is.
"""

import atexit
import os
import platform
import shutil
import signal
import sys
import sysconfig
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ccnet import InputError
from ccnet.machine import cuda
from ccnet.machine.toolkit import cache_home, find_toolkit, read_toolkit
from ccnet.progress import progress

# Share of the card that cuDNN may try algorithms with; Jittor keeps what the search took. A twentieth is 0.5 GB of 11
# and 4 GB of 80, the limit that TensorFlow sets; Jittor's own is a quarter, which the activations then lack
WORKSPACE = 0.05
OBJECT_FILES = 150  # about what a CPU build of Jittor 1.3.11 compiles


def cuda_problem() -> str | None:
    """Why Jittor cannot be built for CUDA here, in one line; None where it can, and then `nvcc_path` names its nvcc."""
    named = os.environ.get("nvcc_path")
    chosen = named and shutil.which(named)
    if named is not None and not chosen:
        return f"nvcc_path={named} names no program"
    driver = cuda.find_driver()
    if driver is None:
        return "no NVIDIA driver (libcuda.so.1)"
    toolkit = read_toolkit(Path(chosen).resolve().parents[1]) if chosen else find_toolkit()
    in_tree = not chosen or Path(chosen).with_name("toolkit-nvcc").exists()
    problems = cuda.problems(driver, toolkit, in_tree)
    if chosen:  # the user's word for it that Jittor can build with this one
        problems = {subject: problem for subject, problem in problems.items() if subject in ("driver", "GPU")}
    for problem in problems.values():
        return f"{problem.text}: {problem.remedy}"
    os.environ["CCNET_GPU_CODE"] = cuda.gpu_code(driver)  # for the nvcc in the tree
    if toolkit and not chosen:
        _use(toolkit.tree)
    return None


def _use(tree: Path) -> None:
    os.environ["nvcc_path"] = str(tree / "bin" / "nvcc")
    for name in ("use_cutt", "use_cutlass", "use_nccl"):  # not needed, and downloaded or not made for CUDA 13
        os.environ.setdefault(name, "0")
    os.environ.setdefault("FIX_TORCH_ERROR", "0")  # Jittor would import torch, and with it another CUDA
    sys.modules.setdefault("cupy", None)  # type: ignore[arg-type] # likewise


@contextmanager
def _announced() -> Iterator[None]:
    """Jittor compiles itself at its first import on a machine, for minutes and in silence: show how far it is."""
    finished = threading.Event()
    threading.Thread(target=_watch_compilation, args=(finished,), daemon=True).start()
    try:
        yield
    finally:
        finished.set()


def _watch_compilation(finished: threading.Event) -> None:
    start = time.time()
    if finished.wait(8):
        return
    cache = cache_home() / "jittor"
    with progress(total=OBJECT_FILES, desc="compiling Jittor for this machine, once", unit="file") as bar:
        while not finished.wait(1):
            made = sum(file.stat().st_mtime > start for file in cache.glob("jt*/**/obj_files/*.o"))
            bar.update(min(made, OBJECT_FILES) - bar.n)


@contextmanager
def _nameless() -> Iterator[None]:
    """Jittor keys its cache on the host's name: every node of a cluster that shares a home would compile anew."""
    name = platform.node
    platform.node = lambda: ""
    try:
        yield
    finally:
        platform.node = name


def _end_compilers() -> None:
    """Jittor keeps the processes that compiled it until exit, and hangs there if a signal ended one: end them now."""
    if jittor_utils.pool_size:
        atexit.unregister(jittor_utils.pool_cleanup)
        jittor_utils.pool_cleanup()
        jittor_utils.pool_size = 0  # the next need makes new ones


PROBLEM = cuda_problem()
if PROBLEM:
    os.environ["nvcc_path"] = ""
os.environ.setdefault("log_silent", "1")
# OpenMP's threads spin while they wait, and so starve whatever shares the cores with them, a loading process or another
# training: a step took 2 to 5 s instead of 0.4 s on two busy cores
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
# They look for work a thousand times, some 15 µs, before they sleep: with the cores to itself a step of many small
# operators takes 15 % less time, and where two trainings share them no more (± 3 %)
os.environ.setdefault("GOMP_SPINCOUNT", "1000")
# Jittor keys its cache on the git branch around its folder: another branch would mean another compilation
os.environ.setdefault("cache_name", "default")
if shutil.which("g++") is None and "cc_path" not in os.environ:
    raise InputError("no C++ compiler: Jittor needs g++ (apt install g++, or set cc_path)")
if not (Path(sysconfig.get_path("include")) / "Python.h").exists():
    raise InputError("no Python headers (Python.h): Jittor compiles against them (apt install python3-dev)")
_handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGCHLD)}
_is_main = threading.current_thread() is threading.main_thread()  # where alone Python lets handlers be set
# Jittor swallows exceptions while it is imported
if _is_main:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
# Jittor ends the processes that compile for it by SIGTERM, and waits for them. They inherit the handler, and one in
# Python is only heard between two waits: some would stay for ever
os.register_at_fork(after_in_child=lambda: signal.signal(signal.SIGTERM, signal.SIG_DFL))
with _announced(), _nameless():
    import jittor as jt
    import jittor_utils
    from jittor import nn  # noqa: F401 (for the other rooms)
_end_compilers()
if not PROBLEM and not jt.has_cuda:
    PROBLEM = "Jittor did not accept this machine's CUDA"
# Jittor ends the process at once on Ctrl-C, and when a child was killed: nothing could be saved or explained
if _is_main:
    for _number, _handler in _handlers.items():
        signal.signal(_number, _handler)


def select(device: str) -> str:
    """Compute on `device` ("auto", "cpu" or "cuda") from here on; returns "cpu" or "cuda" and says so on stderr.

    Raises InputError for "cuda" where Jittor has no working CUDA.
    """
    if device == "cuda" and not jt.has_cuda:
        raise InputError(f"device: 'cuda' is not possible here: {PROBLEM}; use 'auto' or 'cpu'")
    jt.flags.use_cuda = int(bool(jt.has_cuda) and device != "cpu")
    chosen = "cuda" if jt.flags.use_cuda else "cpu"
    if chosen == "cuda" and jt.cudnn:
        jt.cudnn.set_max_workspace_ratio(WORKSPACE)
    reason = f" ({PROBLEM})" if chosen == "cpu" and device == "auto" else ""
    print(f"ccnet: computing on {chosen}{reason}", file=sys.stderr, flush=True)
    return chosen


def seed(value: int) -> None:
    """Seed Jittor, NumPy and Python's random, all three."""
    jt.set_global_seed(value)
