"""`ccnet fetch`: get a dataset's files and list its image and label pairs in index.json."""

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

from ccnet import InputError
from ccnet.data import catalog, pairs, streets
from ccnet.data.archives import DamagedError, unpack
from ccnet.data.catalog import Archive, Dataset
from ccnet.data.download import download, file_name, is_address
from ccnet.data.labels import Palette, voc_colours
from ccnet.files import write_json

SPLITS = ("train", "val")


def run(*, dataset: str, source: str | None, classes: str | None, out: Path) -> None:
    """Write `out`/index.json: classes, colours, label table and the pairs of each split.

    `source` is a folder (its files are used in place), an archive or a URL; None draws `streets` into `out`, and
    downloads other datasets from their publisher. `classes` is the class file of dataset "folder". Raises InputError
    for an unknown dataset, a source that cannot be used, or files that do not match the dataset's layout.
    """
    entry = catalog.lookup(dataset)
    out.mkdir(parents=True, exist_ok=True)
    root = pairs.find_root(entry.layout, _folder(dataset, entry, source, out))
    class_names, palette = _classes(dataset, entry, root, classes)
    listed = {
        split: [
            [pair.name, _portable(pair.image, out), _portable(pair.label, out)]
            for pair in pairs.find_pairs(entry.layout, root, split)
        ]
        for split in SPLITS
    }
    index = {
        "dataset": dataset,
        "class_names": class_names,
        "palette": palette,
        "label_table": entry.label_table,
        "pairs": listed,
    }
    write_json(out / "index.json", index)
    print(f"{dataset}: {', '.join(f'{len(listed[split])} {split} pairs' for split in SPLITS)} in {root}")


def _folder(dataset: str, entry: Dataset, source: str | None, out: Path) -> Path:
    """The folder that contains the dataset; draws, downloads and unpacks it as needed."""
    if source is None and dataset == "streets":
        streets.write(out)
        return out
    if source is None:
        if not entry.archives:
            raise InputError(f"dataset {dataset!r} has no public archive: name its folder as the source (--source)")
        return _downloaded(entry.archives, out)
    if is_address(source):
        return _downloaded([Archive((source,))], out)
    path = Path(url2pathname(urlsplit(source).path) if source.startswith("file:") else source).expanduser()
    if path.is_file():
        return unpack({path: ""}, out / "unpacked")
    if not path.is_dir():
        raise InputError(f"source {source}: no such folder or file, and not a http(s) address")
    return path.absolute()


def _downloaded(archives: Sequence[Archive], out: Path) -> Path:
    """Download and unpack archives; each address has its own folder, so that partial files are never mixed.

    Damage in an archive without a digest is found only on unpacking: the file is deleted, so that a retry downloads it
    again.
    """
    by_file = {_download_path(archive.urls[0], out): archive for archive in archives}
    for path, archive in by_file.items():
        download(archive.urls, path, size=archive.size, digest=archive.sha1, copies=2)
    try:
        return unpack({path: archive.folder for path, archive in by_file.items()}, out / "unpacked")
    except DamagedError as error:
        damaged = by_file[error.archive]
        if damaged.sha1:
            raise
        error.archive.unlink()
        url = damaged.urls[0]
        raise InputError(f"{url}: what it served was damaged and is removed: try again ({error})") from error


def _download_path(url: str, out: Path) -> Path:
    return out / "downloads" / hashlib.sha256(url.encode()).hexdigest()[:8] / file_name(url)


def _classes(dataset: str, entry: Dataset, root: Path, classes: str | None) -> tuple[tuple[str, ...], Palette]:
    if entry.class_names:
        if classes is not None:
            raise InputError(
                f"dataset {dataset!r} has its own classes: a class file ({classes}) is for dataset 'folder'"
            )
        return entry.class_names, entry.palette
    names = catalog.read_class_names(Path(classes).expanduser() if classes else root / "classes.txt")
    return names, voc_colours(len(names))


def _portable(path: Path, out: Path) -> str:
    """A path relative to `out` if below it (results can be moved), else absolute. Raises InputError if not UTF-8."""
    path, out = Path(os.path.abspath(path)), Path(os.path.abspath(out))
    name = str(path.relative_to(out) if path.is_relative_to(out) else path)
    shown = name.encode(errors="surrogateescape").decode(errors="backslashreplace")
    if shown != name:
        raise InputError(f"{shown}: its name is not UTF-8: rename it")
    return name
