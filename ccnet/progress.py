"""Output on stderr: progress bars with an estimate of the time left, and a stream that ignores write errors."""

import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TextIO, TypeVar

from tqdm import tqdm

Item = TypeVar("Item")


def progress(
    iterable: Iterable[Item] | None = None,
    *,
    total: int | None = None,
    desc: str,
    unit: str = "it",
    **options,
) -> tqdm:
    """A tqdm bar; if stderr is not a terminal (a log file), it is updated at most every two seconds."""
    watched = sys.stderr.isatty()
    return tqdm(
        iterable,
        total=total,
        desc=desc,
        unit=unit,
        dynamic_ncols=watched,
        mininterval=0.2 if watched else 2,
        **options,
    )


class UnbreakableStream:
    """Wraps stderr; a write error redirects it to /dev/null, so that a closed `tee` or terminal ends no training."""

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
