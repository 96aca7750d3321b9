"""Faster compilation of Jittor's operators: each is a file of its own that spends its time on the same headers."""

import hashlib
import shlex
import subprocess
import tempfile
from pathlib import Path

# What the source of an operator includes, by what Jittor 1.3.11 generates; JIT changes what the headers declare.
HEADER = """#define JIT 1
#include "fused_op.h"
#include "var.h"
#include "executor.h"
#include "ops/op_register.h"
#include "ops/array_op.h"
#include "ops/binary_op.h"
#include "ops/broadcast_to_op.h"
#include "ops/code_op.h"
#include "ops/reduce_op.h"
#include "ops/reindex_op.h"
#include "ops/reindex_reduce_op.h"
#include "ops/ternary_op.h"
#include "ops/unary_op.h"
#include "misc/cpu_math.h"
#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <vector>
"""
# Jittor compiles by `PYTHON …/asm_tuner.py --cc_path=COMPILER SOURCE FLAGS`: Python starts, and compiles to assembly
# first, for sources that mark places to edit there. The others are compiled directly.
SCRIPT = """case $1 in
*/asm_tuner.py)
    if ! grep -q @begin "$3"; then
        compiler=${2#--cc_path=}
        shift 2
        exec "$compiler" "$@"
    fi ;;
esac
exec "$CCNET_PYTHON" "$@"
"""
PYTHON = "CCNET_PYTHON"  # environment variable: the interpreter; it is not in the script, which is in every cache key


def precompiled_header(compiler: str, flags: str, folder: Path) -> Path | None:
    """The path of `HEADER` in `folder`, compiled for this compiler and these flags, for the flag -include.

    GCC takes the compiled header beside it if it fits the other flags, else the header itself. None if it cannot be
    compiled.
    """
    digest = hashlib.sha256(f"{compiler} {flags} {HEADER}".encode()).hexdigest()[:16]
    header = folder / f"ccnet-{digest}.h"
    compiled = folder / f"{header.name}.gch"
    if compiled.exists():
        return header
    _place(header, HEADER)
    kept = [flag for flag in shlex.split(flags) if not flag.startswith(("-l", "-L", "-shared"))]
    with tempfile.TemporaryDirectory(dir=folder) as temporary:  # several processes may compile it at once
        made = Path(temporary, compiled.name)
        command = [compiler, *kept, "-x", "c++-header", str(header), "-o", str(made)]
        if subprocess.run(command, capture_output=True).returncode:
            return None
        made.replace(compiled)
    return header


def script(folder: Path) -> Path:
    """The path of `SCRIPT` in `folder`, for Jittor's flag `python_path`."""
    path = folder / "ccnet-compile.sh"
    if not path.exists() or path.read_text() != SCRIPT:
        _place(path, SCRIPT)
    return path


def _place(path: Path, text: str) -> None:
    with tempfile.TemporaryDirectory(dir=path.parent) as temporary:
        made = Path(temporary, path.name)
        made.write_text(text)
        made.replace(path)
