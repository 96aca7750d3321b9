import os
import subprocess
import sys

import numpy as np
import pytest

from ccnet import parallel
from ccnet.launcher import OPTIONS
from tests import tiny


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """What `tests.processes` computes with one process and with two."""
    folder = tmp_path_factory.mktemp("processes")
    root = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1", "OMP_NUM_THREADS": "1"}
    for name, prefix in (("one", []), ("two", ["mpirun", *OPTIONS, "-np", "2"])):
        command = [*prefix, sys.executable, "-m", "tests.processes", str(folder / f"{name}.npz")]
        done = subprocess.run(command, capture_output=True, text=True, env=os.environ | root, timeout=900)
        assert done.returncode == 0, done.stderr
    return [dict(np.load(folder / f"{name}.npz")) for name in ("one", "two")]


def distance(one: np.ndarray, two: np.ndarray) -> float:
    return float(np.linalg.norm(one.astype(np.float64) - two) / np.linalg.norm(one))


@tiny.needs_mpi
def test_sums_over_processes_are_exact(both):
    one, two = both
    assert (int(one["ranks"]), int(two["ranks"])) == (1, 2)
    assert two["total"].tolist() == [3 * (2**60 + 1), -9]
    assert two["any"].tolist() == [True, False]


@tiny.needs_mpi
@pytest.mark.parametrize("path", ["kernel", "plain"])
def test_batch_norm_sees_the_whole_batch(both, path):
    """The kernels' statistics are added in double precision: here they are the same to the last bit."""
    one, two = both
    for name in (name for name in one if name.startswith(path)):
        if path == "kernel" and name.partition(".")[2] in ("y", "mean", "variance"):
            assert np.array_equal(one[name], two[name]), name
        assert distance(one[name], two[name]) < 1e-6, name


@tiny.needs_mpi
def test_what_is_dropped_does_not_depend_on_the_devices(both):
    one, two = both
    assert set(one["dropped"].ravel()) == {0, 2}
    assert np.array_equal(one["dropped"], two["dropped"])


@tiny.needs_mpi
@pytest.mark.parametrize("run", ["van", "resnet"])
def test_two_devices_train_as_one(both, run):
    """Accumulated and not, with few labelled pixels in one device's share. Measured: losses differ by up to 1e-6."""
    one, two = both
    np.testing.assert_allclose(two[f"{run}.losses"][:, 0], one[f"{run}.losses"][:, 0], rtol=5e-6)
    np.testing.assert_allclose(two[f"{run}.losses"][:, 1], one[f"{run}.losses"][:, 1], rtol=1e-5)
    assert distance(one[f"{run}.model"], two[f"{run}.model"]) < 2e-4
    assert distance(one[f"{run}.optimizer"], two[f"{run}.optimizer"]) < 1e-3


def test_one_process_needs_no_mpi():
    assert (parallel.RANK, parallel.RANKS) == (0, 1)
    assert parallel.total(np.int64([2**60 + 1])).tolist() == [2**60 + 1]
    assert parallel.any_of(True)
    assert not parallel.any_of(False)
    parallel.wait()
    error = ValueError()
    assert parallel.common(error) is error
