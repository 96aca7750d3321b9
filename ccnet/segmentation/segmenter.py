"""`Segmenter` segments one photo: it writes the mask and what goes with it, and returns the row of index.csv."""

import errno
import math
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from ccnet import InputError
from ccnet.data import images, photos
from ccnet.data.labels import histogram, palette_png, paletted
from ccnet.data.photos import Photo
from ccnet.failures import explain
from ccnet.files import atomic, sha256
from ccnet.predictor import Predictor
from ccnet.protocol import Protocol
from ccnet.results import CONFIDENCE, OVERLAY, PROBABILITIES
from ccnet.segmentation import probabilities
from ccnet.segmentation.index import Row
from ccnet.weights import Weights

# Limits for segmenting an image whole, since memory grows with it: pixels, and scores of all pixels (2 GiB of float32).
LARGEST, MOST_SCORES = 24_000_000, 2**29
WINDOW = 1024  # side of the sliding windows over larger images; with smaller ones masks differ more from whole images'
SMALLER = "scale the image down, or use --device cpu"  # the remedy when the network runs out of memory
OPACITY = 0.5  # of the class colours over the image
JPEG_SIDE = 65_500  # pixels: the longest side that JPEG allows
# Errors that concern the output path of one image. Any other write error concerns the disk and ends the run.
MISPLACED = {errno.ENAMETOOLONG, errno.EINVAL, errno.EILSEQ, errno.EISDIR, errno.ENOTDIR, errno.EEXIST}


@dataclass(frozen=True)
class Wanted:
    """What is written for a photo besides its mask."""

    overlay: bool = True
    confidence: bool = False
    probabilities: bool = False

    def endings(self) -> dict[str, bool]:
        """The ending of each kind of file, and whether it is wanted."""
        return {OVERLAY: self.overlay, CONFIDENCE: self.confidence, PROBABILITIES: self.probabilities}


class Job(NamedTuple):
    """A photo, and the path of its results without their endings, relative to the folder of all results."""

    photo: Photo
    stem: Path


class Found(NamedTuple):
    """Label map and 255 × the probability of each pixel's class, both `(H, W)` uint8, and the seconds they took."""

    labels: np.ndarray
    confidence: np.ndarray
    seconds: float


Label = Callable[[np.ndarray, Path | None], Found]  # of an image, and the file for its probabilities


class Segmenter:
    """Segments photos with one network, under one protocol, into the folder `out`.

    `stamp` identifies the weights. A mask says by which weights and protocol and of which bytes it was made, so that
    what is done is not done again. An image too large to be segmented whole is segmented in windows.
    """

    def __init__(self, trained: Weights, stamp: str, protocol: Protocol, out: Path, wanted: Wanted):
        self.whole = Predictor(trained.model, protocol)
        self.windows = Predictor(trained.model, protocol.changed(window=protocol.window or WINDOW))
        self.largest = min(LARGEST, MOST_SCORES // len(trained.class_names))
        self.palette, self.stamp, self.protocol, self.out, self.wanted = trained.palette, stamp, protocol, out, wanted

    def label(self, image: np.ndarray, file: Path | None) -> Found:
        """Run the network on an image `(H, W, 3)` uint8; write the probabilities to `file`, if it is given."""
        start = time.perf_counter()
        predictor = self.windows if self._is_large(image.shape[:2]) else self.whole
        if file is None:
            return Found(*predictor.with_confidence(image), time.perf_counter() - start)
        with probabilities.writing(file, image.shape[:2]) as add:
            return Found(*predictor.with_confidence(image, add), time.perf_counter() - start)

    def row(self, job: Job, label: Label) -> Row:
        """Segment a photo into the files that are wanted, unless they are there; return its row of index.csv."""
        row, start = Row(str(job.photo.name)), time.perf_counter()
        try:
            stamp = self._stamp(job.photo.path)
            if self._finish(row, job, stamp):
                return row
            image, remarks = photos.decode(job.photo.path)
        except OSError as error:
            return _failed(row, error.strerror or str(error))
        except (InputError, MemoryError) as error:
            return _failed(row, explain(error, SMALLER).removeprefix(f"{job.photo.path}: "))
        row.reason = "; ".join([*remarks, *self._remarks(*image.size)])
        try:
            self._path(job, ".png").unlink(missing_ok=True)  # it would vouch for files of which some are new
            asked = time.perf_counter()
            found = label(np.asarray(image), self._path(job, PROBABILITIES) if self.wanted.probabilities else None)
            start += time.perf_counter() - asked - found.seconds  # exclude the wait for the network
            self._describe(row, job, found.labels, float(found.confidence.mean() / 255))
            self._write(job, image, found, f"{stamp} {row.confidence:.4f}\n{row.reason}")
        except (RuntimeError, MemoryError) as error:  # the network ran out of memory
            return _failed(Row(row.file), explain(error, SMALLER))
        except OSError as error:
            if error.errno not in MISPLACED:
                raise
            return _failed(Row(row.file), f"its results cannot be written ({error.strerror})")
        row.seconds = time.perf_counter() - start
        return row

    def _path(self, job: Job, ending: str) -> Path:
        return self.out / f"{job.stem}{ending}"

    def _stamp(self, file: Path) -> str:
        return f"{self.stamp} {self.protocol.in_words()} {sha256(file)}"

    def _finish(self, row: Row, job: Job, stamp: str) -> bool:
        """Fill the row from a mask made with this stamp, if it and all other files that are wanted are there."""
        if not all(self._path(job, ending).is_file() for ending, wanted in self.wanted.endings().items() if wanted):
            return False
        mask = self._path(job, ".png")
        try:
            with images.refusing_damage(str(mask)), Image.open(mask) as image:
                first, _, remarks = image.info.get("Comment", "").partition("\n")
                made, _, confidence = first.rpartition(" ")
                if made != stamp:
                    return False
                labels = np.asarray(image)
        except InputError:  # missing, or not an image
            return False
        row.status = "skipped"
        row.reason = "; ".join(filter(None, ["already segmented with these weights", remarks]))
        self._describe(row, job, labels, float(confidence))
        return True

    def _describe(self, row: Row, job: Job, labels: np.ndarray, confidence: float) -> None:
        row.height, row.width = labels.shape
        row.mask, row.confidence, row.protocol = f"{job.stem}.png", confidence, self._in_words(labels.shape)
        row.shares = list(histogram(labels, len(self.palette))[:-1] / labels.size)

    def _write(self, job: Job, image: Image.Image, found: Found, comment: str) -> None:
        """Write the files that are wanted and remove those of an earlier run that are not; the mask marks the end."""
        for ending, wanted in self.wanted.endings().items():
            if not wanted:
                self._path(job, ending).unlink(missing_ok=True)
        with ThreadPoolExecutor(1) as meanwhile:
            mask = meanwhile.submit(palette_png, found.labels, self.palette, comment)
            if self.wanted.overlay:
                _write_overlay(self._path(job, OVERLAY), image, paletted(found.labels, self.palette))
            if self.wanted.confidence:
                with atomic(self._path(job, CONFIDENCE)) as temporary:
                    Image.fromarray(found.confidence).save(temporary, "PNG")
        with atomic(self._path(job, ".png")) as temporary:
            temporary.write_bytes(mask.result())

    def _is_large(self, size: tuple[int, ...]) -> bool:
        """Whether an image of `size` (height, width) is too large to be segmented whole, in all its views together."""
        seen = sum(math.prod(self.protocol.size(size, scale)) for scale in self.protocol.scales)
        seen *= 1 + self.protocol.flip
        return self.protocol.window is None and seen > self.largest

    def _in_words(self, size: tuple[int, ...]) -> str:
        return (self.windows if self._is_large(size) else self.whole).protocol.in_words()

    def _remarks(self, width: int, height: int) -> Iterator[str]:
        """Remarks on how an image was treated differently because of its size."""
        if self._is_large((height, width)):
            views = f" in {self.whole.views} views" * (self.whole.views > 1)
            yield f"over {self.largest / 1e6:.1f} megapixels{views}: in windows of {WINDOW} pixels"
        if self.wanted.overlay and max(width, height) > JPEG_SIDE:
            yield f"its overlay is reduced to {JPEG_SIDE} pixels, the longest side of a JPEG"


def _failed(row: Row, reason: str) -> Row:
    row.status, row.reason = "failed", reason
    return row


def _write_overlay(path: Path, image: Image.Image, mask: Image.Image) -> None:
    blended = Image.blend(image, mask.convert("RGB"), OPACITY)
    blended.thumbnail((JPEG_SIDE, JPEG_SIDE))  # only if it is larger
    with atomic(path) as temporary:
        blended.save(temporary, "JPEG", quality=90)
