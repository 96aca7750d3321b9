import mmap

import pytest

from ccnet.training import memory
from ccnet.training.memory import SETTLED, Growth, allowed, resident


def test_resident_memory_is_what_was_touched():
    before = resident()
    held = mmap.mmap(-1, 2**26)  # new pages: an allocation may take freed ones, which are counted already
    held.write(b"x" * 2**26)
    assert 0.9 * 2**26 < resident() - before < 1.5 * 2**26


def test_the_least_of_machine_container_and_job_is_allowed(tmp_path, monkeypatch):
    monkeypatch.delenv("SLURM_MEM_PER_NODE", raising=False)
    monkeypatch.setattr(memory, "LIMITS", [tmp_path / "memory.max"])
    machine = allowed()
    (tmp_path / "memory.max").write_text("max\n")
    assert allowed() == machine
    (tmp_path / "memory.max").write_text(f"{2**30}\n")
    assert allowed() == 2**30
    monkeypatch.setenv("SLURM_MEM_PER_NODE", "512")
    assert allowed() == 2**29
    assert Growth().limit == int(0.9 * 2**29)


@pytest.fixture
def sizes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """What `resident` is to say from now on, the last for ever."""
    values = [100]
    monkeypatch.setattr(memory, "resident", lambda: values.pop(0) if len(values) > 1 else values[0])
    return values


def test_growth_past_the_limit_is_told(sizes):
    growth = Growth(150)
    assert not any(growth.passed() for _ in range(SETTLED + 5))
    sizes[:] = [150, 151]
    assert [growth.passed(), growth.passed()] == [False, True]


def test_a_limit_that_was_passed_from_the_start_is_said_and_restarts_nothing(sizes, capsys):
    growth = Growth(50)
    assert not any(growth.passed() for _ in range(SETTLED + 5))
    assert capsys.readouterr().err.count("needs more than the memory limit") == 1
