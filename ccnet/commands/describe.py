"""`ccnet describe`: print the parameters, FLOPs and strides of a network by part, without running it."""

import re
from typing import NamedTuple

from ccnet import InputError
from ccnet.models import BACKBONES, build
from ccnet.models.resnet import ResNet
from ccnet.ops import flops

STAGE = re.compile(r"backbone\.(?:layer|patch_embed|block|norm)(\d)")
TRAINING_ONLY = "auxiliary head"
LEGEND = "FLOPs: for one image, two for each multiply-add of the convolutions and matrix products"


class Part(NamedTuple):
    """A part of a network. `output` is the shape of a stage's output `(1, C, H, W)`; None for other parts."""

    name: str
    parameters: int
    flops: int
    output: tuple[int, ...] | None = None


def run(
    *,
    name: str,
    size: int = 512,
    classes: int = 19,
    recurrence: int = 2,
    head: str = "rcca",
    output_stride: int | None = None,
    fusion: bool | None = None,
    head_channels: int | None = None,
    plain_stem: bool = False,
) -> None:
    """Print a table of the parts of `build(name, classes, …)` for a square image of `size` pixels.

    Raises InputError for an unknown backbone, an image below 32 pixels, or `plain_stem` with a backbone other than a
    ResNet.
    """
    own = {"deep_stem": False} if plain_stem else {}
    if plain_stem and BACKBONES.get(name, ResNet) is not ResNet:
        raise InputError(f"--plain-stem: {name} has no such stem; leave it out")
    model = build(name, classes, recurrence, head=head, output_stride=output_stride, fusion=fusion,
                  head_channels=head_channels, **own)  # fmt: skip
    lines = table(parts(model, size), size)
    title = f"{name} + {head}, R = {recurrence}, {classes} classes, image {size} × {size}"
    print("\n".join([title, "", *lines, "", LEGEND]))


def parts(model, size: int) -> list[Part]:
    """The parts of a model in forward order, with costs for an image of `size` × `size` pixels."""
    levels: list = []
    model.backbone.register_forward_hook(lambda _, __, output: levels.extend(output))
    model.train()
    counts = flops.count(model, (1, 3, size, size))
    model.backbone.remove_forward_hook()
    trained = {key: value.numel() for key, value in model.named_parameters() if not value.is_stop_grad()}
    outputs = {f"stage {number}": tuple(level.shape) for number, level in enumerate(levels, start=1)}
    names = dict.fromkeys(map(part_of, trained))
    return [Part(name, _sum(trained, name), _sum(counts, name), outputs.get(name)) for name in names]


def part_of(name: str) -> str:
    """The part to which a parameter or module belongs, by its name."""
    if stage := STAGE.match(name):
        return f"stage {stage[1]}"
    top = "attention" if name.startswith("head.attention") else name.split(".")[0]
    return {"backbone": "stem", "head": "context head", "auxiliary": TRAINING_ONLY}.get(top, top)


def _sum(values: dict[str, int], part: str) -> int:
    return sum(value for name, value in values.items() if part_of(name) == part)


def table(found: list[Part], size: int) -> list[str]:
    """Lines of the table; parts used only in training follow the total."""
    used = [part for part in found if part.name != TRAINING_ONLY]
    total = Part("total", sum(part.parameters for part in used), sum(part.flops for part in used))
    extra = [part for part in found if part.name == TRAINING_ONLY]
    lines = [f"{'part':<16}{'stride':>8}{'channels':>10}{'parameters':>14}{'FLOPs':>12}"]
    return lines + [_line(part, size) for part in (*used, total, *extra)] + [f"({TRAINING_ONLY}: in training only)"]


def _line(part: Part, size: int) -> str:
    stride, channels = (round(size / part.output[2]), part.output[1]) if part.output else ("", "")
    return f"{part.name:<16}{stride:>8}{channels:>10}{part.parameters:>14,}{part.flops / 1e9:>10.2f} G"
