"""Progress bars with an estimate of the time left, on stderr."""

import sys
from collections.abc import Iterable
from typing import TypeVar

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
    """A tqdm bar; where nobody is watching (a log file) it writes every two seconds at most."""
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
