"""Weights files of ccnet: safetensors with all the metadata needed to use them.

The file of a network holds its settings, classes, palette, input normalisation and how it was trained; that of a
backbone holds the backbone's name and the SHA-256 of the file it was imported from. Jittor is imported only inside the
functions that need it.
"""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple, Self

import numpy as np
from pydantic import Field, TypeAdapter, ValidationError
from safetensors.numpy import save as encode

from ccnet import InputError
from ccnet.fields import explain, frozen
from ccnet.files import atomic
from ccnet.protocol import Protocol
from ccnet.settings import Architecture, Settings
from ccnet.weights import checkpoints, files

if TYPE_CHECKING:
    from ccnet.models.ccnet import CCNet

Value = Annotated[float, Field(gt=-1e6, lt=1e6, allow_inf_nan=False)]  # a pixel value
Positive = Annotated[float, Field(gt=1e-6, lt=1e6, allow_inf_nan=False)]
Byte = Annotated[int, Field(ge=0, le=255)]
FURTHER = ("dataset", "training", "protocol")  # entries of a header that older files lack


class Weights(NamedTuple):
    """A network in eval mode; its settings, class names, palette (R, G, B of each class, 0–255) and dataset's name.

    `training` is the `ccnet.provenance.record` of its training, None in files of other and of earlier makers.
    `protocol` shows it an image at the scale it was trained for; in files that do not say, at the image's own size.
    """

    model: "CCNet"
    settings: Settings | Architecture
    class_names: list[str]
    palette: list[list[int]]
    dataset: str = ""
    training: dict[str, Any] | None = None
    protocol: Protocol = Protocol()


def state_arrays(model) -> dict[str, np.ndarray]:
    """Every parameter and buffer of a model by name, copied to NumPy arrays."""
    return {name: np.array(value.numpy()) for name, value in model.state_dict().items()}


def load_state(model, tensors: dict[str, np.ndarray], where: str) -> None:
    """Set every parameter and buffer of a model. Raises InputError unless names, shapes and dtypes match exactly."""
    from ccnet.runtime import jt

    own = model.state_dict()
    check_fit({name: (tuple(value.shape), str(value.dtype)) for name, value in own.items()}, tensors, where)
    for name, value in own.items():
        value.assign(jt.array(tensors[name]))


def check_fit(wanted: dict[str, tuple[tuple[int, ...], str]], tensors: dict[str, np.ndarray], where: str) -> None:
    """Raise InputError unless `tensors` have the names, shapes and dtypes `wanted`, and no others."""
    wrong = sorted(set(wanted) ^ set(tensors)) + [
        name
        for name in sorted(set(wanted) & set(tensors))
        if wanted[name] != (tensors[name].shape, str(tensors[name].dtype))
    ]
    if wrong:
        raise InputError(
            f"{where}: does not fit the network its settings describe: {', '.join(wrong[:5])}{' …' * (len(wrong) > 5)}"
        )


@frozen
class Description:
    """The header of a network's weights file."""

    settings: Settings | Architecture  # Architecture: a network trained elsewhere
    class_names: Annotated[list[str], Field(min_length=1, max_length=255)]
    palette: list[Annotated[list[Byte], Field(min_length=3, max_length=3)]]  # R, G, B of each class
    mean: tuple[Value, Value, Value]  # of R, G, B, for normalising the input, 0–255
    std: tuple[Positive, Positive, Positive]
    dataset: str = ""  # the name of the one it was trained on
    training: dict[str, Any] | None = None  # its provenance
    protocol: Protocol = Protocol()  # for images of any size

    @classmethod
    def checked(cls, metadata: dict[str, Any], where: str) -> Self:
        """Validate the description in a header. Raises InputError that names what is missing or wrong."""
        try:
            own = {name: metadata[name] for name in ("settings", "class_names", "palette", "mean", "std")}
            own |= {name: metadata[name] for name in FURTHER if name in metadata}
            found = TypeAdapter(cls).validate_json(json.dumps(own))
        except KeyError as error:
            raise InputError(f"{where}: no {error} in its header: not the weights of a whole network") from error
        except ValidationError as error:
            raise InputError(f"{where}: {explain(error.errors()[0])}; get the file again") from error
        if len(found.palette) != len(found.class_names):
            raise InputError(
                f"{where}: {len(found.class_names)} class_names but {len(found.palette)} colours in its"
                " palette; get the file again"
            )
        return found


def describe(network: Weights) -> dict[str, str]:
    """The header's entries, each encoded as JSON."""
    entries = network._asdict() | {"mean": network.model.mean, "std": network.model.std}
    del entries["model"]
    entries |= {name: entries[name].as_dict() for name in ("settings", "protocol")}
    return {name: json.dumps(value) for name, value in entries.items() if value is not None}


def save(path: Path, network: Weights) -> None:
    """Write a network's weights and their description to a safetensors file."""
    with atomic(path) as temporary:
        temporary.write_bytes(encode(state_arrays(network.model), describe(network)))


def located(path: Path) -> Path:
    """The weights file at `path`: a file is returned as is; for a run's folder, its weights or newest checkpoint.

    The checkpoint is used until training has ended. Raises InputError for a folder that has neither.
    """
    if not path.is_dir():
        return path
    finished = path / "weights.safetensors"
    found = finished if finished.exists() else checkpoints.newest(path / "checkpoints")
    if found is None:
        raise InputError(
            f"{path}: a folder without {finished.name} and without checkpoints; train the run first, or"
            " name a weights file"
        )
    return found


def interpret(
    metadata: dict[str, Any], tensors: dict[str, np.ndarray], path: Path
) -> tuple[Description, dict[str, np.ndarray]]:
    """The description and the tensors of a network, from the contents of its weights file or of a checkpoint.

    Raises InputError for a file that describes no network, and for a damaged checkpoint.
    """
    if "step" in metadata:
        checkpoints.check(metadata, tensors, path)
        print(f"ccnet: {path}: a checkpoint, of step {metadata['step']}", file=sys.stderr)
        tensors = checkpoints.of_model(tensors)
    return Description.checked(metadata, str(path)), tensors


def load(path: Path) -> Weights:
    """Load a network in eval mode from a weights file, a checkpoint, or a run's folder (see `located`).

    Raises InputError for a file that ccnet did not write, or that is damaged.
    """
    from ccnet.models import build_from_settings

    path = located(Path(path))
    described, tensors = interpret(*files.read(path), path)
    model = build_from_settings(described.settings, len(described.class_names))
    model.mean, model.std = described.mean, described.std
    load_state(model, tensors, str(path))
    model.eval()
    return Weights(
        model,
        described.settings,
        described.class_names,
        described.palette,
        described.dataset,
        described.training,
        described.protocol,
    )


def save_backbone(
    path: Path,
    tensors: dict[str, np.ndarray],
    backbone: str,
    source: str,
    *,
    deep_stem: bool | None = None,
    stem_channels: int | None = None,
) -> None:
    """Write a backbone's tensors (`backbone.…`) as pretrained weights; `source` is the SHA-256 of the original file.

    `deep_stem` is None for a VAN, `stem_channels` for any backbone without a deep stem.
    """
    stem = {"deep_stem": deep_stem, "stem_channels": stem_channels}
    metadata = {"part": "backbone", "backbone": backbone, **stem, "source_sha256": source}
    with atomic(path) as temporary:
        temporary.write_bytes(encode(tensors, {key: json.dumps(value) for key, value in metadata.items()}))
