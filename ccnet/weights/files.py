"""Reading the safetensors files of ccnet: weights and checkpoints, whose metadata values are JSON."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open

from ccnet import InputError


def read(path: Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """The metadata and tensors of a file. Raises InputError for one that is damaged or that ccnet did not write."""
    try:
        with safe_open(path, framework="numpy") as file:
            header, tensors = file.metadata() or {}, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
        if any(tensor.dtype.kind == "V" for tensor in tensors.values()):  # as another package has registered bfloat16
            raise TypeError("numbers of a type that NumPy lacks")
    except (SafetensorError, OSError, ValueError, TypeError, AttributeError) as error:  # also dtypes that NumPy lacks
        raise InputError(f"{path}: not a readable weights file ({error})") from error
    try:
        return {key: json.loads(value) for key, value in header.items()}, tensors
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: safetensors of another program; give weights that ccnet wrote") from error
