import os
import subprocess
from pathlib import Path

import pytest

from ccnet.machine import compiling
from ccnet.runtime import jt

TEXT = "#define JIT 1\n#include <vector>\n"
FLAGS = "-std=c++14 -O1 -fPIC -shared -lstdc++"


@pytest.fixture
def header(tmp_path) -> Path | None:
    return compiling.precompiled_header("g++", FLAGS, TEXT, tmp_path)


def included(header: Path, *flags: str) -> list[str]:
    """What GCC reads for a file that needs the header; a line with `!` is a precompiled one."""
    (header.parent / "a.cc").write_text("#define JIT 1\n#include <vector>\nstd::vector<int> a;\n")
    command = ["g++", "-std=c++14", "-O1", "-fPIC", *flags, "-H", "-include", header, "-c", "a.cc", "-o", "a.o"]
    return subprocess.run(command, cwd=header.parent, capture_output=True, text=True, check=True).stderr.splitlines()


def test_the_header_is_read_compiled_where_it_fits(header):
    assert included(header)[0] == f"! {header}.gch"
    assert not [line for line in included(header, "-ffast-math") if line.startswith("!")]


def test_it_is_compiled_once_for_its_flags(header, tmp_path):
    compiled = Path(f"{header}.gch").stat().st_mtime_ns
    assert compiling.precompiled_header("g++", FLAGS, TEXT, tmp_path) == header
    assert Path(f"{header}.gch").stat().st_mtime_ns == compiled
    assert compiling.precompiled_header("g++", f"{FLAGS} -g", TEXT, tmp_path) != header
    assert not [path for path in tmp_path.iterdir() if path.is_dir()]


def test_where_it_cannot_be_compiled_there_is_none(tmp_path):
    assert compiling.with_header("g++", "-std=none", TEXT, tmp_path) == "-std=none"
    assert not list(tmp_path.glob("*.gch"))


def test_one_header_takes_the_place_of_another(header, tmp_path):
    flags = compiling.with_header("g++", FLAGS, "#include <vector>\n", tmp_path)
    assert flags.startswith(f"{FLAGS} -include '{tmp_path}/ccnet-")
    assert compiling.with_header("g++", f"{flags}-g", TEXT, tmp_path) == compiling.with_header(
        "g++", f"{FLAGS}-g", TEXT, tmp_path
    )


def test_jittor_itself_and_its_operators_are_compiled_with_headers_that_fit():
    """The commands that made an object of Jittor's and an operator, again."""
    folder = Path(jt.flags.cache_path)
    jt.ones(3).sum().sync()
    for name in ("obj_files/executor.cc.o.key", "jit/*.so.key"):
        command = next(folder.glob(name)).read_text().splitlines()[0]
        made = subprocess.run(["sh", "-c", f"{command} -H -fsyntax-only"], capture_output=True, text=True)
        assert made.stderr.startswith("! "), command


@pytest.mark.parametrize(
    ("program", "source", "said"),
    [
        ("x/asm_tuner.py", "int a;", "compiler: a.cc -o a.so"),
        ("x/asm_tuner.py", "// @begin replace", "python: x/asm_tuner.py --cc_path={} a.cc -o a.so"),
        ("x/dlink_compiler.py", "int a;", "python: x/dlink_compiler.py --cc_path={} a.cc -o a.so"),
    ],
)
def test_python_is_started_only_where_it_is_needed(tmp_path, program, source, said):
    (tmp_path / "a.cc").write_text(source)
    for name in ("compiler", "python"):
        (tmp_path / name).write_text(f'#!/bin/sh\necho {name}: "$@"\n')
        (tmp_path / name).chmod(0o755)
    script, compiler = compiling.script(tmp_path), tmp_path / "compiler"
    done = subprocess.run(
        ["/bin/sh", script, program, f"--cc_path={compiler}", "a.cc", "-o", "a.so"], cwd=tmp_path, text=True,
        env=os.environ | {compiling.PYTHON: str(tmp_path / "python")}, capture_output=True, check=True,
    )  # fmt: skip
    assert done.stdout.strip() == said.format(compiler)


def test_an_operator_is_compiled_so():
    size = abs(hash(os.urandom(8))) % 10**6 + 2  # of a constant in the code: an operator that no cache has
    (jt.code([1], "float32", [jt.zeros(1)], cpu_src=f"@out0(0) = {size};")).sync()
    keys = Path(jt.flags.cache_path, "jit").glob("*.key")
    newest = max(keys, key=lambda path: path.stat().st_mtime_ns).read_text()
    command = newest.splitlines()[0]
    assert "ccnet-compile.sh" in command
    (header,) = [
        Path(word.strip("'")) for word in command.split() if "/ccnet-" in word and word.strip("'")[-2:] == ".h"
    ]
    assert Path(f"{header}.gch").exists()
