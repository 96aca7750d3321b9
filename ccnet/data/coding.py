"""How a dataset's label files state classes: by raw values, colours or polygons; decoding them to train ids."""

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from PIL import ImageFile

from ccnet import InputError
from ccnet.data import images, labels, matlab, polygons
from ccnet.data.classes import LARGEST_VALUE, Colour
from ccnet.data.labels import IGNORE

FORMATS = ("PNG", "TIFF", "BMP", "GIF", "JPEG")  # the last is recognised to be refused
SUFFIXES = (".png", ".tif", ".tiff", ".bmp", ".gif", ".jpg", ".jpeg", ".json")
LOSSY = ("jpeg", "tiff_jpeg", "webp")  # Pillow's names of compressions in a TIFF
PART = 2**20  # pixels looked up at once: NumPy turns them into indices of 8 bytes
LISTED = 10  # unlisted values in an error message
UNKNOWN = -1
PHOTOMETRIC = 262  # TIFF tag; 0: white is zero, and Pillow inverts the values


class Decoded(NamedTuple):
    """Train ids `(H, W)` uint8, 255 = ignored; `as_stored`: the file is a PNG of just these values."""

    ids: np.ndarray
    as_stored: bool


@dataclass(frozen=True)
class Coding:
    """A dataset's `class_names`, and the train ids (or 255) of its raw `values` and of its `colours`.

    `values` None: the raw values are the train ids, and 255 is ignored; {}: none is listed. `colours` None: no label
    map may be coloured.
    """

    class_names: list[str]
    values: dict[int, int] | None = None
    colours: dict[Colour, int] | None = None

    def decode(self, data: bytes, name: str) -> Decoded:
        """Decode the label file `name` with content `data`.

        RGB and RGBA images hold colours (alpha is ignored). If colours are listed and values are not, palettes hold
        colours too, and grey images do if all colours are grey. Other indices and grey images hold values. JSON holds
        polygons, MATLAB's files values. Raises InputError naming the file and what is not listed.
        """
        if name.lower().endswith(".json"):
            return Decoded(polygons.decode(data, name, self.class_names), False)
        if name.endswith(".mat"):
            return Decoded(self._of_values(matlab.decode(data, name), name), False)
        image = images.open_image(data, name, FORMATS)
        if image.format == "JPEG" or image.info.get("compression") in LOSSY:
            raise InputError(f"{name}: a label map cannot be a JPEG, which changes its values: export it as PNG")
        if image.mode in ("RGB", "RGBA") or image.mode in self._modes_by_colour:
            return Decoded(self._of_colours(image, name), False)
        raw = _raw_values(image, name)
        if image.mode == "P":
            self._refuse_contradiction(image, raw, name)
        ids = self._of_values(raw, name)
        return Decoded(ids, image.format == "PNG" and image.mode in ("1", "L", "P") and np.array_equal(ids, raw))

    @cached_property
    def _modes_by_colour(self) -> tuple[str, ...]:
        """Pillow's modes of palettes and grey images that hold colours."""
        if not self.colours or self.values:
            return ()
        grey = all(red == green == blue for red, green, blue in self.colours)
        return ("P", "PA", "1", "L", "LA") if grey else ("P", "PA")

    @cached_property
    def _value_table(self) -> np.ndarray:
        """The train id of each raw value, int16 `(65536,)`; `UNKNOWN` where none is listed."""
        values = self.values
        if values is None:
            values = {value: value for value in [*range(len(self.class_names)), IGNORE]}
        table = np.full(LARGEST_VALUE + 1, UNKNOWN, np.int16)
        table[list(values)] = list(values.values())
        return table

    @cached_property
    def _colour_table(self) -> np.ndarray:
        """The train id of each colour, int16 `(2**24,)` by 65536 R + 256 G + B; `UNKNOWN` where none is listed."""
        table = np.full(2**24, UNKNOWN, np.int16)
        for (red, green, blue), train_id in (self.colours or {}).items():
            table[red << 16 | green << 8 | blue] = train_id
        return table

    def _refuse_contradiction(self, image: ImageFile.ImageFile, indices: np.ndarray, name: str) -> None:
        """Raise InputError if a palette's colours say other classes than its indices.

        That is so if all are listed colours of other classes, or grey levels that are the values of other classes.
        """
        with images.refusing_damage(name):
            palette = np.array(image.getpalette("RGB") or [], np.uint8).reshape(-1, 3)
        used = np.unique(indices)
        if used.max() >= len(palette):
            return
        colours = palette[used]
        if self.colours:
            by_colour = self._colour_table[_codes(colours)]
            if (by_colour != UNKNOWN).all() and (by_colour != self._value_table[used]).any():
                raise InputError(f"{name}: its palette's colours and its indices say other classes: save it as RGB")
        levels = colours[:, 0]
        grey = (colours == levels[:, None]).all() and not np.isin(levels, (0, IGNORE)).all()
        if grey and (levels != used).any() and (self._value_table[levels] != UNKNOWN).all():
            raise InputError(f"{name}: grey values in a palette, whose indices are others: save it as a grey PNG")

    def _of_values(self, raw: np.ndarray, name: str) -> np.ndarray:
        table = self._value_table
        inside = (raw >= 0) & (raw <= LARGEST_VALUE)
        ids = _looked_up(table, np.where(inside, raw, 0))
        unknown = (ids == UNKNOWN) | ~inside
        if unknown.any():
            refused = np.unique(raw[unknown]).tolist()
            listed = ", ".join(map(str, refused[:LISTED])) + (" …" if len(refused) > LISTED else "")
            allowed = ", ".join(_ranges(np.flatnonzero(table != UNKNOWN))) or "none: list them in the column value"
            raise InputError(f"{name}: label values {listed} are not among the dataset's ({allowed})")
        return ids.astype(np.uint8)

    def _of_colours(self, image: ImageFile.ImageFile, name: str) -> np.ndarray:
        if self.colours is None:
            raise InputError(
                f"{name}: a label map has one value a pixel; this one is {image.mode}: list its colours in"
                " classes.csv (name,red,green,blue)"
            )
        mode = "RGBA" if "transparency" in image.info else "RGB"  # Pillow warns if it drops a palette's transparency
        with images.refusing_damage(name):
            pixels = np.asarray(image if image.mode == mode else image.convert(mode))
        codes = _codes(pixels)
        ids = _looked_up(self._colour_table, codes)
        unknown = codes[ids == UNKNOWN]
        if unknown.size:
            raise InputError(f"{name}: {self._unlisted(unknown)}")
        return ids.astype(np.uint8)

    def _unlisted(self, codes: np.ndarray) -> str:
        """What to say of pixels whose colours are not listed: the most frequent one, and the colour nearest to it."""
        found, counts = np.unique(codes, return_counts=True)
        code = int(found[counts.argmax()])
        colour = (code >> 16, code >> 8 & 255, code & 255)
        listed = list(self.colours or {})
        near = listed[int(((np.array(listed) - colour) ** 2).sum(axis=1).argmin())]
        meaning = (self.colours or {})[near]
        others = f" and {len(found) - 1} more" if len(found) > 1 else ""
        return (
            f"{codes.size} pixels have colours that are not listed, such as {_spaced(colour)} ({counts.max()} pixels)"
            f"{others}; nearest is {_spaced(near)} ({'ignore' if meaning == IGNORE else self.class_names[meaning]}):"
            " list them in classes.csv, or export the label maps anew without JPEG or smooth (antialiased) edges"
        )


def _raw_values(image: ImageFile.ImageFile, name: str) -> np.ndarray:
    """The values of a grey or palette image, `(H, W)` of integers of 8 to 32 bits."""
    if image.mode not in ("1", "L", "P", "LA", "PA") and not image.mode.startswith("I"):
        raise InputError(f"{name}: a label map has whole numbers, a palette or RGB colours; this one is {image.mode}")
    if getattr(image, "tag_v2", {}).get(PHOTOMETRIC) == 0:
        raise InputError(f"{name}: a TIFF whose values are inverted (white is 0): save it as PNG")
    step = labels.grey_step(image)  # before decoding, which forgets it
    with images.refusing_damage(name):
        if image.mode in ("1", "L", "P"):
            return np.asarray(image, np.uint8) // step
        return np.asarray(image.getchannel(0) if len(image.getbands()) > 1 else image)


def _codes(rgb: np.ndarray) -> np.ndarray:
    """Colours uint8 `(…, 3)` as 65536 R + 256 G + B, int32 `(…)`; what follows them in the last axis is left out."""
    codes = np.zeros(rgb.shape[:-1], np.int32)
    for channel in range(3):
        codes <<= 8
        codes |= rgb[..., channel]
    return codes


def _looked_up(table: np.ndarray, values: np.ndarray) -> np.ndarray:
    flat, found = values.ravel(), np.empty(values.size, table.dtype)
    for start in range(0, values.size, PART):
        found[start : start + PART] = table[flat[start : start + PART]]
    return found.reshape(values.shape)


def _ranges(values: np.ndarray) -> list[str]:
    if not values.size:
        return []
    runs = np.split(values, np.flatnonzero(np.diff(values) > 1) + 1)
    return [f"{run[0]}–{run[-1]}" if run.size > 1 else str(run[0]) for run in runs]


def _spaced(colour: Colour) -> str:
    return " ".join(map(str, colour))
