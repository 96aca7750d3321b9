"""Label maps in MATLAB files (version 5), the form in which Pascal Context is published."""

import io

import numpy as np
from PIL import Image
from scipy.io import loadmat, whosmat

from ccnet import InputError
from ccnet.data import images

VARIABLE = "LabelMap"
TYPES = ("uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64", "single", "double")
HIGHEST = 2**16 - 1


def decode(data: bytes, name: str) -> np.ndarray:
    """Decode the variable `LabelMap` of a MATLAB file to uint16 `(H, W)`; nothing else in the file is read.

    Raises InputError naming `name` if there is no such matrix of whole numbers in 0 … 65,535, for a damaged file, and
    for more pixels than Pillow's MAX_IMAGE_PIXELS.
    """
    _check_header(data, name)
    with images.refusing_damage(name):
        matrix = np.asarray(loadmat(io.BytesIO(data), variable_names=[VARIABLE])[VARIABLE])
    if not np.isin(matrix, np.arange(HIGHEST + 1)).all() or not matrix.size:
        raise InputError(f"{name}: {VARIABLE} does not hold whole numbers from 0 to {HIGHEST}, the ids of labels")
    return matrix.astype(np.uint16)


def _check_header(data: bytes, name: str) -> None:
    """Refuse what is not a matrix of numbers, or too large, before it takes memory."""
    with images.refusing_damage(name):
        variables = {variable: (shape, kind) for variable, shape, kind in whosmat(io.BytesIO(data))}
    if VARIABLE not in variables:
        raise InputError(f"{name}: holds no variable {VARIABLE}, where the label map is expected")
    shape, kind = variables[VARIABLE]
    if len(shape) != 2 or kind not in TYPES:
        raise InputError(f"{name}: {VARIABLE} is {'×'.join(map(str, shape))} {kind}; a matrix of numbers is expected")
    limit = Image.MAX_IMAGE_PIXELS
    if limit and shape[0] * shape[1] > limit:
        raise InputError(f"{name}: {shape[1]}×{shape[0]} is over the limit of {limit} pixels: cut it into tiles")
