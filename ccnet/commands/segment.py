"""`ccnet segment`: segment photos; write a palette PNG and an overlay for each, index.csv, and a gallery."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ccnet import InputError, runtime, weights
from ccnet.data import photos
from ccnet.files import sha256
from ccnet.page import gallery
from ccnet.page.gallery import Picture
from ccnet.progress import progress
from ccnet.protocol import Protocol
from ccnet.results import stems
from ccnet.segmentation import index, processes
from ccnet.segmentation.index import Row
from ccnet.segmentation.segmenter import Job, Segmenter, Wanted


def run(
    *,
    inputs: Sequence[Path],
    weights_file: Path,
    out: Path,
    listed: Path | None = None,
    overlay: bool = True,
    confidence: bool = False,
    probabilities: bool = False,
    own_size: bool = False,
    strict: bool = False,
    device: str = "auto",
    **protocol_fields: Any,
) -> None:
    """Segment the photos in `inputs`, files, folders or patterns, and those in the file `listed`, a path on each line.

    A photo that cannot be read becomes a "failed" row of index.csv. Photos already segmented with these weights and
    this protocol (by an interrupted run) are skipped. The protocol is the weights' own, changed by `protocol_fields`,
    those of `ccnet.protocol.Protocol`; `own_size` leaves photos at their own size. Raises InputError if there is no
    photo, if none can be segmented or, if `strict`, if any cannot; OSError if results cannot be written.
    """
    if not inputs and listed is None:
        raise InputError("no photos are named: name a folder, files, a pattern in quotes, or a list with --list")
    found = photos.find(inputs, listed, out)
    out.mkdir(parents=True, exist_ok=True)
    runtime.select(device)
    weights_file = weights.located(weights_file)
    trained = weights.load(weights_file)
    protocol = _protocol(trained.protocol, own_size, protocol_fields)
    segmenter = Segmenter(trained, sha256(weights_file), protocol, out, Wanted(overlay, confidence, probabilities))
    jobs = [Job(photo, stem) for photo, stem in zip(found, stems([photo.name for photo in found]), strict=True)]
    for page in ("index.csv", "index.html"):
        (out / page).unlink(missing_ok=True)  # an interrupted run must not leave an earlier one's beside its masks
    made = dict(progress(processes.rows(segmenter, jobs), total=len(jobs), desc="segment", unit="image"))
    rows = [made[job] for job in jobs]
    index.write(out / "index.csv", rows, trained.class_names)
    pictures = [_picture(job, row) for job, row in zip(jobs, rows, strict=True)]
    gallery.write(out, pictures, trained.class_names, trained.palette, _heading(inputs), str(weights_file))
    _tell(rows, out, strict)


def _protocol(remembered: Protocol, own_size: bool, fields: dict[str, Any]) -> Protocol:
    """The weights' protocol with the fields that are given; a size that is given replaces the weights' own."""
    resized = {"keep_ratio", "fixed"} & set(fields)
    if own_size and resized:
        raise InputError("--own-size: images are also resized by --keep-ratio or --fixed: leave one out")
    forgotten = {"keep_ratio": None, "fixed": None} if own_size or resized else {}
    return remembered.changed(**forgotten | fields)


def _picture(job: Job, row: Row) -> Picture:
    return Picture(
        row.file, job.photo.path, row.mask or None, row.status, row.reason, row.width, row.height, row.confidence,
        row.shares or None, row.protocol,
    )  # fmt: skip


def _heading(inputs: Sequence[Path]) -> str:
    return inputs[0].resolve().name if len(inputs) == 1 else "segmented photos"


def _tell(rows: list[Row], out: Path, strict: bool) -> None:
    failed = [row for row in rows if row.status == "failed"]
    for row in failed:
        print(f"ccnet segment: {row.file}: {row.reason}", file=sys.stderr)
    print(f"{len(rows) - len(failed)} of {len(rows)} images segmented: {out / 'index.csv'}, {out / 'index.html'}")
    if len(failed) == len(rows):
        raise InputError(f"none of the {len(rows)} images could be segmented; see the lines above")
    if strict and failed:
        raise InputError(f"{len(failed)} of {len(rows)} images could not be segmented; see the lines above")
