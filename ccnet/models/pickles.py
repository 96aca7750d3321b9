"""Pickles read as data: a machine that runs only the opcodes which state dicts are made of.

Unpickling calls whatever a file names. Here the standard library's disassembler reads the opcodes, and a global that a
file names stays a name: what it stands for is looked up in a table of ours, and one that is not there is refused.
"""

import pickletools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol, runtime_checkable

from ccnet import InputError


class Global(NamedTuple):
    """A name such as "collections.OrderedDict" where a pickle would have the thing itself."""

    name: str


@runtime_checkable
class Buildable(Protocol):
    """What takes the state that a pickle gives an object after making it (numpy's arrays do)."""

    def build(self, state: Any) -> None: ...


# what a damaged or hostile pickle can bring the machine to raise
FAULTS = (ValueError, TypeError, LookupError, AttributeError, OverflowError, MemoryError, RuntimeError)


class Machine:
    """Runs one pickle. `calls` says what a global does when it is called; `where` names the file in errors.

    `persistent` makes an object of a persistent id (PyTorch's storages).
    """

    def __init__(self, where: str, calls: Mapping[str, Any], persistent: Callable[[Any], Any] | None = None):
        self.where, self.calls, self.persistent = where, calls, persistent
        self.stack: list[Any] = []
        self.below: list[list[Any]] = []  # the stacks that a MARK has set aside
        self.memo: dict[int, Any] = {}

    def run(self, stream: Any) -> Any:
        """The object that the pickle at the stream's position describes; leaves the position behind it.

        Raises InputError for a damaged pickle, or one that asks for a global that is not in `calls`.
        """
        try:
            for opcode, argument, _ in pickletools.genops(stream):
                if opcode.name == "STOP":
                    return self.stack.pop()
                ACTIONS[opcode.name](self, argument)
            raise ValueError("it has no end")
        except KeyError as error:
            raise InputError(f"{self.where}: not a state dict, or damaged: unexpected {error} in its pickle") from error
        except FAULTS as error:
            raise InputError(f"{self.where}: not a state dict, or damaged ({error})") from error

    def push(self, value: Any) -> None:
        self.stack.append(value)

    def pop(self) -> Any:
        return self.stack.pop()

    def mark(self, _: None = None) -> None:
        self.below.append(self.stack)
        self.stack = []

    def since_mark(self) -> list[Any]:
        items, self.stack = self.stack, self.below.pop()
        return items

    def name(self, module: str, name: str) -> None:
        """Push a global, by name. Raises InputError unless it is one we know."""
        full = f"{module}.{name}"
        if full not in self.calls:
            raise InputError(
                f"{self.where}: asks for {full}, which is neither a tensor nor a container: refused, and not run;"
                " use a file that holds a state dict only"
            )
        self.push(Global(full))

    def name_from_stack(self, _: None) -> None:
        name, module = self.pop(), self.pop()
        self.name(_checked(module, str), _checked(name, str))

    def call(self, _: None) -> None:
        arguments, called = _checked(self.pop(), tuple), _checked(self.pop(), Global)
        self.push(_checked(self.calls[called.name], Callable)(*arguments))

    def build(self, _: None) -> None:
        state, made = self.pop(), self.stack[-1]
        if isinstance(made, dict):  # what a module notes beside its state dict
            return
        _checked(made, Buildable).build(state)

    def resolve(self, _: None) -> None:
        if self.persistent is None:
            raise ValueError("it points outside of itself")
        self.push(self.persistent(self.pop()))

    def append(self, items: list[Any]) -> None:
        _checked(self.stack[-1], list).extend(items)

    def set_items(self, items: list[Any]) -> None:
        target = _checked(self.stack[-1], dict)
        for key, value in zip(items[::2], items[1::2], strict=True):
            target[_checked(key, str | int)] = value  # no tuples: hashing a deep one would overflow the C stack

    def set_item(self, _: None) -> None:
        value, key = self.pop(), self.pop()
        self.set_items([key, value])

    def make_dict(self, _: None) -> None:
        items = self.since_mark()
        self.push({})
        self.set_items(items)

    def make_tuple(self, length: int) -> None:
        items = self.stack[len(self.stack) - length :]
        del self.stack[len(self.stack) - length :]
        if len(items) != length:
            raise ValueError("its stack is empty")
        self.push(tuple(items))

    def remember(self, index: int | None) -> None:
        self.memo[len(self.memo) if index is None else index] = self.stack[-1]


def _checked(value: Any, kind: Any) -> Any:
    if not isinstance(value, kind):
        raise TypeError(f"unexpected {type(value).__name__} in its pickle")
    return value


LITERALS = (
    "INT LONG BININT BININT1 BININT2 LONG1 LONG4 FLOAT BINFLOAT STRING BINSTRING SHORT_BINSTRING"
    " UNICODE SHORT_BINUNICODE BINUNICODE BINUNICODE8 SHORT_BINBYTES BINBYTES BINBYTES8"
)

# opcode -> what it does, given its argument; an opcode that is not here is refused
ACTIONS: dict[str, Callable[[Machine, Any], None]] = {
    **dict.fromkeys(LITERALS.split(), Machine.push),
    **dict.fromkeys(["PROTO", "FRAME"], lambda machine, _: None),
    "NONE": lambda machine, _: machine.push(None),
    "NEWTRUE": lambda machine, _: machine.push(True),
    "NEWFALSE": lambda machine, _: machine.push(False),
    "EMPTY_DICT": lambda machine, _: machine.push({}),
    "EMPTY_LIST": lambda machine, _: machine.push([]),
    "EMPTY_TUPLE": lambda machine, _: machine.push(()),
    "MARK": Machine.mark,
    "DICT": Machine.make_dict,
    "LIST": lambda machine, _: machine.push(machine.since_mark()),
    "TUPLE": lambda machine, _: machine.push(tuple(machine.since_mark())),
    "TUPLE1": lambda machine, _: machine.make_tuple(1),
    "TUPLE2": lambda machine, _: machine.make_tuple(2),
    "TUPLE3": lambda machine, _: machine.make_tuple(3),
    "APPEND": lambda machine, _: machine.append([machine.pop()]),
    "APPENDS": lambda machine, _: machine.append(machine.since_mark()),
    "SETITEM": Machine.set_item,
    "SETITEMS": lambda machine, _: machine.set_items(machine.since_mark()),
    **dict.fromkeys(["PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"], Machine.remember),
    **dict.fromkeys(["GET", "BINGET", "LONG_BINGET"], lambda machine, index: machine.push(machine.memo[index])),
    "GLOBAL": lambda machine, names: machine.name(*names.split(" ", 1)),
    "STACK_GLOBAL": Machine.name_from_stack,
    "REDUCE": Machine.call,
    "NEWOBJ": Machine.call,
    "BUILD": Machine.build,
    "BINPERSID": Machine.resolve,
}  # fmt: skip
