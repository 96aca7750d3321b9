"""`ccnet prepare`: validate image and label pairs and write them to one shard."""

import io
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from ccnet import InputError
from ccnet.data import gate, labels
from ccnet.data.coding import Coding
from ccnet.data.index import Index, Listed, common_folder
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
    A pair is bad if it is incomplete or damaged, its sizes differ, its label map has values, colours or shapes that the
    dataset does not list, or is entirely ignored. `on_bad_pair` "fail" raises an InputError that lists all bad pairs,
    "skip" leaves them out and records them in the shard.
    """
    if not 0 <= shard < of:
        raise InputError(f"shard {shard} of {of}: shards are numbered from 0 to {of - 1}")
    for option, value in (("--max-size", max_size), ("--limit", limit)):
        if value is not None and value < 1:
            raise InputError(f"{option} {value}: must be at least 1; leave it out for no limit")
    contents = Index.read(index)
    pairs = contents.of(split, index)[:limit][shard::of]
    coding = contents.coding()

    def check(name: str, image: Path, label: Path) -> Record:
        return _record(name, image, label, coding, max_size)

    records = _checked(pairs, index.parent.absolute(), check, on_bad_pair, f"preparing {split} {shard + 1}/{of}")
    write_shard(
        out,
        records,
        class_names=contents.class_names,
        palette=contents.palette,
        split=split,
        max_size=max_size,
        dataset=contents.dataset,
        splitting=contents.splitting,
    )


def _checked(
    pairs: list[Listed], folder: Path, check: Check, on_bad_pair: str, desc: str
) -> Iterator[Record | Skipped]:
    """Yield a record of each valid pair. Bad pairs are yielded as `Skipped`, or raise one InputError at the end."""
    findings = []
    root = common_folder(pairs, folder)
    for name, image, label in progress(pairs, desc=desc, unit="img"):
        try:
            yield check(name, folder / image, folder / label)
        except InputError as error:
            findings.append(str(error))
            if on_bad_pair == "skip":
                yield Skipped(name, str(error).replace(root, ""))  # independent of the dataset's location
    if findings and on_bad_pair == "fail":
        more = [f"… and {len(findings) - LISTED} more"] if len(findings) > LISTED else []
        listing = "\n  ".join(findings[:LISTED] + more)
        remedy = (
            f"mend them, {SKIP}, or {REMOVE}" if len(findings) < len(pairs) else "mend them, or name another source"
        )
        raise InputError(f"{len(findings)} of {len(pairs)} pairs cannot be used: {remedy}:\n  {listing}")
    for finding in findings:
        print(f"skipped: {finding}", file=sys.stderr)


def _record(name: str, image: Path, label: Path, coding: Coding, max_size: int | None) -> Record:
    """The record of one pair. Raises InputError naming the file at fault."""
    pair = gate.open_pair(image, label, coding)
    pair.check()
    rgb, ids, image_bytes = pair.rgb, pair.label, pair.image_bytes
    if max_size is not None and max(rgb.size) > max_size:
        rgb, ids, image_bytes = _shrunk(rgb, ids, max_size, "PNG" if pair.kind == "PNG" else "JPEG")
    label_bytes = pair.label_bytes if pair.as_stored and ids is pair.label else labels.encode(ids)
    return Record(name, image_bytes, label_bytes, *rgb.size, labels.histogram(ids, len(coding.class_names)))


def _shrunk(image: Image.Image, label: np.ndarray, max_size: int, kind: str) -> tuple[Image.Image, np.ndarray, bytes]:
    """Shrink a pair to a longer side of `max_size`; also return the image encoded as `kind`, "PNG" or "JPEG"."""
    width, height = (max(1, round(side / max(image.size) * max_size)) for side in image.size)
    small = image.resize((width, height), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    small.save(buffer, kind, **({"quality": JPEG_QUALITY, "subsampling": 0} if kind == "JPEG" else {}))
    small_label = Image.fromarray(label).resize(small.size, Image.Resampling.NEAREST)
    return small, np.asarray(small_label), buffer.getvalue()
