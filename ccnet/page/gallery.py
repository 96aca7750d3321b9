"""The gallery of a segmented folder: index.html, which refers to the files of originals and masks by links."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple
from urllib.parse import quote

import numpy as np
from PIL import Image

from ccnet import InputError
from ccnet.data import images, photos
from ccnet.files import atomic
from ccnet.page import templates
from ccnet.progress import progress

SHOWN = ("JPEG", "MPO", "PNG", "GIF", "WEBP", "BMP", "AVIF")  # by browsers; a phone's MPO is a JPEG with more behind it
TURNED = ("JPEG", "MPO")  # formats whose EXIF orientation all browsers apply
# Where a PNG says its orientation, maybe after the pixels; without them it need not be decoded to know.
PNG_ORIENTATION = (b"eXIf", b"Raw profile type", b"XML:com.adobe.xmp")
COPIES = "originals"  # the folder of reduced copies, beside the page
SIDE = 1280  # pixels: the longest side of a reduced copy
NAMED = 3  # classes in words below a thumbnail
VISIBLE = 1.0  # per cent: smaller shares are not drawn in a thumbnail's bar
TALLEST, WIDEST = 3 / 4, 2.0  # width by height of the thumbnails' frames


@dataclass(frozen=True)
class Picture:
    """An image that `ccnet segment` found, and what became of it.

    `file` is its name as in index.csv, `mask` the path of its palette PNG from the gallery's folder (None: it failed),
    `status` "ok", "skipped" or "failed". `width` and `height` are those of the upright image in pixels. `confidence`
    and the `shares` of the classes are in 0..1; None: not known. `done` says in words how it was segmented.
    """

    file: str
    original: Path
    mask: str | None
    status: str
    reason: str = ""
    width: int | None = None
    height: int | None = None
    confidence: float | None = None
    shares: Sequence[float] | None = None
    done: str = ""


class Tile(NamedTuple):
    """A thumbnail: its picture, the URLs of original and mask (None: cannot be shown), and its classes.

    `largest` has the classes with the largest shares, and `bar` the visible ones with where they begin and end, both in
    per cent.
    """

    picture: Picture
    original: str | None
    mask: str | None
    largest: list[tuple[int, float]]
    bar: list[tuple[int, float, float]]


def write(
    out: Path,
    pictures: Sequence[Picture],
    class_names: Sequence[str],
    palette: Sequence[Sequence[int]],
    heading: str,
    network: str = "",
) -> None:
    """Write the gallery `out`/index.html of `pictures`; `heading` names their folder, `network` what segmented them.

    `palette` has the classes' colours (0–255) as in the masks. An original that browsers would not show, or not as
    the network saw it, or that has no folder in common with `out`, gets a reduced copy in `out`/originals, which is
    kept while it is current. One that cannot be decoded is left out. Raises OSError if the page cannot be written.
    """
    tiles = [_tile(out, picture) for picture in progress(pictures, desc="gallery", unit="image")]
    templates.write(
        "gallery.html.j2",
        out / "index.html",
        dataset=readable(heading),
        network=network,
        tiles=tiles,
        statuses={each: sum(picture.status == each for picture in pictures) for each in ("ok", "skipped", "failed")},
        classes=class_names,
        palette=palette,
        means=_means(pictures),
        ratio=_ratio(pictures),
        named=NAMED,
        readable=readable,
        data=_data(tiles, class_names),
    )


def readable(text: str) -> str:
    r"""Text for the page: the bytes of file names that are not UTF-8 are written as \xff."""
    return os.fsencode(text).decode("utf-8", "backslashreplace")


def _tile(out: Path, picture: Picture) -> Tile:
    shares = _percent(picture)
    ends = np.cumsum([0.0] + [share for _, share in shares if share >= VISIBLE]).tolist()
    visible = [each for each, share in shares if share >= VISIBLE]
    bar = list(zip(visible, ends[:-1], ends[1:], strict=True))
    largest = sorted(shares, key=lambda share: -share[1])
    if picture.mask is None:
        return Tile(picture, None, None, largest, bar)
    return Tile(picture, _original(out, picture), _url(picture.mask), largest, bar)


def _percent(picture: Picture) -> list[tuple[int, float]]:
    """The classes that occur, in their order, and their shares in per cent."""
    shares = ((index, round(100 * share, 4)) for index, share in enumerate(picture.shares or ()))
    return [(index, share) for index, share in shares if share > 0]


def _means(pictures: Sequence[Picture]) -> list[tuple[int, float]]:
    """The classes that occur and the means over the images of their shares (0..1), the largest first."""
    known = [picture.shares for picture in pictures if picture.shares is not None]
    means = np.mean(known, axis=0).tolist() if known else []
    return sorted(((index, mean) for index, mean in enumerate(means) if mean > 0), key=lambda item: -item[1])


def _ratio(pictures: Sequence[Picture]) -> float:
    """Width by height of the thumbnails' frames: the images' median, within bounds."""
    known = [picture.width / picture.height for picture in pictures if picture.width and picture.height]
    return min(max(median(known or [4 / 3]), TALLEST), WIDEST)


def _data(tiles: Sequence[Tile], class_names: Sequence[str]) -> dict[str, Any]:
    """What the page's script needs and its elements do not say; shares in per cent, the largest first."""
    ways = list(dict.fromkeys(readable(tile.picture.done) for tile in tiles))
    rows = [
        {
            "status": tile.picture.status,
            "size": [tile.picture.width, tile.picture.height],
            "confidence": tile.picture.confidence,
            "shares": tile.largest,
            "reason": readable(tile.picture.reason),
            "done": ways.index(readable(tile.picture.done)),
        }
        for tile in tiles
    ]
    return {"classes": class_names, "done": ways, "pictures": rows}


def _original(out: Path, picture: Picture) -> str | None:
    """The URL from `out` of the original or of its reduced copy; None if it can be neither read nor decoded."""
    try:
        link = _link(out, picture.original)
        return link if link and _shown_alike(picture.original) else _reduced(out, picture)
    except (InputError, OSError, MemoryError):  # its mask is shown alone
        return None


def _link(out: Path, original: Path) -> str | None:
    """The URL from `out` of the original if they have a folder in common that is not the file system's root.

    It must lead there from `out` as it was named and from where it is: browsers take `..` literally, and a part of
    either path may be a symbolic link.
    """
    here, there = os.path.abspath(out), os.path.abspath(original)
    relative = os.path.relpath(there, here)
    ends = [os.path.normpath(os.path.join(folder, relative)) for folder in (here, os.path.realpath(out))]
    together = os.path.commonpath([here, there]) != os.path.abspath(os.sep)
    leads = all(os.path.exists(end) and os.path.samefile(end, original) for end in ends)
    return _url(relative) if together and leads else None


def _shown_alike(path: Path) -> bool:
    """Whether browsers show a file as the network saw it: one frame, opaque, upright. Raises InputError, OSError."""
    with images.refusing_damage(str(path)), Image.open(path, formats=photos.formats(path)) as image:
        still = image.format == "MPO" or not getattr(image, "is_animated", False)
        alike = still and not image.has_transparency_data and _turned_alike(image, path)
        return image.format in SHOWN and alike


def _turned_alike(image: Image.Image, path: Path) -> bool:
    """Whether browsers turn an image as `photos.decode` does: XMP's orientation is unknown to them."""
    if image.format == "PNG":
        data = path.read_bytes()
        return not any(mark in data for mark in PNG_ORIENTATION) or images.orientation(image) == 1
    turn = images.orientation(image)
    exif = Image.Exif()
    exif.load(image.info.get("exif", b"") if turn != 1 else b"")
    return turn == 1 or (image.format in TURNED and exif.get(images.ORIENTATION) == turn)


def _reduced(out: Path, picture: Picture) -> str:
    """The URL of the original's reduced copy, made unless it is current. Raises InputError, OSError, MemoryError."""
    # no result ends so: a mask ends in .png, an overlay in _overlay.jpg
    relative = f"{COPIES}/{picture.mask}.jpg"
    state = picture.original.stat()
    stamp = f"{state.st_mtime_ns} {state.st_size}"
    if not _current(out / relative, stamp):
        image, _ = photos.decode(picture.original)
        image.thumbnail((SIDE, SIDE))
        with atomic(out / relative) as temporary:
            image.save(temporary, "JPEG", quality=85, comment=stamp)
    return _url(relative)


def _current(copy: Path, stamp: str) -> bool:
    """Whether a reduced copy was made of a file of this time and size."""
    try:
        with images.refusing_damage(str(copy)), Image.open(copy, formats=("JPEG",)) as image:
            return image.info.get("comment") == stamp.encode()
    except InputError:  # missing, or damaged
        return False


def _url(relative: str) -> str:
    return quote(os.fsencode(relative))
