"""How much memory a side takes, read in the same way on both."""

import ctypes
from pathlib import Path

from ccnet import InputError


def of_process(key: str) -> int:
    """VmRSS or VmHWM, what this process has in memory and the most it had since `forget_peak`, bytes."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition(f"{key}:")[2].split()[0]) * 1024


def forget_peak() -> None:
    """VmHWM begins anew."""
    Path("/proc/self/clear_refs").write_text("5")


def of_gpu() -> int:
    """Bytes in use on the first GPU, by all processes, their CUDA contexts included.

    Both frameworks keep what they had once, so that it tells their most. Raises InputError where the driver does not.
    """
    library, context = ctypes.CDLL("libcuda.so.1"), ctypes.c_void_p()
    free, total = ctypes.c_size_t(), ctypes.c_size_t()
    error = (
        library.cuInit(0)
        or library.cuDevicePrimaryCtxRetain(ctypes.byref(context), 0)  # the one that the frameworks have
        or library.cuCtxPushCurrent_v2(context)
        or library.cuMemGetInfo_v2(ctypes.byref(free), ctypes.byref(total))
        or library.cuCtxPopCurrent_v2(ctypes.byref(context))
    )
    if error:
        raise InputError(f"the NVIDIA driver does not say how much memory is in use (error {error}): try ccnet doctor")
    return total.value - free.value
