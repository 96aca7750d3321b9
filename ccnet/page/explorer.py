"""The report's attention explorer: what the page computes each pixel's attention maps from, within a budget."""

import base64
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.colors import to_hex

from ccnet.attention import Look
from ccnet.data.shards import ShardReader
from ccnet.page import figures
from ccnet.results import Run

BUDGET = 3_000_000  # bytes of queries and keys in a page
COLOURS = 64  # of the maps' scale
WIDTH = 480  # pixels: of an image below its maps


def explored(reader: ShardReader, runs: list[Run]) -> dict[str, Any]:
    """The data of attention.js.j2: the scale's colours, the pictures, and the looks of the runs at each.

    The first picture of each run comes first, then the second, until the budget is used.
    """
    places = {name: index for index, name in enumerate(reader.names)}
    found = [(run.name, name, path) for run in runs for name, path in sorted(run.looks().items()) if name in places]
    turn = {each: sum(run == each[0] for run, *_ in found[:at]) for at, each in enumerate(found)}
    looks, left = [], BUDGET
    for run, name, path in sorted(found, key=lambda each: turn[each]):
        look = _encoded(Look.load(path))
        left -= len(look["query"]) + len(look["key"])
        if left < 0:
            break
        looks.append({"run": run, "picture": name} | look)
    pictures = {name: figures.photo_uri(reader[places[name]][0], WIDTH) for name in {each["picture"] for each in looks}}
    scale = [to_hex(colour) for colour in colormaps["inferno"](np.linspace(0, 1, COLOURS))]
    return {"looks": looks, "pictures": pictures, "colours": scale}


def _encoded(look: Look) -> dict[str, Any]:
    """A look in JSON's types: float16 arrays in base64, and the first pixel of each of the map's rows and columns."""
    return {
        "shape": look.query.shape,
        "query": _base64(look.query),
        "key": _base64(look.key),
        "rows": _starts(look.rows, look.query.shape[1]),
        "columns": _starts(look.columns, look.query.shape[2]),
    }


def _base64(array: np.ndarray) -> str:
    return base64.b64encode(array.astype("<f2").tobytes()).decode()


def _starts(positions: np.ndarray, count: int) -> list[int]:
    """The first pixel of each of the `count` positions, and the number of pixels."""
    return [*np.searchsorted(positions, np.arange(count)).tolist(), len(positions)]
