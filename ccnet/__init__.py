"""CCNet (criss-cross attention) semantic segmentation on Jittor, as a pipeline of commands."""

__version__ = "0.1.0"


class InputError(Exception):
    """An error that the user can correct; its message names the file, key or value, and the remedy."""


class Restart(Exception):  # noqa: N818 (not an error)
    """All is saved; the command is to be started again in a fresh process."""
