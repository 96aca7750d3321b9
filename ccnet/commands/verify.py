"""`ccnet verify`: verify the shards' checksums, and summarise their labels in labels.json."""

import sys
from collections import Counter
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from ccnet import InputError
from ccnet.data.shards import ShardReader
from ccnet.files import write_json
from ccnet.progress import progress


def run(*, shards: list[Path], out: Path) -> None:
    """Verify every shard and write labels.json: images, sizes, pixels of each class, absent classes, skipped pairs.

    It also holds the dataset's name, and how its pairs were divided into splits if the source does not say it.

    Prints the classes' shares as a table, and warns of classes that never occur. Raises InputError naming a shard that
    is damaged or has other classes, or a split without images.
    """
    everything = ShardReader(shards)
    by_split: dict[str, list[Path]] = {}
    for path, split in zip(everything.paths, everything.splits, strict=True):
        by_split.setdefault(split, []).append(path)
    for path in progress(everything.paths, desc="verifying", unit="shard"):
        ShardReader([path]).verify()
    splits = {split: _summary(split, ShardReader(paths)) for split, paths in by_split.items()}
    contents = {
        "dataset": everything.dataset,
        "class_names": everything.class_names,
        "palette": everything.palette,
        "splitting": everything.splitting,
        "splits": splits,
    }
    write_json(out, contents)
    print(_table(contents))
    for split, summary in splits.items():
        if summary["absent"]:
            print(f"warning: never in {split}: {', '.join(summary['absent'])}", file=sys.stderr)


def _summary(split: str, reader: ShardReader) -> dict[str, Any]:
    if not len(reader):
        _refuse_empty(split, reader)
    pixels, ignored = reader.histogram[:-1], reader.histogram[-1]
    sizes = Counter(f"{width}x{height}" for width, height in reader.sizes)
    return {
        "images": len(reader),
        "pixels": pixels.tolist(),
        "ignored_share": float(ignored / reader.histogram.sum()),
        "sizes": dict(sizes.most_common()),
        "absent": [reader.class_names[index] for index in np.flatnonzero(pixels == 0)],
        "skipped": [pair._asdict() for pair in sorted(reader.skipped)],
    }


def _refuse_empty(split: str, reader: ShardReader) -> NoReturn:
    if not reader.skipped:
        raise InputError(f"the {split} shards hold no image at all: {', '.join(map(str, reader.paths))}")
    first = min(reader.skipped)
    raise InputError(
        f"nothing is left of the {split} split: all {len(reader.skipped)} pairs were skipped, the first for"
        f" {first.reason}; mend them and list them anew (`snakemake -R fetch_dataset`, or `ccnet fetch` again)"
    )


def _table(contents: dict[str, Any]) -> str:
    """A table with each class's share of the labelled pixels in percent, and a column for each split."""
    splits = contents["splits"]
    width = max(map(len, [*contents["class_names"], "ignored of all"]))
    rows = [("", [f"{split} %" for split in splits])]
    for index, name in enumerate(contents["class_names"]):
        shares = [summary["pixels"][index] / max(sum(summary["pixels"]), 1) for summary in splits.values()]
        rows.append((name, [f"{100 * share:.2f}" for share in shares]))
    rows.append(("ignored of all", [f"{100 * summary['ignored_share']:.2f}" for summary in splits.values()]))
    rows.append(("images", [str(summary["images"]) for summary in splits.values()]))
    rows.append(("pairs skipped", [str(len(summary["skipped"])) for summary in splits.values()]))
    return "\n".join(f"{name:<{width}}" + "".join(f"{cell:>10}" for cell in cells) for name, cells in rows)
