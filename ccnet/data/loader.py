"""Training batches as a Jittor Dataset: the only file under data/ that meets Jittor.

Every batch depends on the seed and its number in the run and on nothing else: neither on the number of workers nor
on where a resumed training began. So a continued run sees the batches the uninterrupted one would have seen.

The workers are our own. With two or more, Jittor's deliver batches in whatever order they announce them; an error in
one reaches the trainer as a SIGINT without a reason, and its death as a quick exit that saves nothing.
"""

import ctypes
import functools
import multiprocessing
import os
import signal
import sys
from collections.abc import Generator
from contextlib import closing
from multiprocessing.connection import Connection

import numpy as np

from ccnet import InputError
from ccnet.data.augment import augment
from ccnet.data.shards import ShardReader
from ccnet.runtime import jt
from ccnet.settings import Data

PR_SET_PDEATHSIG = 1
Batch = tuple[np.ndarray, np.ndarray]


class Batches(jt.dataset.Dataset):
    """Iterates over batches `first_step` … `steps` - 1: images `(B, S, S, 3)` uint8, labels `(B, S, S)` uint8.

    Workers live as long as an iteration: close one that is left early (`contextlib.closing`). Raises InputError for
    a record that cannot be read, as it is met.
    """

    def __init__(self, reader: ShardReader, data: Data, *, seed: int, first_step: int, steps: int, workers: int):
        if workers < 0:
            raise InputError(f"workers: {workers}: must be 0 (load in the training process) or more")
        super().__init__(data.batch_size)
        self.reader, self.data, self.seed, self.processes = reader, data, seed, workers
        self.first = first_step * data.batch_size
        self.total_len = (steps - first_step) * data.batch_size

    def __getitem__(self, index: int) -> Batch:
        position = self.first + index
        epoch, place = divmod(position, len(self.reader))
        image, label = self.reader[_order(self.seed, epoch, len(self.reader))[place]]
        return augment(image, label, self.data, np.random.default_rng((self.seed, position)))

    def batch(self, number: int) -> Batch:
        size = self.batch_size
        return self.collate_batch([self[index] for index in range(number * size, (number + 1) * size)])

    def __iter__(self) -> Generator[list[jt.Var], None, None]:
        here = (self.batch(number) for number in range(len(self)))
        with closing(self._from_workers() if self.processes else here) as batches:
            for batch in batches:
                yield self.to_jittor(batch)

    def _from_workers(self) -> Generator[Batch, None, None]:
        """Worker k makes batches k, k + n, k + 2n …, each one ahead of what is asked of it."""
        workers = [_Worker(self, range(k, len(self), self.processes)) for k in range(self.processes)]
        try:
            for number in range(len(self)):
                yield workers[number % self.processes].receive(number)
        finally:
            for worker in workers:
                worker.stop()


class _Worker:
    """A process that makes the batches `numbers` and sends each as soon as the one before it was received."""

    def __init__(self, batches: Batches, numbers: range):
        self.batches = batches
        self.connection, sender = multiprocessing.Pipe(duplex=False)
        arguments = (batches, numbers, sender, os.getpid())
        self.process = multiprocessing.get_context("fork").Process(target=_work, args=arguments, daemon=True)
        self.process.start()
        sender.close()

    def receive(self, number: int) -> Batch:
        try:
            received = self.connection.recv()
        except (EOFError, OSError):  # it died: out of memory, say, or by a SIGTERM to all processes of a job
            if not self.connection.closed:
                print(f"ccnet: loading process {self.process.pid} died; going on without it", file=sys.stderr)
                self.connection.close()
            return self.batches.batch(number)
        if isinstance(received, Exception):
            raise received
        return received

    def stop(self) -> None:
        self.process.kill()
        self.process.join()
        self.connection.close()


def _work(batches: Batches, numbers: range, sender: Connection, parent: int) -> None:
    # Ctrl-C reaches the whole process group: the trainer saves and then ends its workers itself;
    # and a worker must not outlive a trainer that was killed
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        return
    try:
        for number in numbers:
            sender.send(batches.batch(number))
    except Exception as error:
        sender.send(error)


@functools.lru_cache(maxsize=2)
def _order(seed: int, epoch: int, count: int) -> np.ndarray:
    return np.random.default_rng((seed, epoch, 0x5EED)).permutation(count)
