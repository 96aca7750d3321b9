"""`ccnet inspect`: write a page to look at before training: class shares, pairs overlaid, and what is suspicious."""

from collections import Counter
from collections.abc import Iterator
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from ccnet.data import duplicates, findings, gate, images, survey
from ccnet.data.findings import Findings, Twin
from ccnet.data.index import Index, common_folder
from ccnet.data.survey import Surveyed
from ccnet.page import figures, templates

OVERLAID = 24  # pairs
LISTED = 12  # files of each finding; the rest are counted
COMPARED = 3  # of the nearest images of two splits
TALLEST = 30  # rows of the table of classes; longer ones are halved


def run(*, index: Path, out: Path) -> None:
    """Write the page `out` about all pairs of an index.json, and print what is suspicious.

    A pair that cannot be used is a finding, whatever is wrong with it. Raises InputError if the index cannot be read.
    """
    contents, folder = Index.read(index), index.parent.absolute()
    pairs = survey.survey(contents, folder)
    found = findings.find(pairs)
    said = list(sentences(found, pairs, contents.class_names))
    count = len(contents.class_names)
    templates.write(
        "inspect.html.j2",
        out,
        dataset=contents.dataset or "dataset",
        classes=contents.class_names,
        palette=contents.palette,
        splitting=contents.splitting,
        splits={split: summary([pair for pair in pairs if pair.split == split], count) for split in contents.pairs},
        rows=count if count <= TALLEST else -(-count // 2),
        said=said,
        refused=sum(pair.reason is not None for pair in pairs),
        total=len(pairs),
        found=found,
        listed=LISTED,
        bits=duplicates.BITS,
        near=duplicates.NEAR,
        folder=common_folder(chain.from_iterable(contents.pairs.values()), folder),
        difference=findings.difference,
        **pictures(pairs, found, contents),
    )
    print(f"inspection of {counted(len(pairs), 'pair', 'pairs')}: {out}")
    print("\n".join(f"  {sentence}" for _, sentence in said) or "  nothing suspicious found")


def sentences(found: Findings, pairs: list[Surveyed], class_names: list[str]) -> Iterator[tuple[str, str]]:
    """Yield for each kind of finding the id of its section in the page, and what was found."""
    if found.undecodable:
        yield "undecodable", counted(len(found.undecodable), "pair cannot be decoded", "pairs cannot be decoded")
    if found.mismatched:
        tight = sum(map(findings.by_a_pixel, found.mismatched))
        differ = counted(len(found.mismatched), "label map differs in size", "label maps differ in size")
        yield "sizes", f"{differ} from the image" + (f", {tight} by a single pixel" if tight else "")
    for split, classes in found.absent.items():
        if classes:
            names = [class_names[index] for index in classes[:LISTED]]
            more = f" and {len(classes) - LISTED} more" if len(classes) > LISTED else ""
            yield "classes", f"never in {split}: {', '.join(names)}{more}"
    if found.uniform:
        empty = sum(pair.reason is not None for pair in found.uniform if pair.content and not pair.content.classes.size)
        single = counted(len(found.uniform), "label map holds a single class", "label maps hold a single class")
        yield "uniform", single + (f" or none, {empty} of them only ignored pixels" if empty else "")
    if found.repeated:
        leaks = sum(len({pair.split for pair in group}) > 1 for group in found.repeated)
        times = counted(len(found.repeated), "image is there more than once", "images are there more than once")
        yield "repeated", times + (f", {leaks} of them in several splits" if leaks else "")
    for (split, other), near in found.twins.items():
        whole = counted(sum(pair.split == split for pair in pairs), "image", "images")
        what = f"an earlier one of {split}" if split == other else f"one of {other}"
        yield (
            "twins",
            f"{len(near)} of {whole} of {split} {'is' if len(near) == 1 else 'are'} nearly the same as {what}",
        )


def counted(count: int, one: str, many: str) -> str:
    """A count with the words for one or for many."""
    return f"{templates.thousands(count)} {one if count == 1 else many}"


def summary(pairs: list[Surveyed], num_classes: int) -> dict[str, Any]:
    """What the page says of a split: its pairs, and of the usable ones sizes, pixels and images of each class."""
    usable = [pair.content for pair in pairs if pair.content and pair.reason is None]
    pixels = np.array([content.pixels for content in usable]).reshape(-1, num_classes + 1)
    total = pixels.sum(axis=0)
    return {
        "pairs": len(pairs),
        "usable": len(usable),
        "sizes": dict(Counter("{}x{}".format(*content.size) for content in usable)),
        "pixels": total[:-1].tolist(),
        "ignored": float(total[-1] / max(total.sum(), 1)),
        "images": (pixels[:, :-1] > 0).sum(axis=0).tolist(),
    }


def pictures(pairs: list[Surveyed], found: Findings, contents: Index) -> dict[str, Any]:
    """The pictures of the page: pairs overlaid, with the classes seen in them, and those of the findings."""
    overlay = partial(overlaid, contents=contents)
    chosen = choose(pairs)
    seen = {int(index) for pair in chosen if pair.content for index in pair.content.classes}
    return {
        "overlaid": [overlay(pair) for pair in chosen],
        "seen": sorted(seen),
        "uniform": [overlay(pair) for pair in found.uniform[:LISTED]],
        "repeated": [(photo(group[0]), group) for group in found.repeated[:LISTED]],
        "twins": {splits: side_by_side(near[:LISTED]) for splits, near in found.twins.items()},
        "nearest": side_by_side(found.nearest[:COMPARED]),
    }


def choose(pairs: list[Surveyed]) -> list[Surveyed]:
    """The pairs to be overlaid, in their order: `OVERLAID` usable ones, spread over the splits."""
    splits = list(findings.usable(pairs).values())
    quotas = survey.quotas([len(usable) for usable in splits], OVERLAID)
    return [
        usable[place]
        for usable, quota in zip(splits, quotas, strict=True)
        for place in survey.sample(findings.pixels(usable)[:, :-1], quota)
    ]


def overlaid(pair: Surveyed, contents: Index) -> dict[str, Any]:
    """A pair with its image and its coloured label map as data URIs."""
    opened = gate.open_pair(pair.image, pair.label, contents.coding())
    return {
        "pair": pair,
        "photo": figures.photo_uri(np.asarray(opened.rgb)),
        "label": figures.label_uri(opened.label, contents.palette),
    }


def side_by_side(twins: list[Twin]) -> list[tuple[str, str, Twin]]:
    """The two images of each as data URIs."""
    return [(photo(twin.pair), photo(twin.other), twin) for twin in twins]


def photo(pair: Surveyed) -> str:
    """The image of a pair as a data URI."""
    return figures.photo_uri(images.decode(pair.image.read_bytes(), str(pair.image)))
