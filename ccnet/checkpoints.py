"""Checkpoints that survive a kill: atomic, locked, and bound to the settings and data they were made with."""

import fcntl
import json
import os
import sys
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from ccnet import InputError
from ccnet.files import atomic

KEPT = 2


class Checkpoint(NamedTuple):
    """A training after `step` steps: all it takes to go on from there."""

    step: int  # optimiser steps done
    tensors: dict[str, np.ndarray]
    history: list[dict]


class Checkpoints:
    """The checkpoints of one run in `folder`, used as a context manager that holds the folder's lock.

    Those of other settings or data have another `fingerprint` in their names: they are neither continued nor touched,
    so that a change taken back loses nothing. Raises InputError where another process trains there.
    """

    def __init__(self, folder: Path, fingerprint: str):
        self.folder, self.fingerprint = Path(folder), fingerprint

    def __enter__(self) -> Self:
        self.folder.mkdir(parents=True, exist_ok=True)
        # a POSIX record lock, not flock: it ends with this process, even while a forked worker lives on
        self._lock = open(self.folder / "lock", "a+")
        try:
            fcntl.lockf(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):  # EAGAIN or EACCES; others say that there are no locks here
            self._lock.seek(0)
            holder = self._lock.read().strip() or "unknown"
            raise InputError(f"{self.folder}: another training is running there (process {holder})") from None
        self._lock.truncate(0)
        self._lock.write(str(os.getpid()))
        self._lock.flush()
        for torn in self.folder.glob(".*.safetensors"):  # of a process that was killed while it saved
            torn.unlink()
        return self

    def __exit__(self, *_) -> None:
        self._lock.close()

    def save(self, checkpoint: Checkpoint) -> None:
        """Write the checkpoint, then drop all but the newest two (one to fall back on)."""
        metadata = {"step": str(checkpoint.step), "history": json.dumps(checkpoint.history)}
        path = self.folder / f"{self.fingerprint}_step_{checkpoint.step:08d}.safetensors"
        with atomic(path) as temporary:
            temporary.write_bytes(save(checkpoint.tensors, metadata))
        for old in self._newest_first()[KEPT:]:
            old.unlink()

    def load(self) -> Checkpoint | None:
        """The newest whole checkpoint of these settings, or None. A damaged one is named and passed over."""
        for path in self._newest_first():
            try:
                with safe_open(path, framework="numpy") as file:
                    metadata = file.metadata() or {}
                    tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
                return Checkpoint(int(metadata["step"]), tensors, json.loads(metadata["history"]))
            except (SafetensorError, OSError, ValueError, KeyError) as error:
                print(f"ccnet: {path} is damaged ({error}): passed over", file=sys.stderr)
        return None

    def _newest_first(self) -> list[Path]:
        return sorted(self.folder.glob(f"{self.fingerprint}_step_*.safetensors"), reverse=True)
