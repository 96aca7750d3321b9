import io

import numpy as np
import pytest
from PIL import Image

from ccnet import InputError
from ccnet.data import images

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
