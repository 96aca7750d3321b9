"""Self-test of Jittor: `python -m ccnet.ops.selftest cpu` prints the error of one convolution against NumPy.

It runs in its own process, so `ccnet doctor` survives if importing Jittor ends the process.
"""

import sys

import numpy as np

from ccnet import runtime
from ccnet.runtime import jt, nn


def difference(device: str) -> float:
    """The largest difference from NumPy on `device` ("cpu" or "cuda"), relative to the largest value.

    Raises InputError for "cuda" if Jittor has no CUDA.
    """
    runtime.select(device)
    random = np.random.default_rng(0)
    image, weight = random.random((2, 8, 19, 23), np.float32), random.random((16, 8, 3, 3), np.float32) - 0.5
    windows = np.lib.stride_tricks.sliding_window_view(image, (1, 1, 3, 3))[:, :, :, :, 0, 0]
    expected = np.einsum("bchwij,ocij->bohw", windows, weight)
    computed = nn.conv2d(jt.array(image), jt.array(weight)).numpy()
    return float(np.abs(computed - expected).max() / np.abs(expected).max())


if __name__ == "__main__":
    print(difference(sys.argv[1]))
