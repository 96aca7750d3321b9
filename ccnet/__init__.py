"""CCNet (criss-cross attention) semantic segmentation on Jittor, as a pipeline of commands."""

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ccnet.segmentation.model import Model

__version__ = "0.1.0"


class InputError(Exception):
    """An error that the user can correct; its message names the file, key or value, and the remedy."""


class Restart(Exception):  # noqa: N818 (not an error)
    """All is saved; the command is to be started again in a fresh process."""


def load(weights: str | os.PathLike, device: str = "auto") -> "Model":
    """A trained network, from a weights file, a checkpoint or a run's folder, as a function of images.

    `device` is "auto", "cpu" or "cuda". Raises InputError for a file that ccnet did not write, or that is damaged.
    """
    from ccnet.segmentation.model import load  # here, so that `import ccnet` does not load Jittor

    return load(weights, device)
