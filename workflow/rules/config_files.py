"""A check that config files can be read; errors name the file and the line.

Snakemake itself names neither, and shows a traceback if a target follows --configfile. It reads config.yaml when the
Snakefile says so, and files of the command line before that; therefore both the Snakefile and the profiles call this.
"""

import sys
from collections.abc import Iterable
from pathlib import Path

import yaml


class Loader(yaml.SafeLoader):
    """Refuses a key that a mapping has twice: YAML's loader would drop the first without a word."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        known: set[str] = set()
        for key, _ in node.value:
            if key.value in known and key.tag != "tag:yaml.org,2002:merge":
                raise yaml.constructor.ConstructorError(None, None, f"'{key.value}' is there twice", key.start_mark)
            known.add(key.value)
        return super().construct_mapping(node, deep)


def check(files: Iterable[Path]) -> None:
    """Exit with a one-line error at the first file that is missing, not valid YAML, or not a mapping."""
    for file in files:
        try:
            values = yaml.load(file.read_text(encoding="utf-8"), Loader)
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark
            place = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
            sys.exit(f"config: {file}{place}: {error.problem or error.context}; mend the YAML there or just above")
        except FileNotFoundError:
            sys.exit(
                f"config: {file}: no such file; a target comes before --configfile, as in:"
                f" snakemake {file} --configfile mine.yaml"
            )
        except (OSError, ValueError, yaml.YAMLError) as error:
            sys.exit(f"config: {file}: cannot be read as YAML: {' '.join(str(error).split())}")
        if not isinstance(values, dict):
            sys.exit(f"config: {file}: {'empty' if values is None else 'no mapping'}; write lines like  device: cpu")
