import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from scipy.io import savemat

from ccnet import InputError
from ccnet.data import matlab

RAW = np.array([[0, 2, 459], [255, 256, 65535]])


def mat(compressed=True, **variables):
    buffer = io.BytesIO()
    savemat(buffer, variables, do_compression=compressed)
    return buffer.getvalue()


@pytest.mark.parametrize("dtype", ["uint16", "int32", "uint32", "float32", "float64"])
@pytest.mark.parametrize("compressed", [True, False])
def test_numbers_of_any_type_are_read(dtype, compressed):
    label = matlab.decode(mat(compressed, LabelMap=RAW.astype(dtype), other=np.zeros(3)), "a.mat")
    assert label.dtype == np.uint16
    assert label.tolist() == RAW.tolist()


def test_what_lies_beside_is_not_read():
    data = mat(LabelMap=RAW, objects=np.array([{"a": 1}], object), name="x", compressed=False)
    assert matlab.decode(data, "a.mat").tolist() == RAW.tolist()


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"labels": RAW}, "holds no variable LabelMap"),
        ({"LabelMap": "text"}, "LabelMap is 1 char"),
        ({"LabelMap": {"a": RAW}}, "LabelMap is 1×1 struct"),
        ({"LabelMap": np.array([[RAW]], object)}, "LabelMap is .* cell"),
        ({"LabelMap": np.zeros((2, 2, 3))}, "LabelMap is 2×2×3 double"),
        ({"LabelMap": RAW - 1}, "whole numbers from 0 to 65535"),
        ({"LabelMap": RAW + 1}, "whole numbers from 0 to 65535"),
        ({"LabelMap": RAW / 2}, "whole numbers from 0 to 65535"),
        ({"LabelMap": RAW * 1j}, "whole numbers from 0 to 65535"),
        ({"LabelMap": RAW * np.nan}, "whole numbers from 0 to 65535"),
        ({"LabelMap": np.zeros((0, 3))}, "whole numbers from 0 to 65535"),
    ],
)
def test_anything_but_a_label_map_is_refused_by_name(variables, said):
    with pytest.raises(InputError, match=rf"^2008_1\.mat: .*{said}"):
        matlab.decode(mat(**variables), "2008_1.mat")


def test_a_map_of_too_many_pixels_is_refused_before_it_is_read(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 5)
    monkeypatch.setattr(matlab, "loadmat", lambda *_, **__: pytest.fail("read"))
    with pytest.raises(InputError, match=r"a\.mat: 3×2 is over the limit of 5 pixels"):
        matlab.decode(mat(LabelMap=RAW), "a.mat")


def test_version_73_is_refused_in_one_line():
    data = b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(116) + bytes(8) + b"\x00\x02IM" + b"\x89HDF\r\n\x1a\n"
    with pytest.raises(InputError, match=r"^a\.mat: cannot be decoded \([^\n]*\)$"):
        matlab.decode(data, "a.mat")


@given(st.data())
def test_a_damaged_file_is_refused_or_read_as_numbers(data):
    whole = bytearray(mat(data.draw(st.booleans()), LabelMap=RAW.astype(np.uint16)))
    for _ in range(data.draw(st.integers(1, 3))):
        whole[data.draw(st.integers(8, len(whole) - 1))] = data.draw(st.integers(0, 255))
    said, label = "a.mat: ", np.zeros((1, 1), np.uint16)
    try:
        label = matlab.decode(bytes(whole[: data.draw(st.integers(0, len(whole)))]), "a.mat")
    except InputError as error:
        said = str(error)
    assert said.startswith("a.mat: ")
    assert "\n" not in said
    assert label.ndim == 2
