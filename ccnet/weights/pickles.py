"""Pickles read as data: the standard library's unpickler without its ways to run code.

A global that a file names is looked up in a table of ours, and one that is not there is refused. Opcodes that state
dicts have no use for are refused too. What a pickle makes takes memory and time in proportion to its length.
"""

import pickle
import pickletools
import struct
from collections.abc import Callable, Mapping
from mmap import mmap
from typing import IO, Any

from ccnet import InputError

# what a damaged or hostile file can make the readers of this package raise
FAULTS = (
    ValueError, TypeError, LookupError, AttributeError, OverflowError, MemoryError, RuntimeError, EOFError,
    struct.error, pickle.UnpicklingError,
)  # fmt: skip
MOST_ARGUMENTS = 8  # of a call; PyTorch's longest has 7
LARGEST_KEY = 2**60  # larger integers can be chosen so that all have one hash


class Table(dict):
    """A pickle's dict: its keys are strings and integers. The hash of a deep tuple would overflow the C stack."""

    __slots__ = ()

    def __setitem__(self, key: Any, value: Any) -> None:
        if not (isinstance(key, str) or (isinstance(key, int) and abs(key) < LARGEST_KEY)):
            raise pickle.UnpicklingError(f"a key that is neither a string nor a small integer: {type(key).__name__}")
        super().__setitem__(key, value)


class Buildable:
    """What takes the state that a pickle gives an object after making it, by `__setstate__`."""

    def __setstate__(self, state: Any) -> None:
        raise NotImplementedError


class _Opcodes(dict):
    def __missing__(self, code: int) -> Any:
        name = next((opcode.name for opcode in pickletools.opcodes if ord(opcode.code) == code), f"byte {code:#04x}")
        raise pickle.UnpicklingError(f"{name} in its pickle, which no state dict has")


OPCODES = (
    "PROTO FRAME STOP MARK NONE NEWTRUE NEWFALSE INT LONG BININT BININT1 BININT2 LONG1 LONG4 FLOAT BINFLOAT"
    " STRING BINSTRING SHORT_BINSTRING UNICODE SHORT_BINUNICODE BINUNICODE BINUNICODE8"
    " SHORT_BINBYTES BINBYTES BINBYTES8 EMPTY_TUPLE TUPLE TUPLE1 TUPLE2 TUPLE3 EMPTY_LIST LIST APPEND APPENDS"
    " SETITEM SETITEMS PUT BINPUT LONG_BINPUT MEMOIZE GET BINGET LONG_BINGET GLOBAL STACK_GLOBAL BINPERSID"
)  # those that the standard library may see to; five others are replaced below, and the rest is refused


class _Unpickler(pickle._Unpickler):  # the one in Python: a subclass of the one in C cannot replace opcodes
    stack: list[Any]
    append: Callable[[Any], None]
    pop_mark: Callable[[], list[Any]]

    def __init__(self, stream: IO[bytes] | mmap, where: str, calls: Mapping[str, Any], persistent: Callable | None):
        super().__init__(stream, encoding="latin1")  # Python 2's strings, which may hold an array's bytes
        self.where, self.calls, self.persistent = where, calls, persistent
        self.memo = Table()

    def find_class(self, module: str, name: str) -> Any:
        full = f"{module}.{name}"
        if full not in self.calls:
            raise InputError(
                f"{self.where}: asks for {ascii(full[:100])[1:-1]}, which is neither a tensor nor a container: refused,"
                " and not run; use a file that holds a state dict only"
            )
        return self.calls[full]

    def persistent_load(self, identity: Any) -> Any:
        if self.persistent is None:
            raise pickle.UnpicklingError("it points outside of itself")
        return self.persistent(identity)

    def load_reduce(self) -> None:
        arguments, called = self.stack.pop(), self.stack.pop()
        if not callable(called):  # only what `find_class` gave can be
            raise pickle.UnpicklingError(f"a call of a {type(called).__name__}")
        if type(arguments) is not tuple or len(arguments) > MOST_ARGUMENTS:
            raise pickle.UnpicklingError("a call with absurd arguments")
        self.append(called(*arguments))

    def load_build(self) -> None:
        state, made = self.stack.pop(), self.stack[-1]
        if isinstance(made, Buildable):
            made.__setstate__(state)
        elif not isinstance(made, Table):  # whose state is what a module notes beside its state dict
            raise pickle.UnpicklingError(f"a state for a {type(made).__name__}")

    def load_empty_dict(self) -> None:
        self.append(Table())

    def load_dict(self) -> None:
        items, made = self.pop_mark(), Table()
        for key, value in zip(items[::2], items[1::2], strict=True):
            made[key] = value
        self.append(made)

    dispatch = _Opcodes(
        {getattr(pickle, name)[0]: pickle._Unpickler.dispatch[getattr(pickle, name)[0]] for name in OPCODES.split()}
        | {pickle.REDUCE[0]: load_reduce, pickle.NEWOBJ[0]: load_reduce, pickle.BUILD[0]: load_build}
        | {pickle.EMPTY_DICT[0]: load_empty_dict, pickle.DICT[0]: load_dict}
    )


def load(
    stream: IO[bytes] | mmap, where: str, calls: Mapping[str, Any], persistent: Callable[[Any], Any] | None = None
) -> Any:
    """The object that the pickle at the stream's position describes; leaves the position behind it.

    `calls` says what stands for each global; `persistent` makes an object of a persistent id (PyTorch's storages).
    Raises InputError, with `where`, for a damaged pickle, or one that asks for a global that is not in `calls`.
    """
    try:
        return _Unpickler(stream, where, calls, persistent).load()
    except FAULTS as error:
        reason = "it ends too early" if isinstance(error, EOFError) else said(error)
        raise InputError(f"{where}: not a state dict, or damaged ({reason})") from error


def said(error: Exception) -> str:
    """What an error says, in a line that is not long."""
    return ascii(str(error)[:200] or type(error).__name__)[1:-1]


def checked(value: Any, kind: Any) -> Any:
    """`value` itself. Raises TypeError unless it is of this kind."""
    if not isinstance(value, kind):
        raise TypeError(f"unexpected {type(value).__name__}")
    return value
