"""CCNet (criss-cross attention) semantic segmentation on Jittor, as a pipeline."""

__version__ = "0.1.0"


class InputError(Exception):
    """Something the user can put right: one line that names the file, key or value, and the remedy."""
