"""The rules of the house: what may import what, and how large a thing may be."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ccnet import cli

ROOT = Path(__file__).parents[1]
MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts): path for path in sorted((ROOT / "ccnet").rglob("*.py"))
}
# `settings` is a verb by its `run`, and what a run is besides
VERBS = {f"ccnet.{verb.replace('-', '_')}" for verb in cli.VERBS} - {"ccnet.settings"}
COMPUTING = {
    "ccnet.contenders.ours",
    "ccnet.runtime", "ccnet.predictor", "ccnet.weights", "ccnet.train", "ccnet.evaluate", "ccnet.segment",
    "ccnet.describe", "ccnet.import_weights", "ccnet.data.loader", "ccnet.convolution",
}  # fmt: skip
PYTORCH = {"ccnet.pytorch", "ccnet.contenders.theirs"}  # which the bench extra has
NUMPY_OPS = {"ccnet.ops.__init__", "ccnet.ops.metrics", "ccnet.ops.schedule", "ccnet.ops.sliding_window"}
JITTOR_FREE = {
    name
    for name in MODULES
    if name in NUMPY_OPS or not (name in COMPUTING or name.startswith(("ccnet.ops.", "ccnet.models.")))
} - {"ccnet.__main__"}


def tree(name: str) -> ast.Module:
    return ast.parse(MODULES[name].read_text(encoding="utf-8"))


def imports(name: str) -> set[str]:
    """Everything a module imports, at its top or inside its functions: `from a import b` as a and a.b."""
    found: set[str] = set()
    for node in ast.walk(tree(name)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name}: imports are absolute"
            found |= {node.module or ""} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def functions(name: str) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(tree(name)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def test_each_verb_is_a_module_with_run_and_a_test():
    for name in [*VERBS, "ccnet.settings"]:
        assert any(function.name == "run" for function in tree(name).body if isinstance(function, ast.FunctionDef))
        assert (ROOT / "tests" / f"test_{name.rpartition('.')[2]}.py").exists()


@pytest.mark.parametrize("name", MODULES)
def test_nobody_imports_a_verb(name):
    assert not imports(name) & VERBS


@pytest.mark.parametrize("name", sorted(JITTOR_FREE))
def test_jittor_stays_behind_its_door(name):
    assert not {part for part in imports(name) if part.startswith(("jittor", "ccnet.runtime"))}


def test_jittor_free_modules_do_not_load_it():
    code = f"import sys\nfor name in {sorted(JITTOR_FREE - PYTORCH)}: __import__(name)\nprint(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert not {"jittor", "jittor_utils", "ccnet.runtime", "torch"} & set(loaded.stdout.split())


@pytest.mark.parametrize("name", sorted(set(MODULES) - PYTORCH))
def test_pytorch_is_what_the_benchmark_meets_and_nothing_else(name):
    assert not {part for part in imports(name) if part.startswith("torch") or part in PYTORCH}


@pytest.mark.parametrize("name", sorted(set(MODULES) - {"ccnet.runtime"}))
def test_jittor_is_entered_through_the_runtime(name):
    assert not {part for part in imports(name) if re.match(r"jittor(_utils)?\b", part)}


@pytest.mark.parametrize("name", [name for name in MODULES if name.startswith("ccnet.ops.")])
def test_operators_know_no_files(name):
    """But for the door to our kernels, which reads their source."""
    calls = {
        node.func.id for node in ast.walk(tree(name)) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    }
    knowledge = {"pathlib", "os", "io", "shutil", "ccnet.files"} & imports(name) | {"open"} & calls
    assert knowledge == ({"pathlib"} if name == "ccnet.ops.kernel" else set())


@pytest.mark.parametrize("name", MODULES)
def test_things_are_small(name):
    assert len(MODULES[name].read_text(encoding="utf-8").splitlines()) <= 300
    for function in functions(name):
        assert function.end_lineno is not None
        assert function.end_lineno - function.lineno < 50, function.name


@pytest.mark.parametrize("name", MODULES)
def test_public_things_say_what_they_are(name):
    """Modules, classes, functions; not `execute`, which a Jittor module's class speaks for."""
    assert ast.get_docstring(tree(name)) or not tree(name).body
    public = [
        node for node in tree(name).body if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name[0] != "_"
    ]
    assert [node.name for node in public if not ast.get_docstring(node)] == []


def test_no_drawer_for_everything():
    assert not [path for path in ROOT.glob("ccnet/**/util*")]
    assert not [path for path in ROOT.glob("ccnet/**/helper*")]


@pytest.mark.parametrize(
    "path", [ROOT / "Snakefile", *sorted((ROOT / "workflow").rglob("*.smk"))], ids=lambda p: p.name
)
def test_rules_import_no_ccnet(path):
    assert not re.search(r"^\s*(import|from)\s+ccnet\b", path.read_text(), re.MULTILINE)


def test_modules_have_their_tests_where_they_are_sought():
    """ccnet/data/labels.py -> tests/data/test_labels.py; a large subject may have more files, or share one."""
    shared = {"ccnet.progress", "ccnet.__main__", "ccnet.pytorch"}
    for name, path in MODULES.items():
        folder = ROOT / "tests" / path.parent.relative_to(ROOT / "ccnet")
        if path.name != "__init__.py" and name not in shared and not path.name.startswith("street_"):
            assert (folder / f"test_{path.name}").exists() or folder.name in ("models", "contenders"), name
