"""Photos from anywhere: finding the files that a user names, and decoding them with remarks on what was lost."""

import codecs
import glob
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, features

from ccnet import InputError
from ccnet.data import images

# A dataset's formats and more: files in these are not used for training, but some are photos.
HEIC = (".heic", ".heif")
SUFFIXES = (*images.SUFFIXES, ".gif", ".avif", *HEIC)
FORMATS = (*images.FORMATS, "GIF", "AVIF")
MOST = 178_956_970  # pixels of a photo; Pillow's own limit against decompression bombs
BACKGROUND = (255, 255, 255)  # of transparent pixels


class Photo(NamedTuple):
    """An image file to segment, and its name: its path relative to the folder that all have in common."""

    path: Path
    name: Path


def find(named: Sequence[Path], listed: Path | None, out: Path) -> list[Photo]:
    """The image files among the files, folders and patterns in `named` and the lines of the file `listed`, sorted.

    Folders are searched with those below them and those linked there, without what is hidden and results in `out` and,
    which is said on stderr, of other runs. A file that is named by itself is taken whatever its suffix, and one in a
    list, or linked in a folder, even if it does not exist. Raises InputError for a path that
    does not exist, if no image is found, and if results in `out` could overwrite the images.
    """
    paths = [path for each in named for path in _expanded(each)] + (_lines(listed) if listed else [])
    unique = {Path(os.path.abspath(path)): path for path in paths}
    if not unique:
        raise _none(named, listed)
    common, results = _common(list(unique), [] if listed else named), out.resolve()
    if results in (common.resolve(), *common.resolve().parents):
        raise InputError(f"{out}: results there could overwrite the images in {common}; choose another --out")
    found = [(whole, path) for whole, path in sorted(unique.items()) if results not in path.resolve().parents]
    if not found:
        raise _none(named, listed)
    return [Photo(path, whole.relative_to(common)) for whole, path in found]


def _none(named: Sequence[Path], listed: Path | None) -> InputError:
    where = ", ".join(map(str, [*named, *([listed] if listed else [])]))
    return InputError(f"{where}: no images ({', '.join(SUFFIXES)}) in it or below it")


def expanded(path: Path) -> Path:
    """The path with a leading ~ or ~user replaced by the home; a name that only looks so stays."""
    try:
        return path.expanduser()
    except RuntimeError:  # no such user
        return path


def _expanded(named: Path) -> list[Path]:
    path = expanded(named)
    if path.is_dir():
        return list(_below(path))
    if path.exists():
        return [path]
    if glob.has_magic(str(named)):
        found = [Path(match) for match in glob.glob(str(path), recursive=True)]
        files = [file for file in found if _is_photo(file)]
        return files + [file for folder in found if folder.is_dir() for file in _below(folder)]
    raise InputError(f"{named}: no such file or folder; name images, folders of images, or a pattern in quotes")


def _below(top: Path) -> Iterator[Path]:
    seen = set()
    for name, folders, files in os.walk(top, onerror=_tell, followlinks=True):
        folder = Path(name)
        if folder.resolve() in seen:  # a link led here before
            folders.clear()
            continue
        seen.add(folder.resolve())
        kept = [each for each in folders if not each.startswith(".") and not _is_result(folder / each)]
        folders[:] = sorted(kept, key=lambda each: ((folder / each).is_symlink(), each))  # in one order: for names
        yield from (path for path in map(folder.joinpath, files) if _is_photo(path))


def _tell(error: OSError) -> None:
    print(f"ccnet: {error.filename}: left out: {error.strerror}", file=sys.stderr)


def _is_result(folder: Path) -> bool:
    found = (folder / "index.csv").exists() and (folder / "index.html").exists()
    if found:
        print(f"ccnet: {folder}: left out: it has an index.csv and an index.html, as results have", file=sys.stderr)
    return found


def _is_photo(path: Path) -> bool:
    """Whether a path is an image by its name, and a file or a link to none, which fails by name later."""
    named = path.suffix.lower() in SUFFIXES and not path.name.startswith(".")
    return named and (path.is_file() or (path.is_symlink() and not path.exists()))


def _lines(listed: Path) -> list[Path]:
    """The paths in a list, one a line, relative to the current folder. Names need not be UTF-8."""
    try:
        data = listed.read_bytes().removeprefix(codecs.BOM_UTF8)
    except OSError as error:
        raise InputError(f"{listed}: {error.strerror}; name a text file with a path on each line") from None
    if b"\0" in data:
        raise InputError(
            f"{listed}: it has NUL bytes, as UTF-16 and `find -print0` write: save it as UTF-8, a path a line"
        )
    return [expanded(Path(line.strip("\r"))) for line in os.fsdecode(data).split("\n") if line.strip()]


def _common(paths: list[Path], named: Sequence[Path]) -> Path:
    """The one folder that is named, or the deepest that all paths lie below."""
    if len(named) == 1 and (folder := expanded(named[0])).is_dir():
        return Path(os.path.abspath(folder))
    return Path(os.path.commonpath([path.parent for path in paths]))


def decode(path: Path) -> tuple[Image.Image, list[str]]:
    """A photo in 8-bit RGB, turned upright, and remarks on what its file holds besides.

    Transparent pixels are laid over white. Raises InputError for a file that cannot be decoded, or OSError.
    """
    image = images.open_image(path.read_bytes(), str(path), formats(path), MOST)
    with images.refusing_damage(str(path)):
        image.load()  # turns a TIFF and removes its orientation
        return upright(image), list(_remarks(image))


def upright(image: Image.Image) -> Image.Image:
    """An image in 8-bit RGB, turned upright, its transparent pixels laid over white."""
    image.load()
    rgb = images.to_rgb(image)
    if image.has_transparency_data:
        rgb = Image.composite(rgb, Image.new("RGB", image.size, BACKGROUND), _alpha(image))
    return images.turned(rgb, images.orientation(image))


def formats(path: Path) -> tuple[str, ...]:
    """The formats that a file may have. Raises InputError for one that Pillow does not read here."""
    suffix = path.suffix.lower()
    if suffix == ".avif" and not features.check("avif"):
        raise InputError(f"{path}: this Pillow reads no AVIF: pip install --upgrade pillow")
    if suffix not in HEIC:
        return FORMATS
    try:
        from pillow_heif import register_heif_opener
    except ImportError:
        raise InputError(f"{path}: HEIC needs Pillow's plugin: pip install pillow-heif") from None
    register_heif_opener()
    return (*FORMATS, "HEIF")


def _remarks(image: Image.Image) -> Iterator[str]:
    if (frames := _frames(image)) > 1:
        yield f"the first of its {frames} {'pages' if image.format == 'TIFF' else 'frames'}"
    if image.mode.startswith("I"):
        yield "over 8 bits: only the upper 8 of 16 are used"
    if image.mode == "F":
        yield "floating-point values are clipped to 0–255"
    if image.has_transparency_data and not _is_opaque(image):
        yield "transparent pixels are laid over white"


def _frames(image: Image.Image) -> int:
    try:
        return getattr(image, "n_frames", 1)
    except Exception:  # a damaged page after the first
        return 1


def _is_opaque(image: Image.Image) -> bool:
    lowest, _ = _alpha(image).getextrema()
    return lowest == 255


def _alpha(image: Image.Image) -> Image.Image:
    """The opacity of an image with transparency data, mode L."""
    if image.mode.startswith("I"):  # Pillow converts no 16 bits with a transparent value
        return Image.fromarray(np.where(np.asarray(image) == image.info["transparency"], 0, 255).astype(np.uint8))
    return image.convert("RGBA").getchannel("A")
