import io
import random
import struct
from contextlib import suppress

import numpy as np
import pytest
from PIL import Image

from ccnet import InputError
from ccnet.commands import prepare
from ccnet.data import images, photos
from ccnet.data.coding import Coding

GREY = np.arange(0, 240, 20, dtype=np.uint8).reshape(3, 4)


def encoded(image, kind="PNG", **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("mode", ["L", "LA", "P", "RGB", "RGBA"])
def test_every_png_mode_becomes_rgb(mode):
    data = encoded(Image.fromarray(GREY).convert(mode))
    assert np.array_equal(images.decode(data, "a"), np.stack([GREY] * 3, axis=-1))


def test_sixteen_bits_keep_their_high_byte():
    deep = Image.fromarray(GREY.astype(np.uint16) * 256 + 77)
    assert np.array_equal(images.decode(encoded(deep), "a"), np.stack([GREY] * 3, axis=-1))


def test_cmyk_jpeg_becomes_rgb():
    red = Image.new("RGB", (16, 16), (250, 10, 10)).convert("CMYK")
    pixel = images.decode(encoded(red, "JPEG"), "a")[8, 8].astype(int)
    assert np.abs(pixel - (250, 10, 10)).max() < 12


def test_stored_pixels_are_given_whatever_exif_says():
    exif = Image.Exif()
    exif[0x0112] = 6
    data = encoded(Image.new("RGB", (20, 10)), "JPEG", exif=exif)
    assert images.decode(data, "a").shape == (10, 20, 3)


def test_a_truncated_jpeg_is_refused_by_name():
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8))
    data = encoded(noise, "JPEG")
    with pytest.raises(InputError, match=r"cut\.jpg: cannot be decoded"):
        images.decode(data[: len(data) // 2], "cut.jpg")


def test_a_tiff_whose_strips_lie_at_a_fraction_is_refused_by_name():
    data = bytearray(encoded(Image.fromarray(GREY), "TIFF"))
    (strips,) = [place for place in range(8, len(data)) if data[place : place + 4] == struct.pack("<HH", 273, 4)]
    data[strips : strips + 12] = struct.pack("<HHIf", 273, 11, 1, 8.5)
    with pytest.raises(InputError, match=r"odd\.tif: cannot be decoded \('float' object"):
        images.decode(bytes(data), "odd.tif")


def test_only_the_formats_asked_for_are_read():
    frames = [Image.new("P", (6, 4), colour) for colour in (1, 2)]
    for frame in frames:
        frame.putpalette([0, 0, 0, 250, 0, 0, 0, 250, 0])
    data = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    with pytest.raises(InputError, match="not an image of a known format"):
        images.decode(data, "a.gif")
    assert np.array_equal(images.to_rgb(images.open_image(data, "a.gif", ("GIF",))), np.full((4, 6, 3), (250, 0, 0)))


def test_what_is_wrong_with_the_machine_is_not_blamed_on_the_file():
    for error in (MemoryError, KeyboardInterrupt):
        with pytest.raises(error), images.refusing_damage("a"):
            raise error


def seeds():
    """A small file of each kind, as an image and as a label map."""
    ids = Image.fromarray(np.random.default_rng(0).integers(0, 4, (18, 24), np.uint8))
    picture = Image.fromarray(np.random.default_rng(1).integers(0, 256, (18, 24, 3), np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6
    for kind in ("JPEG", "PNG", "TIFF", "WEBP"):
        yield encoded(picture, kind, exif=exif)
    for kind in ("BMP", "GIF"):
        yield encoded(picture, kind)
    yield encoded(picture.convert("CMYK"), "TIFF", compression="tiff_lzw")
    yield encoded(picture.convert("P"), transparency=3)
    yield encoded(ids)


def mutated(chance, files):
    """One of the files with bits turned over, cut short, or with a piece or the head of another."""
    data = bytearray(chance.choice(files))
    other, place = chance.choice(files), chance.randrange(len(data))
    reach = chance.choice([16, 64, 200, len(data)])
    match chance.randrange(4):
        case 0 | 1:
            for _ in range(chance.choice([1, 2, 4])):
                data[chance.randrange(min(reach, len(data)))] ^= 1 << chance.randrange(8)
        case 2:
            data[place:] = other[place:] if chance.random() < 0.5 else b""
        case 3:
            data[place:place] = other[chance.randrange(len(other)) :][:reach]
    return bytes(data)


@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow's, of damaged EXIF
def test_mutated_files_are_read_or_refused(tmp_path):
    files = list(seeds())
    whole, damaged = tmp_path / "whole.png", tmp_path / "damaged"
    whole.write_bytes(files[-1])
    coding = Coding([str(number) for number in range(255)])
    read = dict.fromkeys(("image", "label", "photo"), 0)
    for number in range(600):
        damaged.write_bytes(mutated(random.Random(number), files))
        ways = {
            "image": lambda: prepare._record("a", damaged, whole, coding, None),
            "label": lambda: prepare._record("a", whole, damaged, coding, None),
            "photo": lambda: photos.decode(damaged),
        }
        for way, attempt in ways.items():
            with suppress(InputError):
                attempt()
                read[way] += 1
    assert all(read.values()), read


@pytest.mark.parametrize(("data", "reason"), [(b"", "empty"), (b"not an image", "not an image")])
def test_what_is_no_image_is_refused_by_name(data, reason):
    with pytest.raises(InputError, match=rf"x\.jpg: .*{reason}"):
        images.decode(data, "x.jpg")


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("limit", [399, 150])  # Pillow itself warns above its limit, and raises above twice of it
def test_a_decompression_bomb_is_refused_with_the_limit(monkeypatch, limit):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
    with pytest.raises(InputError, match=rf"bomb\.png: .*{limit if limit == 399 else 2 * limit}"):
        images.decode(encoded(Image.new("L", (20, 20))), "bomb.png")
