"""A SLURM cluster of one node, this machine, for as long as a test takes."""

import getpass
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

os.environ["PATH"] += os.pathsep + "/usr/sbin"  # where Debian has the daemons
DAEMONS = ("munged", "slurmctld", "slurmd")

# Without a database and cgroups. The node has a GPU that is a name only, for jobs that ask for one each
CONFIG = """\
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
SlurmUser={user}
SlurmdUser={user}
AuthInfo=socket={folder}/munge.socket
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
MinJobAge=3600
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
GresTypes=gpu
{node} NodeAddr=127.0.0.1 Gres=gpu:2
PartitionName=main Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""


def missing() -> str:
    """What to install before a cluster can be started; empty if all is there."""
    if not all(map(shutil.which, DAEMONS)):
        return "SLURM is not installed: apt install --no-install-recommends slurm-wlm munge"
    if not find_spec("snakemake_executor_plugin_slurm"):
        return "Snakemake's SLURM plugin is not installed: .venv/bin/pip install -e '.[slurm]'"
    return ""


@dataclass(frozen=True)
class Cluster:
    """A running cluster, and the environment in which its commands find it."""

    folder: Path
    environment: dict[str, str]

    def ask(self, *command: str) -> str:
        """What a command of SLURM prints."""
        return subprocess.run(command, env=self.environment, check=True, capture_output=True, text=True).stdout


@contextmanager
def cluster(folder: Path) -> Iterator[Cluster]:
    """Start a cluster with its files in `folder`; stop it, and all of its jobs, at the end."""
    _configure(folder)
    path = os.pathsep.join([str(folder / "bin"), os.environ["PATH"]])
    running = Cluster(folder, os.environ | {"PATH": path, "SLURM_CONF": str(folder / "slurm.conf")})
    daemons: list[subprocess.Popen] = []
    try:
        for command in (_munged(folder), ["slurmctld", "-D"], ["slurmd", "-D"]):
            with open(folder / f"{command[0]}.out", "w") as out:
                daemons.append(subprocess.Popen(command, env=running.environment, stdout=out, stderr=out))
            _wait((folder / "munge.socket").exists)
        running.ask("srun", "--ntasks=1", "--gpus=1", "--immediate=60", "true")
        yield running
    finally:
        _stop(running, daemons)


def _configure(folder: Path) -> None:
    for name in ("bin", "state", "spool"):
        (folder / name).mkdir()
    (folder / "munge.key").write_bytes(secrets.token_bytes(128))
    (folder / "munge.key").chmod(0o600)
    node = subprocess.run(["slurmd", "-C"], capture_output=True, text=True, check=True).stdout.splitlines()[0]
    node = re.sub(r"(RealMemory=)(\d+)", lambda has: has[1] + str(int(has[2]) * 9 // 10), node)
    values = {"host": socket.gethostname(), "ports": _free_ports(2), "user": getpass.getuser(), "folder": folder}
    (folder / "slurm.conf").write_text(CONFIG.format(node=node, **values))
    (folder / "gres.conf").write_text("AutoDetect=off\nName=gpu File=/dev/null,/dev/zero\n")
    # The plugin of the job's step removes SLURM's variables, and this one with them
    (folder / "bin/srun").write_text(f'#!/bin/sh\nSLURM_CONF={folder}/slurm.conf exec {shutil.which("srun")} "$@"\n')
    (folder / "bin/srun").chmod(0o755)


def _munged(folder: Path) -> list[str]:
    files = {"key-file": "munge.key", "socket": "munge.socket", "pid-file": "munged.pid", "log-file": "munged.log",
             "seed-file": "munge.seed"}  # fmt: skip
    # --force: pytest's folders are closed to other users
    return ["munged", "--foreground", "--force", *(f"--{option}={folder / name}" for option, name in files.items())]


def _free_ports(count: int) -> list[int]:
    listening = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [server.getsockname()[1] for server in listening]
    for server in listening:
        server.close()
    return ports


def _wait(ready: Callable[[], object], seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < end
        time.sleep(0.05)


def _stop(running: Cluster, daemons: list[subprocess.Popen]) -> None:
    """End jobs and daemons; fail if any process that knows the cluster's folder outlives them."""
    try:
        running.ask("scancel", "--full", "--signal=KILL", f"--user={getpass.getuser()}")
        _wait(lambda: not running.ask("squeue", "--noheader", "--states=running,completing"))
    finally:
        for daemon in reversed(daemons):
            daemon.terminate()
            daemon.wait(timeout=30)
        left = _processes(running.folder)
        for pid in left:
            os.kill(pid, signal.SIGKILL)
        assert not left


def _processes(folder: Path) -> list[int]:
    """The processes that have the folder of a cluster in their environment."""
    found = []
    for process in Path("/proc").glob("[0-9]*/environ"):
        try:
            found += [int(process.parent.name)] * (os.fsencode(folder) in process.read_bytes())
        except OSError:  # it has ended, or is another user's
            continue
    return found
