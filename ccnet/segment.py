"""The verb `segment`: a folder of images -> a palette PNG and an overlay for each, and index.csv."""

import csv
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from ccnet import InputError, runtime, weights
from ccnet.data import images
from ccnet.data.labels import colourise, save_palette_png
from ccnet.files import atomic, sha256
from ccnet.predictor import Predictor
from ccnet.progress import progress

COLUMNS = ["file", "status", "reason", "width", "height", "seconds"]
OPACITY = 0.5  # of the colours over the image


def run(*, folder: Path, weights_file: Path, out: Path, device: str = "auto") -> None:
    """Segment every image below `folder`. An image that cannot be read is a row in index.csv, not the end.

    Images already segmented with these weights (an interrupted run) are skipped. Raises InputError where there is
    no image, or none could be segmented.
    """
    files = _find(folder, out)
    runtime.select(device)
    trained = weights.load(weights_file)
    segmenter = _Segmenter(trained, sha256(weights_file), folder, out)
    pairs = zip(files, _stems(folder, files), strict=True)
    rows = [segmenter.row(*pair) for pair in progress(pairs, total=len(files), desc="segment", unit="image")]
    with atomic(out / "index.csv") as temporary, open(temporary, "w", newline="") as file:
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
    own = out.resolve()  # results may lie below the images: they are not input
    found = [
        path
        for path in sorted(folder.rglob("*"))
        if path.suffix.lower() in images.SUFFIXES and path.is_file() and own not in path.resolve().parents
    ]
    if not found:
        raise InputError(f"{folder}: no images ({', '.join(images.SUFFIXES)}) in it or below it")
    return found


class _Segmenter:
    def __init__(self, trained: weights.Weights, stamp: str, folder: Path, out: Path):
        self.predictor, self.palette, self.stamp = Predictor(trained.model), trained.palette, stamp
        self.folder, self.out = folder, out

    def row(self, file: Path, stem: Path) -> dict:
        """Segment one file into `<stem>.png` and `<stem>_overlay.jpg`; its row of index.csv."""
        row: dict[str, object] = {"file": str(file.relative_to(self.folder)), "status": "ok"}
        start = time.perf_counter()
        try:
            image = _read(file)
            row |= {"width": image.width, "height": image.height}
            mask = self.out / f"{stem}.png"
            stamp = f"{self.stamp} {file.stat().st_mtime_ns}"
            if _stamp_of(mask) == stamp:
                return row | {"status": "skipped", "reason": "already segmented with these weights"}
            label = self.predictor(np.asarray(image))
            _write_overlay(self.out / f"{stem}_overlay.jpg", image, colourise(label, self.palette))
            save_palette_png(mask, label, self.palette, comment=stamp)  # last: it says that both are whole
        except (InputError, OSError) as error:
            return row | {"status": "failed", "reason": str(error)}
        return row | {"seconds": f"{time.perf_counter() - start:.3f}"}


def _read(file: Path) -> Image.Image:
    """An image upright (cameras note the orientation in EXIF and leave the pixels lying), RGB."""
    image = images.open_image(file.read_bytes(), str(file))
    with images.refusing_damage(str(file)):
        return images.to_rgb(ImageOps.exif_transpose(image))


def _stamp_of(mask: Path) -> str | None:
    if not mask.is_file():
        return None
    with Image.open(mask) as image:
        return image.info.get("Comment")


def _write_overlay(path: Path, image: Image.Image, colours: np.ndarray) -> None:
    with atomic(path) as temporary:
        Image.blend(image, Image.fromarray(colours), OPACITY).save(temporary, "JPEG", quality=90)


def _stems(folder: Path, files: list[Path]) -> list[Path]:
    """Where each file's results go, relative to the output folder: without its suffix, unless two would collide."""
    plain = [file.relative_to(folder).with_suffix("") for file in files]
    shared = {stem for stem, count in Counter(plain).items() if count > 1}
    return [file.relative_to(folder) if stem in shared else stem for file, stem in zip(files, plain, strict=True)]
