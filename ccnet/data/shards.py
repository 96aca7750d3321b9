"""Shards: HDF5 files of encoded image and label pairs with a checksum; writer and reader."""

import hashlib
import json
import os
import struct
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np

from ccnet import InputError
from ccnet.data import hdf5, images, labels
from ccnet.data.labels import Palette
from ccnet.files import atomic

TEXT = h5py.string_dtype()


class Record(NamedTuple):
    """A stored pair: the bytes of an image file, a PNG of train ids, and its histogram (`labels.histogram`)."""

    name: str
    image: bytes
    label: bytes
    width: int
    height: int
    histogram: np.ndarray


class Skipped(NamedTuple):
    """A pair that was left out, and the reason."""

    name: str
    reason: str


def write_shard(
    path: str | os.PathLike,
    records: Iterable[Record | Skipped],
    *,
    class_names: Sequence[str],
    palette: Palette,
    split: str,
    max_size: int | None = None,
    dataset: str = "",
    splitting: str | None = None,
) -> None:
    """Write records to an HDF5 shard, streaming and atomically; encoded bytes are stored unchanged.

    Datasets: `images`, `labels` (uint8, concatenated files), `image_offsets`, `label_offsets` (int64, N + 1),
    `names`, `sizes` (int32, N × (width, height)); if pairs were skipped, `skipped` (their names and reasons).
    Attributes: class_names, palette, split, histogram, sha256, dataset (its name); if it does not state its splits,
    splitting (how they were made); and, if larger images were shrunk, max_size (to which longest side).
    `ccnet.data.hdf5` appends the structure's checksum.
    """
    names: list[str] = []
    sizes: list[tuple[int, int]] = []
    skipped: list[Skipped] = []
    histogram = np.zeros(len(class_names) + 1, np.int64)
    with atomic(path) as temporary, hdf5.create(temporary, bulk=("images", "labels")) as file:
        image_bytes, label_bytes = hdf5.Blobs(file, "images"), hdf5.Blobs(file, "labels")
        for record in records:
            if isinstance(record, Skipped):
                skipped.append(record)
                continue
            image_bytes.append(record.image)
            label_bytes.append(record.label)
            names.append(record.name)
            sizes.append((record.width, record.height))
            histogram += record.histogram
        image_bytes.close("image_offsets")
        label_bytes.close("label_offsets")
        file.create_dataset("names", data=np.array(names, object), dtype=TEXT)
        file.create_dataset("sizes", data=np.array(sizes, np.int32).reshape(-1, 2))
        if skipped:  # a dataset, since HDF5 limits attributes to 64 KB
            file.create_dataset("skipped", data=np.array(skipped, object), dtype=TEXT)
        file.attrs["class_names"] = np.array(class_names, object)
        file.attrs["palette"] = np.array(palette, np.uint8)
        file.attrs["split"] = split
        file.attrs["histogram"] = histogram
        for name, value in {"max_size": max_size, "dataset": dataset, "splitting": splitting}.items():
            if value is not None:
                file.attrs[name] = value
        file.attrs["sha256"] = _seal(_Index.read(file), [image_bytes.digest(), label_bytes.digest()])


class _Index(NamedTuple):
    """All of a shard except its bulk data and checksum: small enough to keep in memory."""

    names: list[str]
    sizes: np.ndarray
    image_offsets: np.ndarray
    label_offsets: np.ndarray
    class_names: list[str]
    palette: list[list[int]]
    split: str
    histogram: np.ndarray
    max_size: int | None
    dataset: str
    splitting: str | None
    skipped: list[list[str]] | None

    @classmethod
    def read(cls, file: h5py.File) -> "_Index":
        return cls(
            names=[name.decode() for name in file["names"][:]],
            sizes=file["sizes"][:],
            image_offsets=file["image_offsets"][:],
            label_offsets=file["label_offsets"][:],
            class_names=[str(name) for name in file.attrs["class_names"]],
            palette=file.attrs["palette"].tolist(),
            split=str(file.attrs["split"]),
            histogram=file.attrs["histogram"],
            max_size=int(file.attrs["max_size"]) if "max_size" in file.attrs else None,
            dataset=str(file.attrs["dataset"]),
            splitting=str(file.attrs["splitting"]) if "splitting" in file.attrs else None,
            skipped=file["skipped"].asstr()[:].tolist() if "skipped" in file else None,
        )


def _seal(index: _Index, digests: list[str]) -> str:
    """The SHA-256 of a shard's contents: its index, and the digests of its images and labels."""
    contents: dict[str, Any] = {
        key: value.tolist() if isinstance(value, np.ndarray) else value
        for key, value in index._asdict().items()
        if value is not None  # keys that the file does not have
    }
    return hashlib.sha256(json.dumps([contents, digests]).encode()).hexdigest()


def _digest(data: h5py.Dataset) -> str:
    running = hashlib.sha256()
    for start in range(0, data.shape[0], hdf5.CHUNK):
        running.update(data[start : start + hdf5.CHUNK])
    return running.hexdigest()


@contextmanager
def _whole(path: Path) -> Iterator[None]:
    """Convert any error of reading a damaged file to an InputError that names it."""
    if not path.is_file():
        raise InputError(f"{path}: no such shard: prepare it first")
    try:
        yield
    except (
        OSError,
        LookupError,
        ValueError,
        TypeError,
        AttributeError,
        RuntimeError,
        MemoryError,
        struct.error,
    ) as error:
        raise InputError(f"{path}: damaged, or not a shard ({error}): delete it and prepare it again") from error


class ShardReader:
    """A sequence of pairs from one or more shards: `(image uint8 (H, W, 3) RGB, label uint8 (H, W))`.

    Files are opened on first use in each process, so a reader can be pickled and used after a fork.
    Raises InputError naming the file that is missing, is not a shard, or has other classes than the first.
    """

    def __init__(self, paths: Sequence[str | os.PathLike]) -> None:
        if not paths:
            raise InputError("no shards given")
        self.paths = [Path(path) for path in paths]
        self._indices, self._checksums = zip(*map(self._read_index, self.paths), strict=True)
        for path, index in zip(self.paths, self._indices, strict=True):
            if index.class_names != self.class_names:
                raise InputError(f"{path}: its classes differ from those of {self.paths[0]}: use shards of one dataset")
        self._ends = np.cumsum([len(index.names) for index in self._indices])
        self._data: dict[int, list[h5py.Dataset]] = {}
        self._process = os.getpid()

    @staticmethod
    def _read_index(path: Path) -> tuple[_Index, str]:
        with _whole(path), hdf5.opened(path) as file:
            return _Index.read(file), str(file.attrs["sha256"])

    @cached_property
    def names(self) -> list[str]:
        return [name for index in self._indices for name in index.names]

    @property
    def class_names(self) -> list[str]:
        return self._indices[0].class_names

    @property
    def palette(self) -> list[list[int]]:
        """A colour `[r, g, b]`, 0–255, for each class."""
        return self._indices[0].palette

    @property
    def dataset(self) -> str:
        """The dataset's name."""
        return self._indices[0].dataset

    @property
    def splitting(self) -> str | None:
        """How the dataset's pairs were divided into splits; None if the dataset states its splits."""
        return self._indices[0].splitting

    @property
    def splits(self) -> list[str]:
        """The split of each shard, in the order of `paths`."""
        return [index.split for index in self._indices]

    @property
    def max_sizes(self) -> list[int | None]:
        """The longest side that each shard's images were limited to (None: no limit), in the order of `paths`."""
        return [index.max_size for index in self._indices]

    @property
    def skipped(self) -> list[Skipped]:
        """The pairs that were left out when the shards were prepared, in the order of `paths`."""
        return [Skipped(*pair) for index in self._indices for pair in index.skipped or []]

    @cached_property
    def sizes(self) -> np.ndarray:
        """Width and height of each image, int32 `(N, 2)`."""
        return np.concatenate([index.sizes for index in self._indices])

    @property
    def fingerprint(self) -> str:
        """16 hexadecimal digits that identify the shards' contents, from their stored checksums."""
        return hashlib.sha256("".join(self._checksums).encode()).hexdigest()[:16]

    @property
    def histogram(self) -> np.ndarray:
        """Pixel count of each class, then of ignored pixels, over all shards: int64 `(num_classes + 1,)`."""
        return np.sum([index.histogram for index in self._indices], axis=0)

    def __len__(self) -> int:
        return int(self._ends[-1])

    def __getitem__(self, position: int) -> tuple[np.ndarray, np.ndarray]:
        (image, label), name = self.encoded(position), self._where(position)
        return images.decode(image, name), labels.decode(label, name)

    def label(self, position: int) -> np.ndarray:
        """A label map, uint8 `(H, W)`."""
        return labels.decode(self.encoded(position)[1], self._where(position))

    def _where(self, position: int) -> str:
        shard, local = self._find(position)
        return f"{self.paths[shard]}: {self._indices[shard].names[local]}"

    def encoded(self, position: int) -> tuple[bytes, bytes]:
        """The stored bytes of an image file and of its label PNG."""
        shard, local = self._find(position)
        index = self._indices[shard]
        with _whole(self.paths[shard]):
            data, ids = self._open(shard)
            image = data[index.image_offsets[local] : index.image_offsets[local + 1]]
            label = ids[index.label_offsets[local] : index.label_offsets[local + 1]]
        return image.tobytes(), label.tobytes()

    def verify(self) -> None:
        """Recompute every shard's checksum. Raises InputError naming the first shard that does not match."""
        for path in self.paths:
            with _whole(path), hdf5.opened(path) as file:
                found = _seal(_Index.read(file), [_digest(file["images"]), _digest(file["labels"])])
                stated = str(file.attrs["sha256"])
            if found != stated:
                raise InputError(f"{path}: its contents do not match its checksum: delete it and prepare it again")

    def _find(self, position: int) -> tuple[int, int]:
        if not -len(self) <= position < len(self):
            raise IndexError(position)
        position %= len(self)
        shard = int(np.searchsorted(self._ends, position, side="right"))
        return shard, position - (int(self._ends[shard - 1]) if shard else 0)

    def _open(self, shard: int) -> list[h5py.Dataset]:
        if self._process != os.getpid():
            self._data, self._process = {}, os.getpid()
        if shard not in self._data:
            # No chunk cache: records of a few kilobytes are read at random from chunks of a megabyte.
            file = h5py.File(self.paths[shard], "r", rdcc_nbytes=0, locking=False)
            self._data[shard] = [file["images"], file["labels"]]  # kept: opening them takes as long as reading a record
        return self._data[shard]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_data": {}}
