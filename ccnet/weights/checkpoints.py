"""Training checkpoints: written atomically, locked, and tied to the settings and data they were made with."""

import fcntl
import hashlib
import json
import os
import sys
from pathlib import Path
from typing import Annotated, Any, NamedTuple, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError
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
    pending: list[list[float]]  # loss and gradient norm of each step since the history's last row
    seconds: float = 0.0  # that the training took, in all its processes
    peak_memory: int = 0  # bytes of the largest of these processes


class _Row(BaseModel):
    """A row of the history."""

    step: int
    learning_rate: float
    loss: float
    gradient_norm: float
    images_per_second: float
    mean_iou: float | None


class _Header(BaseModel):
    """The entries of a checkpoint's header that `Checkpoints` writes."""

    model_config = ConfigDict(strict=True)

    step: Annotated[int, Field(ge=0)]
    history: list[_Row]
    pending: list[list[float]]
    seconds: float
    peak_memory: int = 0
    sha256: str


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
        progress = {"step": checkpoint.step, "history": checkpoint.history, "pending": checkpoint.pending,
                    "seconds": checkpoint.seconds, "peak_memory": checkpoint.peak_memory}  # fmt: skip
        header = self.description | {key: json.dumps(value) for key, value in progress.items()}
        header["sha256"] = json.dumps(_digest(header, checkpoint.tensors))
        path = self.folder / f"{self.fingerprint}_step_{checkpoint.step:08d}.safetensors"
        with atomic(path) as temporary:
            temporary.write_bytes(save(checkpoint.tensors, header))
        for old in self._newest_first()[KEPT:]:
            old.unlink()

    def load(self) -> Checkpoint | None:
        """The newest intact checkpoint of this fingerprint, or None. Damaged ones are reported and skipped.

        If there are only checkpoints of other settings or data, it says that the training begins anew.
        """
        found = _first_intact(self._newest_first())
        if found:
            return found[1]
        others = [path.stat().st_size for path in self.folder.glob("[!.]*_step_*.safetensors")]
        if others and self.writes and not self._newest_first():
            print(
                f"ccnet: {self.folder}: its checkpoints ({len(others)}, {sum(others) / 1e6:.0f} MB) are of other"
                " settings or data: the training begins anew; delete those you do not want to return to",
                file=sys.stderr,
            )
        return None

    def newest(self) -> Path | None:
        """The file that `load` loads; None if there is none."""
        found = _first_intact(self._newest_first())
        return found[0] if found else None

    def _newest_first(self) -> list[Path]:
        return sorted(self.folder.glob(f"{self.fingerprint}_step_*.safetensors"), reverse=True)


def part_of(tensors: dict[str, np.ndarray], part: str) -> dict[str, np.ndarray]:
    """The tensors of a checkpoint's `part` ("model", "average", "best" or "optimizer"), by their names in it."""
    return {name.removeprefix(f"{part}."): value for name, value in tensors.items() if name.startswith(f"{part}.")}


def of_model(tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The network's tensors of a checkpoint to predict with: their moving average if there is one."""
    return part_of(tensors, "average") or part_of(tensors, "model")


def newest(folder: Path) -> Path | None:
    """The intact file with the most steps of the training that saved last in `folder`; None if there is none."""
    try:
        saved = {path: path.stat().st_mtime_ns for path in folder.glob("[!.]*_step_*.safetensors")}
    except FileNotFoundError:  # a training that is going on has just removed an older one
        return newest(folder)
    if not saved:
        return None
    fingerprint, _, _ = max(saved, key=lambda path: saved[path]).name.partition("_step_")
    own = sorted((path for path in saved if path.name.startswith(f"{fingerprint}_step_")), reverse=True)
    found = _first_intact(own)
    return found[0] if found else None


def _digest(header: dict[str, str], tensors: dict[str, np.ndarray]) -> str:
    """The SHA-256 of a checkpoint's header, without `sha256` itself, and tensors."""
    entries = {key: value for key, value in header.items() if key != "sha256"}
    running = hashlib.sha256(json.dumps(entries, sort_keys=True).encode())
    for name in sorted(tensors):
        running.update(f"{name} {tensors[name].dtype} {tensors[name].shape} ".encode())
        running.update(np.ascontiguousarray(tensors[name]).data)
    return running.hexdigest()


def check(metadata: dict[str, Any], tensors: dict[str, np.ndarray], path: Path) -> None:
    """Raise InputError unless the contents of a checkpoint match its checksum."""
    if metadata.get("sha256") != _digest({key: json.dumps(value) for key, value in metadata.items()}, tensors):
        raise InputError(f"{path}: damaged: its contents do not match its checksum")


def _first_intact(paths: list[Path]) -> tuple[Path, Checkpoint] | None:
    """The first of these files that can be read, and its contents; those before it are reported."""
    for path in paths:
        try:
            return path, _read(path)
        except InputError as error:
            print(f"ccnet: {error}: passed over", file=sys.stderr)
    return None


def _read(path: Path) -> Checkpoint:
    metadata, tensors = files.read(path)
    try:
        found = TypeAdapter(_Header).validate_python(metadata)
    except ValidationError as error:
        raise InputError(f"{path}: damaged: not a checkpoint's step and history") from error
    check(metadata, tensors, path)
    rows = [row.model_dump() for row in found.history]
    return Checkpoint(found.step, tensors, rows, found.pending, found.seconds, found.peak_memory)
