"""What several processes compute together: `python -m tests.processes OUT.npz`, alone or under mpirun.

Each process takes its share of the same batches; the first writes what all must agree on, and the shares of all.
"""

import sys

import numpy as np

from ccnet import parallel
from ccnet.ops import kernel
from ccnet.ops.batch_norm import BatchNorm
from ccnet.ops.drop import DropPath
from ccnet.runtime import jt
from ccnet.training.trainer import Trainer
from tests import tiny

STEPS = 3  # rounding grows fast in a ResNet: by the sixth step to a hundredth of the gradient's norm
RUNS = {
    "van": {"drop_path": 0.2, "accumulate": 2},
    "resnet": {"backbone": "resnet18", "optimizer": "sgd", "learning_rate": 0.0005, "weight_decay": 0.0005},
}


def share(array: np.ndarray, parts: int = 1) -> np.ndarray:
    """This process's share of each of the parts of a batch."""
    shares = array.reshape(parts, parallel.RANKS, -1, *array.shape[1:])
    return np.concatenate(shares[:, parallel.RANK])


def joined(array: np.ndarray) -> np.ndarray:
    """The shares of all processes one after the other."""
    whole = np.zeros((parallel.RANKS, *array.shape), array.dtype)
    whole[parallel.RANK] = array
    return np.concatenate(parallel.total(whole))


def batch(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Four crops, of which the first half has few labelled pixels and the last only one class."""
    images, labels = (
        np.stack(arrays) for arrays in zip(*(tiny.draw(4 * seed + i, 64, 64) for i in range(4)), strict=True)
    )
    labels[:2, 5:] = 255
    labels[3, labels[3] != 1] = 255
    return images.transpose(0, 3, 1, 2), labels


def normalised(name: str) -> dict[str, np.ndarray]:
    """Batch norm and its gradients, for a mean that is large beside the deviation."""
    rng = np.random.default_rng(0)
    x, residual, weight = (rng.standard_normal((4, 5, 9, 7)).astype(np.float32) for _ in range(3))
    norm = BatchNorm(5)
    norm.train()
    inputs = [jt.array(share(30 + 0.1 * x)), jt.array(share(residual))]
    y = norm(*inputs, slope=0.01)
    gradients = jt.grad((y * jt.array(share(weight))).sum(), [*inputs, norm.weight, norm.bias])
    shares = {"y": y, "dx": gradients[0], "dresidual": gradients[1]}
    sums = {"dweight": gradients[2], "dbias": gradients[3]}
    same = {"mean": norm.running_mean, "variance": norm.running_var}
    found = {key: joined(value.numpy()) for key, value in shares.items()}
    found |= {key: parallel.total(value.numpy()) for key, value in sums.items()}
    found |= {key: value.numpy() for key, value in same.items()}
    return {f"{name}.{key}": value for key, value in found.items()}


def dropped() -> dict[str, np.ndarray]:
    drop = DropPath(0.5)
    drop.train()
    return {"dropped": joined(drop(jt.ones(len(share(np.zeros(16))), 1, 1, 1)).numpy())}


def trained(name: str, changes: dict) -> dict[str, np.ndarray]:
    """Loss and gradient norm of each step, and the weights and moments after the last."""
    accumulate = changes.get("accumulate", 1)
    settings = tiny.settings(**{"batch_size": 4 // accumulate, "crop_size": 64, **changes})
    one = Trainer(settings, len(tiny.CLASSES))
    losses = []
    for step in range(STEPS):
        loss = one.step(*(share(array, accumulate) for array in batch(step)))
        losses.append([loss, one.norm])
    return {f"{name}.losses": np.array(losses)} | {
        f"{name}.{part}": np.concatenate(
            [value.ravel() for key, value in one.checkpoint().tensors.items() if key.startswith(part)]
        )
        for part in ("model", "optimizer")
    }


def main(out: str) -> None:
    found = {"ranks": np.array(parallel.RANKS)}
    found["total"] = parallel.total(np.int64([2**60 + 1, -3]) * (1 + parallel.RANK))
    found["any"] = np.array([parallel.any_of(parallel.RANK == parallel.RANKS - 1), parallel.any_of(False)])
    found |= normalised("kernel") | dropped()
    with kernel.without_kernels():
        found |= normalised("plain")
    for name, changes in RUNS.items():
        found |= trained(name, changes)
    if parallel.RANK == 0:
        np.savez(out, **found)
    parallel.wait()


if __name__ == "__main__":
    main(sys.argv[1])
