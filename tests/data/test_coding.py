import io
import struct
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image
from scipy.io import savemat

from ccnet import InputError
from ccnet.data.coding import Coding

NAMES = ["wall", "door", "floor"]
COLOURS = {(200, 0, 0): 0, (0, 200, 0): 1, (0, 0, 200): 2, (0, 0, 0): 255}
IDS = arrays(np.uint8, (5, 7), elements=st.sampled_from([0, 1, 2, 255]))


def encoded(image, kind="PNG", **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def coloured(ids):
    table = np.zeros((256, 3), np.uint8)
    for colour, train_id in COLOURS.items():
        table[train_id] = colour
    return Image.fromarray(table[ids])


@given(IDS, st.sampled_from(["PNG", "TIFF", "BMP", "GIF"]), st.sampled_from(["RGB", "RGBA", "P"]))
def test_colours_are_decoded_from_any_lossless_format(ids, kind, mode):
    if kind == "GIF" or (kind, mode) == ("BMP", "RGBA"):
        mode = "P" if kind == "GIF" else "RGB"
    image = coloured(ids).quantize(4, dither=Image.Dither.NONE) if mode == "P" else coloured(ids).convert(mode)
    found, as_stored = Coding(NAMES, None, COLOURS).decode(encoded(image, kind), "a.png")
    assert np.array_equal(found, ids)
    assert not as_stored


@given(IDS)
def test_sparse_values_of_16_bits_are_mapped(ids):
    values = {17: 0, 300: 1, 301: 1, 65535: 2, 0: 255}
    raw = np.select([ids == 0, ids == 1, ids == 2], [17, 301, 65535], 0).astype(np.uint16)
    for kind in ("PNG", "TIFF"):
        assert np.array_equal(Coding(NAMES, values).decode(encoded(Image.fromarray(raw), kind), "a").ids, ids)
    buffer = io.BytesIO()
    savemat(buffer, {"LabelMap": raw})
    assert np.array_equal(Coding(NAMES, values).decode(buffer.getvalue(), "a.mat").ids, ids)


@pytest.mark.parametrize(("mode", "bits"), [("L", 8), ("P", 8), ("P", 2), ("LA", 8), ("1", 1)])
def test_train_ids_are_decoded_as_they_are(mode, bits):
    ids = np.array([[0, 1, 1], [1, 0, 0]], np.uint8)
    image = Image.fromarray(ids * 255).convert("1") if mode == "1" else Image.fromarray(ids)
    if mode == "P":
        image.putpalette([9, 9, 9, 7, 7, 7])
    data = encoded(image.convert("LA") if mode == "LA" else image, **({"bits": bits} if mode == "P" else {}))
    found, as_stored = Coding(NAMES).decode(data, "a.png")
    assert found.tolist() == ids.tolist()
    assert as_stored == (mode != "LA")


def test_a_palette_holds_indices_if_values_are_listed():
    image = Image.fromarray(np.array([[5, 6]], np.uint8))
    image.putpalette([value for index in range(256) for value in ((0, 200, 0) if index % 2 else (0, 0, 200))])
    both = Coding(NAMES, {5: 1, 6: 2}, COLOURS)
    assert both.decode(encoded(image), "a.png").ids.tolist() == [[1, 2]]
    assert Coding(NAMES, None, COLOURS).decode(encoded(image), "a.png").ids.tolist() == [[1, 2]]
    with pytest.raises(InputError, match=r"a\.png: its palette's colours and its indices say other classes"):
        Coding(NAMES, {5: 2, 6: 1}, COLOURS).decode(encoded(image), "a.png")


def test_grey_values_in_a_palette_are_not_read_as_indices():
    grey = Image.fromarray(np.array([[0, 2, 1, 2]], np.uint8)).convert("RGB").quantize(3, dither=Image.Dither.NONE)
    with pytest.raises(InputError, match=r"a\.png: grey values in a palette, whose indices are others"):
        Coding(NAMES).decode(encoded(grey), "a.png")
    mask = Image.fromarray(np.array([[0, 1]], np.uint8))
    mask.putpalette([0, 0, 0, 255, 255, 255])  # black and white are how masks are shown
    assert Coding(NAMES).decode(encoded(mask), "a.png").ids.tolist() == [[0, 1]]


@pytest.mark.parametrize("bits", [2, 4])
def test_grey_tiffs_of_few_bits_are_not_stretched(bits):
    with Image.open(io.BytesIO(grey_tiff(bits, [0, 1, 3, 2]))) as image:
        assert image.mode == "L"
    assert Coding([str(number) for number in range(255)]).decode(
        grey_tiff(bits, [0, 1, 3, 2]), "a.tif"
    ).ids.tolist() == [[0, 1, 3, 2]]


def test_inverted_tiffs_are_refused():
    with pytest.raises(InputError, match=r"a\.tif: a TIFF whose values are inverted \(white is 0\): save it as PNG"):
        Coding(NAMES).decode(grey_tiff(8, [0, 1, 2, 1], photometric=0), "a.tif")


def grey_tiff(bits, values, photometric=1):
    """A TIFF of one row of grey values; `photometric` 1: 0 is black. Pillow cannot write such a one."""
    packed = 0
    for value in values:
        packed = packed << bits | value
    data = packed.to_bytes(len(values) * bits // 8)
    entries = [(256, 3, len(values)), (257, 3, 1), (258, 3, bits), (259, 3, 1), (262, 3, photometric), (273, 4, 110),
               (278, 3, 1), (279, 4, len(data))]  # fmt: skip
    directory = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in entries)
    return struct.pack("<2sHI", b"II", 42, 8) + struct.pack("<H", len(entries)) + directory + bytes(4) + data


def test_without_listed_values_grey_label_maps_are_refused():
    with pytest.raises(
        InputError, match=r"label values 0, 1 are not among the dataset's \(none: list them in the column"
    ):
        Coding(NAMES, {}, COLOURS).decode(encoded(Image.fromarray(np.array([[0, 1]], np.uint8))), "a.png")


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB"])
def test_masks_of_black_and_white_are_decoded_by_colour(mode):
    coding = Coding(["ground", "thing"], None, {(0, 0, 0): 0, (255, 255, 255): 1})
    mask = Image.fromarray(np.array([[0, 255]], np.uint8)).convert(mode)
    assert coding.decode(encoded(mask), "a.png").ids.tolist() == [[0, 1]]


def test_grey_images_hold_values_if_some_colour_is_not_grey():
    image = Image.fromarray(np.array([[0, 2, 255]], np.uint8))
    assert Coding(NAMES, None, COLOURS).decode(encoded(image), "a.png").ids.tolist() == [[0, 2, 255]]


def test_a_colour_that_is_not_listed_is_named_with_the_nearest():
    ids = np.zeros((4, 4), np.uint8)
    pixels = np.array(coloured(ids))
    pixels[0, :3] = (190, 8, 0)
    pixels[1, 0] = (0, 150, 0)
    with pytest.raises(InputError) as caught:
        Coding(NAMES, None, COLOURS).decode(encoded(Image.fromarray(pixels)), "a.png")
    assert str(caught.value) == (
        "a.png: 4 pixels have colours that are not listed, such as 190 8 0 (3 pixels) and 1 more; nearest is 200 0 0"
        " (wall): list them in classes.csv, or export the label maps anew without JPEG or smooth (antialiased) edges"
    )


@pytest.mark.parametrize(("mode", "most"), [("L", 9), ("RGB", 13)])
def test_memory_is_a_small_multiple_of_the_pixels(mode, most):
    """NumPy alone would make 8 bytes of every pixel to look it up; only NumPy's memory is seen here, not Pillow's."""
    data = encoded(Image.new(mode, (2500, 2500)))
    coding = Coding(NAMES, None, None if mode == "L" else COLOURS)
    coding.decode(encoded(Image.new(mode, (1, 1))), "a.png")  # makes the tables
    tracemalloc.start()
    coding.decode(data, "a.png")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak / 2500**2 < most


def test_a_tiff_of_jpeg_is_refused_and_others_are_not():
    image = Image.fromarray(np.array([[0, 1, 2]], np.uint8))
    for compression in ("tiff_lzw", "tiff_adobe_deflate", "packbits", None):
        data = encoded(image, "TIFF", compression=compression)
        assert Coding(NAMES).decode(data, "a.tif").ids.tolist() == [[0, 1, 2]]
    with pytest.raises(InputError, match=r"a\.tif: a label map cannot be a JPEG, which changes its values"):
        Coding(NAMES).decode(encoded(image, "TIFF", compression="jpeg"), "a.tif")


@pytest.mark.parametrize("transparency", [0, bytes([0, 255, 9])])
@pytest.mark.filterwarnings("error")
def test_transparency_is_no_part_of_a_colour(transparency):
    ids = np.array([[0, 1, 2]], np.uint8)
    image = coloured(ids).quantize(4, dither=Image.Dither.NONE)
    assert Coding(NAMES, None, COLOURS).decode(encoded(image, transparency=transparency), "a").ids.tolist() == [
        [0, 1, 2]
    ]


REFUSED = {
    "colours": (Image.new("RGB", (3, 3)), "PNG", "one value a pixel; this one is RGB: list its colours in classes.csv"),
    "JPEG": (
        Image.new("L", (3, 3)),
        "JPEG",
        "a label map cannot be a JPEG, which changes its values: export it as PNG",
    ),
    "floats": (Image.new("F", (3, 3)), "TIFF", "whole numbers, a palette or RGB colours; this one is F"),
    "negative": (Image.fromarray(np.full((3, 3), -2, np.int32)), "TIFF", "label values -2 are not among"),
    "huge": (Image.fromarray(np.full((3, 3), 70000, np.int32)), "TIFF", "label values 70000 are not among"),
    "foreign": (Image.new("L", (3, 3), 9), "PNG", "label values 9 are not among the dataset's (0–2, 255)"),
    "WebP": (Image.new("RGB", (3, 3)), "WEBP", "not an image of a known format, or damaged"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_no_label_map_is_refused_in_one_line(case):
    image, kind, reason = REFUSED[case]
    with pytest.raises(InputError) as caught:
        Coding(NAMES).decode(encoded(image, kind), "x.png")
    assert str(caught.value).startswith("x.png: ")
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)
