"""Tensors of PyTorch and NumPy pickles: views of a file until `numpy()` copies them."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from ccnet.weights.pickles import Buildable, Table, checked

BFLOAT16 = "bfloat16"  # not a NumPy dtype
MOST_DIMENSIONS = 32  # NumPy's limit


@dataclass(frozen=True)
class StorageType:
    """Stands for PyTorch's storage classes, such as torch.FloatStorage: the dtype of a storage."""

    dtype: str


@dataclass
class Storage:
    """The memory of tensors of one dtype; `data` holds its bytes, which follow the pickle in PyTorch's older format.

    In pickles of Python 2, `data` is a string with one Latin-1 character per byte.
    """

    dtype: str
    elements: int
    data: memoryview | bytes | str = b""

    @property
    def itemsize(self) -> int:
        return 2 if self.dtype == BFLOAT16 else np.dtype(self.dtype).itemsize

    def numbers(self) -> np.ndarray:
        """The storage as a one-dimensional array; bfloat16 as uint16. Bytes are not copied.

        Raises ValueError if there are fewer bytes than `elements` requires.
        """
        data = self.data.encode("latin1") if isinstance(self.data, str) else self.data
        return np.frombuffer(data, "<u2" if self.dtype == BFLOAT16 else self.dtype, self.elements)


@dataclass
class Tensor(Buildable):
    """A view of a storage; `offset` and `strides` count elements."""

    storage: Storage
    offset: int = 0
    shape: tuple[int, ...] = (0,)
    strides: tuple[int, ...] = (1,)

    def numpy(self) -> np.ndarray:
        """A float32 copy of the tensor's shape. Raises ValueError if the view exceeds its storage.

        This includes a tensor with more elements than its storage (stride 0), which could take any amount of memory.
        """
        last = self.offset + sum((size - 1) * stride for size, stride in zip(self.shape, self.strides, strict=True))
        if max(last + 1, math.prod(self.shape)) > self.storage.elements and 0 not in self.shape:
            raise ValueError("a tensor reaches beyond its storage")
        numbers = self.storage.numbers()[self.offset :]
        strides = [stride * numbers.itemsize for stride in self.strides]
        view = np.lib.stride_tricks.as_strided(numbers, self.shape, strides)
        if self.storage.dtype == BFLOAT16:  # bfloat16 is the upper half of a float32
            return np.ascontiguousarray(view.astype("<u4") << 16).view("<f4").reshape(self.shape)
        return np.array(view, np.float32, order="C")

    def __setstate__(self, state: Any) -> None:
        """Set this tensor from a pickled NumPy array: (version, shape, dtype, Fortran order or not, bytes)."""
        _, shape, dtype, fortran, data = checked(state, tuple)
        sizes = _sizes(shape)
        storage = Storage(checked(dtype, _Dtype).code, math.prod(sizes), checked(data, bytes | str))
        if len(storage.data) != storage.elements * storage.itemsize:
            raise ValueError("an array of another length than its shape")
        steps = tuple(math.prod(sizes[:axis] if fortran else sizes[axis + 1 :]) for axis in range(len(sizes)))
        self.storage, self.shape, self.strides = storage, sizes, steps


class _Dtype(Buildable):
    """A NumPy dtype, by its code such as "f4"."""

    def __init__(self, code: Any, *_: Any):
        if code not in ("b1", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8"):
            raise ValueError("an array of anything but numbers")
        self.code = code

    def __setstate__(self, state: Any) -> None:
        if checked(state, tuple)[1] == ">":
            raise ValueError("a big-endian array")


class _Ignored(Buildable):
    """An object beside the tensors that is not needed: its state is ignored."""

    def __setstate__(self, _: Any) -> None:
        pass


def _sizes(numbers: Any) -> tuple[int, ...]:
    """Validate a tensor's shape or strides. Raises ValueError for over 32 of them, or one outside 0 … 2**48 - 1."""
    if len(checked(numbers, tuple | list)) > MOST_DIMENSIONS:
        raise ValueError(f"a tensor of {len(numbers)} dimensions")
    if not all(type(number) is int and 0 <= number < 2**48 for number in numbers):
        raise ValueError("a tensor of an absurd size")
    return tuple(numbers)


def _ordered_dict(*arguments: Any) -> Table:
    """An OrderedDict; Python 2 passes a list of pairs. It is emptied, so that repeated calls with it add no memory."""
    made = Table()
    pairs = checked(arguments[0], list) if arguments else []
    items, pairs[:] = list(pairs), []
    for key, value in items:
        made[key] = value
    return made


def _torch_tensor(storage: Any, offset: Any, shape: Any, strides: Any, *_: Any) -> Tensor:
    (start,), sizes, steps = _sizes([offset]), _sizes(shape), _sizes(strides)
    if len(sizes) != len(steps):
        raise ValueError("a tensor with a stride too many or too few")
    return Tensor(checked(storage, Storage), start, sizes, steps)


def _numpy_scalar(dtype: Any, data: Any) -> float:
    made = Tensor(Storage("u1", 0))
    made.__setstate__((1, (), dtype, False, data))
    return made.numpy().item()


def torch_storage(identity: Any) -> tuple[Storage, str]:
    """A storage without its bytes, and its key, from a persistent id of a PyTorch pickle."""
    if len(checked(identity, tuple)) not in (5, 6):  # the sixth is None, except in very old files
        raise ValueError("an unknown kind of storage")
    kind, storage_type, key, _, elements, *view = identity
    if kind != "storage" or any(part is not None for part in view):
        raise ValueError("an unknown kind of storage")
    (count,), name = _sizes([elements]), str(checked(key, str | int))  # Jittor's files have integers
    return Storage(checked(storage_type, StorageType).dtype, count), name


STORAGES = {
    "Float": "<f4", "Half": "<f2", "BFloat16": BFLOAT16, "Double": "<f8", "Long": "<i8", "Int": "<i4", "Short": "<i2",
    "Char": "i1", "Byte": "u1", "Bool": "?",
}  # fmt: skip

# Allowed globals -> their replacements. The arguments of a function are untrusted and may be anything.
CALLS: dict[str, Any] = {
    "collections.OrderedDict": _ordered_dict,
    "argparse.Namespace": _Ignored,  # command-line options, saved by timm
    "torch.Size": _sizes,
    "torch._utils._rebuild_tensor": _torch_tensor,
    "torch._utils._rebuild_tensor_v2": _torch_tensor,
    "torch._utils._rebuild_parameter": lambda data, *_: checked(data, Tensor),
    **{f"torch.{name}Storage": StorageType(dtype) for name, dtype in STORAGES.items()},
    "_codecs.encode": lambda text, _: checked(text, str),  # an array's bytes in protocol 2; no copy: calls can repeat
    "jittor.jittor_core.Var": lambda data: checked(data, Tensor),
    "numpy.ndarray": None,
    "numpy.dtype": _Dtype,
    **{
        f"numpy.{core}.multiarray.{name}": call
        for core in ("core", "_core")
        for name, call in {
            "_reconstruct": lambda *_: Tensor(Storage("u1", 0)),
            "scalar": _numpy_scalar,
        }.items()
    },
}
