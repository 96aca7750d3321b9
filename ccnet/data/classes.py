"""A user's classes: names, colours and raw label values, from classes.txt or classes.csv."""

import csv
import io
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from ccnet import InputError
from ccnet.data.labels import IGNORE, voc_colours

IGNORED = "ignore"  # the name of entries in classes.csv whose pixels are ignored
COLUMNS = ("name", "red", "green", "blue", "value")
UNPRINTABLE = ("Cc", "Cs", "Zl", "Zp")  # Unicode's controls, surrogates, and separators of lines and paragraphs
LARGEST_VALUE = 2**16 - 1  # of a raw label value
Colour = tuple[int, int, int]


class Classes(NamedTuple):
    """Class names and their palette, and the classes of raw values and of colours (None: not listed).

    Raw values (0 … 65,535) and colours (R, G, B) are mapped to train ids, which count the names from 0, or to 255.
    """

    names: tuple[str, ...]
    palette: tuple[Colour, ...]
    values: dict[int, int] | None = None
    colours: dict[Colour, int] | None = None


class _Entry(NamedTuple):
    """A row of classes.csv."""

    line: int
    name: str
    colour: Colour | None
    value: int | None


def read(path: Path) -> Classes:
    """Read classes.txt (a name per line, in the order of the label values) or classes.csv, both UTF-8.

    Columns of classes.csv: `name`; `red`, `green`, `blue` (0–255); `value` (0–65,535). Rows of one name are one class.
    Rows called "ignore" list what is ignored. Raises InputError naming the file, the line and what is wrong in it.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise InputError(
            f"{path}: cannot read the class names: write them there, one a line, or a classes.csv, or name a file"
            " (dataset.classes)"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot read the class names, one a line in UTF-8 ({error})") from error
    classes = _from_table(text, path) if path.suffix.lower() == ".csv" else _from_lines(text, path)
    check(classes.names, path)
    return classes


def check(names: Sequence[str], where: Path) -> None:
    """Raise InputError for too few or too many class names, or one that cannot be printed."""
    if not 1 <= len(names) <= IGNORE:
        raise InputError(f"{where}: holds {len(names)} class names; 1 to {IGNORE} are needed, one a line")
    strange = [name for name in names if any(unicodedata.category(sign) in UNPRINTABLE for sign in name)]
    if strange:
        raise InputError(f"{where}: {strange[0]!r} is no name of a class: it has signs that cannot be printed")


def found(root: Path) -> Path:
    """The class file in a dataset's folder: its classes.csv if there is one, else its classes.txt."""
    table = root / "classes.csv"
    return table if table.is_file() else root / "classes.txt"


def named(names: Iterable[str]) -> Classes:
    """Classes without colours or values of their own: VOC's colours, and values from 0."""
    listed = tuple(names)[: IGNORE + 1]
    return Classes(listed, voc_colours(len(listed)))


def _from_lines(text: str, path: Path) -> Classes:
    names = [line.strip() for line in text.splitlines() if line.strip()]
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise InputError(f"{path}: names a class twice: {', '.join(repeated)}")
    return named(names)


def _from_table(text: str, path: Path) -> Classes:
    header = text.partition("\n")[0]
    delimiter = ";" if ";" in header and "," not in header else ","  # spreadsheets of some languages write semicolons
    rows = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True)
    try:
        rows.fieldnames = _checked_columns([name.strip().lower() for name in rows.fieldnames or []], path)
        entries = list(_entries(rows, path))
    except csv.Error as error:
        raise InputError(f"{path}: not readable as CSV ({error})") from error
    names = tuple(dict.fromkeys(entry.name for entry in entries if entry.name != IGNORED))
    check(names, path)  # there are colours for so many
    ids = {name: place for place, name in enumerate(names)} | {IGNORED: IGNORE}
    values = _unique(((entry.value, entry) for entry in entries), ids, "value", path)
    rows_are_classes = not values and [entry.name for entry in entries] == list(names)
    if values:
        values.setdefault(IGNORE, IGNORE)
    colours = _unique(((entry.colour, entry) for entry in entries), ids, "colour", path)
    return Classes(names, _palette(entries, names), None if rows_are_classes else values, colours or None)


def _checked_columns(columns: list[str], path: Path) -> list[str]:
    unknown = [name for name in columns if name not in COLUMNS]
    wanted = ["name", *(COLUMNS[1:4] if set(COLUMNS[1:4]) & set(columns) else ())]
    missing = [name for name in wanted if name not in columns]
    if unknown or missing or len(set(columns)) < len(columns):
        fault = f"unknown column {unknown[0]!r}" if unknown else f"no column {missing[0]!r}" if missing else "one twice"
        raise InputError(f"{path}: {fault}: the first line names the columns: {', '.join(COLUMNS)} (if needed)")
    return columns


def _entries(rows: csv.DictReader, path: Path) -> Iterator[_Entry]:
    for row in rows:
        where = f"{path}, line {rows.line_num}"
        if None in row or None in row.values():
            raise InputError(f"{where}: not as many cells as the first line has columns")
        cells = {name: cell.strip() for name, cell in row.items()}
        if not any(cells.values()):
            continue
        if not cells["name"]:
            raise InputError(f"{where}: a class without a name")
        if cells["name"].lower() == IGNORED:
            cells["name"] = IGNORED
        channels = [cells.get(name, "") for name in COLUMNS[1:4]]
        colour = tuple(_number(cell, 255, "colour", where) for cell in channels) if any(channels) else None
        value = _number(cells["value"], LARGEST_VALUE, "value", where) if cells.get("value") else None
        yield _Entry(rows.line_num, cells["name"], colour, value)  # type: ignore[arg-type]


def _number(cell: str, largest: int, kind: str, where: str) -> int:
    if not (cell.isascii() and cell.isdigit() and len(cell) < 10 and int(cell) <= largest):
        raise InputError(f"{where}: the {kind} {cell[:20]!r} is not a whole number from 0 to {largest}")
    return int(cell)


def _unique(keyed: Iterable[tuple], ids: dict[str, int], kind: str, path: Path) -> dict:
    """Map keys (colours or values; None is left out) to train ids. Raises InputError for a key of two classes."""
    first: dict = {}
    for key, entry in keyed:
        if key is None:
            continue
        other = first.setdefault(key, entry)
        if other.name != entry.name:
            shown = " ".join(map(str, key)) if isinstance(key, tuple) else key
            raise InputError(
                f"{path}, line {entry.line}: {entry.name!r} has the {kind} {shown} of {other.name!r} (line"
                f" {other.line}): give each class a {kind} of its own"
            )
    return {key: ids[entry.name] for key, entry in first.items()}


def _palette(entries: list[_Entry], names: tuple[str, ...]) -> tuple[Colour, ...]:
    """The first colour listed of each class; a class without one gets a colour of VOC's that is not listed."""
    own: dict[str, Colour] = {}
    for entry in entries:
        if entry.colour is not None:
            own.setdefault(entry.name, entry.colour)
    free = iter([colour for colour in voc_colours(256) if colour not in own.values()])
    return tuple(own[name] if name in own else next(free) for name in names)
