"""Validation of config.yaml and its overlays by the schema and by further checks; reports all errors, one per line."""

import difflib
import json
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import yaml
from recipes import expanded, named, recipe

SCHEMA = yaml.safe_load((Path(__file__).parents[1] / "schemas/config.schema.yaml").read_text())
# Datasets without a download: the user must name their source.
NOT_DOWNLOADED = ("cityscapes", "lip", "folder")
# Keys of a dataset of the user's own.
OF_FOLDERS = ("classes", "val_share", "image_ending", "label_ending")


def _keys_of(schema: dict) -> list[str]:
    """The keys that an object may have, including those of its `$ref`."""
    target = SCHEMA["$defs"].get(schema.get("$ref", "").removeprefix("#/$defs/"), {})
    return [*schema.get("properties", {}), *target.get("properties", {})]


def _unknown_keys(error: Any) -> Iterator[tuple[str, str]]:
    """Yield one message for each key that the schema does not list."""
    known = _keys_of(error.schema)
    for key in [key for key in error.instance if key not in known]:
        near = difflib.get_close_matches(str(key), known, n=1)
        hint = f"did you mean '{near[0]}'?" if near else f"known here: {', '.join(sorted(known))}"
        yield _dotted(error, key), f"unknown key; {hint}"


TYPES = {
    "array": "a list",
    "boolean": "true or false",
    "integer": "a whole number",
    "null": "null",
    "number": "a number",
    "object": "a mapping (key: value)",
    "string": "text",
}


def _wrong_type(value: Any, types: str | list[str]) -> str:
    """Message for a wrong type, with a hint for numbers like 1e-2, which YAML reads as text for lack of a point."""
    types = [types] if isinstance(types, str) else types
    number = re.fullmatch(r"([+-]?\d+)(e[+-]?\d+)", str(value), re.IGNORECASE)
    hint = f"; write {number[1]}.0{number[2]}" if number and "number" in types else ""
    return "must be " + " or ".join(TYPES[name] for name in types) + hint


def _wrong_choice(value: Any, choices: list) -> str:
    names = [name if isinstance(name, str) else _shown(name) for name in choices]
    return f"must be one of {', '.join(names)}"


# Message by schema keyword: a function of the invalid value and the keyword's value.
ALLOWED = {
    "type": _wrong_type,
    "enum": _wrong_choice,
    "minimum": lambda value, bound: f"must be at least {bound}",
    "maximum": lambda value, bound: f"must be at most {bound}",
    "exclusiveMinimum": lambda value, bound: f"must be greater than {bound}",
    "exclusiveMaximum": lambda value, bound: f"must be less than {bound}",
    "minItems": lambda value, count: f"must have at least {count} item{'s' * (count > 1)}",
    "maxItems": lambda value, count: f"must have at most {count} items",
    "uniqueItems": lambda value, _: "must not have one twice",
    "pattern": lambda value, pattern: f"must match {pattern}",
    "not": lambda value, names: "the pipeline keeps its own files under this name",
}


def _shown(value: Any) -> str:
    """A value in YAML syntax."""
    return repr(value) if isinstance(value, str) else json.dumps(value, default=str)


def _dotted(error: Any, *more: Any) -> str:
    return ".".join(map(str, [*error.absolute_path, *more]))


def _messages(error: Any) -> Iterator[tuple[str, str]]:
    """Yield (where, what) pairs for an error of jsonschema."""
    if error.validator in ("additionalProperties", "unevaluatedProperties"):
        yield from _unknown_keys(error)
    elif error.validator == "required":
        missing = [key for key in error.validator_value if key not in error.instance]
        yield from ((_dotted(error, key), "missing") for key in missing)
    else:
        allowed = ALLOWED[error.validator](error.instance, error.validator_value)
        yield _dotted(error), f"{_shown(error.instance)} is not allowed: {allowed}"


def _is_number(_: Any, value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


# Stricter than JSON Schema, as `ccnet.settings` is: 2.0 is no integer, and NaN is no number.
TYPE_CHECKER = jsonschema.Draft202012Validator.TYPE_CHECKER.redefine_many(
    {"number": _is_number, "integer": lambda _, value: type(value) is int}
)
Validator = jsonschema.validators.extend(jsonschema.Draft202012Validator, type_checker=TYPE_CHECKER)


def _schema_errors(config: dict) -> Iterator[tuple[str, str]]:
    for error in Validator(SCHEMA).iter_errors(config):
        yield from _messages(error)


def _clashes(protocol: dict) -> Iterator[str]:
    """Yield messages for incompatible keys of a protocol."""
    window, stride = (protocol.get(key) for key in ("window", "stride"))
    if protocol.get("keep_ratio") and protocol.get("fixed"):
        yield "images are resized by keep_ratio or fixed, not both: make one null"
    if stride and stride > (window or 0):
        yield f"stride {stride} needs a window of at least as many pixels"


def _dataset_errors(dataset: dict) -> Iterator[tuple[str, str]]:
    layouts = [layout for layout in SCHEMA["properties"]["dataset"]["properties"]["layout"]["enum"] if layout]
    layout = dataset["layout"] or dataset["name"]
    if layout not in layouts:
        near = difflib.get_close_matches(layout, layouts, n=1)
        hint = f"did you mean '{near[0]}'? For files of your own, add" if near else "for files of your own, add"
        yield "dataset.name", f"'{layout}' is none of {', '.join(layouts)}; {hint} `layout: folder`"
    elif layout in NOT_DOWNLOADED and dataset["source"] is None:
        yield "dataset.source", f"null is not allowed: {layout} is not downloaded, so name yours"
    for key in OF_FOLDERS:
        if layout in layouts and layout != "folder" and dataset[key] is not None:
            yield f"dataset.{key}", f"only for layout folder; {layout} has its own: must be null"


def _meaning_errors(config: dict) -> Iterator[tuple[str, str]]:
    """Yield errors that a schema cannot express; the config must satisfy the schema."""
    yield from _dataset_errors(config["dataset"])
    backbones = SCHEMA["$defs"]["backbone"]["enum"]
    for run, own in config["runs"].items():
        if own is not None and run not in backbones and "backbone" not in own:
            yield f"runs.{run}", f"not a backbone's name, so it needs `backbone:`, one of {', '.join(backbones)}"
    if config["evaluation"]["standard"] is None:
        yield "evaluation.standard", "null is not allowed: metrics.json is measured by it; {} is its default"
    for name, protocol in config["evaluation"].items():
        yield from ((f"evaluation.{name}", what) for what in _clashes(protocol or {}))
    known = {run: own for run, own in config["runs"].items() if own is None or own.get("backbone", run) in backbones}
    if known == config["runs"] and not expanded(config):
        yield "runs", "all are removed (null): at least one must stay"
    yield from _seed_errors(config | {"runs": known})
    yield from _pretrained_errors(config | {"runs": known})
    yield from _scale_errors(config | {"runs": known})
    yield from _measuring_errors(config | {"runs": known})


def _seed_errors(config: dict) -> Iterator[tuple[str, str]]:
    """Yield errors about the runs that stand for several; a name of theirs must not be a run's already."""
    runs = {run: own for run, own in config["runs"].items() if own is not None}
    for run, own in runs.items():
        if "seed" in own and own.get("seeds"):
            yield f"runs.{run}.seeds", f"beside seed: {own['seed']}; leave one of them out"
        for name in named(config, run):
            if name != run and name in runs:
                yield f"runs.{name}", f"also the name of a run that {run} has by its seeds; rename it"


def _scale_errors(config: dict) -> Iterator[tuple[str, str]]:
    for run in [run for run, own in config["runs"].items() if own is not None]:
        low, high = recipe(config, run)["scale"]
        if low > high:
            yield f"runs.{run}.scale", f"[{low}, {high}] is not allowed: the smallest comes first"


def _measuring_errors(config: dict) -> Iterator[tuple[str, str]]:
    """Yield errors about what needs measurements during training."""
    for run in [run for run, own in config["runs"].items() if own is not None]:
        chosen = recipe(config, run)
        if chosen["validate_every"] is None and (chosen["keep"] == "best" or chosen["patience"]):
            yield f"runs.{run}", "keep: best and patience need validate_every: say every how many steps"


def _pretrained_errors(config: dict) -> Iterator[tuple[str, str]]:
    """Yield errors about the weights that runs begin with, one for all the seeds of a run."""
    members = expanded(config)
    recipes = {run: recipe(config | {"runs": members}, run) for run in members}
    for run, own in config["runs"].items():
        found = (
            [error for name in named(config, run) for error in _source_errors(name, recipes)] if own is not None else []
        )
        yield from ((f"runs.{run}.{key}", what) for key, what in found[:1])


def _source_errors(run: str, recipes: dict[str, dict]) -> Iterator[tuple[str, str]]:
    """Yield errors about the weights that a run begins with, each with its key in the run."""
    chosen = recipes[run]
    source = chosen["pretrained"]
    if source == "imagenet":
        if chosen["backbone"] == "resnet34" and chosen["deep_stem"]:
            yield "pretrained", "imagenet has no resnet34 with a deep stem: set deep_stem: false"
    elif source is not None and set(source) not in ({"run"}, {"path"}, {"path", "sha256"}):
        yield "pretrained", "must be imagenet, {run: …}, {path: …} or {path: …, sha256: …}"
    elif source is not None:
        yield from _run_errors(run, recipes) if "run" in source else _file_errors(source)


def _file_errors(source: dict) -> Iterator[tuple[str, str]]:
    """Yield errors about a file's weights: one of ccnet's own, which ends in .safetensors, or a published one."""
    own = source["path"].endswith(".safetensors")
    if own and "sha256" in source:
        yield "pretrained.sha256", "is for published files: leave it out for weights of ccnet"
    elif own and source["path"].startswith(("http://", "https://")):
        yield "pretrained.path", "weights of ccnet are not downloaded: name a file"
    elif own and not Path(source["path"]).expanduser().exists():
        yield "pretrained.path", f"no such file: {source['path']}; name weights that were trained, or {{run: …}}"
    elif not own and "sha256" not in source:
        yield "pretrained.sha256", "missing: a published file needs it, only weights of ccnet (.safetensors) do not"


def _run_errors(run: str, recipes: dict[str, dict]) -> Iterator[tuple[str, str]]:
    """Yield errors about the weights of another run, by way of which a run must not begin with its own."""
    other = recipes[run]["pretrained"]["run"]
    seeded = [name for name in recipes if re.fullmatch(rf"{re.escape(other)}_seed\d+", name)]
    if other not in recipes and seeded:
        yield "pretrained.run", f"{other} has no run of seed {recipes[run]['seed']}: name one of {', '.join(seeded)}"
    elif other not in recipes:
        near = difflib.get_close_matches(other, recipes, n=1)
        yield "pretrained.run", f"no run is called {other}" + (f"; did you mean '{near[0]}'?" if near else "")
    elif recipes[other]["backbone"] != recipes[run]["backbone"]:
        yield "pretrained.run", f"{other} has the backbone {recipes[other]['backbone']}, not {recipes[run]['backbone']}"
    elif run in (chain := _chain(run, recipes)):
        yield "pretrained.run", f"the run would begin with its own weights: {' <- '.join([run, *chain])}"


def _chain(run: str, recipes: dict[str, dict]) -> list[str]:
    """The runs, from the nearest, that a run begins with; ends where one comes again."""
    found: list[str] = []
    source = recipes[run]["pretrained"]
    while isinstance(source, dict) and source.get("run") in recipes and source["run"] not in found:
        found.append(source["run"])
        source = recipes[source["run"]]["pretrained"]
    return found


def errors(config: dict) -> list[str]:
    """The errors of a config, one line each; empty if it is valid."""
    found = list(_schema_errors(config)) or list(_meaning_errors(config))
    return [f"config: {where}: {what}" for where, what in found]


def absences(config: dict) -> list[str]:
    """The files and folders of the user that a valid config names and that are not there, one line each.

    Without this check, photos that are gone would leave their old masks as if current, and a source that is away for a
    while would cost the list of its pairs. What is below the results is made there.
    """
    places = {f"dataset.{key}": config["dataset"][key] for key in ("source", "classes")}
    places |= {f"segment.{name}": place for name, place in config["segment"].items()}
    return [
        f"config: {key}: no such file or folder: {place}; is its disk mounted? Else name another, or make it null"
        for key, place in places.items()
        if place is not None and not re.match(r"\w+://", place) and not _exists_or_will(Path(place).expanduser())
    ]


def _exists_or_will(place: Path) -> bool:
    return place.exists() or place.resolve().is_relative_to(Path("results").resolve())
