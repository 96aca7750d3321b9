"""Training batches as a Jittor Dataset: the only file under data/ that meets Jittor.

Every batch depends on the seed and its number in the run and on nothing else: neither on the number of workers nor
on where a resumed training began. So a continued run sees the batches the uninterrupted one would have seen.

The workers are our own. With two or more, Jittor's deliver batches in whatever order they announce them; an error in
one reaches the trainer as a SIGINT without a reason, and its death as a quick exit that saves nothing.
"""

import functools
from collections.abc import Generator
from contextlib import ExitStack, closing

import numpy as np

from ccnet import InputError
from ccnet.data.augment import augment
from ccnet.data.shards import ShardReader
from ccnet.runtime import jt
from ccnet.settings import Data
from ccnet.workers import Channel, Worker

AHEAD = 2  # batches that each worker makes before they are asked for
Batch = tuple[np.ndarray, np.ndarray]


class Batches(jt.dataset.Dataset):
    """Iterates over batches `first_step` … `steps` - 1: images `(B, 3, S, S)` uint8, labels `(B, S, S)` uint8.

    A batch is an optimiser step's: B = batch_size · accumulate.

    Workers live as long as an iteration: close one that is left early (`contextlib.closing`). Raises InputError for
    a record that cannot be read, as it is met.
    """

    def __init__(self, reader: ShardReader, data: Data, *, seed: int, first_step: int, steps: int, workers: int):
        if workers < 0:
            raise InputError(f"workers: {workers}: must be 0 (load in the training process) or more")
        super().__init__(data.images_per_step)
        self.reader, self.data, self.seed, self.processes = reader, data, seed, workers
        self.first = first_step * self.batch_size
        self.total_len = (steps - first_step) * self.batch_size

    def __getitem__(self, index: int) -> tuple[list[np.ndarray], np.ndarray]:
        """The planes R, G, B of a crop, and its label, each `(S, S)` uint8."""
        position = self.first + index
        epoch, place = divmod(position, len(self.reader))
        image, label = self.reader[_order(self.seed, epoch, len(self.reader))[place]]
        crop, target = augment(image, label, self.data, np.random.default_rng((self.seed, position)))
        return [np.asarray(plane) for plane in crop.split()], np.asarray(target)

    def batch(self, number: int) -> Batch:
        size = self.batch_size
        crops, labels = zip(*(self[index] for index in range(number * size, (number + 1) * size)), strict=True)
        # channels first from here on: on CUDA Jittor's transpose would run on the host
        planes = np.stack([plane for crop in crops for plane in crop])
        return planes.reshape(size, 3, *planes.shape[1:]), np.stack(labels)

    def __iter__(self) -> Generator[list[jt.Var], None, None]:
        here = (self.batch(number) for number in range(len(self)))
        with closing(self._from_workers() if self.processes else here) as batches:
            for batch in batches:
                yield self.to_jittor(batch)

    def _from_workers(self) -> Generator[Batch, None, None]:
        """Worker k makes batches k, k + n, k + 2n …"""
        with ExitStack() as stack:
            makers = [stack.enter_context(Worker(self._work)) for _ in range(self.processes)]
            asked = AHEAD * len(makers)
            for number in range(asked + len(self)):
                maker = makers[number % len(makers)]
                if number < len(self):
                    maker.send(number)
                if number >= asked:
                    yield self._made(maker, number - asked)

    def _work(self, trainer: Channel) -> None:
        while True:
            trainer.send(self.batch(trainer.receive()))

    def _made(self, maker: Worker, number: int) -> Batch:
        try:
            return maker.receive()
        except EOFError:  # it died
            return self.batch(number)


@functools.lru_cache(maxsize=2)
def _order(seed: int, epoch: int, count: int) -> np.ndarray:
    return np.random.default_rng((seed, epoch, 0x5EED)).permutation(count)
