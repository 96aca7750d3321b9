"""A check that config files can be read; errors name the file and the line.

Snakemake itself names neither, and shows a traceback if a target follows --configfile. It reads config.yaml when the
Snakefile says so, and files of the command line before that; therefore both the Snakefile and the profiles call this.
"""

import sys
from collections.abc import Iterable
from pathlib import Path

import yaml


def check(files: Iterable[Path]) -> None:
    """Exit with a one-line error at the first file that is missing or not valid YAML."""
    for file in files:
        try:
            yaml.safe_load(file.read_text(encoding="utf-8"))
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
