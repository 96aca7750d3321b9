"""Faster compilation of Jittor and of its operators: hundreds of files that spend their time on the same headers."""

import hashlib
import re
import shlex
import subprocess
import tempfile
from pathlib import Path

# What most of Jittor's own files include
CORE = """#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstring>
#include <fstream>
#include <functional>
#include <iomanip>
#include <iostream>
#include <limits>
#include <list>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <sstream>
#include <string>
#include <thread>
#include <unordered_map>
#include <unordered_set>
#include <vector>
"""
# Jittor 1.3.11's own flags, which a compiled header must fit
CORE_FLAGS = "-Wall -Wno-unknown-pragmas -std=c++14 -fPIC -march=native -fdiagnostics-color=always"
# What the source of an operator includes, by what Jittor 1.3.11 generates; JIT changes what the headers declare.
OPERATOR = """#define JIT 1
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


def with_header(compiler: str, flags: str, text: str, folder: Path) -> str:
    """`flags` and, in place of an earlier header, the one of this text, compiled for this compiler and `flags`.

    The header is in `folder`. GCC takes the compiled one beside it if it fits the other flags, else the header itself.
    Without a header if it cannot be compiled.
    """
    flags = re.sub(r" -include '[^']*/ccnet-[0-9a-f]{16}\.h' ", "", flags)  # GCC takes one compiled header
    header = precompiled_header(compiler, flags, text, folder)
    return f"{flags} -include '{header}' " if header else flags


def precompiled_header(compiler: str, flags: str, text: str, folder: Path) -> Path | None:
    """The path in `folder` of a header of this text, compiled beside it; None if it cannot be compiled."""
    digest = hashlib.sha256(f"{compiler} {flags} {text}".encode()).hexdigest()[:16]
    header = folder / f"ccnet-{digest}.h"
    compiled = folder / f"{header.name}.gch"
    if compiled.exists():
        return header
    folder.mkdir(parents=True, exist_ok=True)
    _place(header, text)
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
