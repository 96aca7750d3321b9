"""CUDA diagnosis: the NVIDIA driver and its GPUs, what prevents Jittor from using them, and the remedies."""

import ctypes
import shutil
import sys
from typing import NamedTuple

from ccnet.machine.toolkit import Toolkit

JITTORS_NEWEST = 90  # Jittor 1.3.11 requests code only for the GPUs present, up to sm_90
SINCE = {100: 12080, 101: 12080, 103: 12090, 110: 13000, 120: 12080, 121: 12090}  # CUDA that first knows a newer GPU
OLDEST_ARCHITECTURE = {12: 50, 13: 75}  # oldest that nvcc supports, by CUDA's major version
OLDEST_DRIVER = {12: 525, 13: 580}
FIX = "ccnet doctor --fix"
WHEELS = f"in ccnet's folder: pip install '.[cuda13]', then {FIX}"
CUDA_12 = "install CUDA 12 with cuDNN and name it with CUDA_HOME"


class Gpu(NamedTuple):
    """A GPU; `architecture` is its compute capability as an integer, 90 for sm_90."""

    name: str
    architecture: int


class Driver(NamedTuple):
    """An NVIDIA driver: newest CUDA it supports (13000 for 13.0), GPUs, error code of its start (0 for success)."""

    cuda: int
    gpus: tuple[Gpu, ...] = ()
    error: int = 0


class Problem(NamedTuple):
    """A problem and its remedy, as texts for the user."""

    text: str
    remedy: str


def spelled(cuda: int) -> str:
    """A CUDA version number as text: 13000 -> "13.0"."""
    return f"{cuda // 1000}.{cuda % 1000 // 10}"


def find_driver() -> Driver | None:
    """Query the NVIDIA driver; None if there is none."""
    try:
        library = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return None
    newest, count = ctypes.c_int(), ctypes.c_int()
    library.cuDriverGetVersion(ctypes.byref(newest))
    error = library.cuInit(0) or library.cuDeviceGetCount(ctypes.byref(count))
    return Driver(newest.value, tuple(_gpu(library, number) for number in range(count.value)), error)


def _gpu(library: ctypes.CDLL, number: int) -> Gpu:
    device, major, minor, name = ctypes.c_int(), ctypes.c_int(), ctypes.c_int(), ctypes.create_string_buffer(100)
    library.cuDeviceGet(ctypes.byref(device), number)
    library.cuDeviceGetName(name, len(name), device)
    library.cuDeviceGetAttribute(ctypes.byref(major), 75, device)  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR
    library.cuDeviceGetAttribute(ctypes.byref(minor), 76, device)  # … _MINOR
    return Gpu(name.value.decode(errors="replace"), 10 * major.value + minor.value)


def gpu_code(driver: Driver) -> str:
    """Architectures to build when Jittor requests sm_90, its limit for newer GPUs too: "sm_90,sm_120", or ""."""
    wanted = {gpu.architecture for gpu in driver.gpus if gpu.architecture >= JITTORS_NEWEST}
    return ",".join(f"sm_{architecture}" for architecture in sorted(wanted))


def problems(driver: Driver | None, toolkit: Toolkit | None, in_tree: bool = True) -> dict[str, Problem]:
    """What prevents Jittor from using a GPU, by subject ("driver", "GPU", "CUDA", "cuDNN"); empty if nothing does.

    `in_tree` is False if Jittor calls the toolkit's own nvcc instead of the wrapper in the prepared tree.
    """
    found = {
        "driver": _of_driver(driver, toolkit),
        "GPU": _of_gpus(driver, toolkit, in_tree),
        "CUDA": _of_toolkit(driver, toolkit),
        "cuDNN": _of_cudnn(toolkit),
    }
    return {subject: problem for subject, problem in found.items() if problem}


def _of_driver(driver: Driver | None, toolkit: Toolkit | None) -> Problem | None:
    major = toolkit.cuda // 1000 if toolkit else 13
    newer = f"install NVIDIA's driver {OLDEST_DRIVER.get(major, OLDEST_DRIVER[13])} or newer"
    if driver is None:
        remedy = f"for a GPU {newer}, or give the container its GPU (docker run --gpus all)"
        return Problem("no NVIDIA driver (libcuda.so.1)", remedy)
    if toolkit and driver.cuda // 1000 < major:
        text = f"the driver runs CUDA {spelled(driver.cuda)} at most, too old for CUDA {spelled(toolkit.cuda)}"
        return Problem(text, newer + f", or {CUDA_12}" * (driver.cuda >= 12000))
    return None


def _of_gpus(driver: Driver | None, toolkit: Toolkit | None, in_tree: bool) -> Problem | None:
    if driver is None:
        return None
    if not driver.gpus:
        text = f"an NVIDIA driver is here, but no GPU answers (error {driver.error})"
        return Problem(text, "look at nvidia-smi and CUDA_VISIBLE_DEVICES")
    major = toolkit.cuda // 1000 if toolkit else 13
    oldest = OLDEST_ARCHITECTURE.get(major, 0)
    for gpu in driver.gpus:
        if problem := _of_new_gpu(gpu, toolkit.cuda if toolkit else 13000, in_tree):
            return problem
        if gpu.architecture < oldest:
            text = f"{gpu.name} is sm_{gpu.architecture}; CUDA {major} builds for sm_{oldest} or newer"
            return Problem(text, f"choose a newer GPU with CUDA_VISIBLE_DEVICES, or {CUDA_12}")
    return None


def _of_new_gpu(gpu: Gpu, cuda: int, in_tree: bool) -> Problem | None:
    if not in_tree and gpu.architecture > JITTORS_NEWEST:
        text = f"{gpu.name} is sm_{gpu.architecture}; Jittor 1.3.11 asks for sm_{JITTORS_NEWEST} at most"
        return Problem(text, f"unset nvcc_path: the nvcc that {FIX} prepares asks for more")
    if gpu.architecture <= JITTORS_NEWEST or SINCE.get(gpu.architecture, sys.maxsize) <= cuda:
        return None
    text = f"{gpu.name} is sm_{gpu.architecture}, which CUDA {spelled(cuda)} cannot build for"
    other = WHEELS if gpu.architecture in SINCE else "compute on the CPU"
    return Problem(text, f"choose an older GPU with CUDA_VISIBLE_DEVICES, or {other}")


def _of_toolkit(driver: Driver | None, toolkit: Toolkit | None) -> Problem | None:
    if toolkit is None:
        found = shutil.which("nvcc")
        text = "no CUDA toolkit" + f" ({found} has no headers of its own)" * bool(found)
        old = driver is not None and 12000 <= driver.cuda < 13000
        return Problem(text, f"{CUDA_12}, then {FIX}" if old else WHEELS)
    name = f"CUDA {spelled(toolkit.cuda)} in {toolkit.root}"
    if toolkit.cuda // 1000 not in OLDEST_DRIVER:
        return Problem(f"{name} is neither 12 nor 13", WHEELS)
    if toolkit.missing:
        return Problem(f"{name} lacks {', '.join(toolkit.missing)}", WHEELS)
    if toolkit.cudnn and not toolkit.tree.is_dir():
        return Problem(f"{name} is not yet prepared for Jittor", FIX)
    return None


def _of_cudnn(toolkit: Toolkit | None) -> Problem | None:
    if toolkit is None or toolkit.cudnn:
        return None
    major = toolkit.cuda // 1000
    install = WHEELS if major == 13 else f"pip install nvidia-cudnn-cu{major}, then {FIX}"
    return Problem(f"no cuDNN for CUDA {major}", install)
