"""A restricted unpickler: reads pickles as data, without running code.

Globals are looked up in an explicit table; any other global is refused, and so are opcodes that state dicts do not
use. Memory and time are proportional to the length of the pickle.
"""

import pickle
import pickletools
import struct
from collections.abc import Callable, Mapping
from mmap import mmap
from typing import IO, Any

from ccnet import InputError

# exceptions that the readers of this package can raise on a damaged or hostile file
FAULTS = (
    ValueError, TypeError, LookupError, AttributeError, OverflowError, MemoryError, RuntimeError, EOFError,
    struct.error, pickle.UnpicklingError,
)  # fmt: skip
MOST_ARGUMENTS = 8  # of one call; PyTorch's longest has 7
LARGEST_KEY = 2**60  # larger integers can be chosen to collide in their hash


class Table(dict):
    """A dict of a pickle: keys are strings or integers, since hashing a deeply nested tuple overflows the C stack."""

    __slots__ = ()

    def __setitem__(self, key: Any, value: Any) -> None:
        if not (isinstance(key, str) or (isinstance(key, int) and abs(key) < LARGEST_KEY)):
            raise pickle.UnpicklingError(f"a key that is neither a string nor a small integer: {type(key).__name__}")
        super().__setitem__(key, value)


class Buildable:
    """Base class of objects that accept a pickled state (`__setstate__`) after construction."""

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
)  # opcodes left to the standard library; five others are replaced below, all others are refused


class _Unpickler(pickle._Unpickler):  # the Python version: a subclass of the C version cannot replace opcodes
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
        if not callable(called):  # only results of `find_class` are callable
            raise pickle.UnpicklingError(f"a call of a {type(called).__name__}")
        if type(arguments) is not tuple or len(arguments) > MOST_ARGUMENTS:
            raise pickle.UnpicklingError("a call with absurd arguments")
        self.append(called(*arguments))

    def load_build(self) -> None:
        state, made = self.stack.pop(), self.stack[-1]
        if isinstance(made, Buildable):
            made.__setstate__(state)
        elif not isinstance(made, Table):  # a Table's state is a module's metadata: ignored
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
    """Load the pickle at the stream's position; leaves the position after it.

    `calls` maps each allowed global to its replacement; `persistent` resolves persistent ids (PyTorch's storages).
    Raises InputError, prefixed by `where`, for a damaged pickle or a global that is not in `calls`.
    """
    try:
        return _Unpickler(stream, where, calls, persistent).load()
    except FAULTS as error:
        reason = "it ends too early" if isinstance(error, EOFError) else said(error)
        raise InputError(f"{where}: not a state dict, or damaged ({reason})") from error


def said(error: Exception) -> str:
    """An error's message as one line of at most 200 characters (before ASCII escapes)."""
    return ascii(str(error)[:200] or type(error).__name__)[1:-1]


def checked(value: Any, kind: Any) -> Any:
    """Return `value`. Raises TypeError unless it is an instance of `kind`."""
    if not isinstance(value, kind):
        raise TypeError(f"unexpected {type(value).__name__}")
    return value
