"""Training checkpoints: written atomically, locked, and tied to the settings and data they were made with."""

import fcntl
import json
import os
import sys
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np
from safetensors.numpy import save

from ccnet import InputError
from ccnet.files import atomic
from ccnet.weights import files

KEPT = 2


class Checkpoint(NamedTuple):
    """The state of a training after `step` steps: all that is needed to resume it."""

    step: int  # optimiser steps done
    tensors: dict[str, np.ndarray]
    history: list[dict]


class Checkpoints:
    """The checkpoints of one run in `folder`, used as a context manager that holds the folder's lock.

    File names contain the `fingerprint` of the settings and data. Checkpoints with another fingerprint are neither
    resumed nor deleted, so that reverting a change loses nothing. Raises InputError if another process trains there.
    With `writes` False it only loads, without the lock: one process of a training on several devices writes for all.
    """

    def __init__(self, folder: Path, fingerprint: str, writes: bool = True):
        """Set `description` before saving: the metadata needed to use the network, for each header."""
        self.folder, self.fingerprint, self.writes = Path(folder), fingerprint, writes
        self.description: dict[str, str] = {}  # of `weights.describe`

    def __enter__(self) -> Self:
        if not self.writes:
            return self
        self.folder.mkdir(parents=True, exist_ok=True)
        # a POSIX record lock, not flock: it is released when this process ends, even if a forked worker still runs
        self._lock = open(self.folder / "lock", "a+")
        try:
            fcntl.lockf(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):  # EAGAIN or EACCES; other errors mean that locks are not supported
            self._lock.seek(0)
            holder = self._lock.read().strip() or "unknown"
            raise InputError(f"{self.folder}: another training is running there (process {holder})") from None
        self._lock.truncate(0)
        self._lock.write(str(os.getpid()))
        self._lock.flush()
        for torn in self.folder.glob(".*.safetensors"):  # from a process that was killed while saving
            torn.unlink()
        return self

    def __exit__(self, *_) -> None:
        if self.writes:
            self._lock.close()

    def save(self, checkpoint: Checkpoint) -> None:
        """Write the checkpoint, then delete all but the newest two (one as a fallback)."""
        if not self.writes:
            return
        progress = {"step": json.dumps(checkpoint.step), "history": json.dumps(checkpoint.history)}
        path = self.folder / f"{self.fingerprint}_step_{checkpoint.step:08d}.safetensors"
        with atomic(path) as temporary:
            temporary.write_bytes(save(checkpoint.tensors, self.description | progress))
        for old in self._newest_first()[KEPT:]:
            old.unlink()

    def load(self) -> Checkpoint | None:
        """The newest intact checkpoint of this fingerprint, or None. Damaged ones are reported and skipped."""
        for path in self._newest_first():
            try:
                return _read(path)
            except InputError as error:
                print(f"ccnet: {error}: passed over", file=sys.stderr)
        return None

    def _newest_first(self) -> list[Path]:
        return sorted(self.folder.glob(f"{self.fingerprint}_step_*.safetensors"), reverse=True)


def of_model(tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The network's tensors of a checkpoint, by their names in the network (without "model.")."""
    return {name.removeprefix("model."): value for name, value in tensors.items() if name.startswith("model.")}


def newest(folder: Path) -> Path | None:
    """The file with the most steps of the training that saved last in `folder`; None if there is none."""
    found = list(folder.glob("[!.]*_step_*.safetensors"))
    if not found:
        return None
    fingerprint, _, _ = max(found, key=lambda path: path.stat().st_mtime_ns).name.partition("_step_")
    return max(path for path in found if path.name.startswith(f"{fingerprint}_step_"))


def _read(path: Path) -> Checkpoint:
    metadata, tensors = files.read(path)
    step, history = metadata.get("step"), metadata.get("history")
    if type(step) is not int or step < 0 or not isinstance(history, list):
        raise InputError(f"{path}: damaged: not a checkpoint's step and history")
    return Checkpoint(step, tensors, history)
