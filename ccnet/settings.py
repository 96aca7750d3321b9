"""The hyperparameters of a run as frozen dataclasses, validated on construction.

settings.json holds them in groups (`optimizer.learning_rate`). config.yaml and `--set` may use the last part alone
(`learning_rate`), since names are unique; a group's `name` is set by the group's own name (`optimizer: adamw`).
Settings contain no paths and no properties of the machine.
"""

import difflib
import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict, fields
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, TypeAdapter, ValidationError
from pydantic_core import PydanticCustomError

from ccnet import InputError
from ccnet.fields import about, explain, frozen

Backbone = Literal["resnet18", "resnet34", "resnet50", "resnet101", "van_tiny", "van_small", "van_base", "van_large"]
Share = Annotated[float, Field(ge=0, le=1)]
BelowOne = Annotated[float, Field(ge=0, lt=1)]


def _ascending(bounds: list[float]) -> list[float]:
    if bounds[0] > bounds[1]:
        raise PydanticCustomError("ascending", "the smallest should come first")
    return bounds


@frozen
class Model:
    """The network and its initial weights."""

    backbone: Annotated[Backbone, about("the network below the head")]
    head: Annotated[
        Literal["rcca", "non_local"], about("context head: recurrent criss-cross attention, or the non-local block")
    ]
    recurrence: Annotated[int, about("loops R of criss-cross attention; 0 leaves it out", ge=0, le=5)]
    output_stride: Annotated[
        Literal[8, 16, 32] | None,
        about("input pixels per position of the last stage, dilated below 32; null: the family's own"),
    ]
    fusion: Annotated[bool | None, about("levels 2 to 4 fused at stride 8 before the head; null: the family's own")]
    deep_stem: Annotated[bool, about("ResNet stem of three 3×3 convolutions, else one 7×7")]
    stem_channels: Annotated[
        Literal[32, 64] | None,
        about(
            "channels of a deep stem's first convolutions, the third has twice as many; null: as pretrained, else 64"
        ),
    ] = None  # a key has a default where settings.json and weights of earlier versions lack it
    multi_grid: Annotated[bool, about("dilations of the last ResNet stage multiplied by 1, 2, 4")]
    contract_dilation: Annotated[bool, about("a dilated ResNet stage's first block keeps the dilation before it")]
    head_channels: Annotated[int | None, about("channels inside the head; null: the family's own", ge=8)]
    auxiliary_channels: Annotated[
        int | None, about("channels inside the auxiliary head; null: half of its input's", ge=8)
    ] = None
    align_corners: Annotated[bool, about("resizing aligns the centres of corner pixels, not their edges")]
    negative_slope: Annotated[Share, about("slope of the heads' ReLUs below 0; 0.01 in the official CCNet")]
    dropout: Annotated[BelowOne, about("share of the channels dropped before the classifier")]
    drop_path: Annotated[BelowOne, about("stochastic depth of the last VAN block, rising to it from 0")]
    pretrained: Annotated[
        str | None,
        about(
            "SHA-256 of the file whose weights the network begins with; null: from scratch", pattern="^[0-9a-f]{64}$"
        ),
    ]
    frozen_norms: Annotated[
        bool, about("batch norms keep the running statistics they got from pretrained weights, for small batches")
    ] = False


@frozen
class Architecture:
    """The settings of a network that was trained elsewhere: the model only."""

    model: Model

    def as_dict(self) -> dict:
        return asdict(self)  # type: ignore[call-overload]


@frozen
class Optimizer:
    """The optimiser."""

    name: Annotated[Literal["sgd", "adamw"], about("SGD with momentum, or AdamW")]
    learning_rate: Annotated[float, about("its highest value, after the warm-up", gt=0, le=10)]
    momentum: Annotated[BelowOne, about("momentum of SGD, first beta of AdamW")]
    weight_decay: Annotated[Share, about("decay per step; norms, biases and scales have none with AdamW")]
    clip_norm: Annotated[
        float | None, about("largest L2 norm of the gradient, all parameters together; null: any", gt=0)
    ] = None
    ema: Annotated[
        BelowOne, about("decay of a moving average of the weights, measured and saved in their place; 0: off")
    ] = 0.0


@frozen
class Schedule:
    """The learning rate schedule."""

    steps: Annotated[int, about("optimiser steps", ge=1)]
    warmup_steps: Annotated[int, about("steps of the learning rate's linear rise from 0", ge=0)]
    power: Annotated[float, about("exponent of the poly schedule, (1 - step / steps) ** power", ge=0, le=10)]
    final_learning_rate: Annotated[float, about("learning rate that the schedule falls towards", ge=0)]


@frozen
class Data:
    """Batches and data augmentation."""

    batch_size: Annotated[int, about("images that are in memory at once", ge=1)]
    accumulate: Annotated[
        int, about("batches per optimiser step, as if one; norms, ohem and category_consistency see each alone", ge=1)
    ]
    crop_size: Annotated[int, about("side of the square crop, pixels", ge=32)]
    resize: Annotated[
        Annotated[list[Annotated[int, Field(ge=32, le=16384)]], Field(min_length=2, max_length=2)] | None,
        about("long and short side images are fitted to, ratio kept, before the random scale; null: their own size"),
    ]
    scale: Annotated[
        Annotated[list[Annotated[float, Field(gt=0, le=16)]], Field(min_length=2, max_length=2)],
        AfterValidator(_ascending),
        about("smallest and largest random scale, drawn uniformly"),
    ]
    flip: Annotated[bool, about("mirror half of the crops left to right")]
    photometric: Annotated[bool, about("random brightness, contrast, saturation and hue")]
    max_class_share: Annotated[
        Share,
        about("crops of one class, or with this share of one, are drawn again, ten draws at most; 1: never"),
    ]

    @property
    def images_per_step(self) -> int:
        return self.batch_size * self.accumulate


@frozen
class Loss:
    """The loss function."""

    name: Annotated[
        Literal["cross_entropy", "ohem"],
        about("cross entropy over all pixels, or over the hard ones only (online hard example mining)"),
    ]
    ohem_threshold: Annotated[Share, about("ohem: pixels count whose label has at most this probability")]
    ohem_keep: Annotated[int, about("ohem: pixels per image that count in any case, the worst first", ge=1)]
    class_weights: Annotated[
        Literal["median_frequency", "sqrt_median_frequency"] | None,
        about("weight of a class: the median frequency over its own, or its square root; null: 1"),
    ] = None
    auxiliary_weight: Annotated[float, about("weight of the auxiliary classifier's loss; 0: off", ge=0, le=10)]
    category_consistency: Annotated[float, about("weight of the category consistent loss; 0: off", ge=0, le=10)]


@frozen
class Validation:
    """Measuring during training, and what follows from it."""

    validate_every: Annotated[int | None, about("steps between two measurements on val; null: none", ge=1)] = None
    validate_images: Annotated[
        int | None, about("val images that are measured, the same each time, evenly spaced; null: all", ge=1)
    ] = None
    keep: Annotated[
        Literal["last", "best"], about("the weights that are kept: the last, or those with the best mIoU on val")
    ] = "last"
    patience: Annotated[
        int | None, about("measurements without a better mIoU after which training ends; null: never", ge=1)
    ] = None


@frozen
class Settings:
    """All the hyperparameters of one run, in groups."""

    model: Model
    optimizer: Optimizer
    schedule: Schedule
    data: Data
    loss: Loss
    validation: Validation = Validation()
    seed: Annotated[int, about("seed of the weights, the order of the images and their augmentation", ge=0, lt=2**31)]

    def as_dict(self) -> dict:
        return asdict(self)  # type: ignore[call-overload]

    def fingerprint(self) -> str:
        """16 hexadecimal digits that identify the hyperparameters."""
        text = json.dumps(self.as_dict(), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def warning(self) -> str | None:
        """A warning about valid but probably unintended settings; None if there are none."""
        steps, warmup = self.schedule.steps, self.schedule.warmup_steps
        if steps <= warmup:
            return (
                f"steps {steps} is not above warmup_steps {warmup}: learning_rate is never reached; lower warmup_steps"
            )
        if self.schedule.final_learning_rate > self.optimizer.learning_rate:
            return "final_learning_rate is above learning_rate: the rate rises from step to step; lower it"
        if self.model.frozen_norms and not self.model.pretrained:
            return "frozen_norms has no effect without pretrained: statistics must come from somewhere"
        return None

    @classmethod
    def from_dict(cls, nested: dict, where: str = "settings") -> Self:
        """Settings from nested groups. Raises InputError that names each invalid key, its value and what is allowed."""
        try:
            return TypeAdapter(cls).validate_json(json.dumps(nested))
        except ValidationError as error:
            raise InputError(f"{where}: {'; '.join(map(_explain_setting, error.errors()))}") from error

    @classmethod
    def read(cls, path: Path, changes: list[str] | None = None) -> Self:
        """Settings from a settings.json, overridden by `changes` such as "optimizer.learning_rate=0.02"."""
        try:
            nested = json.loads(Path(path).read_text())
        except (OSError, ValueError) as error:
            raise InputError(f"{path}: not a readable settings.json ({error})") from error
        if not isinstance(nested, dict):
            raise InputError(f"{path}: not a readable settings.json: it holds no groups of settings")
        for change in changes or []:
            key, separator, value = change.partition("=")
            if not separator:
                raise InputError(f"--set {change}: write it as group.name=value")
            _put(nested, key, _parse(value))
        return cls.from_dict(nested, where=str(path))

    @classmethod
    def from_flat(cls, flat: dict) -> Self:
        """Settings from the names in config.yaml, without groups."""
        nested: dict = {}
        for key, value in flat.items():
            _put(nested, key, value)
        return cls.from_dict(nested, where="config")


@cache
def hyperparameters() -> dict[str, dict]:
    """Map each hyperparameter's name in config.yaml to its JSON schema (type, range, description, "address")."""
    schema = TypeAdapter(Settings).json_schema()
    found = {}
    for group in fields(Settings):  # type: ignore[arg-type]
        part = schema["properties"][group.name]
        if "$ref" not in part:
            found[group.name] = {**part, "address": group.name}
            continue
        members = schema["$defs"][part["$ref"].rpartition("/")[2]]["properties"]
        for name, member in members.items():
            key = group.name if name == "name" else name
            found[key] = {**member, "address": f"{group.name}.{name}"}
    return found


def _put(nested: dict, key: str, value: Any) -> None:
    """Set `key` (an address or a name) in the groups of `nested`; validation reports unknown keys later."""
    address = hyperparameters().get(key, {}).get("address", key)
    *groups, name = address.split(".")
    for group in groups:
        nested = nested.setdefault(group, {})
        if not isinstance(nested, dict):
            raise InputError(f"{key}: {group} is a value, not a group; `ccnet train --help` lists the names")
    nested[name] = value


def _parse(text: str) -> Any:
    """Parse a command-line value: as JSON if it is valid (0.02, true, null, [0.5, 2.0]), else as text."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def _explain_setting(error: Any) -> str:
    if error["type"] != "unexpected_keyword_argument":
        return explain(error)
    known = hyperparameters()
    names = known if len(error["loc"]) == 1 else [entry["address"] for entry in known.values()]
    address = ".".join(error["loc"])
    return f"{address}: {_suggestion(address, names)}"


def _suggestion(key: str, known: Iterable[str]) -> str:
    names = sorted(known)
    near = difflib.get_close_matches(key, names, n=1)
    return f"unknown key; did you mean '{near[0]}'?" if near else f"unknown key; known here: {', '.join(names)}"
