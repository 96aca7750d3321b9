"""Segmenting many photos: in this process, or with worker processes that read and write while the network runs here."""

import itertools
import select
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from ccnet.data.workers import Channel, Worker
from ccnet.segmentation.index import Row
from ccnet.segmentation.segmenter import MISPLACED, Found, Job, Segmenter

# Processes that read and write: while the network runs on one worker's image, the other worker writes its previous
# result and reads its next image. Threads do not help, since Jittor holds the GIL while it computes.
WORKERS = 2


def rows(segmenter: Segmenter, jobs: list[Job]) -> Iterator[tuple[Job, Row]]:
    """Yield each job with its row of index.csv, as it finishes. The job of a worker that died runs in this process."""
    left = iter(jobs)
    with ExitStack() as stack:
        busy: dict[Worker, Job] = {}
        for job in itertools.islice(left, WORKERS):
            worker = stack.enter_context(Worker(lambda master: _work(segmenter, master)))
            worker.send(job)
            busy[worker] = job
        while busy:
            for worker in select.select(busy, [], [])[0]:
                try:
                    row = _serve(segmenter, worker)
                except EOFError:
                    job = busy.pop(worker)
                    yield job, segmenter.row(job, segmenter.label)
                    continue
                if row is None:
                    continue
                yield busy.pop(worker), row
                if following := next(left, None):
                    worker.send(following)
                    busy[worker] = following
    for job in left:
        yield job, segmenter.row(job, segmenter.label)


def _work(segmenter: Segmenter, master: Channel) -> None:
    """The loop of a worker process: run the jobs it receives; `_serve` runs the network in the master."""

    def label(image: np.ndarray, probabilities: Path | None) -> Found:
        master.send((image, probabilities))
        del image  # it may be large, and the master now has it
        return master.receive()

    while True:
        master.send(segmenter.row(master.receive(), label))


def _serve(segmenter: Segmenter, worker: Worker) -> Row | None:
    """Receive from a worker: return its row, or label its image and return None. Raises EOFError if it died."""
    said = worker.receive()
    if isinstance(said, Row):
        return said
    try:
        worker.send(segmenter.label(*said))
    except (RuntimeError, MemoryError) as error:  # the network ran out of memory
        worker.send(error)
    except OSError as error:  # of writing the probabilities
        if error.errno not in MISPLACED:
            raise
        worker.send(error)
    return None
