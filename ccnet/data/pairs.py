"""Finding a dataset's root below a folder, and pairing its images with its label maps."""

import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ccnet import InputError
from ccnet.data.catalog import Layout
from ccnet.data.images import SUFFIXES

DEPTH = 3  # levels searched: archives wrap their content in one or two folders


@dataclass(frozen=True)
class Pair:
    """An image and its label map; `name` contains no slash and is unique within its split."""

    name: str
    image: Path
    label: Path


def splits(layout: Layout, root: Path) -> list[str]:
    """The splits of a dataset in `root`: train, val, and test if the layout has one and the source too."""
    tested = layout.test is not None and _images(layout, root, "test").is_dir()
    return [*layout.splits, *["test"] * tested]


def find_root(layout: Layout, folder: Path) -> Path:
    """The first folder, breadth first from `folder`, with the layout `layout`. Raises InputError if there is none."""
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder")
    for root in [folder] if layout.anywhere else breadth_first(folder, DEPTH):
        if any(
            _images(layout, root, split).is_dir() and _labels(layout, root, split).is_dir() for split in layout.splits
        ):
            return root
    wanted = " and ".join(part.format(split=layout.splits["train"]) for part in (layout.images, layout.labels))
    raise InputError(f"{folder}: found no folders {wanted}, neither in it nor up to {DEPTH} levels below")


def find_pairs(layout: Layout, root: Path, split: str) -> list[Pair]:
    """The pairs of a split, sorted by name; a missing partner is listed with its expected path.

    Raises InputError naming the expected files: for a missing folder or listing, no image, no complete pair, or a
    name that is used twice.
    """
    image_folder, label_folder = _images(layout, root, split), _labels(layout, root, split)
    images = by_key(image_folder, SUFFIXES, layout.image_ending)
    labels = by_key(label_folder, (layout.label_suffix,), layout.label_ending, layout.converted_ending)
    keys = _listed(layout, root, split)
    if keys is None:
        keys = sorted(images.keys() | labels.keys())
    if not keys or not images:
        raise InputError(
            f"{image_folder}: no images for the {split} split"
            f" (looked for *{layout.image_ending} with {', '.join(SUFFIXES)})"
        )
    pairs = [
        Pair(
            key.replace("/", "_"),
            images.get(key) or image_folder / f"{key}{layout.image_ending}.*",
            labels.get(key) or label_folder / f"{key}{layout.label_ending}{layout.label_suffix}",
        )
        for key in keys
    ]
    if not any(key in images and key in labels for key in keys):
        sought = f"{pairs[0].image} and {pairs[0].label}"
        raise InputError(f"{split} split: no image has its label map: sought, for one, {sought}")
    refuse_repeated_names(pairs)
    return pairs


def refuse_repeated_names(pairs: list[Pair]) -> None:
    """Raise InputError if two pairs have the same name."""
    by_name: dict[str, Pair] = {}
    for pair in pairs:
        other = by_name.setdefault(pair.name, pair)
        if other is not pair:
            raise InputError(f"{pair.image} and {other.image} would both be called {pair.name}: rename one")


def _images(layout: Layout, root: Path, split: str) -> Path:
    return _find(layout, root, layout.images.format(split=_own_name(layout, split)))


def _labels(layout: Layout, root: Path, split: str) -> Path:
    return _find(layout, root, layout.labels.format(split=_own_name(layout, split)))


def _own_name(layout: Layout, split: str) -> str:
    return layout.test or "" if split == "test" else layout.splits[split]


def _find(layout: Layout, root: Path, folder: str) -> Path:
    """Where `folder` lies below `root`; directly, if it is sought elsewhere in vain."""
    parents = breadth_first(root, DEPTH) if layout.anywhere else [root]
    return next((parent / folder for parent in parents if (parent / folder).is_dir()), root / folder)


def by_key(
    folder: Path, suffixes: tuple[str, ...], ending: str = "", other_ending: str | None = None
) -> dict[str, Path]:
    """Files in and below `folder`, by their relative path without ending and suffix.

    Not hidden files, nor those that end with `other_ending`. Raises InputError for a missing folder, and for files
    whose paths differ only in the suffix.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; the dataset's images and label maps are expected there")
    found: dict[str, Path] = {}
    for path in sorted(visible(folder)):
        if path.suffix.lower() not in suffixes or not path.stem.endswith(ending):
            continue
        if other_ending and path.stem.endswith(other_ending):
            continue
        key = path.relative_to(folder).with_name(path.stem.removesuffix(ending)).as_posix()
        key = unicodedata.normalize("NFC", key)  # macOS writes names in another form than Linux
        if key in found:
            raise InputError(f"{path}: {found[key].name} beside it has the same name but for the suffix: keep one")
        found[key] = path
    return found


def _listed(layout: Layout, root: Path, split: str) -> list[str] | None:
    if layout.listing is None:
        return None
    path = root / layout.listing.format(split=_own_name(layout, split))
    if not path.is_file():
        raise InputError(f"{path}: no such file; it should name the pairs of the {split} split")
    return sorted(path.read_text(encoding="utf-8").split())


def breadth_first(folder: Path, depth: int) -> Iterator[Path]:
    """Yield a folder and the folders below it, down to `depth` levels, the higher ones first."""
    level = [folder]
    for _ in range(depth + 1):
        yield from level
        children = (child for parent in level for child in parent.iterdir() if child.is_dir())
        level = sorted(child for child in children if not _is_hidden(child.name))


def visible(folder: Path) -> Iterator[Path]:
    """Yield the files below a folder, but for hidden ones and what is in hidden folders."""
    for path in folder.rglob("*"):
        if not any(map(_is_hidden, path.relative_to(folder).parts)) and not path.is_dir():
            yield path


def _is_hidden(name: str) -> bool:
    return name.startswith(".") or name == "__MACOSX"  # which macOS adds to archives
