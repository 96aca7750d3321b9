"""`ccnet efficiency`: what criss-cross attention costs beside the non-local block, by the size of the map.

Both are measured on square maps of `CHANNELS` channels, forward, on the CPU, each in a process of its own.
"""

import csv
import statistics
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import nullcontext
from multiprocessing import get_context
from pathlib import Path

from ccnet import provenance, runtime
from ccnet.contenders import memory
from ccnet.files import atomic, check_writable, write_text
from ccnet.machine import examine
from ccnet.models.ccnet import ATTENTION
from ccnet.ops import flops, kernel
from ccnet.page import efficiency
from ccnet.progress import progress
from ccnet.results import Efficiency
from ccnet.runtime import jt

# Attention, loops, and whether it is computed by kernels. Plain Jittor stores the non-local block's weights of all
# pairs, several arrays of them
HEADS = {"R = 1": ("rcca", 1, True), "R = 2": ("rcca", 2, True), "R = 3": ("rcca", 3, True),
         "non-local": ("non_local", 1, True), "non-local, stored": ("non_local", 1, False)}  # fmt: skip
SIDES = (33, 65, 97, 129, 161, 193)  # positions; 97 is that of the paper's crops of 769 pixels at stride 8
CHANNELS, WARMUPS, STORED = 512, 1, 129


def run(*, out: Path, sides: Sequence[int] = SIDES, repeats: int = 3) -> None:
    """Measure every head on maps of these sides; write the table `out` (CSV) and, beside it, the figure (SVG)."""
    check_writable(out)
    rows = []
    for head, side in progress(list(cases(sides)), desc="efficiency", unit="case"):
        # a process of its own, since Jittor keeps memory that it has allocated
        with ProcessPoolExecutor(1, get_context("spawn")) as process:
            rows.append(process.submit(measure, head, side, repeats).result())
    with atomic(out) as path, path.open("w", newline="") as file:
        table = csv.DictWriter(file, Efficiency.model_fields)
        table.writeheader()
        table.writerows(row.model_dump() for row in rows)
    write_text(out.with_suffix(".svg"), efficiency.svg(rows, "white"))


def cases(sides: Sequence[int]) -> Iterator[tuple[str, int]]:
    """Yield the heads on each map. Weights of all pairs are stored up to a side of 129: 1.1 GB an array."""
    for side in sides:
        for head in HEADS:
            if side <= STORED or head != "non-local, stored":
                yield head, side


def measure(head: str, side: int, repeats: int) -> Efficiency:
    """A row of the table, measured in this process: FLOPs, the median of the times, and the memory added."""
    attention, loops, fused = HEADS[head]
    runtime.select("cpu")
    module = ATTENTION[attention](CHANNELS)

    def apply(x: jt.Var) -> float:
        start, y = time.perf_counter(), x
        with jt.no_grad(), nullcontext() if fused else kernel.without_kernels():
            for _ in range(loops):
                y = module(y)
            y.sync()
        return time.perf_counter() - start

    apply(jt.randn(1, CHANNELS, 8, 8))  # compiles
    x = jt.randn(1, CHANNELS, side, side)
    jt.sync_all(True)
    before = memory.of_process("VmRSS")
    memory.forget_peak()
    seconds = [apply(x) for _ in range(WARMUPS + repeats)][WARMUPS:]
    found = {
        "gflops": loops * sum(flops.count(module, (1, CHANNELS, side, side)).values()) / 1e9,
        "seconds": statistics.median(seconds),
        "megabytes": (memory.of_process("VmHWM") - before) / 1e6,
    }
    figures = {name: float(f"{value:.4g}") for name, value in found.items()}
    return Efficiency(
        head=head, side=side, **figures, processor=examine.processor() or "", threads=provenance.threads() or 0
    )
