"""State dicts as others publish them: our networks' shapes under their names, written out here once more."""

import numpy as np

from ccnet.models import build

CLASSES = 5

STEM_V1C = [
    ("conv1.", "stem.0."), ("bn1.", "stem.1."), ("conv2.", "stem.3."), ("bn2.", "stem.4."),
    ("conv3.", "stem.6."), ("bn3.", "stem.7."),
]  # fmt: skip
OFFICIAL = [
    ("backbone.", ""),
    ("head.before.conv.", "head.conva.0."), ("head.before.norm.", "head.conva.1."),
    ("head.attention.", "head.cca."),
    ("head.after.conv.", "head.convb.0."), ("head.after.norm.", "head.convb.1."),
    ("head.bottleneck.conv.", "head.bottleneck.0."), ("head.bottleneck.norm.", "head.bottleneck.1."),
    ("classifier.conv.", "head.bottleneck.3."),
    ("auxiliary.conv.conv.", "dsn.0."), ("auxiliary.conv.norm.", "dsn.1."), ("auxiliary.classifier.conv.", "dsn.3."),
]  # fmt: skip
MMSEGMENTATION = [
    *[(f"backbone.{ours}", f"backbone.{theirs}") for ours, theirs in STEM_V1C],
    ("head.before.conv.", "decode_head.convs.0.conv."), ("head.before.norm.", "decode_head.convs.0.bn."),
    ("head.attention.gamma", "decode_head.cca.gamma.scale"), ("head.attention.", "decode_head.cca."),
    ("head.after.conv.", "decode_head.convs.1.conv."), ("head.after.norm.", "decode_head.convs.1.bn."),
    ("head.bottleneck.conv.", "decode_head.conv_cat.conv."), ("head.bottleneck.norm.", "decode_head.conv_cat.bn."),
    ("classifier.conv.", "decode_head.conv_seg."),
    ("auxiliary.conv.conv.", "auxiliary_head.convs.0.conv."), ("auxiliary.conv.norm.", "auxiliary_head.convs.0.bn."),
    ("auxiliary.classifier.conv.", "auxiliary_head.conv_seg."),
]  # fmt: skip

# kind -> backbone, how it is built, which of our prefixes becomes which of theirs, and what they have besides
KINDS: dict[str, tuple[str, dict, list[tuple[str, str]], dict]] = {
    "torchvision": (
        "resnet18", {"deep_stem": False}, [("backbone.", "")], {"fc.weight": (1000, 512), "fc.bias": (1000,)},
    ),
    "MIT": ("resnet18", {"deep_stem": True}, [("backbone.", "")], {"fc.weight": (1000, 512)}),
    "ResNetV1c": (
        "resnet18", {"deep_stem": True, "stem_channels": 32},
        [*[(f"backbone.{ours}", theirs) for ours, theirs in STEM_V1C], ("backbone.", "")], {},
    ),
    "VAN": ("van_tiny", {}, [("backbone.", "")], {"head.weight": (1000, 256), "head.bias": (1000,)}),
    "official": ("resnet18", {"deep_stem": True}, OFFICIAL, {"dsn.0.bias": (128,)}),
    "mmsegmentation": (
        "resnet18", {"deep_stem": True, "stem_channels": 32, "auxiliary_channels": 256}, MMSEGMENTATION, {},
    ),
}  # fmt: skip
NETWORKS = ("official", "mmsegmentation")


def published(
    kind: str, backbone: str | None = None, classes: int = CLASSES
) -> tuple[str, dict[str, np.ndarray], dict[str, np.ndarray]]:
    """A backbone's name, random values under our names, and the same under theirs with what they have besides.

    The backbone is the kind's smallest, unless another is named.
    """
    smallest, options, table, besides = KINDS[kind]
    backbone = backbone or smallest
    generator = np.random.default_rng(7)
    shapes = {name: tuple(value.shape) for name, value in build(backbone, classes, **options).state_dict().items()}
    ours = {
        name: generator.uniform(0.5, 1.5, shape).astype(np.float32)
        for name, shape in shapes.items()
        if kind in NETWORKS or name.startswith("backbone.")
    }
    theirs = {renamed(name, table): value for name, value in ours.items()}
    if kind == "mmsegmentation":
        theirs["decode_head.cca.gamma.scale"] = theirs["decode_head.cca.gamma.scale"].reshape(())
    theirs |= {name: np.ones(shape, np.float32) for name, shape in besides.items()}
    counted = [name.replace("running_mean", "num_batches_tracked") for name in theirs if name.endswith("running_mean")]
    return backbone, ours, theirs | {name: np.array(3, np.int64) for name in counted}


def renamed(name: str, table: list[tuple[str, str]]) -> str:
    for ours, theirs in table:
        if name.startswith(ours):
            return theirs + name.removeprefix(ours)
    return name
