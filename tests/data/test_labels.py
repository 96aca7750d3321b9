import io
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from ccnet import InputError
from ccnet.data import labels

RAW = np.arange(12, dtype=np.uint8).reshape(3, 4)


def png(image, **options):
    buffer = io.BytesIO()
    image.save(buffer, "PNG", **options)
    return buffer.getvalue()


def palette_image(array):
    image = Image.fromarray(array)
    image.putpalette(bytes(range(255, -1, -1)) * 3)
    return image


@given(arrays(np.uint8, st.tuples(st.integers(1, 9), st.integers(1, 9))))
def test_encode_then_decode_is_the_identity(label):
    assert np.array_equal(labels.decode(labels.encode(label), "a"), label)


def test_palette_indices_are_read_not_colours():
    assert np.array_equal(labels.decode(png(palette_image(RAW)), "a"), RAW)


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_palettes_of_few_bits_keep_their_indices(bits):
    small = (RAW % 2**bits).astype(np.uint8)
    data = png(palette_image(small), bits=bits)
    assert data[24] == bits
    assert np.array_equal(labels.decode(data, "a"), small)


def grey_png(bits, row):
    """A one-row grey PNG of `bits` per pixel, which Pillow itself does not write for 2 and 4 bits."""

    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    packed = int("".join(format(value, f"0{bits}b") for value in row), 2).to_bytes(len(row) * bits // 8, "big")
    header = struct.pack(">IIBBBBB", len(row), 1, bits, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b"\0" + packed))
        + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_grey_of_few_bits_is_not_stretched(bits):
    row = [value % 2**bits for value in range(8)]
    assert labels.decode(grey_png(bits, row), "a").tolist() == [row]


def test_the_depth_is_not_read_from_a_chunk_before_the_header():
    data = grey_png(4, [1, 2, 3, 0])
    text = b"tEXt" + b"a\0text" + bytes(9)
    before = struct.pack(">I", len(text) - 4) + text + struct.pack(">I", zlib.crc32(text))
    assert labels.decode(data[:8] + before + data[8:], "a").tolist() == [[1, 2, 3, 0]]


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA", "I;16"])
def test_anything_but_one_channel_of_eight_bits_is_refused_by_name(mode):
    with pytest.raises(InputError, match=r"street_7\.png: .*this one is"):
        labels.decode(png(Image.new(mode, (4, 3))), "street_7.png")


def test_a_jpeg_label_is_refused():
    buffer = io.BytesIO()
    Image.fromarray(RAW).save(buffer, "JPEG")
    with pytest.raises(InputError, match=r"a\.png: a label map must be a PNG, not JPEG"):
        labels.decode(buffer.getvalue(), "a.png")


@pytest.mark.parametrize("keep", [0, 10, 40, -25])
def test_a_cut_file_is_refused_by_name(keep):
    noise = np.random.default_rng(0).integers(0, 256, (60, 60), np.uint8)
    with pytest.raises(InputError, match=r"cut\.png: "):
        labels.decode(labels.encode(noise)[:keep], "cut.png")


@given(arrays(np.uint8, (5, 7), elements=st.sampled_from([0, 1, 2, 255])))
def test_histogram_counts_every_pixel_once(label):
    counts = labels.histogram(label, 3)
    assert counts.tolist() == [int((label == value).sum()) for value in (0, 1, 2, 255)]


def test_voc_colours_are_the_published_ones():
    colours = labels.voc_colours(256)
    assert colours[:4] == ((0, 0, 0), (128, 0, 0), (0, 128, 0), (128, 128, 0))
    assert colours[15] == (192, 128, 128)
    assert colours[20] == (0, 64, 128)
    assert colours[255] == labels.VOID_COLOUR
    assert len(set(colours)) == 256


def test_colourise_and_palette_png_agree(tmp_path):
    palette = [[255, 0, 0], [0, 0, 255]]
    label = np.array([[0, 1, 255]], np.uint8)
    labels.save_palette_png(tmp_path / "a.png", label, palette)
    with Image.open(tmp_path / "a.png") as image:
        assert image.mode == "P"
        assert np.array_equal(np.asarray(image), label)
        assert np.array_equal(np.asarray(image.convert("RGB")), labels.colourise(label, palette))
    assert labels.colourise(label, palette).tolist() == [[[255, 0, 0], [0, 0, 255], list(labels.VOID_COLOUR)]]
