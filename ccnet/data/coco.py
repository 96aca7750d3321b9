"""COCO's annotation files: recognising them, and dividing them into a file for each image."""

import json
import os
from collections import Counter, defaultdict
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from ccnet import InputError
from ccnet.data import polygons
from ccnet.data.images import SUFFIXES
from ccnet.data.pairs import Pair, visible
from ccnet.data.splits import split_of
from ccnet.files import atomic
from ccnet.progress import progress

KEYS = {"images", "annotations", "categories"}
LONGEST = 255  # bytes of a file's name
MOST = 8  # JSON files of a folder that are opened: more are annotations of single images


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
    found = [path for path in candidates if _is_coco(path)]
    # beside COCO's instances_train2017.json lie others of the same split, such as person_keypoints_train2017.json
    by_split = {path: split_of(path.relative_to(root)) for path in found}
    instances = {split for path, split in by_split.items() if split and path.name.startswith("instances")}
    return [path for path in found if path.name.startswith("instances") or by_split[path] not in instances]


def _is_coco(path: Path) -> bool:
    try:
        return polygons.parse(path.read_bytes(), str(path)).keys() >= KEYS
    except (InputError, OSError):
        return False


def extract(path: Path, root: Path, folder: Path, split: str | None = None) -> Annotated:
    """Write a COCO file of one image into `folder` for each image of the file `path`, which annotates a `split`.

    Images are sought below `root`. Raises InputError naming the file for what is not COCO's format, for ids that occur
    twice or point nowhere, and for an image that is there several times.
    """
    contents = polygons.parse(path.read_bytes(), str(path))
    with polygons.refusing_faults(str(path)):
        categories = _by_id(contents["categories"], "categories")
        names = _names(categories, {annotation["category_id"] for annotation in contents["annotations"]})
        by_image = {key: [] for key in _by_id(contents["images"], "images")}  # type: dict[Any, list[dict]]
        for annotation in contents["annotations"]:
            if annotation["image_id"] not in by_image:
                raise ValueError(f"an annotation of image {annotation['image_id']!r}, which is not among its images")
            by_image[annotation["image_id"]].append(annotation)
        there = _Images(root, path, split)
        pairs = []
        for number, image in enumerate(progress(contents["images"], desc=f"dividing {path.name}", unit="img")):
            own = by_image[image["id"]]
            used = {annotation["category_id"] for annotation in own}
            if unknown := used - categories.keys():
                raise ValueError(f"an annotation of category {unknown.pop()!r}, which is not among its categories")
            part = {"images": [image], "annotations": own, "categories": [categories[key] for key in sorted(used)]}
            with atomic(folder / f"{number}.json") as temporary:
                temporary.write_text(json.dumps(part))
            stated = PurePosixPath(str(image["file_name"]).replace("\\", "/"))
            pairs.append(Pair(_name(stated), there.find(stated), folder / f"{number}.json"))
    return Annotated(sorted(pairs, key=lambda pair: pair.name), names)


def _names(categories: dict[Any, dict[str, Any]], used: set[Any]) -> list[str]:
    """The categories' names in the order of their ids. One without annotations may repeat another's: Roboflow's 0."""
    named = {key: str(categories[key]["name"]).strip() for key in sorted(categories)}
    uses = Counter(named[key] for key in used & named.keys())
    if repeated := sorted(name for name, count in uses.items() if count > 1):
        raise ValueError(f"several categories are called {', '.join(repeated)}: give each a name of its own")
    return list(dict.fromkeys(named.values()))


def _by_id(entries: list[dict[str, Any]], kind: str) -> dict[Any, dict[str, Any]]:
    found = {entry["id"]: entry for entry in entries}
    if len(found) < len(entries):
        raise ValueError(f"two of its {kind} have the same id: give each an id of its own")
    return found


def _name(stated: PurePosixPath) -> str:
    """A pair's name, from the path that is stated of its image."""
    if stated.name in ("", "..") or "\0" in str(stated) or len(os.fsencode(stated.name)) > LONGEST:
        raise ValueError(f"file_name {str(stated)[:100]!r} names no image")
    return "_".join(part for part in stated.with_suffix("").parts if part not in ("/", ".."))


class _Images:
    """The images below a folder, for looking up the paths that an annotation file of a split states."""

    def __init__(self, root: Path, annotations: Path, split: str | None) -> None:
        self.root, self.annotations = root, annotations
        self.by_name: defaultdict[str, list[Path]] = defaultdict(list)
        for path in sorted(visible(root)):
            other = split is not None and split_of(path.relative_to(root).parent) not in (None, split)
            if path.suffix.lower() in SUFFIXES and not other:
                self.by_name[path.name].append(path)

    def find(self, stated: PurePosixPath) -> Path:
        """The image that ends with the stated path, else the only one of that name; else an expected path.

        Images in folders of other splits do not count.
        """
        named = self.by_name[stated.name]
        exact = [path for path in named if path.as_posix().endswith(f"/{stated}")]
        near = [path for path in exact or named if path.is_relative_to(self.annotations.parent)]
        for choice in (exact, near, named):
            if len(choice) == 1:
                return choice[0]
        if named:
            raise InputError(f"{self.annotations}: {stated} may be {named[0]} or {named[1]}: state more of its path")
        return self.root / stated.name  # never outside of the folder, whatever the path is
