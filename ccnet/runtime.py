"""Jittor's import and device selection. Every module imports Jittor from here: `from ccnet.runtime import jt`.

Jittor decides at import whether to compile itself for CUDA, and crashes if nvcc is present but CUDA is incomplete.
This module therefore decides before the import: a GPU build if everything it needs is present and `ccnet doctor --fix`
has prepared it, else a CPU build (`nvcc_path=""`). `select` chooses the device and prints it in one line.
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
from ccnet.machine import compiling, cuda
from ccnet.machine.floats import flush_subnormals
from ccnet.machine.toolkit import cache_home, find_toolkit, read_toolkit
from ccnet.progress import progress

# Maximum share of GPU memory for cuDNN's workspace. Jittor keeps the memory that cuDNN's algorithm search used. A
# twentieth is 0.5 GB of 11 and 4 GB of 80, TensorFlow's limit; Jittor's default of a quarter leaves too little for
# activations
WORKSPACE = 0.05
OBJECT_FILES = 150  # approximate number of files compiled by a CPU build of Jittor 1.3.11


def cuda_problem() -> str | None:
    """Why Jittor cannot be built for CUDA here, in one line; None, with `nvcc_path` set, if it can."""
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
    if chosen:  # the user chose this nvcc: check only the driver and the GPU
        problems = {subject: problem for subject, problem in problems.items() if subject in ("driver", "GPU")}
    for problem in problems.values():
        return f"{problem.text}: {problem.remedy}"
    os.environ["CCNET_GPU_CODE"] = cuda.gpu_code(driver)  # read by the tree's nvcc
    if toolkit and not chosen:
        _use(toolkit.tree)
    return None


def _use(tree: Path) -> None:
    os.environ["nvcc_path"] = str(tree / "bin" / "nvcc")
    for name in ("use_cutt", "use_cutlass", "use_nccl"):  # not needed; downloaded, or not for CUDA 13
        os.environ.setdefault(name, "0")
    sys.modules.setdefault("cupy", None)  # type: ignore[arg-type] # otherwise Jittor imports it: it loads another CUDA


@contextmanager
def _announced() -> Iterator[None]:
    """Show progress while Jittor compiles itself, which takes minutes, silently, at its first import on a machine."""
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
    """Hide the host's name, part of Jittor's cache key: nodes of a cluster with a shared home share one build."""
    name = platform.node
    platform.node = lambda: ""
    try:
        yield
    finally:
        platform.node = name


@contextmanager
def _interruptible() -> Iterator[None]:
    """Keep Jittor from installing its handler of Ctrl-C, which exits with status 1: it has none where Jupyter runs.

    Jittor recognises Jupyter by this variable.
    """
    name = "JPY_PARENT_PID"
    inside = name in os.environ
    os.environ.setdefault(name, "")
    try:
        yield
    finally:
        if not inside:
            del os.environ[name]


def end_compilers() -> None:
    """End Jittor's compiler processes now: Jittor keeps them until exit and hangs there if a signal killed one."""
    if jittor_utils.pool_size:
        atexit.unregister(jittor_utils.pool_cleanup)
        jittor_utils.pool_cleanup()
        jittor_utils.pool_size = 0  # Jittor starts new ones when needed


flush_subnormals()  # before OpenMP's threads begin


def compile_operators_faster() -> None:
    """Have Jittor compile operators with a precompiled header, and without Python where it is not needed.

    Every operator's key contains the flags, not the path of Python as it was called: `ccnet` and `python -m ccnet` (a
    script names python3, the shell python) would compile each other's operators again.
    """
    folder = Path(jt.flags.cache_path)
    os.environ[compiling.PYTHON] = sys.executable
    jt.flags.python_path = f"/bin/sh '{compiling.script(folder)}'"
    jt.flags.cc_flags = compiling.with_header(jt.flags.cc_path, jt.flags.cc_flags, compiling.OPERATOR, folder)


def compile_jittor_faster() -> None:
    """Have Jittor compile itself in a third of the time that -O2 takes without a header; it is as fast.

    Operators keep -Ofast. Flags that the user chose stay as they are.
    """
    if {"cc_flags", "kernel_flags"} & os.environ.keys():
        return
    os.environ.setdefault("cache_name", "ccnet-Og")
    folder = cache_home() / "ccnet" / "headers"
    # in full, as Jittor sets it for child processes: they use the same header
    compiler = shutil.which(os.environ.get("cc_path", "g++")) or "g++"
    flags = compiling.with_header(compiler, f"{compiling.CORE_FLAGS} -Og", compiling.CORE, folder)
    os.environ.update(cc_flags=flags.removeprefix(compiling.CORE_FLAGS), kernel_flags="-Ofast")


PROBLEM = cuda_problem()
if PROBLEM:
    os.environ["nvcc_path"] = ""
os.environ.setdefault("log_silent", "1")
# Otherwise Jittor imports torch where it is installed, which takes 2 s and loads another CUDA
os.environ.setdefault("FIX_TORCH_ERROR", "0")
# One process needs no MPI, and cannot fail over a broken one; a process of several may inherit the 0 of its parent
os.environ["use_mpi"] = str(int("OMPI_COMM_WORLD_SIZE" in os.environ))
# OpenMP's threads spin while waiting and so starve other processes on the same cores (data loading, another training):
# on two busy cores a step took 2 to 5 s instead of 0.4 s
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
# Threads spin 1000 times (about 15 µs) before they sleep. With the cores to itself a step of many small operators takes
# 15 % less time; with two trainings on the same cores the time does not change (± 3 %)
os.environ.setdefault("GOMP_SPINCOUNT", "1000")
if shutil.which("g++") is None and "cc_path" not in os.environ:
    raise InputError("no C++ compiler: Jittor needs g++ (apt install g++, or set cc_path)")
if not (Path(sysconfig.get_path("include")) / "Python.h").exists():
    raise InputError("no Python headers (Python.h): Jittor compiles against them (apt install python3-dev)")
if PROBLEM:
    compile_jittor_faster()
# By default Jittor's cache key contains the git branch around its folder: each branch would compile Jittor again. It
# does not contain the flags: builds with others would compile each other's files again, at every change
os.environ.setdefault("cache_name", "ccnet" + os.environ.get("cc_flags", ""))
_handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGCHLD)}
_is_main = threading.current_thread() is threading.main_thread()  # Python allows setting handlers only there
# Jittor swallows exceptions during its import, so a Python handler that raises would have no effect
if _is_main:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if _handlers[signal.SIGINT] != signal.SIG_IGN:  # as in the background of a script
        signal.signal(signal.SIGINT, signal.SIG_DFL)
# Jittor ends its compiler processes with SIGTERM and waits for them. They inherit the handler, and a Python handler
# runs only between two waits, so some would never exit
os.register_at_fork(after_in_child=lambda: signal.signal(signal.SIGTERM, signal.SIG_DFL))
with _announced(), _nameless(), _interruptible():
    try:
        import jittor as jt
    except SystemExit:
        # Jittor exits, with status 0 and silently, once it has compiled its helper library anew: for other flags, or
        # another version of a file. Its second import goes on with the library it has
        import jittor as jt
    import jittor_utils
    from jittor import nn  # noqa: F401 (re-exported)
end_compilers()
compile_operators_faster()
if not PROBLEM and not jt.has_cuda:
    PROBLEM = "Jittor did not accept this machine's CUDA"
# Restore the handlers: Jittor's own exit at once on Ctrl-C or when a child is killed, without saving or reporting
if _is_main:
    for _number, _handler in _handlers.items():
        signal.signal(_number, _handler)


def select(device: str) -> str:
    """Set the device to `device` ("auto", "cpu" or "cuda"); returns "cpu" or "cuda" and prints it on stderr.

    Raises InputError for another name, and for "cuda" if Jittor has no working CUDA.
    """
    if device not in ("auto", "cpu", "cuda"):
        raise InputError(f"device: '{device}': choose 'auto', 'cpu' or 'cuda'")
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
    """Seed Jittor, NumPy and Python's `random`, the same in all processes of a training."""
    jt.sync_all()  # Jittor is lazy: random numbers asked for before must not be drawn from the new seed
    jt.set_global_seed(value, different_seed_for_mpi=False)
