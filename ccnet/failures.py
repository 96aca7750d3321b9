"""What goes wrong, told in a line where somebody reads it.

An error of Jittor's names its cause last, behind hundreds of characters about the operator.
"""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO

from ccnet import InputError

LONGEST = 300  # characters of a cause; of a failed compilation it is the whole command
MARK = re.compile(r"\[?(?:failed )?reason\]?:", re.IGNORECASE)
COLOUR = re.compile(r"\x1b\[[\d;]*m")
PLACE = re.compile(r"^\[\w \d{4} [\d:.]+ \d+ \S+\] ")  # level, date, time, thread and line of Jittor's source
ADVICE = re.compile(r"\*{10}\s+Async error was detected.*", re.DOTALL)
# Jittor's allocators and its memory report; CUDA, cuBLAS and cuDNN; NumPy. A compilation that failed without a word
# "might be … out of memory" to Jittor: that is none of them.
MEMORY = re.compile(r"unable to alloc|memory is overflow|cudaErrorMemoryAllocation|STATUS_ALLOC_FAILED", re.IGNORECASE)
# What needs less memory, by verb
SMALLER = {
    "train": "lower batch_size (accumulate makes up for it) or crop_size",
    "evaluate": "let a --window slide over the images, or make it smaller",
    "segment": "scale the images down",
}


def in_a_line(verb: str, error: Exception) -> str:
    """What the command `verb` says when it ends by `error`."""
    if isinstance(error, InputError):
        return str(error)  # one line, but for a list of bad files with a line each
    text = explain(error, SMALLER.get(verb, "end what else needs memory"))
    if out_of_memory(error):
        return text
    if isinstance(error, OSError):
        return f"{text}; check the path, its permissions and the free space"
    return f"{type(error).__name__}: {text}; this is a fault of ccnet: please report it with the output of --debug"


def cause(error: Exception) -> str:
    """The innermost reason that an error names, else its whole text; its type where it has none."""
    text = ADVICE.sub("", COLOUR.sub("", str(error)))
    line = PLACE.sub("", " ".join(MARK.split(text)[-1].split()))
    if len(line) > LONGEST:
        line = f"{line[:LONGEST]} …"
    return line or type(error).__name__


def explain(error: Exception, smaller: str) -> str:
    """A line on what went wrong; out of memory, it is `smaller` that helps, such as "lower crop_size"."""
    if isinstance(error, MemoryError | RuntimeError):
        return f"out of memory ({cause(error)}): {smaller}" if out_of_memory(error) else cause(error)
    return " ".join(str(error).split()) or type(error).__name__


def out_of_memory(error: Exception) -> bool:
    """Whether the device, or the computer, had no memory left."""
    return isinstance(error, MemoryError) or bool(MEMORY.search(str(error)))


class Unbreakable:
    """stderr, or nowhere once that cannot be written: a reader that is gone (`tee`, a terminal) ends no training."""

    def __init__(self, stream: TextIO | None):
        self._stream = stream or open(os.devnull, "w")  # noqa: SIM115 (None: closed from the start)

    def write(self, text: str) -> int:
        with self._surviving():
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with self._surviving():
            self._stream.flush()

    @contextmanager
    def _surviving(self) -> Iterator[None]:
        try:
            yield
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), self._stream.fileno())

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)
