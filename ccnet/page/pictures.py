"""The report's pictures of predictions: the same images by all runs, and the best, median and worst ones of each."""

from pathlib import Path
from typing import Any

import numpy as np

from ccnet import InputError
from ccnet.data.shards import ShardReader
from ccnet.page import figures
from ccnet.results import Run, pixels

Palette = list[tuple[int, int, int]]
PICTURES = 48  # of each kind in a page, divided among the runs: keeps the file below 5 MB
LARGE, MANY = 560, 4  # pixels: the width of the best, median and worst images, if there are at most so many runs


def shown(reader: ShardReader, runs: list[Run], palette: Palette) -> dict[str, Any]:
    """The template's `examples`, `extremes`, and the classes `seen` in them."""
    found, chosen = compared(reader, runs, palette), extremes(reader, runs, palette)
    classes = {index for run in chosen for each in run for index in each["classes"] if index < len(palette)}
    return found | {"extremes": chosen, "seen": sorted(classes.union(found["seen"]))}


def extremes(reader: ShardReader, runs: list[Run], palette: Palette) -> list[list[dict[str, Any]]]:
    """For each run, the template's data for its best, median and worst image, where it has kept the prediction."""
    places = {name: index for index, name in enumerate(reader.names)}
    width = LARGE if len(runs) <= MANY else figures.WIDTH
    return [_of_run(reader, run, places, palette, width) for run in runs]


def _of_run(
    reader: ShardReader, run: Run, places: dict[str, int], palette: Palette, width: int
) -> list[dict[str, Any]]:
    paths, found = run.predictions(), []
    for kind, example in run.metrics.extremes.items():
        if example.name not in places or example.name not in paths:
            continue
        image, label = reader[places[example.name]]
        prediction = predicted(paths[example.name], label)
        views = [
            ("image", figures.photo_uri(image, width)),
            ("truth", figures.label_uri(label, palette, width)),
            ("prediction", figures.label_uri(prediction, palette, width)),
            ("errors", figures.error_uri(image, label, prediction, width)),
        ]
        classes = np.unique([label, prediction]).tolist()
        found.append(example.model_dump() | {"kind": kind, "views": views, "classes": classes})
    return found


def confused(reader: ShardReader, run: Run, class_names: list[str]) -> dict[tuple[str, str], list[tuple[str, str]]]:
    """For the run's most confused pairs (truth, prediction), images' names and crops of them, where kept."""
    places = {name: index for index, name in enumerate(reader.names)}
    paths = run.predictions()
    found: dict[tuple[str, str], list[tuple[str, str]]] = {}
    for pair in run.metrics.confused:
        classes = class_names.index(pair.truth), class_names.index(pair.prediction)
        crops = found.setdefault((pair.truth, pair.prediction), [])
        for name in (name for name in pair.images if name in places and name in paths):
            image, label = reader[places[name]]
            uri = figures.mistake_uri(image, label, predicted(paths[name], label), *classes)
            crops += [(name, uri)] * bool(uri)
    return found


def compared(reader: ShardReader, runs: list[Run], palette: Palette) -> dict[str, Any]:
    """The template's data for images that runs have predicted, and the classes in them."""
    folders = [run.predictions() for run in runs]
    examples: list[dict[str, Any]] = []
    seen: set[int] = set()
    for index, name in _common(reader.names, folders, at_most(len(runs) + 1)):
        image, label = reader[index]
        maps = [predicted(paths[name], label) if name in paths else None for paths in folders]
        seen.update(*(np.unique(each).tolist() for each in [label, *maps] if each is not None))
        examples.append(
            {
                "name": name,
                "small": image.shape[1] < figures.WIDTH,
                "image": figures.photo_uri(image),
                "truth": figures.label_uri(label, palette),
                "outcomes": [None if each is None else outcome(image, label, each, palette) for each in maps],
            }
        )
    return {"examples": examples, "seen": sorted(seen & set(range(len(palette))))}


def _common(names: list[str], folders: list[dict[str, Path]], count: int) -> list[tuple[int, str]]:
    """Up to `count` images, with their numbers: those of most runs first and, of more than fit, evenly spaced ones."""
    having = {name: sum(name in paths for paths in folders) for name in names}
    wanted = sorted((each for each in enumerate(names) if having[each[1]]), key=lambda each: -having[each[1]])
    most = [each for each in wanted if having[each[1]] == having[wanted[0][1]]]
    if len(most) > count:
        return [most[place] for place in np.linspace(0, len(most) - 1, count, dtype=int)]
    return wanted[:count]


def at_most(columns: int) -> int:
    """The number of rows of `columns` pictures in the page: 2 to 6."""
    return max(2, min(6, PICTURES // max(1, columns)))


def predicted(path: Path, label: np.ndarray) -> np.ndarray:
    """The predicted label map in `path`. Raises InputError unless its shape is that of `label`."""
    prediction = pixels(path)
    if prediction.shape != label.shape:
        raise InputError(f"{path}: {prediction.shape} is not the label map's {label.shape}; evaluate again")
    return prediction


def outcome(image: np.ndarray, label: np.ndarray, prediction: np.ndarray, palette: Palette) -> dict[str, Any]:
    """Pictures of a prediction and of its errors, and its pixel accuracy (None without labelled pixels)."""
    labelled = label != figures.IGNORE
    accuracy = float((prediction == label)[labelled].mean()) if labelled.any() else None
    return {
        "accuracy": accuracy,
        "prediction": figures.label_uri(prediction, palette),
        "errors": figures.error_uri(image, label, prediction),
    }
