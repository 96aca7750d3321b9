"""A photo's class probabilities as a NumPy file, written strip by strip, since the whole may not fit in memory."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.lib import format as npy

from ccnet.files import atomic

Add = Callable[[np.ndarray], None]


@contextmanager
def writing(path: Path, size: tuple[int, ...]) -> Iterator[Add]:
    """Write an image's probabilities, of `size` (height, width), to a .npy file: float16 `(C, H, W)`.

    Yields a function to call with each strip of rows, `(C, k, W)`, from top to bottom.
    """
    with atomic(path) as temporary, open(temporary, "wb") as file:
        yield _Strips(file, size).add


class _Strips:
    # no memory map: on a full disk, writing to one kills the process
    def __init__(self, file: BinaryIO, size: tuple[int, ...]):
        self.file, (self.height, self.width) = file, size
        self.start = self.done = 0

    def add(self, strip: np.ndarray) -> None:
        if not self.start:
            shape = (len(strip), self.height, self.width)
            npy.write_array_header_1_0(self.file, {"descr": "<f2", "fortran_order": False, "shape": shape})
            self.start = self.file.tell()
        for number, rows in enumerate(strip.astype("<f2")):
            self.file.seek(self.start + 2 * self.width * (number * self.height + self.done))
            self.file.write(rows.tobytes())
        self.done += strip.shape[1]
