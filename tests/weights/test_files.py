import importlib

import numpy as np
import pytest
from safetensors.numpy import save_file

from ccnet import InputError
from ccnet.weights import files


def test_tensors_and_json_come_back(tmp_path):
    tensors = {"a": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.ones(2, np.int64)}
    save_file(tensors, tmp_path / "w.safetensors", {"step": "3", "names": '["ä", null]'})
    metadata, found = files.read(tmp_path / "w.safetensors")
    assert metadata == {"step": 3, "names": ["ä", None]}
    assert found.keys() == tensors.keys()
    assert all((found[name] == value).all() for name, value in tensors.items())


@pytest.mark.parametrize("text", ["", "pt", "[" * 100_000, "[1", "\\ud800"])
def test_metadata_that_are_no_json_are_one_line(tmp_path, text):
    save_file({"a": np.zeros(2)}, tmp_path / "w.safetensors", {"format": text})
    with pytest.raises(InputError, match=r"^.*w\.safetensors: safetensors of another program; .*$"):
        files.read(tmp_path / "w.safetensors")


@pytest.mark.parametrize("dtype", [b"BF16", b"F8_E4M3", b"XYZ"])
def test_types_that_numpy_lacks_are_one_line(tmp_path, dtype):
    importlib.import_module("ml_dtypes")  # comes with onnx, and registers BF16 with NumPy
    path = tmp_path / "w.safetensors"
    header = b'{"a":{"dtype":"%s","shape":[2],"data_offsets":[0,%d]}}' % (dtype, 4 if dtype == b"BF16" else 2)
    path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(4 if dtype == b"BF16" else 2))
    with pytest.raises(InputError, match=r"^.*w\.safetensors: not a readable weights file \(.*\)$"):
        files.read(path)
