"""COCO's annotation files: recognising them, and dividing them into a file for each image."""

import json
import os
from collections import Counter, defaultdict
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from ccnet import InputError
from ccnet.data import polygons
from ccnet.data.images import SUFFIXES
from ccnet.data.pairs import Pair, files_in
from ccnet.files import atomic
from ccnet.progress import progress

KEYS = {"images", "annotations", "categories"}
MOST = 8  # JSON files of a folder that are opened: more are annotations of single images
LONGEST = 250  # bytes of a file's name without suffix


class Annotated(NamedTuple):
    """The pairs of an annotation file, and its categories in the order of their ids."""

    pairs: list[Pair]
    categories: list[str]


def files(root: Path) -> list[Path]:
    """COCO's annotation files in a folder and in the folders in it, sorted."""
    candidates: list[Path] = []
    for folder in [root, *sorted(path for path in root.iterdir() if path.is_dir())]:
        found = sorted(path for path in folder.glob("[!.]*") if path.suffix.lower() == ".json" and path.is_file())
        candidates += found if len(found) <= MOST else []
    return [path for path in candidates if _is_coco(path)]


def _is_coco(path: Path) -> bool:
    try:
        return polygons.parse(path.read_bytes(), str(path)).keys() >= KEYS
    except (InputError, OSError):
        return False


def extract(path: Path, root: Path, folder: Path) -> Annotated:
    """Write a COCO file of one image into `folder` for each image of the file `path`; images are sought below `root`.

    Raises InputError naming the file for what is not COCO's format, and for an image that is there several times.
    """
    contents = polygons.parse(path.read_bytes(), str(path))
    with polygons.refusing_faults(str(path)):
        categories = {entry["id"]: entry for entry in contents["categories"]}
        names = [str(categories[key]["name"]) for key in sorted(categories)]
        by_image: defaultdict[Any, list[dict]] = defaultdict(list)
        for annotation in contents["annotations"]:
            by_image[annotation["image_id"]].append(annotation)
        _check_ids([image["id"] for image in contents["images"]], by_image)
        there = _Images(root, path)
        pairs = []
        for image in progress(contents["images"], desc=f"dividing {path.name}", unit="img"):
            own = by_image[image["id"]]
            used = {annotation["category_id"] for annotation in own}
            if unknown := used - categories.keys():
                raise ValueError(f"an annotation is of category {unknown.pop()!r}, which its categories do not list")
            file_name = PurePosixPath(str(image["file_name"]).replace("\\", "/"))
            if file_name.name in ("", ".."):
                raise ValueError(f"file_name {str(file_name)!r} names no image")
            name = str(file_name.with_suffix("")).strip("/").replace("../", "").replace("/", "_")
            if len(os.fsencode(name)) > LONGEST:
                raise ValueError(f"file_name {name[:20]!r} … is over {LONGEST} bytes long: shorten it")
            part = {"images": [image], "annotations": own, "categories": [categories[key] for key in sorted(used)]}
            label = folder / f"{name}.json"
            with atomic(label) as temporary:
                temporary.write_text(json.dumps(part))
            pairs.append(Pair(name, there.find(file_name), label))
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise InputError(f"{path}: several categories are called {', '.join(repeated)}: give each a name of its own")
    return Annotated(sorted(pairs, key=lambda pair: pair.name), names)


def _check_ids(ids: list[Any], by_image: dict[Any, list[dict]]) -> None:
    repeated = [each for each, count in Counter(ids).items() if count > 1]
    if repeated:
        raise ValueError(f"several images have the id {repeated[0]!r}: give each an id of its own")
    if by_image and not by_image.keys() & set(ids):
        raise ValueError(f"its annotations are of no image: their image_id are such as {next(iter(by_image))!r}")


class _Images:
    """The images below a folder, for looking up the paths that an annotation file of that folder states."""

    def __init__(self, root: Path, annotations: Path) -> None:
        self.root, self.annotations = root, annotations
        self.by_name: defaultdict[str, list[Path]] = defaultdict(list)
        for image in files_in(root, SUFFIXES):
            self.by_name[image.name].append(image)

    def find(self, stated: PurePosixPath) -> Path:
        """The image that ends with the stated path, else the one of that name; an expected path if there is none."""
        named = self.by_name[stated.name]
        exact = [path for path in named if path.as_posix().endswith(f"/{stated}")]
        near = [path for path in exact or named if path.is_relative_to(self.annotations.parent)]
        for choice in (exact, near, named):
            if len(choice) == 1:
                return choice[0]
        if named:
            raise InputError(f"{self.annotations}: {stated} may be {named[0]} or {named[1]}: state more of its path")
        return self.root / stated.name  # never outside of the folder, whatever the path is
