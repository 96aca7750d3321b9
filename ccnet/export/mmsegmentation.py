"""mmsegmentation's CCNet: a checkpoint for its `configs/ccnet`, and the options that a config needs for it."""

from pathlib import Path
from typing import Any

import torch

from ccnet import InputError
from ccnet.export import foreign
from ccnet.export.networks import dilations
from ccnet.export.segmenter import Segmenter

ORIGIN = foreign.origin("mmsegmentation's CCNet")
FIXED = ("head", "fusion", "deep_stem")  # settings that no option there can change
# configs/_base_/models/ccnet_r50-d8.py and its data_preprocessor: what an option is not needed for
BASE = {
    "backbone.depth": 50, "backbone.stem_channels": 64, "backbone.strides": (1, 2, 1, 1),
    "backbone.dilations": (1, 1, 2, 4), "backbone.contract_dilation": True,
    "decode_head.in_channels": 2048, "decode_head.channels": 512, "decode_head.num_classes": 19,
    "decode_head.recurrence": 2, "decode_head.align_corners": False,
    "auxiliary_head.in_channels": 1024, "auxiliary_head.channels": 256, "auxiliary_head.num_classes": 19,
    "auxiliary_head.align_corners": False,
    "data_preprocessor.mean": (123.675, 116.28, 103.53), "data_preprocessor.std": (58.395, 57.12, 57.375),
}  # fmt: skip


def write(segmenter: Segmenter, path: Path) -> str:
    """Write the checkpoint and return the options of the config. Raises InputError for a network it cannot express."""
    foreign.require(segmenter, {name: ORIGIN.settings[name] for name in FIXED}, "mmsegmentation")
    own = foreign.resolved(segmenter)
    basic = own["backbone"] in ("resnet18", "resnet34")
    if basic and (own["output_stride"] != 32 or own["multi_grid"]):
        raise InputError(
            f"--to mmsegmentation: its {own['backbone']} dilates only the first convolution of a block;"
            " this network fits with output_stride 32 and without multi_grid alone"
        )
    values = {
        name: torch.from_numpy(value) for name, value in foreign.renamed(foreign.arrays(segmenter), ORIGIN).items()
    }
    gamma = "decode_head.cca.gamma.scale"  # a number there, a tensor of one here
    described = segmenter.described
    meta = {"CLASSES": tuple(described.class_names), "PALETTE": described.palette}
    torch.save({"state_dict": values | {gamma: values[gamma].reshape(())}, "meta": meta}, path)
    return note(options(own, segmenter), own)


def options(own: dict[str, Any], segmenter: Segmenter) -> dict[str, Any]:
    """What the model of the config must say, by address: all that `BASE` has, and more where it is needed."""
    stages, network = dilations(own["output_stride"]), segmenter.network
    strides, first, rest = zip(*stages, strict=True)
    found = {
        "backbone.depth": int(own["backbone"].removeprefix("resnet")),
        "backbone.stem_channels": 2 * own["stem_channels"],  # here the width of the stem's first convolution
        "backbone.strides": strides,
        "backbone.dilations": rest,
        "backbone.contract_dilation": own["contract_dilation"] or first == rest,
        "data_preprocessor.mean": segmenter.described.mean,
        "data_preprocessor.std": segmenter.described.std,
    }
    if own["multi_grid"]:  # dilations themselves there, factors here
        entry = first[3] if own["contract_dilation"] else rest[3]
        found["backbone.multi_grid"] = (entry, 2 * rest[3], 4 * rest[3])
    widths = {"decode_head": own["head_channels"], "auxiliary_head": own["auxiliary_channels"]}
    for number, (head, width) in enumerate(widths.items()):
        found[f"{head}.in_channels"] = network.backbone.channels[3 - number]
        found[f"{head}.channels"] = width
        found[f"{head}.num_classes"] = len(segmenter.described.class_names)
        found[f"{head}.align_corners"] = own["align_corners"]
        if own["negative_slope"]:
            found |= {f"{head}.act_cfg.type": "LeakyReLU", f"{head}.act_cfg.negative_slope": own["negative_slope"]}
    return found | {"decode_head.recurrence": own["recurrence"]}


def note(found: dict[str, Any], own: dict[str, Any]) -> str:
    """The options that differ from `BASE`, as its tools take them."""
    changed = {key: value for key, value in found.items() if value != BASE.get(key)}
    text = " ".join(f"model.{key}={_written(value)}" for key, value in changed.items())
    sides = "; its max-pooling does the same on sides of 4k + 1 and 4k + 2 pixels" * own["align_corners"]
    return f"configs/_base_/models/ccnet_r50-d8.py{' with --cfg-options ' * bool(text)}{text}{sides}"


def _written(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
