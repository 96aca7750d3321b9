import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TARGETS = {"fetch", "prepare", "train", "evaluate", "segment", "report"}


@dataclass(frozen=True)
class Workplace:
    """A folder that Snakemake runs in, and where its commands come from (None: the package itself)."""

    folder: Path
    stand_in: Path | None = None

    def overlay(self, text: str) -> Path:
        path = self.folder / "overlay.yaml"
        path.write_text(text)
        return path

    def command(self, *arguments: str | Path, overlays: tuple[str | Path, ...] = ()) -> list[str]:
        # No --resources: it is the profile that sees to the GPU.
        files = [ROOT / "config.yaml", *(ROOT / overlay for overlay in overlays)]
        options = ["--cores", "8", "--directory", self.folder, "--configfile", *files]
        return [sys.executable, "-m", "snakemake", *map(str, [*arguments, *options])]

    def environment(self) -> dict[str, str]:
        return os.environ | ({"PYTHONPATH": str(self.stand_in)} if self.stand_in else {})

    def snakemake(self, *arguments: str | Path, overlays: tuple[str | Path, ...] = ()) -> subprocess.CompletedProcess:
        command = self.command(*arguments, overlays=overlays)
        return subprocess.run(command, cwd=ROOT, env=self.environment(), capture_output=True, text=True, timeout=1200)

    def jobs(self, *arguments: str | Path, overlays: tuple[str | Path, ...] = ()) -> set[str]:
        """What would run: rule names, each with its run, its folder or its shard."""
        done = self.snakemake("--dry-run", *arguments, overlays=overlays)
        assert done.returncode == 0, done.stderr
        return set(_jobs(done.stdout + done.stderr))

    def calls(self) -> list[str]:
        return (self.folder / "calls.log").read_text().splitlines()


def _jobs(text: str):
    for rule, details in re.findall(r"^(?:local)?(?:rule|checkpoint) (\w+):\n((?: +.*\n)*)", text, re.MULTILINE):
        wildcards = re.search(r"wildcards: (.*)", details)
        named = dict(item.split("=", 1) for item in wildcards[1].split(", ")) if wildcards else {}
        names = [named[key] for key in ("run", "folder", "protocol", "split", "shard") if key in named]
        if rule not in TARGETS:
            yield " ".join([rule, *names])


@pytest.fixture(scope="session")
def stand_in(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for PYTHONPATH whose `ccnet` only makes the files that are expected of it."""
    folder = tmp_path_factory.mktemp("stand_in")
    (folder / "ccnet").mkdir()
    (folder / "ccnet" / "__init__.py").touch()
    shutil.copy(Path(__file__).with_name("stand_in.py"), folder / "ccnet" / "cli.py")
    return folder


@pytest.fixture
def workplace(tmp_path: Path, stand_in: Path) -> Workplace:
    """An empty folder."""
    return Workplace(tmp_path, stand_in)


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory, stand_in: Path) -> Workplace:
    """A folder in which everything has been made once; for looking only."""
    workplace = Workplace(tmp_path_factory.mktemp("finished"), stand_in)
    (workplace.folder / "meet").touch()
    done = workplace.snakemake()
    assert done.returncode == 0, done.stderr
    return workplace


@pytest.fixture
def copy(finished: Workplace, tmp_path: Path) -> Workplace:
    """A copy of the finished folder, to change."""
    folder = shutil.copytree(finished.folder, tmp_path / "copy")
    return Workplace(folder, finished.stand_in)
