"""What keeps Jittor from computing on a GPU of this machine, and what to do about it."""

import ctypes
import shutil
from typing import NamedTuple

from ccnet.toolkit import Toolkit

NEWEST_ARCHITECTURE = 90  # Jittor 1.3.11 makes code for its own GPU alone, and for sm_90 at most
OLDEST_ARCHITECTURE = {12: 50, 13: 75}  # by the toolkit's major version
OLDEST_DRIVER = {12: 525, 13: 580}
FIX = "ccnet doctor --fix"
WHEELS = f"in ccnet's folder: pip install '.[cuda13]', then {FIX}"
CUDA_12 = "install CUDA 12 with cuDNN and name it with CUDA_HOME"


class Gpu(NamedTuple):
    """`architecture` is 90 for sm_90."""

    name: str
    architecture: int


class Driver(NamedTuple):
    """`cuda` is the newest CUDA that it runs, 13000 for 13.0; `error` is what its start answered, 0 for success."""

    cuda: int
    gpus: tuple[Gpu, ...] = ()
    error: int = 0


class Problem(NamedTuple):
    """What is the matter, and the remedy."""

    text: str
    remedy: str


def spelled(cuda: int) -> str:
    """13000 as "13.0"."""
    return f"{cuda // 1000}.{cuda % 1000 // 10}"


def find_driver() -> Driver | None:
    """What the NVIDIA driver says; None where there is none."""
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


def problems(driver: Driver | None, toolkit: Toolkit | None) -> dict[str, Problem]:
    """What keeps Jittor from a GPU, by subject ("driver", "GPU", "CUDA", "cuDNN"); empty where nothing does."""
    found = {
        "driver": _of_driver(driver, toolkit),
        "GPU": _of_gpus(driver, toolkit),
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


def _of_gpus(driver: Driver | None, toolkit: Toolkit | None) -> Problem | None:
    if driver is None:
        return None
    if not driver.gpus:
        text = f"an NVIDIA driver is here, but no GPU answers (error {driver.error})"
        return Problem(text, "look at nvidia-smi and CUDA_VISIBLE_DEVICES")
    major = toolkit.cuda // 1000 if toolkit else 13
    oldest = OLDEST_ARCHITECTURE.get(major, 0)
    for gpu in driver.gpus:
        if gpu.architecture > NEWEST_ARCHITECTURE:
            text = f"{gpu.name} is sm_{gpu.architecture}; Jittor 1.3.11 builds for sm_{NEWEST_ARCHITECTURE} at most"
            return Problem(text, "choose an older GPU with CUDA_VISIBLE_DEVICES, or compute on the CPU")
        if gpu.architecture < oldest:
            text = f"{gpu.name} is sm_{gpu.architecture}; CUDA {major} builds for sm_{oldest} or newer"
            return Problem(text, f"choose a newer GPU with CUDA_VISIBLE_DEVICES, or {CUDA_12}")
    return None


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
