"""Every extra of pyproject.toml can be installed beside what the package itself asks for."""

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

PROJECT = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
HELP = "no package index answers pip: with a network, or PIP_INDEX_URL of one within reach, this is tested"


def pip(*arguments: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "pip", *arguments, "--retries", "1", "--disable-pip-version-check"]
    return subprocess.run(command, capture_output=True, text=True)


@pytest.fixture(scope="module")
def index() -> None:
    if pip("index", "versions", "snakemake-executor-plugin-slurm").returncode:
        pytest.skip(HELP)


@pytest.mark.parametrize("extra", EXTRAS)
def test_an_extra_resolves(index: None, extra: str):
    done = pip("install", "--dry-run", "--quiet", *PROJECT["dependencies"], *EXTRAS[extra])
    assert done.returncode == 0, done.stderr
