"""The library of published weights: a table of files by name, and their download.

The publishers of most files put the first eight digits of the SHA-256 into the file's name. The whole SHA-256 is pinned
at the first download, in a file beside it that `sha256sum --check` understands.
"""

import csv
import difflib
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from ccnet import InputError
from ccnet.data.download import download, file_name
from ccnet.files import atomic, sha256
from ccnet.protocol import Protocol

MIRROR = "CCNET_WEIGHTS_MIRROR"  # environment variable: an address that is asked first, with the publishers' paths


@dataclass(frozen=True)
class Entry:
    """A published file. `dataset` is what its network was trained on: "imagenet", or a name in `ccnet.data.catalog`.

    `digest` is the SHA-256's first digits, None if the file's name has none; `miou` that of a whole CCNet in percent,
    single scale and multi-scale with flip. `settings`, by flat names, are those that its tensors do not tell.
    `protocol` is that of the single scale.
    """

    name: str
    backbone: str
    dataset: str
    digest: str | None
    miou: tuple[float, float] | None
    settings: dict[str, Any]
    protocol: Protocol
    licence: str
    url: str

    @property
    def part(self) -> str:
        """Either "backbone" or "network", as in `ccnet.weights.origins.Origin`."""
        return "backbone" if self.dataset == "imagenet" else "network"


def _entry(row: dict[str, str]) -> Entry:
    miou = (float(row["miou"]), float(row["miou_multi_scale"])) if row["miou"] else None
    settings = {"align_corners": True} if row["align_corners"] else {}
    sides = (int(row["long_side"]), int(row["short_side"])) if row["long_side"] else None
    names = ("name", "backbone", "dataset", "licence", "url")
    told = {name: row[name] for name in names}
    return Entry(
        digest=row["digest"] or None, miou=miou, settings=settings, protocol=Protocol.checked(keep_ratio=sides), **told
    )


def _table() -> dict[str, Entry]:
    with open(Path(__file__).with_name("library.csv"), newline="") as file:
        return {row["name"]: _entry(row) for row in csv.DictReader(file)}


ENTRIES = _table()


def lookup(name: str) -> Entry:
    """The entry called `name`. Raises InputError that suggests the nearest name."""
    if name not in ENTRIES:
        near = difflib.get_close_matches(name, ENTRIES, n=1, cutoff=0.4)
        hint = f"did you mean {near[0]}? " if near else ""
        raise InputError(f"{name}: neither a file nor the name of published weights; {hint}`ccnet weights` lists them")
    return ENTRIES[name]


def fetch(entry: Entry, folder: Path) -> Path:
    """Download an entry's file to `folder`, unless it is there; print its SHA-256 and pin it beside the file.

    Raises InputError if no server has it, or if what it serves has another SHA-256 than the name or the pin says.
    """
    target = folder / file_name(entry.url)
    pin = target.with_name(f"{target.name}.sha256")
    pinned = _pinned(pin)
    try:
        download(_urls(entry), target, digest=pinned or entry.digest)
    except InputError as error:
        raise InputError(f"{error} ({pin} pins the SHA-256)" if pinned else str(error)) from error
    digest = sha256(target)
    print(f"{target}: SHA-256 {digest}")
    if pinned is None:
        with atomic(pin) as temporary:
            temporary.write_text(f"{digest}  {target.name}\n")
    return target


def _urls(entry: Entry) -> list[str]:
    mirror = os.environ.get(MIRROR)
    return [mirror.rstrip("/") + urlsplit(entry.url).path, entry.url] if mirror else [entry.url]


def _pinned(pin: Path) -> str | None:
    """The SHA-256 in a pin file; None if there is no file. Raises InputError for a file that holds anything else."""
    if not pin.exists():
        return None
    if not (found := re.match(r"[0-9a-f]{64}\b", pin.read_text(errors="replace"))):
        raise InputError(f"{pin}: no SHA-256 in it; delete it, to pin what is downloaded next")
    return found[0]
