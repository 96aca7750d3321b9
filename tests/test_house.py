"""The rules of the house that no tool keeps. Import contracts and banned imports stand in pyproject.toml."""

import ast
import re
import subprocess
import sys
from pathlib import Path

from ccnet import cli

ROOT = Path(__file__).parents[1]
MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts): path for path in sorted((ROOT / "ccnet").rglob("*.py"))
}
TREES = {name: ast.parse(path.read_text(encoding="utf-8")) for name, path in MODULES.items()}


def test_the_import_contracts_are_kept():
    done = subprocess.run([Path(sys.executable).with_name("lint-imports")], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_each_command_is_a_module_with_run_and_a_test():
    commands = {f"ccnet.commands.{command.replace('-', '_')}" for command in cli.COMMANDS}
    assert commands == {name for name in MODULES if re.fullmatch(r"ccnet\.commands\.[a-z]\w*", name)}
    for name in commands:
        assert "run" in {node.name for node in TREES[name].body if isinstance(node, ast.FunctionDef)}, name
        assert (ROOT / f"tests/commands/test_{name.rpartition('.')[2]}.py").exists(), name


def test_things_are_small():
    for name, tree in TREES.items():
        assert len(MODULES[name].read_text(encoding="utf-8").splitlines()) <= 300, name
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                assert (node.end_lineno or 0) - node.lineno < 50, f"{name}.{node.name}"


def test_public_things_say_what_they_are():
    """Modules, classes, functions; not `execute`, which a Jittor module's class speaks for."""
    for name, tree in TREES.items():
        assert ast.get_docstring(tree) or not tree.body, name
        for node in tree.body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
                assert ast.get_docstring(node), f"{name}.{node.name}"


def test_no_drawer_for_everything():
    assert not [path for path in ROOT.glob("ccnet/**/util*")]
    assert not [path for path in ROOT.glob("ccnet/**/helper*")]


def test_rules_import_no_ccnet():
    for path in [ROOT / "Snakefile", *(ROOT / "workflow/rules").iterdir()]:
        if path.is_file() and path.suffix in ("", ".smk", ".py"):
            assert not re.search(r"^\s*(import|from)\s+ccnet\b", path.read_text(), re.MULTILINE), path


def test_modules_have_their_tests_where_they_are_sought():
    """ccnet/data/labels.py -> tests/data/test_labels.py; the networks, the benchmark's sides and the streets share."""
    shared = {"ccnet.progress", "ccnet.__main__"}
    for name, path in MODULES.items():
        folder = ROOT / "tests" / path.parent.relative_to(ROOT / "ccnet")
        if path.name != "__init__.py" and name not in shared and folder.name not in ("models", "contenders", "streets"):
            assert (folder / f"test_{path.name}").exists(), name
