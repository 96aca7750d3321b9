import pickle
import zipfile
from collections import OrderedDict

import numpy as np
import pytest

from ccnet import InputError
from ccnet.models import published
from ccnet.runtime import jt

FORMATS = {"zip": True, "stream": False}


@pytest.fixture
def torch():
    import torch

    return torch


def write(torch, path, content, kind="zip"):
    torch.save(content, path, _use_new_zipfile_serialization=FORMATS[kind])
    return path


def tensors_in(torch):
    """Tensors of all types and kinds of layout."""
    torch.manual_seed(0)
    flat, square = torch.randn(40), torch.randn(6, 5)
    return OrderedDict(
        float32=torch.randn(2, 3, 4), float64=torch.randn(3).double(), half=torch.randn(7).half(),
        bfloat16=torch.randn(5, 3).bfloat16(), transposed_bfloat16=torch.randn(5, 3).bfloat16().t(),
        int64=torch.tensor([1, -2]), int32=torch.tensor([3]).int(), uint8=torch.tensor([200]).byte(),
        bool=torch.tensor([True, False]), scalar=torch.tensor(0.5), empty=torch.zeros(0, 3),
        parameter=torch.nn.Parameter(torch.randn(4)), transposed=square.t(), strided=square[1::2, ::3],
        shared=square, middle=flat[7:19].view(3, 4), channels_last=torch.randn(1, 3, 4, 5).to(
            memory_format=torch.channels_last),
    )  # fmt: skip


@pytest.mark.parametrize("kind", FORMATS)
def test_tensors_of_every_type_and_layout(torch, tmp_path, kind):
    wanted = tensors_in(torch)
    found = published.read(write(torch, tmp_path / "w.pth", wanted, kind)).tensors
    assert list(found) == list(wanted)
    for name, tensor in wanted.items():
        values = found[name].numpy()
        assert values.dtype == np.float32
        assert values.shape == found[name].shape == tuple(tensor.shape)
        assert values.flags.c_contiguous
        np.testing.assert_array_equal(values, tensor.detach().float().numpy(), err_msg=name)


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("wrapper", [None, *published.WRAPPERS])
def test_wrappings_prefixes_and_what_lies_beside(torch, tmp_path, kind, wrapper):
    import argparse

    model = torch.nn.DataParallel(torch.nn.Sequential(torch.nn.Conv2d(3, 2, 1), torch.nn.BatchNorm2d(2)))
    state = model.state_dict()
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9).state_dict()
    beside = {
        "epoch": 3, "best": np.float64(0.5), "accuracy": torch.tensor(0.5), "optimizer": optimizer,
        "args": argparse.Namespace(lr=0.1), "meta": {"CLASSES": ("road", "sky"), "size": torch.Size([2, 3])},
    }  # fmt: skip
    content = {wrapper: state, **beside} if wrapper else state
    found = published.read(write(torch, tmp_path / "w.pth", content, kind))
    assert list(found.tensors) == [name.removeprefix("module.") for name in state]
    assert found.meta.get("CLASSES") == (("road", "sky") if wrapper else None)


@pytest.mark.parametrize("suffix", [".pkl", ".pth"])
def test_jittors_own_files(tmp_path, suffix):
    path, values = tmp_path / f"w{suffix}", np.arange(6, dtype=np.float32).reshape(2, 3)
    jt.save({"var": jt.array(values), "array": values, "fortran": np.asfortranarray(values), "epoch": 3}, str(path))
    found = published.read(path).tensors
    assert list(found) == ["var", "array", "fortran"]
    for tensor in found.values():
        np.testing.assert_array_equal(tensor.numpy(), values)


@pytest.mark.parametrize("protocol", [1, 2, 3, 4])
@pytest.mark.parametrize("dtype", ["f4", "f8", "f2", "i8", "u1", "?"])
def test_arrays_in_bare_pickles(tmp_path, protocol, dtype):
    values = np.arange(6).reshape(3, 2).astype(dtype)
    (tmp_path / "w.pkl").write_bytes(pickle.dumps({"w": values, "s": values[1, 1]}, protocol))
    found = published.read(tmp_path / "w.pkl").tensors
    assert list(found) == ["w"]
    np.testing.assert_array_equal(found["w"].numpy(), values.astype(np.float32))


@pytest.mark.parametrize("values", [np.array(["text"]), np.array([object()]), np.array([1j])])
def test_arrays_of_anything_but_numbers_are_refused(tmp_path, values):
    (tmp_path / "w.pkl").write_bytes(pickle.dumps({"w": values}, 4))
    with pytest.raises(InputError, match=r"w\.pkl: "):
        published.read(tmp_path / "w.pkl")


def files(torch, folder):
    content = {"state_dict": {"a": torch.randn(3, 2), "b": torch.ones(4).bfloat16()}}
    yield write(torch, folder / "zip.pth", content)
    yield write(torch, folder / "stream.pth", content, "stream")
    jt.save({"a": np.ones((3, 2), np.float32)}, str(folder / "jittor.pkl"))
    yield folder / "jittor.pkl"


def test_a_file_cut_anywhere_is_damaged(torch, tmp_path):
    for path in files(torch, tmp_path):
        whole = path.read_bytes()
        for length in range(0, len(whole) - 28, max(len(whole) // 150, 1)):
            path.write_bytes(whole[:length])
            with pytest.raises(InputError, match=path.name):
                published.read(path)


def changed(path):
    """For each byte of a file, the file with that byte changed, and where it was. Leaves the file as it was."""
    whole, rng = path.read_bytes(), np.random.default_rng(0)
    for place in range(len(whole)):
        other = whole[place] ^ int(rng.integers(1, 256))
        path.write_bytes(whole[:place] + bytes([other]) + whole[place + 1 :])
        yield place
    path.write_bytes(whole)


def arrays_in(path) -> dict[str, np.ndarray] | None:
    """What is read, or None where it is refused."""
    try:
        return {name: tensor.numpy() for name, tensor in published.read(path).tensors.items()}
    except (InputError, ValueError):
        return None


def same(one, other) -> bool:
    return one.keys() == other.keys() and all(np.array_equal(one[name], other[name], equal_nan=True) for name in one)


def by_torch(torch, path) -> dict[str, np.ndarray] | None:
    try:
        found = torch.load(path, weights_only=True)
        found = found.get("state_dict", found)
        return {name: tensor.float().numpy() for name, tensor in found.items() if isinstance(tensor, torch.Tensor)}
    except Exception:  # whatever it may be
        return None


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.filterwarnings("ignore")  # PyTorch's
def test_a_changed_byte_is_refused_or_read_as_pytorch_reads_it(torch, tmp_path, kind):
    """One in the stored numbers changes those numbers. Any other one changes nothing, or what PyTorch reads too."""
    values = {"a": np.arange(1, 7, dtype=np.float32).reshape(3, 2), "b": np.array([-1, -2], np.float32)}
    path = write(torch, tmp_path / "w.pth", {"state_dict": {n: torch.tensor(v) for n, v in values.items()}}, kind)
    whole, outcomes = path.read_bytes(), set()
    starts = {name: whole.index(value.tobytes()) for name, value in values.items()}
    for place in changed(path):
        found = arrays_in(path)
        for name, start in starts.items():
            if 0 <= place - start < values[name].nbytes:
                now = np.frombuffer(path.read_bytes(), np.float32, values[name].size, start)
                assert found is not None
                assert same(found, values | {name: now.reshape(values[name].shape)}), f"byte {place}"
                outcomes.add("numbers")
                break
        else:
            if found is None:
                outcomes.add("refused")
            elif same(found, values):
                outcomes.add("unchanged")
            else:
                theirs = by_torch(torch, path)
                assert theirs is not None, f"byte {place}: PyTorch refuses it"
                assert same(found, theirs), f"byte {place}"
                outcomes.add("as PyTorch")
    assert outcomes == {"numbers", "refused", "unchanged", "as PyTorch"}


def test_a_changed_byte_in_jittors_file_is_refused(tmp_path):
    """All of it is under its checksum, but for the mark that says that there is one."""
    path, values = tmp_path / "w.pkl", {"a": np.arange(6, dtype=np.float32).reshape(3, 2)}
    jt.save(values, str(path))
    mark = len(path.read_bytes()) - len(published.JITTOR_END)
    for place in changed(path):
        found = arrays_in(path)
        assert found is None if place < mark else same(found, values), f"byte {place}"


def test_a_compressed_archive_is_refused(torch, tmp_path):
    plain = write(torch, tmp_path / "plain.pth", {"a": torch.zeros(1000)})
    with zipfile.ZipFile(plain) as old, zipfile.ZipFile(tmp_path / "w.pth", "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            new.writestr(name, old.read(name))
    with pytest.raises(InputError, match=r"w\.pth: .*compressed"):
        published.read(tmp_path / "w.pth")


@pytest.mark.parametrize("shape", [(2**20, 2**20), (9,), (2, 3)])
def test_a_tensor_beyond_its_storage_is_refused_before_it_takes_memory(torch, tmp_path, shape):
    path = write(torch, tmp_path / "w.pth", {"a": torch.zeros(5)})
    tensor = published.read(path).tensors["a"]
    tensor.shape, tensor.strides = shape, tuple(np.cumprod((1, *shape[:-1])).tolist())
    with pytest.raises(ValueError, match="beyond its storage"):
        tensor.numpy()


@pytest.mark.parametrize(
    ("content", "said"),
    [([1, 2], "no state dict"), ({"model": {"deep": {}}}, "no state dict"), ({"epoch": 3}, "no state dict")],
)
def test_a_file_without_a_state_dict_is_named(tmp_path, content, said):
    (tmp_path / "w.pkl").write_bytes(pickle.dumps(content))
    with pytest.raises(InputError, match=rf"w\.pkl: {said}"):
        published.read(tmp_path / "w.pkl")


def test_a_dict_that_holds_itself_has_an_end(tmp_path):
    endless: dict = {}
    endless["model"] = endless
    (tmp_path / "w.pkl").write_bytes(pickle.dumps(endless))
    with pytest.raises(InputError, match="no state dict"):
        published.read(tmp_path / "w.pkl")


@pytest.mark.parametrize("content", [b"", b"text", b"PK\x03\x04", b"\x89HDF\r\n"])
def test_other_files_are_named(tmp_path, content):
    (tmp_path / "w.pth").write_bytes(content)
    with pytest.raises(InputError, match=r"w\.pth: "):
        published.read(tmp_path / "w.pth")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(InputError, match=r"w\.pth: cannot be read"):
        published.read(tmp_path / "w.pth")
