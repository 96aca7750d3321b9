import difflib
import json
import math
import os
import re
import shlex
import sys
from pathlib import Path

import jsonschema
import yaml

SCHEMA = yaml.safe_load(
    Path(workflow.basedir, "workflow/schemas/config.schema.yaml").read_text()
)
FAMILIES = ("resnet", "van")
# What only the user can name.
NEEDED = {"cityscapes": ["source"], "folder": ["source", "classes"]}


# -- config.yaml, checked: one line an error, all of them at once


def keys_of(schema):
    """The keys an object may have, its `$ref` included."""
    target = SCHEMA["$defs"].get(schema.get("$ref", "").removeprefix("#/$defs/"), {})
    return [*schema.get("properties", {}), *target.get("properties", {})]


def unknown_keys(error):
    """One message for each key that the schema does not list."""
    known = keys_of(error.schema)
    for key in [key for key in error.instance if key not in known]:
        near = difflib.get_close_matches(str(key), known, n=1)
        hint = (
            f"did you mean '{near[0]}'?"
            if near
            else f"known here: {', '.join(sorted(known))}"
        )
        yield dotted(error, key), f"unknown key; {hint}"


TYPES = {
    "array": "a list",
    "boolean": "true or false",
    "integer": "a whole number",
    "null": "null",
    "number": "a number",
    "object": "a mapping (key: value)",
    "string": "text",
}


def wrong_type(value, types):
    """Says what a value should have been; YAML reads 1e-2, without a point, as text."""
    types = [types] if isinstance(types, str) else types
    number = re.fullmatch(r"([+-]?\d+)(e[+-]?\d+)", str(value), re.IGNORECASE)
    hint = f"; write {number[1]}.0{number[2]}" if number and "number" in types else ""
    allowed = " or ".join(TYPES[name] for name in types)
    return f"{value!r} is not allowed: must be {allowed}{hint}"


RULES = {
    "type": wrong_type,
    "enum": lambda value, names: f"{value!r} is not one of {', '.join(map(str, names))}",
    "minimum": lambda value, bound: f"{value} is not allowed: must be at least {bound}",
    "maximum": lambda value, bound: f"{value} is not allowed: must be at most {bound}",
    "exclusiveMinimum": lambda value, bound: f"{value} is not allowed: must be greater than {bound}",
    "exclusiveMaximum": lambda value, bound: f"{value} is not allowed: must be less than {bound}",
    "minItems": lambda value, count: f"{value} is not allowed: must have {count} items",
    "maxItems": lambda value, count: f"{value} is not allowed: must have {count} items",
    "pattern": lambda value, pattern: f"{value!r} is not allowed: must match {pattern}",
    "not": lambda value, names: f"{value!r} is not allowed: the pipeline keeps its own files under this name",
}


def dotted(error, *more):
    return ".".join(map(str, [*error.absolute_path, *more]))


def messages(error):
    """(where, what) pairs for one of jsonschema's errors."""
    if error.validator in ("additionalProperties", "unevaluatedProperties"):
        yield from unknown_keys(error)
    elif error.validator == "required":
        missing = [key for key in error.validator_value if key not in error.instance]
        yield from ((dotted(error, key), "missing") for key in missing)
    else:
        yield dotted(error), RULES[error.validator](
            error.instance, error.validator_value
        )


def finite(checker, value):
    return (
        isinstance(value, int | float)
        and not isinstance(value, bool)
        and math.isfinite(value)
    )


def schema_errors(config):
    draft = jsonschema.Draft202012Validator
    validator = jsonschema.validators.extend(
        draft, type_checker=draft.TYPE_CHECKER.redefine("number", finite)
    )
    for error in validator(SCHEMA).iter_errors(config):
        yield from messages(error)


def meaning_errors(config):
    """What a schema cannot say, for a config that the schema accepts."""
    dataset, backbones = config["dataset"], SCHEMA["$defs"]["backbone"]["enum"]
    for key in NEEDED.get(dataset["name"], []):
        if dataset[key] is None:
            yield f"dataset.{key}", f"null is not allowed: {dataset['name']} is not downloaded, so name yours"
    for run, own in config["runs"].items():
        if own is not None and run not in backbones and "backbone" not in own:
            yield f"runs.{run}", f"is not the name of a backbone, so give it one: `backbone:` {', '.join(backbones)}"
    if not any(own is not None for own in config["runs"].values()):
        yield "runs", "all are removed (null): at least one must stay"


def validate_config(config):
    errors = list(schema_errors(config)) or list(meaning_errors(config))
    if errors:
        # A WorkflowError would add the place in this file, which is not where the error is.
        sys.exit("\n".join(f"config: {where}: {what}" for where, what in errors))


validate_config(config)

# -- what the rules read

DATASET = config["dataset"]["name"]
RUNS = [run for run, own in config["runs"].items() if own is not None]
FOLDERS = {name: path for name, path in config["segment"].items() if path is not None}

# The commands of the environment that Snakemake runs in, activated or not.
os.environ.update(
    PATH=os.pathsep.join([str(Path(sys.executable).parent), *os.get_exec_path()])
)


wildcard_constraints:
    dataset=re.escape(DATASET),
    run="|".join(map(re.escape, RUNS)),
    folder="|".join(map(re.escape, FOLDERS)) or "(?!)",
    split="train|val",
    shard=r"\d+",
    shards=r"\d+",


def recipe(run):
    """A run's flat settings: the shared recipe, then its family's, then its own."""
    own = {"backbone": run} | config["runs"][run]
    shared = {
        key: value for key, value in config["training"].items() if key not in FAMILIES
    }
    family = next(family for family in FAMILIES if own["backbone"].startswith(family))
    return shared | config["training"].get(family, {}) | own


def shards(*splits):
    """The shards of these splits, in order."""
    count = config["dataset"]["shards"]
    return [
        f"results/{{dataset}}/shards/{split}-{shard}-of-{count[split]}.h5"
        for split in splits
        for shard in range(count[split])
    ]


def option(flag, value):
    """A flag and its value for a command line; nothing for null."""
    return "" if value is None else f"{flag} {shlex.quote(str(value))}"


def folder_or_index(wildcards):
    """The user's folder itself, so that new photos count; or, for a folder that fetch fills, fetch's index."""
    folder = FOLDERS[wildcards.folder]
    return (
        "results/{dataset}/source/index.json"
        if Path(folder).is_relative_to("results")
        else folder
    )


def threads_per_gpu():
    """The cores shared evenly by the jobs that may hold a GPU at once; on a cluster its profile says."""
    gpus = workflow.global_resources.get("gpu")
    return max(1, (workflow._cores or 8) // max(1, gpus.value if gpus else 1))
