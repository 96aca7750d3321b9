"""`ccnet fetch`: get a dataset's files and list its image and label pairs in index.json."""

import hashlib
import sys
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

from ccnet import InputError
from ccnet.data import catalog, folder, pairs, streets
from ccnet.data import classes as class_files
from ccnet.data.archives import DamagedError, unpack
from ccnet.data.catalog import Archive, Dataset
from ccnet.data.classes import Classes, Colour
from ccnet.data.download import download, file_name, is_address
from ccnet.data.folder import Choices, Found
from ccnet.data.index import Index, Listed, portable, state
from ccnet.data.pairs import Pair
from ccnet.data.polygons import BACKGROUND


def run(
    *,
    dataset: str,
    out: Path,
    layout: str | None = None,
    source: str | None = None,
    classes: str | None = None,
    val_share: float | None = None,
    image_ending: str | None = None,
    label_ending: str | None = None,
) -> None:
    """Write `out`/index.json: classes, colours, coding and the pairs of each split.

    `layout` is the dataset's entry in the catalog (None: its name). `source` is a folder (its files are used in place),
    an archive or a URL; None draws `streets` into `out`, and downloads other datasets from their publisher. `classes`
    is the class file of a "folder", the last three are `ccnet.data.folder.Choices`. Raises InputError for an unknown
    layout, a source that cannot be used, or files that do not match the layout.
    """
    name = layout or dataset
    entry = catalog.lookup(name)
    choices = Choices(val_share, image_ending, label_ending)
    if name != "folder" and (classes is not None or choices != Choices()):
        raise InputError(
            f"dataset {name!r} has its own classes and splits: a class file, val_share and endings are for layout"
            " 'folder'"
        )
    out.mkdir(parents=True, exist_ok=True)
    where = _folder(name, entry, source, out)
    found = folder.find(where, choices, out / ".annotations") if name == "folder" else _published(entry, where)
    known = _own_classes(found, classes) if name == "folder" else _published_classes(entry)
    for remark in found.remarks:
        print(remark, file=sys.stderr)
    index = Index(
        dataset=dataset,
        layout=name,
        class_names=list(known.names),
        palette=list(known.palette),
        label_table=known.values,
        colour_table=_by_text(known.colours),
        splitting=found.splitting,
        state=state(pair for listed in found.pairs.values() for pair in listed),
        pairs={split: [_listed(pair, out) for pair in pairs] for split, pairs in found.pairs.items()},
    )
    index.write(out / "index.json")
    counts = ", ".join(f"{len(listed)} {split} pairs" for split, listed in index.pairs.items())
    print(f"{dataset}: {counts} in {found.root}")


def _published(entry: Dataset, where: Path) -> Found:
    root = pairs.find_root(entry.layout, where)
    splits = pairs.splits(entry.layout, root)
    return Found(root, {split: pairs.find_pairs(entry.layout, root, split) for split in splits})


def _published_classes(entry: Dataset) -> Classes:
    palette = tuple((red, green, blue) for red, green, blue in entry.palette)
    return Classes(entry.class_names, palette, dict(entry.label_table) if entry.label_table else None)


def _own_classes(found: Found, stated: str | None) -> Classes:
    """The classes of a user's folder: those of a class file, else COCO's categories and the background."""
    path = Path(stated).expanduser() if stated else class_files.found(found.root)
    if stated is None and not path.is_file() and found.categories is not None:
        names = [name for name in dict.fromkeys([BACKGROUND, *found.categories]) if name != class_files.IGNORED]
        class_files.check(names, found.root)
        found.remarks.append(f"{found.root}: no class file: the classes are {BACKGROUND} and COCO's categories")
        return class_files.named(names)
    return class_files.read(path)


def _by_text(colours: dict[Colour, int] | None) -> dict[str, int] | None:
    return None if colours is None else {" ".join(map(str, key)): train_id for key, train_id in colours.items()}


def _listed(pair: Pair, out: Path) -> Listed:
    return Listed(pair.name, portable(pair.image, out), portable(pair.label, out))


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
