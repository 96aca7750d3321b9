"""The key report: which tensors of a file find their place in a network, and which do not."""

from collections.abc import Sequence
from typing import Generic, NamedTuple, TypeVar

SHOWN = 4  # names in a line of the report
T = TypeVar("T")


class Match(NamedTuple, Generic[T]):
    """Tensors of the file by ccnet's names, and the names that do not match; `mismatched` states both shapes."""

    filled: dict[str, T]
    unused: list[str]
    missing: list[str]
    mismatched: dict[str, str]

    def report(self) -> list[str]:
        """A line for each outcome: the number of tensors and the first names."""
        mismatched = [f"{name} {shapes}" for name, shapes in self.mismatched.items()]
        rows = {
            "matched": list(self.filled), "unused": self.unused, "missing": self.missing, "shape mismatch": mismatched,
        }  # fmt: skip
        return [f"  {title:<15}{len(names):>5}  {some(names)}".rstrip() for title, names in rows.items()]


def some(names: Sequence[str]) -> str:
    """The first few names, and an ellipsis if there are more."""
    return ", ".join(names[:SHOWN]) + (", …" if len(names) > SHOWN else "")
