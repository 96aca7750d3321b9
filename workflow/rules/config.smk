# config.yaml and its overlays, checked: one line an error, all of them at once.
import json
import math
import re
import sys
from pathlib import Path

import jsonschema
import yaml


include: "../../ccnet/suggestion.py"


SCHEMA = yaml.safe_load(
    Path(workflow.basedir, "workflow/schemas/config.schema.yaml").read_text()
)
# Their source only the user can name.
NOT_DOWNLOADED = ("cityscapes", "folder")


def keys_of(schema):
    """The keys an object may have, its `$ref` included."""
    target = SCHEMA["$defs"].get(schema.get("$ref", "").removeprefix("#/$defs/"), {})
    return [*schema.get("properties", {}), *target.get("properties", {})]


def unknown_keys(error):
    """One message for each key that the schema does not list."""
    known = keys_of(error.schema)
    for key in [key for key in error.instance if key not in known]:
        yield dotted(error, key), suggestion(str(key), known)


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
    """YAML reads 1e-2, without a point, as text: says so."""
    types = [types] if isinstance(types, str) else types
    number = re.fullmatch(r"([+-]?\d+)(e[+-]?\d+)", str(value), re.IGNORECASE)
    hint = f"; write {number[1]}.0{number[2]}" if number and "number" in types else ""
    return "must be " + " or ".join(TYPES[name] for name in types) + hint


def wrong_choice(value, choices):
    names = [name if isinstance(name, str) else shown(name) for name in choices]
    return f"must be one of {', '.join(names)}"


# What is allowed, by the schema's keyword, from the wrong value and the keyword's own.
ALLOWED = {
    "type": wrong_type,
    "enum": wrong_choice,
    "minimum": lambda value, bound: f"must be at least {bound}",
    "maximum": lambda value, bound: f"must be at most {bound}",
    "exclusiveMinimum": lambda value, bound: f"must be greater than {bound}",
    "exclusiveMaximum": lambda value, bound: f"must be less than {bound}",
    "minItems": lambda value, count: f"must have at least {count} items",
    "maxItems": lambda value, count: f"must have at most {count} items",
    "pattern": lambda value, pattern: f"must match {pattern}",
    "not": lambda value, names: "the pipeline keeps its own files under this name",
}


def shown(value):
    """A value as YAML writes it."""
    return repr(value) if isinstance(value, str) else json.dumps(value)


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
        allowed = ALLOWED[error.validator](error.instance, error.validator_value)
        yield dotted(error), f"{shown(error.instance)} is not allowed: {allowed}"


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


def clashes(protocol):
    """Keys of a protocol that do not go together."""
    window, stride = (protocol.get(key) for key in ("window", "stride"))
    if protocol.get("keep_ratio") and protocol.get("fixed"):
        yield "images are resized by keep_ratio or fixed, not both: make one null"
    if stride and stride > (window or 0):
        yield f"stride {stride} needs a window of at least as many pixels"


def meaning_errors(config):
    """What a schema cannot say, for a config that the schema accepts."""
    dataset, backbones = config["dataset"], SCHEMA["$defs"]["backbone"]["enum"]
    if dataset["name"] in NOT_DOWNLOADED and dataset["source"] is None:
        yield "dataset.source", f"null is not allowed: {dataset['name']} is not downloaded, so name yours"
    for run, own in config["runs"].items():
        if own is not None and run not in backbones and "backbone" not in own:
            yield f"runs.{run}", f"not a backbone's name, so it needs `backbone:`, one of {', '.join(backbones)}"
    if config["evaluation"]["standard"] is None:
        yield "evaluation.standard", "null is not allowed: metrics.json is measured by it; {} is its default"
    for name, protocol in config["evaluation"].items():
        yield from ((f"evaluation.{name}", what) for what in clashes(protocol or {}))
    if not any(own is not None for own in config["runs"].values()):
        yield "runs", "all are removed (null): at least one must stay"


def validate_config(config):
    errors = list(schema_errors(config)) or list(meaning_errors(config))
    if errors:
        # A WorkflowError would add the place in this file, which is not where the error is.
        sys.exit("\n".join(f"config: {where}: {what}" for where, what in errors))


validate_config(config)
