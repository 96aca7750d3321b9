"""A check that some node of a SLURM cluster can run each job; SLURM queues impossible jobs forever without notice."""

import re
import subprocess
from collections.abc import Iterable, Iterator


def nodes() -> set[tuple[int, int]]:
    """(cores, memory in MB) of SLURM's nodes; empty if SLURM does not answer."""
    try:
        done = subprocess.run(["sinfo", "--noheader", "--format=%c %m"], capture_output=True, text=True)
    except FileNotFoundError:
        return set()
    return {(int(cores), int(memory)) for cores, memory in re.findall(r"(\d+)\+? (\d+)", done.stdout)}


def too_large(asked: Iterable[tuple[str, int, int]]) -> Iterator[str]:
    """Yield a warning for each (rule, cores, memory in MB) that no node can provide."""
    known = nodes()
    have = ", ".join(f"{cores} cores and {memory} MB" for cores, memory in sorted(known))
    for rule, cores, memory in sorted(set(asked)):
        if known and not any(cores <= most and memory <= limit for most, limit in known):
            yield (
                f"warning: {rule} asks for {cores} cores and {memory} MB, but no node has so much (there are: {have}):"
                " SLURM will not start it; lower set-threads or set-resources in the profile"
            )
