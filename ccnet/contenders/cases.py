"""The cases that `ccnet bench` times, on CPU and on GPU."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

LAYOUTS = ("PyTorch", "PyTorch channels_last")
COMPILED = (*LAYOUTS, "PyTorch channels_last compile")
AUTOCAST = ("PyTorch channels_last autocast", "PyTorch channels_last autocast compile")
AUTOCAST_ON_CPU = ("PyTorch autocast", "PyTorch channels_last autocast")
# Photos for the loader and `ccnet segment`: their number, and the sizes that they have in turn, as in mixed folders.
PHOTOS, SIZES = 100, ((480, 360), (500, 375), (375, 500), (640, 480))


@dataclass(frozen=True)
class Case:
    """A benchmark case: a `kind` of `ccnet.contenders`, its options, the PyTorch variants, and target ratios.

    `targets`, for two threads: "time" and "memory" relative to PyTorch's best; "floor" is time relative to the floor,
    the case's FLOPs at the rate of the case named `floor`. `amount`: work done per run, and its unit. `needs`: the flag
    in /proc/cpuinfo without which the case is left out.
    """

    name: str
    kind: str
    options: Mapping[str, Any]
    targets: Mapping[str, float] = field(default_factory=dict)
    rivals: tuple[str, ...] = LAYOUTS
    amount: tuple[float, str] | None = None
    floor: str = ""
    needs: str = ""


def _product(size: int, precision: str) -> Case:
    """A matrix product: the machine's peak rate in this precision."""
    name = f"matrix product {size}² {precision}"
    options = {"size": size, "precision": precision}
    return Case(name, "matmul", options, rivals=("PyTorch",), amount=(2e-9 * size**3, "GFLOP"), floor=name)


PRODUCT = _product(2048, "float32")
PRODUCTS = {precision: _product(8192, precision) for precision in ("float32", "TF32", "bfloat16")}


def _attention(height: int, width: int, backward: bool, block: str = "rcca", **targets: float) -> Case:
    options = {"block": block, "batch": 1, "channels": 512, "height": height, "width": width, "backward": backward,
               "precision": "float32"}  # fmt: skip
    title = "criss-cross" if block == "rcca" else "non-local"
    name = f"{title} {height}×{width} {'both' if backward else 'forward'}"
    return Case(name, "attention", options, targets, floor=PRODUCT.name)


def _network(
    network: str,
    kind: str,
    size: int,
    batch: int,
    targets: Mapping[str, float],
    floor: Case = PRODUCT,
    rivals: tuple[str, ...] = LAYOUTS,
) -> Case:
    options = {"network": network, "size": size, "batch": batch}
    name = f"{network} {kind} {size}²{' autocast' * ('autocast' in rivals[0])}"
    needs = "avx512_bf16" if rivals is AUTOCAST_ON_CPU else ""
    return Case(name, kind, options, targets, rivals, amount=(batch, "images"), floor=floor.name, needs=needs)


def _on_gpu(side: int, backward: bool, precision: str) -> Case:
    """Criss-cross attention with batch size 8; TF32 is allowed on both sides or on neither."""
    case = _attention(side, side, backward)
    options = {**case.options, "batch": 8, "precision": precision}
    targets = {"time": 0.5} if backward else {}
    return Case(f"{case.name} {precision}", "attention", options, targets, COMPILED, floor=PRODUCTS[precision].name)


# In the cases named autocast our side is the same as without, compared with PyTorch in bfloat16.
CPU = [
    PRODUCT,
    *(_attention(*size, backward) for size in ((65, 65), (128, 128)) for backward in (False, True)),
    _attention(97, 97, False, time=0.45, memory=0.8, floor=1.25),
    _attention(97, 97, True, time=0.60, memory=0.8, floor=1.25),
    _attention(256, 128, False),
    _attention(256, 128, True, time=0.45, memory=1.0),
    *(_attention(side, side, back, "non_local", time=1.0, memory=1.0) for side in (65, 97) for back in (False, True)),
    *(
        _network(network, "inference", 512, 1, targets)
        for network, targets in {
            "van_tiny": {"time": 0.40, "memory": 0.9}, "van_base": {"time": 0.45, "memory": 0.85},
            "resnet50": {}, "resnet101": {"time": 0.50, "memory": 0.75},
        }.items()
    ),
    *(
        _network(network, "inference", 512, 1, {}, rivals=AUTOCAST_ON_CPU)
        for network in ("van_tiny", "van_base", "resnet50", "resnet101")
    ),
    *(
        _network(network, "training", 256, 2, targets)
        for network, targets in {
            "van_tiny": {"time": 0.50, "memory": 0.65}, "van_base": {"time": 0.50, "memory": 0.70},
            "resnet50": {}, "resnet101": {"time": 0.55, "memory": 0.90},
        }.items()
    ),
    *(
        Case(f"loader, workers: {workers}", "loader", {"workers": workers}, {"time": 0.85},
             ("PyTorch", "PyTorch files"), (192, "images"))
        for workers in (1, 2)
    ),
    Case("label photos", "label", {}, amount=(PHOTOS, "images")),  # the network's part of the next case
    Case("segment a folder", "segment", {}, {"time": 0.50, "memory": 1.0}, amount=(PHOTOS, "images")),
]  # fmt: skip

# Our networks use the default precision of both frameworks: TF32 in convolutions, float32 in matrix products.
CUDA = [
    *PRODUCTS.values(),
    Case("copy 512 MiB", "copy", {"size": 2**27}, rivals=("PyTorch",), amount=(2 * 2**29 / 1e9, "GB")),
    *(_on_gpu(side, back, precision) for side in (97, 128) for back in (False, True) for precision in PRODUCTS),
    *(
        _network(network, kind, 512, 8, targets if rivals is COMPILED else {}, PRODUCTS["TF32"], rivals)
        for network, kind, targets in (
            ("resnet101", "training", {"time": 1.1}), ("resnet101", "inference", {}),
            ("van_base", "training", {}), ("van_base", "inference", {}),
        )
        for rivals in (COMPILED, AUTOCAST)
    ),
]  # fmt: skip
CASES = {"cpu": CPU, "cuda": CUDA}
