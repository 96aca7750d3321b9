"""Training batches, as NumPy arrays.

Every batch depends on the seed and its number in the run and on nothing else: neither on the number of workers nor
on where a resumed training began. So a continued run sees the batches the uninterrupted one would have seen.

The workers are ours, not Jittor's: two or more of those deliver batches in any order, an error in one reaches the
trainer as a SIGINT without a reason, and its death as a quick exit that saves nothing.
"""

import functools
from collections.abc import Generator
from contextlib import ExitStack, closing

import numpy as np

from ccnet import InputError
from ccnet.data.augment import augment
from ccnet.data.shards import ShardReader
from ccnet.data.workers import Channel, Worker
from ccnet.settings import Data

AHEAD = 2  # batches that each worker makes before they are asked for
Batch = tuple[np.ndarray, np.ndarray]


class Batches:
    """Iterates over batches `first_step` … `steps` - 1: images `(B, 3, S, S)` uint8, labels `(B, S, S)` uint8.

    A batch is an optimiser step's: B = batch_size · accumulate.

    Workers live as long as an iteration: close one that is left early (`contextlib.closing`). Raises InputError for
    a record that cannot be read, as it is met.
    """

    def __init__(self, reader: ShardReader, data: Data, *, seed: int, first_step: int, steps: int, workers: int):
        if workers < 0:
            raise InputError(f"workers: {workers}: must be 0 (load in the training process) or more")
        self.reader, self.data, self.seed, self.workers = reader, data, seed, workers
        self.steps = range(first_step, steps)

    def batch(self, step: int) -> Batch:
        """The batch of an optimiser step."""
        size = self.data.images_per_step
        crops, labels = zip(*(self._crop(step * size + index) for index in range(size)), strict=True)
        # channels first from here on: on CUDA Jittor's transpose would run on the host
        planes = np.stack([plane for crop in crops for plane in crop])
        return planes.reshape(size, 3, *planes.shape[1:]), np.stack(labels)

    def _crop(self, position: int) -> tuple[list[np.ndarray], np.ndarray]:
        """The planes R, G, B of a crop, and its label, each `(S, S)` uint8; `position` counts from the first step."""
        epoch, place = divmod(position, len(self.reader))
        image, label = self.reader[_order(self.seed, epoch, len(self.reader))[place]]
        crop, target = augment(image, label, self.data, np.random.default_rng((self.seed, position)))
        return [np.asarray(plane) for plane in crop.split()], np.asarray(target)

    def __iter__(self) -> Generator[Batch, None, None]:
        here = (self.batch(step) for step in self.steps)
        with closing(self._from_workers() if self.workers else here) as batches:
            yield from batches

    def _from_workers(self) -> Generator[Batch, None, None]:
        """Of n workers, number k makes batches k, k + n, k + 2n …"""
        with ExitStack() as stack:
            workers = [stack.enter_context(Worker(self._work)) for _ in range(self.workers)]
            asked = AHEAD * len(workers)
            for number in range(asked + len(self.steps)):
                worker = workers[number % len(workers)]
                if number < len(self.steps):
                    worker.send(self.steps[number])
                if number >= asked:
                    yield self._received(worker, self.steps[number - asked])

    def _work(self, trainer: Channel) -> None:
        while True:
            trainer.send(self.batch(trainer.receive()))

    def _received(self, worker: Worker, step: int) -> Batch:
        try:
            return worker.receive()
        except EOFError:  # it died
            return self.batch(step)


@functools.lru_cache(maxsize=2)
def _order(seed: int, epoch: int, count: int) -> np.ndarray:
    return np.random.default_rng((seed, epoch, 0x5EED)).permutation(count)
