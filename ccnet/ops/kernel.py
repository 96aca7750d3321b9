"""The door to our own C++ and CUDA kernels: where they apply, and how one is launched.

A kernel lives in a `.cc` file of this folder and, where a GPU gains by it, in a `.cu` file too, in a namespace of the
file's name. Both have the same functions, so that one statement calls either. Jittor compiles it once for each such
statement and for the types and numbers of dimensions it is given, not for sizes: kernels read sizes (`in0_shape2`) and
numbers such as a stride (`data["stride"]`) when they run.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from ccnet.runtime import jt

FOLDER = Path(__file__).parent


def on_cuda() -> bool:
    """Whether Jittor computes on a GPU at this moment."""
    return bool(jt.flags.use_cuda)


_avoided = False


@contextmanager
def without_kernels() -> Iterator[None]:
    """Meanwhile no kernel applies: every layer is computed on its own, by plain Jittor."""
    global _avoided
    _avoided = True
    try:
        yield
    finally:
        _avoided = False


def available(source: str, *variables: jt.Var) -> bool:
    """Whether kernel `source` can take these: all float32; or bfloat16, on CUDA. On CUDA it must have a `.cu` file."""
    if _avoided:
        return False
    types = {"float32", "bfloat16"} if on_cuda() else {"float32"}
    there = not on_cuda() or (FOLDER / f"{source}.cu").exists()
    return there and all(str(variable.dtype) in types for variable in variables)


@cache
def _text(file: str) -> str:
    """A file of this folder, with those it includes in the place where it does."""
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
    """Outputs of these shapes and dtypes, filled by the C++ statement `call` on `<source>.cc`, or `.cu` on CUDA.

    `call` sees `in0_p, in0_shape0 …, out0_p, …` and `data["name"]` (double). Outputs arrive uninitialised.
    """
    device, suffix = ("cuda", "cu") if on_cuda() else ("cpu", "cc")
    code = {f"{device}_header": _text(f"kernel.{suffix}") + _text(f"{source}.{suffix}"), f"{device}_src": call}
    sizes = [[int(size) for size in shape] for shape in shapes]  # Jittor takes no integers of NumPy
    return jt.code(sizes, list(dtypes), list(inputs), data=dict(data or {}), **code)
