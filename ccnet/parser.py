"""A subcommand's parser, with the arguments that several subcommands share."""

import argparse
from pathlib import Path


class Command(argparse.ArgumentParser):
    """A subcommand's parser; the table of hyperparameters is built only when its help is shown."""

    shows_hyperparameters = False

    def format_help(self) -> str:
        if not self.shows_hyperparameters:
            return super().format_help()
        return super().format_help() + _table()

    def add_weights(self) -> None:
        self.add_argument(
            "--weights", type=Path, dest="weights_file", required=True, metavar="W.safetensors",
            help="a file, or a run's folder: its weights, else its newest checkpoint")  # fmt: skip

    def add_device(self) -> None:
        self.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto", help="(default: auto)")

    def add_protocol(self, default: str):
        """Add flags named like the fields of `ccnet.protocol.Protocol`, left out if not given; returns their group."""
        group = self.add_argument_group("protocol", default, argument_default=argparse.SUPPRESS)
        group.add_argument("--keep-ratio", type=int, nargs=2, metavar=("LONG", "SHORT"), help="scale images to fit")
        group.add_argument("--fixed", type=int, nargs=2, metavar=("HEIGHT", "WIDTH"), help="squash images to one size")
        group.add_argument("--window", type=int, metavar="PIXELS", help="side of sliding windows")
        group.add_argument("--stride", type=int, metavar="PIXELS", help="between windows (default: 2/3 of the window)")
        group.add_argument("--scales", type=float, nargs="+", metavar="FACTOR", help="on the resized image; averaged")
        group.add_argument("--flip", action="store_true", help="average with the mirrored image")
        return group


def _table() -> str:
    """A line for each hyperparameter: its address, description and range."""
    from ccnet.settings import hyperparameters

    rows = [
        f"  {entry['address']:<28} {entry['description']} [{_allowed(entry)}]" for entry in hyperparameters().values()
    ]
    return "\n".join(["", "hyperparameters:", *rows, ""])


def _allowed(schema: dict) -> str:
    """A JSON schema's type and range in a few words, such as "number, > 0, ≤ 10"."""
    if "anyOf" in schema:
        return " or ".join(_allowed(option) for option in schema["anyOf"])
    if "enum" in schema:
        return ", ".join(map(str, schema["enum"]))
    signs = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
    if schema["type"] == "array":
        return f"{schema['minItems']} × {_allowed(schema['items'])}"
    limits = [f"{sign} {schema[key]}" for key, sign in signs.items() if key in schema]
    return ", ".join([schema["type"], *limits])
