"""Training batches through Jittor's Dataset: the only file under data/ that meets Jittor.

Every sample depends on the seed and its position in the run and on nothing else: neither on the number of workers nor
on where a resumed training began. So a continued run sees the batches the uninterrupted one would have seen.
"""

import ctypes
import functools
import signal

import numpy as np

from ccnet.data.augment import augment
from ccnet.data.shards import ShardReader
from ccnet.runtime import jt
from ccnet.settings import Data

PR_SET_PDEATHSIG = 1


class Batches(jt.dataset.Dataset):
    """Iterates over batches `first_step` … `steps` - 1: images `(B, S, S, 3)` uint8, labels `(B, S, S)` uint8."""

    def __init__(self, reader: ShardReader, data: Data, *, seed: int, first_step: int, steps: int, workers: int):
        crop_bytes = data.batch_size * data.crop_size**2 * 4
        super().__init__(data.batch_size, num_workers=workers, buffer_size=max(8 * crop_bytes, 2**24))
        self.reader, self.data, self.seed = reader, data, seed
        self.first = first_step * data.batch_size
        self.total_len = (steps - first_step) * data.batch_size

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        position = self.first + index
        epoch, place = divmod(position, len(self.reader))
        image, label = self.reader[_order(self.seed, epoch, len(self.reader))[place]]
        return augment(image, label, self.data, np.random.default_rng((self.seed, position)))

    def _worker_main(self, *arguments) -> None:
        # Ctrl-C reaches the whole process group: the trainer saves and then ends its workers itself;
        # and a worker must not outlive a trainer that was killed
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        super()._worker_main(*arguments)


@functools.lru_cache(maxsize=2)
def _order(seed: int, epoch: int, count: int) -> np.ndarray:
    return np.random.default_rng((seed, epoch, 0x5EED)).permutation(count)
