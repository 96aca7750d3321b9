"""Folders of photos to segment, good and bad, and what segmenting them leaves."""

import csv
import io
import struct
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ccnet import weights
from ccnet.commands import segment
from ccnet.predictor import Predictor
from tests import tiny

sys.modules["pillow_heif"] = None  # type: ignore[assignment]  # for all tests the plugin is not installed
UPRIGHT = (40, 60)  # width, height of the photo that lies on its side
GOOD = {
    "plain.jpg": (50, 40), "plain.png": (50, 40), "alpha.png": (33, 21), "grey.tif": (64, 48), "ink.jpg": (40, 40),
    "deep.png": (35, 47), "lying.jpg": UPRIGHT, "dot.bmp": (1, 1), "long.webp": (5000, 40), "moving.gif": (44, 33),
    "deep/er/plain.jpg": (50, 40), "Straße mit Hund – 犬.JPG": (50, 40), "grey alpha.png": (41, 37),
    "palette.png": (40, 36), "see-through palette.png": (40, 36), "two colours.png": (52, 33), "ink.tif": (40, 40),
    "pages.tif": (45, 36), "deep.tif": (47, 35), "float.tif": (36, 40), "packed.tif": (48, 36), "moving.png": (36, 36),
    "photo.avif": (64, 48), "progressive.jpg": (64, 50), "two\nlines.png": (40, 36), "jpeg inside.png": (50, 40),
}  # fmt: skip
REMARKS = {
    "alpha.png": "transparent pixels are laid over white", "moving.gif": "the first of its 2 frames",
    "pages.tif": "the first of its 3 pages", "deep.png": "over 8 bits: only the upper 8 of 16 are used",
    "float.tif": "floating-point values are clipped to 0–255",
}  # fmt: skip
OTHERS = {  # the first bytes of what is no image, and is called one
    "page.jpg": b"<!doctype html><title>404</title>", "paper.png": b"%PDF-1.7\n", "drawing.png": b"<svg xmlns='a'/>",
    "archive.jpg": b"PK\x03\x04", "pickle.png": b"\x80\x04.", "array.png": b"\x93NUMPY\x01\x00", "letter.jpg": b"Dear",
    "script.jpg": b"%!PS-Adobe-3.0 EPSF-3.0\n", "shards.png": b"\x89HDF\r\n\x1a\n", "film.gif": b"\0\0\0\x18ftypmp42",
    "zeros.bmp": bytes(5000), "icon.png": b"\0\0\1\0\1\0\x10\x10", "nul.tif": b"\0",
}  # fmt: skip


def encoded(image: Image.Image, kind: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def chunk(kind: bytes, data: bytes) -> bytes:
    """A chunk of a PNG."""
    body = kind + data
    return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))


def png(width: int, height: int, *chunks: bytes) -> bytes:
    """A PNG's signature, its header, and chunks."""
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">2I5B", width, height, 8, 2, 0, 0, 0)) + b"".join(chunks)


def good() -> dict[str, bytes]:
    """The files of `GOOD`."""
    drawn = {name: Image.fromarray(tiny.draw(i, *size)[0]) for i, (name, size) in enumerate(GOOD.items())}
    files = {name: encoded(image, "PNG") for name, image in drawn.items() if name.endswith(".png")}
    files |= {name: encoded(image, "JPEG") for name, image in drawn.items() if name.lower().endswith(".jpg")}
    mask = Image.fromarray(tiny.draw(99, *GOOD["alpha.png"])[1])
    drawn["alpha.png"].putalpha(mask)
    turned = Image.Exif()
    turned[0x0112] = 6  # the camera was turned: show it rotated by 90° clockwise
    wide = np.asarray(drawn["deep.png"].convert("L")).astype(np.uint16) * 257
    first, second = (Image.fromarray(tiny.draw(i, *GOOD["moving.gif"])[0]).quantize() for i in (0, 1))
    frames = [Image.fromarray(tiny.draw(i, *GOOD["moving.png"])[0]) for i in (0, 1)]
    pages = [Image.fromarray(tiny.draw(i, *GOOD["pages.tif"])[0]) for i in range(3)]
    return files | {
        "alpha.png": encoded(drawn["alpha.png"], "PNG"), "grey.tif": encoded(drawn["grey.tif"].convert("L"), "TIFF"),
        "ink.jpg": encoded(drawn["ink.jpg"].convert("CMYK"), "JPEG"), "deep.png": encoded(Image.fromarray(wide), "PNG"),
        "lying.jpg": encoded(drawn["lying.jpg"].rotate(90, expand=True), "JPEG", exif=turned),
        "dot.bmp": encoded(drawn["dot.bmp"], "BMP"), "long.webp": encoded(drawn["long.webp"], "WEBP"),
        "moving.gif": encoded(first, "GIF", save_all=True, append_images=[second]),
        "grey alpha.png": encoded(drawn["grey alpha.png"].convert("LA"), "PNG"),
        "palette.png": encoded(drawn["palette.png"].quantize(), "PNG"),
        "see-through palette.png": encoded(drawn["see-through palette.png"].quantize(), "PNG", transparency=3),
        "two colours.png": encoded(drawn["two colours.png"].convert("1"), "PNG"),
        "ink.tif": encoded(drawn["ink.tif"].convert("CMYK"), "TIFF"),
        "pages.tif": encoded(pages[0], "TIFF", save_all=True, append_images=pages[1:]),
        "deep.tif": encoded(Image.fromarray(wide.T.copy()), "TIFF"),
        "float.tif": encoded(drawn["float.tif"].convert("F"), "TIFF"),
        "packed.tif": encoded(drawn["packed.tif"], "TIFF", compression="tiff_lzw"),
        "moving.png": encoded(frames[0], "PNG", save_all=True, append_images=frames[1:]),
        "photo.avif": encoded(drawn["photo.avif"], "AVIF"),
        "progressive.jpg": encoded(drawn["progressive.jpg"], "JPEG", progressive=True),
        "jpeg inside.png": encoded(drawn["jpeg inside.png"], "JPEG"),
    }  # fmt: skip


def bad() -> dict[str, tuple[bytes, str]]:
    """Damaged and hostile files, and a part of the reason that is given for each."""
    image = Image.fromarray(tiny.draw(1)[0])
    jpeg, whole, tiff, webp, gif = (encoded(image, kind) for kind in ("JPEG", "PNG", "TIFF", "WEBP", "GIF"))
    unknown, undecodable = "not an image of a known format, or damaged", "cannot be decoded"
    broken = {
        "cut.jpg": jpeg[: len(jpeg) // 2], "cut.png": whole[: len(whole) // 2], "cut.tif": tiff[: len(tiff) // 2],
        "cut.webp": webp[: len(webp) // 2], "noise.png": whole[:60] + bytes(len(whole) - 60),
        "a zlib bomb.png": png(9, 9, chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(2**27)))),
    }  # fmt: skip
    strange = {
        "head.jpg": jpeg[:20], "nothing.png": png(0, 0), "cut.gif": gif[:9], "cut.avif": encoded(image, "AVIF")[:40],
        "wrong sum.png": bytes(whole[:20] + b"\xff" + whole[21:]), "loop.tif": b"II*\0\x08\0\0\0\0\0\x08\0\0\0",
    }  # fmt: skip
    return {
        "empty.png": (b"", "the file is empty"),
        "bomb.png": (png(60000, 60000, chunk(b"IDAT", b"")), "limit of 178956970 pixels"),
        "phone.heic": (b"\0\0\0\x18ftypheic", "HEIC needs Pillow's plugin: pip install pillow-heif"),
        **{name: (data, undecodable) for name, data in broken.items()},
        **{name: (data, unknown) for name, data in (OTHERS | strange).items()},
    }  # fmt: skip


def write(folder: Path, files: dict[str, bytes]) -> None:
    for name, data in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


def table(out: Path) -> dict[str, dict[str, str]]:
    """The rows of index.csv by file."""
    with open(out / "index.csv", newline="", encoding="utf-8", errors="surrogateescape") as file:
        return {row["file"]: row for row in csv.DictReader(file)}


def statuses(folder: Path, trained: tiny.Trained, out: Path, **options) -> list[str]:
    """Segment a folder; the status of each file, by name."""
    segment.run(inputs=[folder], weights_file=trained.weights, out=out, **options)
    return [row["status"] for row in table(out).values()]


def expected(trained: tiny.Trained, image: Image.Image) -> np.ndarray:
    """The label map that these weights give an image."""
    network = weights.load(trained.weights)
    return Predictor(network.model, network.protocol)(np.asarray(image))


@pytest.fixture
def few(tmp_path):
    """A folder of three small images, to change."""
    made = tmp_path / "few"
    made.mkdir()
    for i in range(3):
        Image.fromarray(tiny.draw(i, 40, 36)[0]).save(made / f"{i}.png")
    return made
