"""The processes ("ranks") of a training on several devices, through Jittor's MPI. Without MPI there is one, rank 0.

All ranks run the same steps, each on its share of every batch. `summed`, `total`, `any_of` and `wait` are collective:
each rank must call them in the same order, and waits there for the others.
"""

import ctypes
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, redirect_stderr

import numpy as np
from numpy.typing import ArrayLike

from ccnet import InputError
from ccnet.runtime import jt

RANK = int(os.environ.get("OMPI_COMM_WORLD_RANK", 0))
RANKS = int(os.environ.get("OMPI_COMM_WORLD_SIZE", 1))
PATIENCE = 10  # seconds that a failed rank waits for the others to end with it
PR_SET_PDEATHSIG = 1
_met = False  # whether the ranks have waited for each other


def summed(variable: jt.Var) -> jt.Var:
    """The sum of this variable over all ranks, of the same shape and dtype; differentiable."""
    return variable if RANKS == 1 else variable.mpi_all_reduce("add")


def total(array: ArrayLike) -> np.ndarray:
    """The sum of this array over all ranks, added in the order of the ranks; exact for int64."""
    global _met
    _met = True
    copies = [np.array(array, ndmin=1) for _ in range(RANKS)]
    if RANKS > 1:
        for rank, copy in enumerate(copies):
            jt.mpi.broadcast(copy, rank)
    return np.sum(copies, axis=0).reshape(np.shape(array))


def any_of(flag: bool) -> bool:
    """Whether `flag` is true on any rank."""
    return bool(total(np.int64(flag)))


def wait() -> None:
    """Return when all ranks have called this."""
    global _met
    _met = True
    if RANKS > 1:
        jt.mpi.mpi_barrier()


def common(error: Exception) -> BaseException:
    """`error`, which all ranks raise, for rank 0; for the others an exception that ends them without a message."""
    return error if RANK == 0 else SystemExit(1)


@contextmanager
def joined() -> Iterator[None]:
    """Around a training: only rank 0 prints, and a rank that fails does not leave the others waiting.

    Errors of other ranks are shown too, except an InputError before the first collective call: rank 0 has the same.
    """
    if RANKS == 1:
        yield
        return
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)  # when mpirun is killed
    signal.signal(signal.SIGUSR1, lambda *_: signal.raise_signal(signal.SIGTERM))  # mpirun passes on this one
    try:
        with open(os.devnull, "w") as nowhere, redirect_stderr(nowhere) if RANK else nullcontext():
            yield
    except BaseException as error:
        # Jittor ends MPI at exit, which waits for all ranks. They may be waiting for this one instead: then SIGALRM
        # ends this process, and thereby mpirun all
        signal.alarm(PATIENCE)
        if RANK and isinstance(error, KeyboardInterrupt):
            sys.exit(130)
        if RANK and isinstance(error, InputError) and not _met:
            sys.exit(1)
        raise
