"""Tensors as pickles describe them, PyTorch's and NumPy's: views of a file until `numpy()` copies them."""

import math
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

import numpy as np

from ccnet.models.pickles import Global

BFLOAT16 = "bfloat16"  # which NumPy lacks


@dataclass
class Storage:
    """Where tensors of one type lie, `data` its bytes; they follow the pickle in PyTorch's older format."""

    dtype: str
    elements: int
    data: memoryview | bytes = b""

    @property
    def itemsize(self) -> int:
        return 2 if self.dtype == BFLOAT16 else np.dtype(self.dtype).itemsize

    def numbers(self) -> np.ndarray:
        """All of it, one-dimensional. Raises ValueError where there are fewer bytes than it claims."""
        if self.dtype != BFLOAT16:
            return np.frombuffer(self.data, self.dtype, self.elements)
        halves = np.frombuffer(self.data, "<u2", self.elements)
        return (halves.astype("<u4") << 16).view("<f4")  # a float32 without its lower half


@dataclass
class Tensor:
    """A view of a storage; `offset` and `strides` count elements."""

    storage: Storage
    offset: int = 0
    shape: tuple[int, ...] = (0,)
    strides: tuple[int, ...] = (1,)

    def numpy(self) -> np.ndarray:
        """A copy as float32, of the tensor's shape. Raises ValueError where it reaches beyond its storage."""
        last = self.offset + sum((size - 1) * stride for size, stride in zip(self.shape, self.strides, strict=True))
        if last >= self.storage.elements and 0 not in self.shape:
            raise ValueError("a tensor reaches beyond its storage")
        numbers = self.storage.numbers()[self.offset :]
        strides = [stride * numbers.itemsize for stride in self.strides]
        return np.array(np.lib.stride_tricks.as_strided(numbers, self.shape, strides), np.float32, order="C")

    def build(self, state: tuple) -> None:
        """Become the NumPy array of this pickled state: version, shape, dtype, whether Fortran's order, bytes."""
        shape, dtype, fortran, data = state[-4:]
        data = data.encode("latin1") if isinstance(data, str) else data  # Python 2's pickles
        self.storage = Storage(dtype.code, math.prod(shape), data)
        order: list[int] = list(shape if fortran else shape[::-1])
        steps = tuple(math.prod(order[:axis]) for axis in range(len(order)))
        checked = _torch_tensor(self.storage, 0, shape, steps if fortran else steps[::-1])
        self.shape, self.strides = checked.shape, checked.strides


class _Dtype:
    """NumPy's dtype: its code, such as "f4"."""

    def __init__(self, code: str, *_: Any):
        if code not in ("b1", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8"):
            raise ValueError(f"an array of type {code!r}")
        self.code = code

    def build(self, state: tuple) -> None:
        if state[1] == ">":
            raise ValueError("a big-endian array")


class _Ignored:
    """What may lie beside tensors and is of no use here."""

    def build(self, _: Any) -> None:
        pass


def _torch_tensor(storage: Any, offset: Any, shape: Any, strides: Any, *_: Any) -> Tensor:
    if not isinstance(storage, Storage) or len(shape) != len(strides):
        raise TypeError("a tensor without a storage or a shape")
    if not all(type(number) is int and 0 <= number < 2**48 for number in (offset, *shape, *strides)):
        raise ValueError("a tensor of an absurd size")
    return Tensor(storage, offset, tuple(shape), tuple(strides))


def _numpy_scalar(dtype: _Dtype, data: Any) -> float:
    made = Tensor(Storage(dtype.code, 0))
    made.build(((), dtype, False, data))
    return made.numpy().item()


def torch_storage(identity: Any) -> tuple[Storage, str]:
    """A storage without its bytes, and its key, from the persistent id by which PyTorch's pickles name one."""
    kind, storage_type, key, _, elements, *view = identity
    if kind != "storage" or not isinstance(storage_type, Global) or any(part is not None for part in view):
        raise ValueError("an unknown kind of storage")
    return Storage(CALLS[storage_type.name], elements), str(key)


STORAGES = {
    "Float": "<f4", "Half": "<f2", "BFloat16": BFLOAT16, "Double": "<f8", "Long": "<i8", "Int": "<i4", "Short": "<i2",
    "Char": "i1", "Byte": "u1", "Bool": "?",
}  # fmt: skip

# every global that a file may name -> what calling it gives here (a storage's is only named, hence its dtype)
CALLS: dict[str, Any] = {
    "collections.OrderedDict": OrderedDict,
    "argparse.Namespace": _Ignored,  # the command line, which timm keeps
    "torch.Size": lambda sizes: tuple(sizes),
    "torch._utils._rebuild_tensor": _torch_tensor,
    "torch._utils._rebuild_tensor_v2": _torch_tensor,
    "torch._utils._rebuild_parameter": lambda data, *_: data,
    **{f"torch.{name}Storage": dtype for name, dtype in STORAGES.items()},
    "_codecs.encode": lambda text, _: text.encode("latin1"),
    "jittor.jittor_core.Var": lambda data: data,
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
