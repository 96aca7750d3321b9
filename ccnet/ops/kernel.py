"""The door to our own C++ kernels: where they apply, and how one is launched.

A kernel lives in a `.cc` file of this folder, in a namespace of the file's name. Jittor compiles it once for
each statement that calls it and for the types and numbers of dimensions it is given, not for sizes: kernels
read sizes (`in0_shape2`) and numbers such as a stride (`data["stride"]`) when they run.
"""

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

from ccnet.runtime import jt

FOLDER = Path(__file__).parent


def applies(*variables: jt.Var) -> bool:
    """Whether our kernels can take these: Jittor runs on the CPU, and every Var is float32."""
    return not jt.flags.use_cuda and all(variable.dtype == "float32" for variable in variables)


@cache
def _text(name: str) -> str:
    return (FOLDER / f"{name}.cc").read_text(encoding="utf-8")


def launch(
    source: str,
    call: str,
    shapes: Sequence[Sequence[int]],
    dtypes: Sequence[str],
    inputs: Sequence[jt.Var],
    data: Mapping[str, float] | None = None,
) -> tuple[jt.Var, ...]:
    """Outputs of these shapes and dtypes, filled by the C++ statement `call` on `<source>.cc`.

    `call` sees `in0_p, in0_shape0 …, out0_p, …` and `data["name"]` (double). Outputs arrive uninitialised.
    """
    header = _text("kernel") + _text(source)
    sizes = [[int(size) for size in shape] for shape in shapes]  # Jittor takes no integers of NumPy
    return jt.code(sizes, list(dtypes), list(inputs), cpu_header=header, cpu_src=call, data=dict(data or {}))
