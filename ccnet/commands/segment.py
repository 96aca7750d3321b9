"""`ccnet segment`: segment a folder of images; write a palette PNG and an overlay for each, and index.csv."""

import csv
import errno
import itertools
import select
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TextIO

import numpy as np
from PIL import Image

from ccnet import InputError, runtime, weights
from ccnet.data import images
from ccnet.data.labels import colourise, save_palette_png
from ccnet.data.workers import Channel, Worker
from ccnet.failures import explain
from ccnet.files import atomic, sha256
from ccnet.predictor import Predictor
from ccnet.progress import progress
from ccnet.protocol import Protocol
from ccnet.results import stems

# A dataset's formats and GIF: GIFs are not used for training, since their colours are reduced, but some are photos.
SUFFIXES, FORMATS = (*images.SUFFIXES, ".gif"), (*images.FORMATS, "GIF")
COLUMNS = ["file", "status", "reason", "width", "height", "seconds"]
# Limits for segmenting an image whole, since memory grows with it: pixels, and scores of all pixels (2 GiB of float32).
LARGEST, MOST_SCORES = 24_000_000, 2**29
WINDOW = 768  # side of the sliding windows over larger images
SMALLER = "scale the image down, or use --device cpu"  # the remedy when the network runs out of memory
OPACITY = 0.5  # of the class colours over the image
JPEG_SIDE = 65_500  # pixels: the longest side that JPEG allows
# Errors that concern the output path of one image. Any other write error concerns the disk and ends the run.
MISPLACED = {errno.ENAMETOOLONG, errno.EINVAL, errno.EILSEQ, errno.EISDIR, errno.ENOTDIR, errno.EEXIST}
# Processes that read and write: while the network runs on one worker's image, the other worker writes its previous
# result and reads its next image. Threads do not help, since Jittor holds the GIL while it computes. On the CPU the
# network uses all cores, and reading and writing in parallel slows it down by as much as it saves.
WORKERS = {"cuda": 2, "cpu": 0}
Job = tuple[Path, Path]  # an image, and the path of its results without their endings
Label = Callable[[np.ndarray], tuple[np.ndarray, float]]  # image -> label map, and seconds taken


def run(*, folder: Path, weights_file: Path, out: Path, device: str = "auto") -> None:
    """Segment every image in and below `folder`; an image that cannot be read becomes a "failed" row of index.csv.

    Images already segmented with these weights (by an interrupted run) are skipped. Raises InputError if there is no
    image or none can be segmented, and OSError if results cannot be written.
    """
    files = _find(folder, out)
    out.mkdir(parents=True, exist_ok=True)
    workers = WORKERS[runtime.select(device)]
    weights_file = weights.located(weights_file)
    trained = weights.load(weights_file)
    segmenter = _Segmenter(trained, sha256(weights_file), folder, out)
    jobs = list(zip(files, stems([file.relative_to(folder) for file in files]), strict=True))
    found = dict(progress(_rows(segmenter, jobs, workers), total=len(jobs), desc="segment", unit="image"))
    rows = [found[job] for job in jobs]
    with atomic(out / "index.csv") as temporary, _open_csv(temporary) as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n", restval="")
        writer.writeheader()
        writer.writerows(rows)
    failed = [row for row in rows if row["status"] == "failed"]
    for row in failed:
        print(f"ccnet segment: {row['file']}: {row['reason']}", file=sys.stderr)
    print(f"{len(rows) - len(failed)} of {len(rows)} images segmented: {out / 'index.csv'}")
    if len(failed) == len(rows):
        raise InputError(f"{folder}: none of its {len(rows)} images could be segmented; see the lines above")


def _find(folder: Path, out: Path) -> list[Path]:
    if not folder.is_dir():
        raise InputError(f"{folder}: not a folder; name the folder that holds the images")
    own = out.resolve()
    if own == folder.resolve() or own in folder.resolve().parents:
        raise InputError(f"{out}: results there could overwrite the images in {folder}; choose another --out")
    found = [
        path
        for path in sorted(folder.rglob("*"))
        if path.suffix.lower() in SUFFIXES
        and not path.name.startswith(".")
        and path.is_file()
        and own not in path.resolve().parents  # results may lie below the images; skip them
    ]
    if not found:
        raise InputError(f"{folder}: no images ({', '.join(SUFFIXES)}) in it or below it")
    return found


def _rows(segmenter: "_Segmenter", jobs: list[Job], workers: int) -> Iterator[tuple[Job, dict]]:
    """Yield each job with its row of index.csv, as it finishes. The job of a worker that died runs in this process."""
    left = iter(jobs)
    with ExitStack() as stack:
        busy: dict[Worker, Job] = {}
        for job in itertools.islice(left, workers):
            worker = stack.enter_context(Worker(segmenter.work))
            worker.send(job)
            busy[worker] = job
        while busy:
            for worker in select.select(busy, [], [])[0]:
                try:
                    row = segmenter.serve(worker)
                except EOFError:
                    job = busy.pop(worker)
                    yield job, segmenter.row(job, segmenter.label)
                    continue
                if row is None:
                    continue
                yield busy.pop(worker), row
                if following := next(left, None):
                    worker.send(following)
                    busy[worker] = following
    for job in left:
        yield job, segmenter.row(job, segmenter.label)


class _Segmenter:
    def __init__(self, trained: weights.Weights, stamp: str, folder: Path, out: Path):
        self.predictor = Predictor(trained.model)
        self.windows = Predictor(trained.model, Protocol.checked(window=WINDOW))
        self.largest = min(LARGEST, MOST_SCORES // len(trained.class_names))
        self.palette, self.stamp, self.folder, self.out = trained.palette, stamp, folder, out

    def work(self, master: Channel) -> None:
        """The loop of a worker process: run the jobs it receives; `serve` runs the network in the master."""

        def label(image: np.ndarray) -> tuple[np.ndarray, float]:
            master.send(image)
            del image  # it may be large, and the master now has it
            return master.receive()

        while True:
            master.send(self.row(master.receive(), label))

    def serve(self, worker: Worker) -> dict | None:
        """Receive from a worker: return its row, or label its image and return None. Raises EOFError if it died."""
        said = worker.receive()
        if isinstance(said, dict):
            return said
        try:
            worker.send(self.label(said))
        except (RuntimeError, MemoryError) as error:  # the network ran out of memory
            worker.send(error)
        return None

    def label(self, image: np.ndarray) -> tuple[np.ndarray, float]:
        """Run the network on an image `(H, W, 3)` uint8; return its label map `(H, W)` uint8 and the seconds taken."""
        start = time.perf_counter()
        large = image.shape[0] * image.shape[1] > self.largest
        return (self.windows if large else self.predictor)(image), time.perf_counter() - start

    def row(self, job: Job, label: Label) -> dict:
        """Segment one file into `<stem>.png` and `<stem>_overlay.jpg`; return its row of index.csv."""
        file, stem = job
        row: dict[str, object] = {"file": str(file.relative_to(self.folder)), "status": "ok"}
        mask, overlay = (self.out / f"{stem}{ending}" for ending in (".png", "_overlay.jpg"))
        start = time.perf_counter()
        try:
            stamp = f"{self.stamp} {file.stat().st_mtime_ns} {file.stat().st_size}"
            if size := _finished(mask, overlay, stamp):
                reason = "already segmented with these weights"
                return row | {"status": "skipped", "reason": reason, "width": size[0], "height": size[1]}
            image = images.upright(file.read_bytes(), str(file), FORMATS)
            asked = time.perf_counter()
            ids, seconds = label(np.asarray(image))
            start += time.perf_counter() - asked - seconds  # exclude the wait for the network
        except (InputError, OSError, RuntimeError, MemoryError) as error:  # the last two: the network ran out of memory
            return row | {"status": "failed", "reason": explain(error, SMALLER).removeprefix(f"{file}: ")}
        try:
            _write_overlay(overlay, image, colourise(ids, self.palette))
            save_palette_png(mask, ids, self.palette, comment=stamp)  # written last: it marks both files as complete
        except OSError as error:
            if error.errno not in MISPLACED:
                raise
            return row | {"status": "failed", "reason": f"its results cannot be written ({error.strerror})"}
        row["reason"] = "; ".join(self._remarks(*image.size))
        return row | {"width": image.width, "height": image.height, "seconds": f"{time.perf_counter() - start:.3f}"}

    def _remarks(self, width: int, height: int) -> Iterator[str]:
        """Remarks on how an image was treated differently because of its size."""
        if width * height > self.largest:
            yield f"over {self.largest / 1e6:.1f} megapixels: in windows of {WINDOW} pixels"
        if max(width, height) > JPEG_SIDE:
            yield f"its overlay is reduced to {JPEG_SIDE} pixels, the longest side of a JPEG"


def _finished(mask: Path, overlay: Path, stamp: str) -> tuple[int, int] | None:
    """Width and height of a mask made with this stamp whose overlay exists; else None."""
    try:
        with images.refusing_damage(str(mask)), Image.open(mask) as image:
            return image.size if image.info.get("Comment") == stamp and overlay.is_file() else None
    except InputError:  # missing, or not an image
        return None


def _open_csv(path: Path) -> TextIO:
    # file names need not be UTF-8: write their bytes unchanged
    return open(path, "w", newline="", encoding="utf-8", errors="surrogateescape")


def _write_overlay(path: Path, image: Image.Image, colours: np.ndarray) -> None:
    blended = Image.blend(image, Image.fromarray(colours), OPACITY)
    blended.thumbnail((JPEG_SIDE, JPEG_SIDE))  # only if it is larger
    with atomic(path) as temporary:
        blended.save(temporary, "JPEG", quality=90)
