"""Writes what `ccnet.settings` and `ccnet.protocol` say of hyperparameters and protocols to config.schema.yaml.

`make schema` runs it. Above the marker, the schema is written by hand.
"""

import sys
from pathlib import Path

import yaml
from pydantic import TypeAdapter

from ccnet.protocol import Protocol
from ccnet.settings import hyperparameters

MARKER = "  # From here on written by `make schema`, from ccnet/settings.py and ccnet/protocol.py.\n"
NOT_SETTINGS = {"title", "default", "address"}


def flat(schema: dict) -> dict:
    """A field's JSON schema with `null` among its types or choices instead of in an `anyOf`: errors read better so."""
    schema = {key: value for key, value in schema.items() if key not in NOT_SETTINGS}
    if "const" in schema:  # a single choice
        schema["enum"] = [schema.pop("const")]
    if "anyOf" in schema:
        options = [flat(option) for option in schema.pop("anyOf")]
        (value,) = [option for option in options if option != {"type": "null"}]
        if "enum" in value:
            return schema | {"enum": [*value["enum"], None]}
        return schema | value | {"type": [value["type"], "null"]}
    if "enum" in schema:
        schema.pop("type", None)
    if "prefixItems" in schema:  # a pair of equal things
        schema["items"] = schema.pop("prefixItems")[0]
    if "items" in schema:
        schema["items"] = flat(schema["items"])
    return schema


def generated() -> dict:
    """The schema's `$defs` of a protocol, a backbone and the hyperparameters."""
    named = {name: flat(schema) for name, schema in hyperparameters().items()}
    backbone = named.pop("backbone")
    named["pretrained"] = {"$ref": "#/$defs/pretrained"}  # the config says where a file is, the settings what it is
    protocol = TypeAdapter(Protocol).json_schema()["properties"]
    return {
        "protocol": {
            "description": "How a network is measured; without any key: whole images at their own size, one scale.",
            "additionalProperties": False,
            "properties": {name: flat(schema) for name, schema in protocol.items()},
        },
        "backbone": backbone,
        "hyperparameters": {
            "description": "What a recipe may say; a run's settings.json holds all of it.",
            "properties": named,
        },
    }


def main(path: Path) -> None:
    """Replace what follows the marker in the schema at `path`."""
    above = path.read_text().partition(MARKER)[0]
    text = yaml.safe_dump(generated(), sort_keys=False, allow_unicode=True, default_flow_style=None, width=110)
    indented = "".join(f"  {line}" for line in text.splitlines(keepends=True))
    path.write_text(f"{above}{MARKER}{indented}")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).with_name("config.schema.yaml"))
