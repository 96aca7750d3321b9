"""Starts a training on several devices: `mpirun` with one process ("rank") of the same command for each device."""

import ctypes
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from typing import NoReturn

from ccnet import InputError

PR_SET_PDEATHSIG = 1
AGAIN = 75  # exit status of ranks that saved and are to be started again (memory grew)
GAVE_UP = 128 + signal.SIGALRM  # exit status of a rank that told its error and then waited for the others in vain
OPTIONS = [
    "--quiet",  # without mpirun's paragraphs about a rank that ended
    "--oversubscribe",  # also on a machine with fewer cores
    "--bind-to", "none",
    # on this machine, whatever a cluster's environment says; SLURM's own way needs tasks=N and a cluster-wide MPI
    "--mca", "plm", "isolated", "--mca", "ras", "^slurm",
    "--mca", "mpi_yield_when_idle", "1",  # a rank that waits leaves the core to the others
    "--mca", "btl_vader_single_copy_mechanism", "none",  # otherwise fails in containers, which forbid ptrace
]  # fmt: skip


def inside() -> bool:
    """Whether this process is a rank that mpirun started."""
    return "OMPI_COMM_WORLD_SIZE" in os.environ


def launch(devices: int, arguments: Sequence[str]) -> NoReturn:
    """Run `ccnet <arguments>` on `devices` processes and exit as they do; SIGINT and SIGTERM let them save and end.

    Raises InputError without MPI, and if a process was killed.
    """
    if devices < 1:
        raise InputError(f"devices: {devices}: must be 1 or more")
    missing = [name for name in ("mpirun", "mpicc") if shutil.which(name) is None]
    if missing:
        remedy = "apt install openmpi-bin libopenmpi-dev, or train with --devices 1"
        raise InputError(f"devices: {devices}: no {' and no '.join(missing)}: {remedy}")
    environment = os.environ | {
        "use_mpi": "1",
        "OMP_NUM_THREADS": str(max(1, _threads() // devices)),
        "OMPI_ALLOW_RUN_AS_ROOT": "1",
        "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
    }
    # Jittor compiles itself at its first import, which must be in one process
    if subprocess.run([sys.executable, "-c", "import ccnet.runtime"], env=environment).returncode:
        raise InputError(f"devices: {devices}: Jittor did not start with MPI: see above, or train with --devices 1")
    command = ["mpirun", *OPTIONS, "-np", str(devices), sys.executable, "-m", "ccnet", *arguments]
    status, asked = AGAIN, False
    while status == AGAIN and not asked:
        status, asked = _run(command, environment)
    if status not in (0, 1, GAVE_UP) and not asked:
        again = "the same command continues from the last checkpoint"
        raise InputError(f"one of the {devices} processes was killed (exit status {status}); {again}")
    sys.exit(130 if asked and status else status and 1)


def _threads() -> int:
    """The threads of all processes together."""
    named = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0]
    return int(named) if named.isdecimal() else len(os.sched_getaffinity(0))


def _run(command: list[str], environment: dict[str, str]) -> tuple[int, bool]:
    """Run mpirun; returns its exit status, and whether a signal asked to end it."""
    # mpirun kills its processes on SIGINT and SIGTERM. In a session of its own it gets neither, but passes on SIGUSR1
    process = subprocess.Popen(
        command, env=environment, stdin=subprocess.DEVNULL, start_new_session=True, preexec_fn=_die_with_parent
    )
    asked = False

    def ask(number: int, _) -> None:
        nonlocal asked
        again = asked and number == signal.SIGINT
        process.send_signal(signal.SIGKILL if again else signal.SIGUSR1)
        asked = True

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        return process.wait(), asked
    finally:
        process.kill()
        for number, handler in before.items():
            signal.signal(number, handler)


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
