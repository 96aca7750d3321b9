"""HDF5 files with a checksum that is verified before HDF5 opens them.

HDF5 can crash or hang on a damaged file (observed with one changed byte in a string's length). Therefore everything
that HDF5 interprets, which is all but the chunks of bulk data, has a separate checksum appended after HDF5's own end
of file.
"""

import hashlib
import json
import os
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import h5py
import numpy as np

CHUNK = 2**20  # bytes of a chunk of bulk data; also the block in which it is hashed
END = struct.Struct("<Q8s")  # length of the preceding JSON, and a magic mark
MARK = b"ccnet.h5"


@contextmanager
def create(path: Path, bulk: Sequence[str]) -> Iterator[h5py.File]:
    """Create an HDF5 file; on success, append its structure's checksum. `bulk` names chunked datasets outside it."""
    with h5py.File(path, "w", rdcc_nbytes=0) as file:
        yield file
    seal(path, bulk)


def seal(path: Path, bulk: Sequence[str]) -> None:
    """Append the structure's checksum, as JSON followed by `END`, to an HDF5 file that has none."""
    chunks: list[list[int]] = []
    with h5py.File(path, "r") as file:
        for name in bulk:
            file[name].id.chunk_iter(lambda chunk: chunks.append([chunk.byte_offset, chunk.byte_offset + chunk.size]))
    with open(path, "r+b") as raw:
        end = raw.seek(0, os.SEEK_END)
        text = json.dumps({"bulk": sorted(chunks), "sha256": _structure(raw, sorted(chunks), end)}).encode()
        raw.seek(end)
        raw.write(text + END.pack(len(text), MARK))


@contextmanager
def opened(path: Path) -> Iterator[h5py.File]:
    """Open a file made by `create` for reading. If damaged, raises ValueError and others before HDF5 reads it."""
    _check(path)
    with h5py.File(path, "r", rdcc_nbytes=0, locking=False) as file:
        yield file


def _structure(file: BinaryIO, bulk: list[list[int]], end: int) -> str:
    """The SHA-256 of the bytes before `end` that are not in one of the `bulk` ranges."""
    running, done = hashlib.sha256(), 0
    for first, last in [*bulk, [end, end]]:
        if not done <= first <= last <= end:
            raise ValueError("its structure is not as written")
        file.seek(done)
        running.update(file.read(first - done))
        done = last
    return running.hexdigest()


def _check(path: Path) -> None:
    """Raise ValueError unless the structure matches its checksum."""
    with open(path, "rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(size - END.size, 0))
        length, mark = END.unpack(file.read())
        end = size - END.size - length
        if mark != MARK or end < 0:
            raise ValueError("incomplete, or made by an earlier version")
        file.seek(end)
        stated = json.loads(file.read(length))
        if _structure(file, stated["bulk"], end) != stated["sha256"]:
            raise ValueError("its structure is not as written")


class Blobs:
    """Byte strings concatenated in one growing dataset, hashed as they are appended."""

    def __init__(self, file: h5py.File, name: str) -> None:
        # Every byte is written, so new chunks need not be filled with zeros.
        self.data = file.create_dataset(name, (0,), np.uint8, maxshape=(None,), chunks=(CHUNK,), fill_time="never")
        self.offsets = [0]
        self.hash = hashlib.sha256()
        self.waiting: list[bytes] = []

    def append(self, blob: bytes) -> None:
        self.waiting.append(blob)
        self.hash.update(blob)
        self.offsets.append(self.offsets[-1] + len(blob))
        if self.offsets[-1] - self.data.shape[0] >= 4 * CHUNK:
            self._flush()

    def _flush(self) -> None:
        start = self.data.shape[0]
        self.data.resize((self.offsets[-1],))
        self.data[start:] = np.frombuffer(b"".join(self.waiting), np.uint8)
        self.waiting = []

    def close(self, offsets_name: str) -> None:
        self._flush()
        self.data.parent.create_dataset(offsets_name, data=np.array(self.offsets, np.int64))

    def digest(self) -> str:
        return self.hash.hexdigest()
