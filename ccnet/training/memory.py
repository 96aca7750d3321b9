"""The memory of a training process: Jittor's may grow over a long run (its issues 574 and 602)."""

import os
import sys
from pathlib import Path

SHARE = 0.9  # of the memory that this process may have
SETTLED = 20  # steps after which the memory of a training that does not grow no longer changes
LIMITS = [Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes")]


def resident() -> int:
    """Bytes of memory that this process holds."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def allowed() -> int:
    """Bytes that this process may have: the least of the machine's, its container's and its SLURM job's memory."""
    found = [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")]
    found += [int(path.read_text()) for path in LIMITS if path.is_file() and path.read_text().strip().isdigit()]
    job = os.environ.get("SLURM_MEM_PER_NODE", "")  # megabytes
    return min([*found, *([int(job) * 2**20] if job.isdigit() and int(job) else [])])


class Growth:
    """Whether this process has grown past `limit` bytes (default: 90 % of those allowed) since it began.

    A process that needs as much from its start on would gain nothing by restarting: this is said once.
    """

    def __init__(self, limit: int | None = None):
        self.limit = limit or int(SHARE * allowed())
        self.steps, self.hopeless = 0, False

    def passed(self) -> bool:
        """To be asked once a step."""
        self.steps += 1
        above = not self.hopeless and resident() > self.limit
        if above and self.steps <= SETTLED:
            self.hopeless = True
            print(f"ccnet: warning: training needs more than the memory limit, {self.limit >> 20} MB, from its start:"
                  " it is not restarted when it grows; lower batch_size or crop_size", file=sys.stderr)  # fmt: skip
        return above and not self.hopeless
