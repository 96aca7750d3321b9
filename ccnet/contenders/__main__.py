"""One side of a benchmark, this project or PyTorch, in a process of its own: `python -m ccnet.contenders '{…}'`.

It imports one framework, builds the case, does it twice to warm up and leaves its result to be compared. Then it does
it once for each line of standard input and answers with the seconds, and at the end of input with its memory in bytes.
On a GPU that is read before the first answer, while the sides that come later are not there yet.
Waiting it is asleep, so that the sides of a case can take turns on the same cores.
"""

import importlib
import json
import os
import sys
import time
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ccnet.contenders import memory

# Seconds of being busy before a run: a process that has slept gets its cores back step by step, which cost a network of
# 60 ms another 20
AWAKE = 0.05


def arrays(results: Iterable[Any]) -> list[np.ndarray]:
    """What a run computed, as arrays; of a folder, the label maps in it."""
    found: list[np.ndarray] = []
    for result in results:
        if isinstance(result, Path):
            found += [np.asarray(Image.open(file)) for file in sorted(result.glob("*.png"))]
        else:
            result = result.float() if "bfloat16" in str(result.dtype) else result  # which NumPy does not know
            found.append(np.atleast_1d(result.cpu().numpy()))
    return found


def main(kind: str, options: dict, side: str, device: str, threads: int, output: str) -> None:
    """Build, warm up, run, answer. Standard output is the answers' alone: what a command prints goes to stderr."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    framework, _, variant = side.partition(" ")
    module = importlib.import_module("ccnet.contenders." + ("ours" if framework == "ccnet" else "theirs"))
    contender = module.Contender(variant, device, threads)
    now = memory.of_gpu if device == "cuda" else partial(memory.of_process, "VmRSS")
    imported = now()
    work = getattr(contender, kind)(**options)
    built = now()
    for _ in range(2):
        results = work()
    peak = now()
    np.savez(output, *arrays(results))
    del results
    print(json.dumps({"flops": contender.flops}), file=answers)
    memory.forget_peak()
    for _ in sys.stdin:
        awake = time.perf_counter() + AWAKE
        while time.perf_counter() < awake:
            pass
        start = time.perf_counter()
        results = work()
        print(json.dumps({"seconds": time.perf_counter() - start}), file=answers)
        del results
    peak = peak if device == "cuda" else memory.of_process("VmHWM")
    print(json.dumps({"imported": imported, "built": built, "peak": peak}), file=answers)


if __name__ == "__main__":
    main(**json.loads(sys.argv[1]))
