"""The paper's claim: criss-cross attention takes a fraction of the non-local block's FLOPs and memory.

`python docs/claims/efficiency.py` measures both on square maps of 512 channels, forward, each in a process of its own,
and writes efficiency.csv and efficiency.svg beside itself.
"""

import csv
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path

import altair as alt

from ccnet.files import atomic
from ccnet.progress import progress

# Attention, loops, and whether it is computed by kernels. Plain Jittor stores the non-local block's weights of all
# pairs, several arrays of them
HEADS = {"R = 1": ("rcca", 1, True), "R = 2": ("rcca", 2, True), "R = 3": ("rcca", 3, True),
         "non-local": ("non_local", 1, True), "non-local, stored": ("non_local", 1, False)}  # fmt: skip
SIDES = (33, 65, 97, 129, 161, 193)  # positions; 97 is that of the paper's crops of 769 pixels at stride 8
CHANNELS, WARMUPS, STORED = 512, 1, 129
COLOURS = ["#0072b2", "#e69f00", "#d55e00", "#009e73", "#000000"]  # Okabe and Ito's
MEASURES = {"gflops": "GFLOPs", "seconds": "seconds", "megabytes": "MB beyond the input"}


def measure(attention: str, loops: int, fused: bool, side: int, repeats: int) -> dict[str, float]:
    """The `MEASURES` of `loops` applications of an attention to one map, in this process: time is the median."""
    from ccnet import runtime
    from ccnet.contenders import memory
    from ccnet.models.ccnet import ATTENTION
    from ccnet.ops import flops, kernel
    from ccnet.runtime import jt

    runtime.select("cpu")
    module = ATTENTION[attention](CHANNELS)
    counted = loops * sum(flops.count(module, (1, CHANNELS, side, side)).values())

    def run(x: jt.Var) -> float:
        start, y = time.perf_counter(), x
        with jt.no_grad(), nullcontext() if fused else kernel.without_kernels():
            for _ in range(loops):
                y = module(y)
            y.sync()
        return time.perf_counter() - start

    run(jt.randn(1, CHANNELS, 8, 8))  # compiles
    x = jt.randn(1, CHANNELS, side, side)
    jt.sync_all(True)
    before = memory.of_process("VmRSS")
    memory.forget_peak()
    seconds = [run(x) for _ in range(WARMUPS + repeats)][WARMUPS:]
    added = memory.of_process("VmHWM") - before
    return {"gflops": counted / 1e9, "seconds": statistics.median(seconds), "megabytes": added / 1e6}


def cases(sides: Sequence[int]) -> Iterator[tuple[str, int]]:
    """Yield the heads on each map. Weights of all pairs are stored up to a side of 129: 1.1 GB an array."""
    for side in sides:
        for head in HEADS:
            if side <= STORED or head != "non-local, stored":
                yield head, side


def measured(head: str, side: int, repeats: int) -> dict:
    """A row of the table. A process of its own measures, since Jittor keeps memory that it has allocated."""
    arguments = json.dumps([*HEADS[head], side, repeats])
    done = subprocess.run([sys.executable, __file__, arguments], stdout=subprocess.PIPE, check=True)
    found = json.loads(done.stdout.splitlines()[-1])
    return {"head": head, "side": side, **{name: float(f"{value:.4g}") for name, value in found.items()}}


def figure(rows: list[dict]) -> alt.HConcatChart:
    """A logarithmic chart of each measure by the side of the map."""
    charts = [
        alt.Chart(alt.Data(values=rows), width=200, height=220)
        .mark_line(point=True)
        .encode(
            alt.X("side:Q", title="side of the map").axis(values=SIDES).scale(domain=[20, 200]),
            alt.Y(f"{name}:Q", title=title).scale(type="log"),
            alt.Color("head:N", title=None).scale(domain=list(HEADS), range=COLOURS),
            alt.StrokeDash("head:N", legend=None, sort=list(HEADS)),
        )
        for name, title in MEASURES.items()
    ]
    return alt.hconcat(*charts, background="white")


def main(folder: Path, sides: tuple[int, ...] = SIDES, repeats: int = 3) -> None:
    """Measure every head on maps of these sides; write efficiency.csv and efficiency.svg to `folder`."""
    chosen = list(cases(sides))
    rows = [measured(head, side, repeats) for head, side in progress(chosen, desc="efficiency", unit="case")]
    with atomic(folder / "efficiency.csv") as path, path.open("w", newline="") as file:
        table = csv.DictWriter(file, rows[0])
        table.writeheader()
        table.writerows(rows)
    with atomic(folder / "efficiency.svg") as path:
        figure(rows).save(path)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(json.dumps(measure(*json.loads(sys.argv[1]))))
    else:
        main(Path(__file__).parent)
