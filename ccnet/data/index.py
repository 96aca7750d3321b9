"""index.json: what `ccnet fetch` found of a dataset: its classes, its coding, and the pairs of each split."""

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, NamedTuple, Self

from pydantic import BaseModel, Field, ValidationError

from ccnet import InputError
from ccnet.data.classes import LARGEST_VALUE
from ccnet.data.coding import Coding
from ccnet.data.pairs import Pair
from ccnet.files import write_json

Byte = Annotated[int, Field(ge=0, le=255)]
Value = Annotated[int, Field(ge=0, le=LARGEST_VALUE)]
_LEVEL = "(25[0-5]|2[0-4][0-9]|1?[0-9]?[0-9])"
Spaced = Annotated[str, Field(pattern=f"^{_LEVEL} {_LEVEL} {_LEVEL}$")]


class Listed(NamedTuple):
    """A pair as it is listed: paths are relative to index.json's folder if they are below it, else absolute."""

    name: str
    image: str
    label: str


class Index(BaseModel):
    """The contents of index.json.

    `dataset` is its name in the results, `layout` its entry of the catalog. `label_table` maps raw values and
    `colour_table` colours ("r g b") to train ids, see `ccnet.data.coding`. `splitting` says how the pairs were divided
    into splits, if the source does not divide them. `state` changes with the files' sizes and times: Snakemake compares
    contents, and what follows must be done again after files changed under the same names.
    """

    dataset: str = ""
    layout: str = ""
    class_names: list[str]
    palette: list[tuple[Byte, Byte, Byte]]
    label_table: dict[Value, Byte] | None = None
    colour_table: dict[Spaced, Byte] | None = None
    splitting: str | None = None
    state: str = ""
    pairs: dict[str, list[Listed]]

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read an index.json. Raises InputError if it is missing or not what `ccnet fetch` writes."""
        try:
            return cls.model_validate_json(path.read_bytes())
        except OSError as error:
            raise InputError(f"{path}: cannot be read ({error.strerror}): fetch the dataset first") from error
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"])) or "its JSON"
            raise InputError(f"{path}: {where}: {first['msg']}: fetch the dataset again") from error

    def write(self, path: Path) -> None:
        """Write the index to an index.json."""
        write_json(path, self.model_dump())

    def coding(self) -> Coding:
        """How the label files state classes."""
        colours = {tuple(map(int, key.split())): value for key, value in (self.colour_table or {}).items()}
        return Coding(self.class_names, self.label_table, colours or None)  # type: ignore[arg-type]

    def of(self, split: str, path: Path) -> list[Listed]:
        """The pairs of a split; `path` is the index's. Raises InputError for a split that it does not have."""
        if split not in self.pairs:
            raise InputError(f"{path}: has no split {split!r}, only {', '.join(self.pairs)}")
        return self.pairs[split]


def common_folder(pairs: Iterable[Listed], folder: Path) -> str:
    """The folder that all files of `pairs` share, with its separator; `folder` is the index's."""
    return os.path.join(os.path.commonpath([folder / path for _, *paths in pairs for path in paths] or [folder]), "")


def state(pairs: Iterable[Pair]) -> str:
    """16 hexadecimal digits that change if a file of the pairs is written again; missing files count as such."""
    running = hashlib.sha256()
    for path in (path for pair in pairs for path in (pair.image, pair.label)):
        stat = path.stat() if path.is_file() else None
        running.update(f"{stat.st_size} {stat.st_mtime_ns}\n".encode() if stat else b"\n")
    return running.hexdigest()[:16]


def portable(path: Path, out: Path) -> str:
    """A path relative to `out` if below it (results can be moved), else absolute. Raises InputError if not UTF-8."""
    path, out = Path(os.path.abspath(path)), Path(os.path.abspath(out))
    name = str(path.relative_to(out) if path.is_relative_to(out) else path)
    shown = name.encode(errors="surrogateescape").decode(errors="backslashreplace")
    if shown != name:
        raise InputError(f"{shown}: its name is not UTF-8: rename it")
    return name
