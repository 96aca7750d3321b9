"""Training batches as NumPy arrays, loaded by worker processes.

A batch depends only on the seed and its step number, not on the number of workers or on the step at which a training
was resumed. A resumed run therefore sees the same batches as an uninterrupted one.

Jittor's own data workers are not used: two or more of them deliver batches in arbitrary order, an error in one
reaches the trainer as a SIGINT without a reason, and the death of one ends the process without saving.
"""

import functools
from collections.abc import Generator, Iterator
from contextlib import ExitStack, closing

import numpy as np

from ccnet import InputError
from ccnet.data.augment import augment
from ccnet.data.shards import ShardReader
from ccnet.data.workers import Channel, Worker
from ccnet.settings import Data

AHEAD = 2  # batches that each worker prepares in advance
Batch = tuple[np.ndarray, np.ndarray]


class Batches:
    """Iterates over batches `first_step` … `steps` - 1: images `(B, 3, S, S)` uint8, labels `(B, S, S)` uint8.

    A batch holds the images of one optimiser step: B = batch_size · accumulate; S = crop_size. With `share` (k, n) it
    holds the k-th of n equal parts of each batch_size images, for one of n devices.

    Workers live as long as an iteration: close an iterator that is left early (`contextlib.closing`). Raises
    InputError for `workers` < 0, a batch_size that n does not divide and, during iteration, for a record that cannot
    be read.
    """

    def __init__(
        self,
        reader: ShardReader,
        data: Data,
        *,
        seed: int,
        first_step: int,
        steps: int,
        workers: int,
        share: tuple[int, int] = (0, 1),
    ):
        if workers < 0:
            raise InputError(f"workers: {workers}: must be 0 (load in the training process) or more")
        if data.batch_size % share[1]:
            raise InputError(f"batch_size: {data.batch_size}: {share[1]} devices share it: make it a multiple of that")
        self.reader, self.data, self.seed, self.workers, self.share = reader, data, seed, workers, share
        self.steps = range(first_step, steps)

    def batch(self, step: int) -> Batch:
        """The batch of an optimiser step: images `(B, 3, S, S)` uint8, labels `(B, S, S)` uint8."""
        crops, labels = zip(*map(self._crop, self._positions(step)), strict=True)
        # channels first here: Jittor's transpose of this array would run on the host, even on CUDA
        planes = np.stack([plane for crop in crops for plane in crop])
        return planes.reshape(len(crops), 3, *planes.shape[1:]), np.stack(labels)

    def _positions(self, step: int) -> Iterator[int]:
        """The positions of the step's crops, which count from step 0; of each part, those of this share."""
        (k, n), size = self.share, self.data.batch_size
        for part in range(step * self.data.accumulate, (step + 1) * self.data.accumulate):
            yield from range(part * size + k * size // n, part * size + (k + 1) * size // n)

    def names(self, step: int) -> list[str]:
        """The names of the images of an optimiser step's batch."""
        size = self.data.images_per_step
        return [self.reader.names[self._image(step * size + index)] for index in range(size)]

    def _image(self, position: int) -> int:
        """The image, by its place in the reader, that a crop is taken from; `position` counts crops from step 0."""
        epoch, place = divmod(position, len(self.reader))
        return int(_order(self.seed, epoch, len(self.reader))[place])

    def _crop(self, position: int) -> tuple[list[np.ndarray], np.ndarray]:
        """The planes R, G, B of a crop and its label, each `(S, S)` uint8; `position` counts crops from step 0."""
        image, label = self.reader[self._image(position)]
        crop, target = augment(image, label, self.data, np.random.default_rng((self.seed, position)))
        return [np.asarray(plane) for plane in crop.split()], np.asarray(target)

    def __iter__(self) -> Generator[Batch, None, None]:
        here = (self.batch(step) for step in self.steps)
        with closing(self._from_workers() if self.workers else here) as batches:
            yield from batches

    def _from_workers(self) -> Generator[Batch, None, None]:
        """Yield batches from n workers; worker k makes batches k, k + n, k + 2n …"""
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
        except EOFError:  # the worker died
            return self.batch(step)


@functools.lru_cache(maxsize=2)
def _order(seed: int, epoch: int, count: int) -> np.ndarray:
    return np.random.default_rng((seed, epoch, 0x5EED)).permutation(count)
