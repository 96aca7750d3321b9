"""Published figures to compare runs with, by dataset, and in what their protocols differ from those of the runs."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ccnet.data.catalog import DATASETS

STATED = {"split": "split", "averaging": "scales", "resize": "resizing", "mode": "windows", "images": "images"}


class Anchor(NamedTuple):
    """A row of anchors.csv: a network's mean IoU in per cent, its protocol and where it is published.

    Of the protocol, `split`, `images` (their number), `averaging` ("one scale" or "several scales, mirrored"), `resize`
    and `mode` are written as in metrics.json; empty: the source read for this table does not state it.
    """

    dataset: str
    network: str
    mean_iou: str
    split: str
    images: str
    averaging: str
    resize: str
    mode: str
    training: str
    source: str
    url: str


def published(class_names: Sequence[str]) -> list[Anchor]:
    """The published figures on the dataset of these classes; its name may be another."""
    with open(Path(__file__).with_suffix(".csv"), newline="", encoding="utf-8") as file:
        anchors = [Anchor(**row) for row in csv.DictReader(file)]
    return [anchor for anchor in anchors if DATASETS[anchor.dataset].class_names == tuple(class_names)]


def comparison(anchor: Anchor, protocols: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    """A sentence on which of the `protocols` an anchor compares with best, and on what differs or is not stated.

    `protocols` has, for each name, the protocol entries of the metrics.json of each run.
    """
    found = {name: _differences(anchor, [_stated(each) for each in runs]) for name, runs in protocols.items()}
    name = min(found, key=lambda each: len(found[each]))
    unknown = [words for key, words in STATED.items() if not getattr(anchor, key)]
    if len(unknown) == len(STATED):
        return "The protocol is not stated."
    rest = f" Not stated: {', '.join(unknown)}." if unknown else ""
    if found[name]:
        return f"Not measured like {name}: {'; '.join(found[name])}.{rest}"
    return f"Measured like {name}{', as far as stated' if unknown else ''}.{rest}"


def _stated(protocol: Mapping[str, Any]) -> dict[str, str]:
    """The entries of a protocol in the words of an anchor; "?" where metrics.json does not say."""
    scales, flip = protocol.get("scales", [1.0]), protocol.get("flip", False)
    averaging = "one scale" if len(scales) == 1 else "several scales"
    keys = {key: str(protocol.get(key, "?")) for key in ("resize", "mode", "images")}
    entries = {"split": str(protocol.get("split", "val")), "averaging": averaging + ", mirrored" * flip}
    return entries | keys | {"labels": _labels(protocol)}


def _labels(protocol: Mapping[str, Any]) -> str:
    """What is not the dataset's own about the labels that are scored; empty if nothing."""
    prepared = str(protocol.get("prepared", "original"))
    words = [] if prepared == "original" else [f"prepared with {prepared}"]
    return ", ".join(words + ["resized"] * ("resized alike" in protocol.get("scored_at", "")))


def _differences(anchor: Anchor, runs: Sequence[Mapping[str, str]]) -> list[str]:
    """What differs between an anchor and at least one of the runs, in words."""
    here = {key: " or ".join(dict.fromkeys(run[key] for run in runs)) for key in runs[0]}
    known = {key: theirs for key in STATED if (theirs := getattr(anchor, key))}
    differ = [f"{_words(key, theirs)} there, {_words(key, here[key])} here"
              for key, theirs in known.items() if here[key] not in (theirs, "?")]  # fmt: skip
    return differ + [f"labels {here['labels']} here"] * bool(here["labels"])


def _words(key: str, value: str) -> str:
    return {"split": f"{value} split", "images": f"{value} images", "resize": f"size {value}"}.get(key, value)
