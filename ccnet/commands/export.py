"""`ccnet export`: turn weights into a file for other programs."""

import importlib
from pathlib import Path

from ccnet import InputError, weights
from ccnet.files import atomic
from ccnet.progress import progress

LIBRARIES = ("torch", "onnx")  # of the extra


def run(*, weights_file: Path, to: str, out: Path) -> None:
    """Write the network of `weights_file` to `out` in the format `to`, the name of a module of `ccnet.export`.

    Raises InputError for weights that ccnet did not write, for a network that the format cannot express, and where
    the libraries of the format are not installed.
    """
    weights_file = weights.located(weights_file)
    if out.resolve() == weights_file.resolve():
        raise InputError(f"--out {out}: these are the weights themselves; choose another file")
    with progress(total=2, desc="export", unit="step") as bar:
        load, form = _imported(to)
        segmenter = load(weights_file)
        bar.update()
        with atomic(out) as temporary:
            note = form.write(segmenter, temporary)
        bar.update()
    print(f"{out}: {to}, {segmenter.described.settings.model.backbone}; {note}")


def _imported(to: str):
    """The function that loads a network, and the module of the format; they need libraries of the extra."""
    try:
        return importlib.import_module("ccnet.export").load, importlib.import_module(f"ccnet.export.{to}")
    except ModuleNotFoundError as error:
        if error.name not in LIBRARIES:
            raise
        raise InputError(
            f"--to {to}: needs {error.name}, which is not installed: pip install -e '.[export]'"
        ) from error
