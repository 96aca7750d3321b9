"""One side of a benchmark, this project or PyTorch, in a process of its own: `python -m ccnet.contenders '{…}'`.

It imports one framework, builds the case, does it twice to warm up and leaves its result to be compared. Then it does
it once for each line of standard input and answers with the seconds, and at the end of input with its memory in bytes.
Waiting it is asleep, so that the sides of a case can take turns on the same cores.
"""

import importlib
import json
import os
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image


def arrays(results: Iterable[Any]) -> list[np.ndarray]:
    """What a run computed, as arrays; of a folder, the label maps in it."""
    found: list[np.ndarray] = []
    for result in results:
        if isinstance(result, Path):
            found += [np.asarray(Image.open(file)) for file in sorted(result.glob("*.png"))]
        else:
            found.append(np.atleast_1d(result.numpy()))
    return found


def memory(key: str) -> int:
    """VmRSS or VmHWM, what this process has in memory and the most it had, bytes."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition(f"{key}:")[2].split()[0]) * 1024


def main(kind: str, options: dict, side: str, threads: int, output: str) -> None:
    """Build, warm up, run, answer. Standard output is the answers' alone: what a command prints goes to stderr."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    framework, _, variant = side.partition(" ")
    module = importlib.import_module("ccnet.contenders." + ("ours" if framework == "ccnet" else "theirs"))
    contender = module.Contender(variant, threads)
    imported = memory("VmRSS")
    work = getattr(contender, kind)(**options)
    built = memory("VmRSS")
    for _ in range(2):
        results = work()
    np.savez(output, *arrays(results))
    del results
    print(json.dumps({"flops": contender.flops}), file=answers)
    Path("/proc/self/clear_refs").write_text("5")  # resets VmHWM
    for _ in sys.stdin:
        start = time.perf_counter()
        results = work()
        print(json.dumps({"seconds": time.perf_counter() - start}), file=answers)
        del results
    print(json.dumps({"imported": imported, "built": built, "peak": memory("VmHWM")}), file=answers)


if __name__ == "__main__":
    main(**json.loads(sys.argv[1]))
