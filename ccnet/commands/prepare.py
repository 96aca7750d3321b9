"""`ccnet prepare`: validate image and label pairs and write them to one shard."""

import io
import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ccnet import InputError
from ccnet.data import images, labels
from ccnet.data.shards import Record, Skipped, write_shard
from ccnet.progress import progress

LISTED = 50  # bad pairs listed in an error message
JPEG_QUALITY = 95
SKIP = "leave them out (dataset.on_bad_pair: skip, or --on-bad-pair skip)"
REMOVE = "remove them and list the rest (`snakemake -R fetch_dataset`, or `ccnet fetch` again)"

Check = Callable[[str, Path, Path], Record]


def run(
    *,
    index: Path,
    split: str,
    shard: int,
    of: int,
    max_size: int | None,
    limit: int | None,
    on_bad_pair: str,
    out: Path,
) -> None:
    """Write shard number `shard` (from 0) of `of`: the pairs i < `limit` of a split with i % of == shard.

    `max_size` limits the longer side in pixels: larger pairs are resized, all others keep their files' bytes.
    A pair is bad if it is incomplete or damaged, its sizes differ, its label map is coloured, has values outside the
    label table or is entirely ignored. `on_bad_pair` "fail" raises an InputError that lists all bad pairs, "skip"
    leaves them out and records them in the shard.
    """
    if not 0 <= shard < of:
        raise InputError(f"shard {shard} of {of}: shards are numbered from 0 to {of - 1}")
    for option, value in (("--max-size", max_size), ("--limit", limit)):
        if value is not None and value < 1:
            raise InputError(f"{option} {value}: must be at least 1; leave it out for no limit")
    contents = _read_index(index, split)
    table = labels.lookup_table(contents["label_table"], len(contents["class_names"]))
    pairs = contents["pairs"][split][:limit][shard::of]

    def check(name: str, image: Path, label: Path) -> Record:
        return _record(name, image, label, table, len(contents["class_names"]), max_size)

    records = _checked(pairs, index.parent.absolute(), check, on_bad_pair, f"preparing {split} {shard + 1}/{of}")
    write_shard(
        out,
        records,
        class_names=contents["class_names"],
        palette=contents["palette"],
        split=split,
        max_size=max_size,
    )


def _read_index(path: Path, split: str) -> dict[str, Any]:
    try:
        contents = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read ({error}): fetch the dataset first") from error
    if split not in contents["pairs"]:
        raise InputError(f"{path}: has no split {split!r}, only {', '.join(contents['pairs'])}")
    return contents


def _checked(
    pairs: list[list[str]], folder: Path, check: Check, on_bad_pair: str, desc: str
) -> Iterator[Record | Skipped]:
    """Yield a record of each valid pair. Bad pairs are yielded as `Skipped`, or raise one InputError at the end."""
    findings = []
    root = os.path.commonpath([folder / path for _, *paths in pairs for path in paths] or [folder])
    for name, image, label in progress(pairs, desc=desc, unit="img"):
        try:
            yield check(name, folder / image, folder / label)
        except InputError as error:
            findings.append(str(error))
            if on_bad_pair == "skip":
                yield Skipped(name, str(error).replace(f"{root}{os.sep}", ""))  # independent of the dataset's location
    if findings and on_bad_pair == "fail":
        more = [f"… and {len(findings) - LISTED} more"] if len(findings) > LISTED else []
        listing = "\n  ".join(findings[:LISTED] + more)
        remedy = (
            f"mend them, {SKIP}, or {REMOVE}" if len(findings) < len(pairs) else "mend them, or name another source"
        )
        raise InputError(f"{len(findings)} of {len(pairs)} pairs cannot be used: {remedy}:\n  {listing}")
    for finding in findings:
        print(f"skipped: {finding}", file=sys.stderr)


def _record(
    name: str, image_path: Path, label_path: Path, table: np.ndarray, num_classes: int, max_size: int | None
) -> Record:
    """Validate one pair. Raises InputError naming the file at fault."""
    image_bytes, label_bytes = _read(image_path, "image"), _read(label_path, "label map")
    image = images.open_image(image_bytes, str(image_path))
    raw = labels.decode(label_bytes, str(label_path))
    with images.refusing_damage(str(image_path)):
        rgb = images.to_rgb(image)  # as in training: some images load but cannot be converted
    _check_sizes(image, raw, image_path, label_path)  # after decoding: a damaged TIFF's header may state another size
    label = _remapped(raw, table, label_path)
    if max_size is not None and max(rgb.size) > max_size:
        rgb, label, image_bytes = _shrunk(rgb, label, max_size, "PNG" if image.format == "PNG" else "JPEG")
        label_bytes = labels.encode(label)
    elif raw.dtype != np.uint8 or not np.array_equal(label, raw):
        label_bytes = labels.encode(label)
    return Record(name, image_bytes, label_bytes, *rgb.size, labels.histogram(label, num_classes))


def _read(path: Path, kind: str) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise InputError(f"{path}: there is no such {kind}") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error


def _check_sizes(image: Image.Image, label: np.ndarray, image_path: Path, label_path: Path) -> None:
    height, width = label.shape
    if image.size == (width, height):
        return
    turned = image.size == (height, width) and images.orientation(image) > 4
    remedy = "; its EXIF orientation turns it: save it upright" if turned else ""
    raise InputError(f"{image_path}: is {image.width}×{image.height}, its label {label_path} {width}×{height}{remedy}")


def _remapped(raw: np.ndarray, table: np.ndarray, path: Path) -> np.ndarray:
    try:
        label = labels.remap(raw, table)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    if (label == labels.IGNORE).all():
        raise InputError(f"{path}: every pixel is ignored: nothing to learn or to measure")
    return label


def _shrunk(image: Image.Image, label: np.ndarray, max_size: int, kind: str) -> tuple[Image.Image, np.ndarray, bytes]:
    """Shrink a pair to a longer side of `max_size`; also return the image encoded as `kind`, "PNG" or "JPEG"."""
    width, height = (max(1, round(side / max(image.size) * max_size)) for side in image.size)
    small = image.resize((width, height), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    small.save(buffer, kind, **({"quality": JPEG_QUALITY, "subsampling": 0} if kind == "JPEG" else {}))
    small_label = Image.fromarray(label).resize(small.size, Image.Resampling.NEAREST)
    return small, np.asarray(small_label), buffer.getvalue()
