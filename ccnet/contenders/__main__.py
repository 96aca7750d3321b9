"""One side of a benchmark, this project or PyTorch, in its own process: `python -m ccnet.contenders '{…}'`.

It imports one framework, builds the case, runs it twice as warm-up and saves the result for comparison. Then it runs
the case once per line of standard input and prints the seconds; at the end of input it prints its memory in bytes. On a
GPU memory is read before the first answer, before later sides start. The process sleeps while it waits, so the sides
of a case can take turns on the same cores.
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

# Seconds of busy waiting before a run: a process that has slept regains its cores gradually, which added 20 ms to a
# network of 60 ms
AWAKE = 0.05


def arrays(results: Iterable[Any]) -> list[np.ndarray]:
    """The results of a run as arrays; a folder yields its label maps (`*.png`, sorted)."""
    found: list[np.ndarray] = []
    for result in results:
        if isinstance(result, Path):
            found += [np.asarray(Image.open(file)) for file in sorted(result.glob("*.png"))]
        else:
            result = result.float() if "bfloat16" in str(result.dtype) else result  # not supported by NumPy
            found.append(np.atleast_1d(result.cpu().numpy()))
    return found


def main(kind: str, options: dict, side: str, device: str, threads: int, output: str) -> None:
    """Build, warm up, run, answer. Only answers go to standard output; other output is redirected to stderr."""
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
