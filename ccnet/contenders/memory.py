"""Memory use of a benchmark side, measured in the same way for both frameworks."""

import ctypes
from pathlib import Path

from ccnet import InputError


def of_process(key: str) -> int:
    """Bytes of this process for `key` "VmRSS" (resident now) or "VmHWM" (peak since `forget_peak`)."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition(f"{key}:")[2].split()[0]) * 1024


def forget_peak() -> None:
    """Reset VmHWM."""
    Path("/proc/self/clear_refs").write_text("5")


def of_gpu() -> int:
    """Bytes in use on the first GPU by all processes, including CUDA contexts.

    Both frameworks keep memory they have allocated, so this is their peak. Raises InputError if the driver returns an
    error.
    """
    library, context = ctypes.CDLL("libcuda.so.1"), ctypes.c_void_p()
    free, total = ctypes.c_size_t(), ctypes.c_size_t()
    error = (
        library.cuInit(0)
        or library.cuDevicePrimaryCtxRetain(ctypes.byref(context), 0)  # the context that the frameworks use
        or library.cuCtxPushCurrent_v2(context)
        or library.cuMemGetInfo_v2(ctypes.byref(free), ctypes.byref(total))
        or library.cuCtxPopCurrent_v2(ctypes.byref(context))
    )
    if error:
        raise InputError(f"the NVIDIA driver does not say how much memory is in use (error {error}): try ccnet doctor")
    return total.value - free.value
