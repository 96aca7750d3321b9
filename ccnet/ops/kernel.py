"""Availability and launch of the package's C++ and CUDA kernels.

A kernel is a `.cc` file in this folder and, where a GPU benefits, also a `.cu` file, in a namespace named after the
file. Both define the same functions, so one C++ statement calls either. Jittor compiles a kernel once per statement,
dtypes and numbers of dimensions, not per size: kernels read sizes (`in0_shape2`) and parameters such as a stride
(`data["stride"]`) at run time.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from ccnet.runtime import jt

FOLDER = Path(__file__).parent


def on_cuda() -> bool:
    """Whether Jittor currently computes on a GPU."""
    return bool(jt.flags.use_cuda)


_avoided = False


@contextmanager
def without_kernels() -> Iterator[None]:
    """Context manager that disables all kernels: every layer is computed separately by plain Jittor."""
    global _avoided
    _avoided = True
    try:
        yield
    finally:
        _avoided = False


def available(source: str, *variables: jt.Var) -> bool:
    """Whether kernel `source` supports these variables: float32, on CUDA also bfloat16; CUDA needs a `.cu` file."""
    if _avoided:
        return False
    types = {"float32", "bfloat16"} if on_cuda() else {"float32"}
    there = not on_cuda() or (FOLDER / f"{source}.cu").exists()
    return there and all(str(variable.dtype) in types for variable in variables)


@cache
def _text(file: str) -> str:
    """Text of a file in this folder, with its `#include "…"` lines replaced by the included files."""
    text = (FOLDER / file).read_text(encoding="utf-8")
    return re.sub(r'^#include "(.+)"$', lambda include: _text(include[1]), text, flags=re.MULTILINE)


def launch(
    source: str,
    call: str,
    shapes: Sequence[Sequence[int]],
    dtypes: Sequence[str],
    inputs: Sequence[jt.Var],
    data: Mapping[str, float] | None = None,
) -> tuple[jt.Var, ...]:
    """Run the C++ statement `call` with `<source>.cc`, or `.cu` on CUDA; returns outputs of these shapes and dtypes.

    `call` can use `in0_p, in0_shape0 …, out0_p, …` and `data["name"]` (double). The outputs are uninitialised before
    it runs.
    """
    device, suffix = ("cuda", "cu") if on_cuda() else ("cpu", "cc")
    code = {f"{device}_header": _text(f"kernel.{suffix}") + _text(f"{source}.{suffix}"), f"{device}_src": call}
    sizes = [[int(size) for size in shape] for shape in shapes]  # Jittor does not accept NumPy's integers
    return jt.code(sizes, list(dtypes), list(inputs), data=dict(data or {}), **code)
