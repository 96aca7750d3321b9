"""How this process computes with floating-point numbers."""

import ctypes
import platform

import numpy as np

MXCSR = 7  # place of the control register among the 32-bit words of glibc's fenv_t on x86-64
FLUSH = 0x8040  # its bits for results (FTZ) and operands (DAZ)


def flush_subnormals() -> None:
    """Have this thread, and threads that it starts later, take subnormal numbers as 0; nothing on other processors.

    Kernels compiled with fast-math do so when they are loaded, but for the loading thread alone. OpenMP's threads would
    then differ by when they began, and with them the last bits of results.
    """
    if platform.machine() != "x86_64":
        return
    for dtype in (np.float16, np.float32, np.float64):
        np.finfo(dtype)  # NumPy keeps these; it would warn when it makes them later
    library, environment = ctypes.CDLL(None), (ctypes.c_uint32 * 8)()
    library.fegetenv(environment)
    environment[MXCSR] |= FLUSH
    library.fesetenv(environment)
