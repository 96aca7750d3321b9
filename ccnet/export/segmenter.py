"""A PyTorch network rebuilt from a weights file of ccnet, with its normalisation and all that the file says of it."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from ccnet import __version__, weights
from ccnet.export.networks import VANS, CCNet
from ccnet.files import sha256
from ccnet.weights import Description, files


class Segmenter(nn.Module):
    """Images `(B, 3, H, W)` uint8 RGB, H and W at least 32 -> logits `(B, C, H, W)` float32 of C classes.

    `network` computes the logits of normalised images, and is `CCNet(**options)`. `described` has the settings, class
    names, palette and normalisation, `digest` is the SHA-256 of the weights file.
    """

    def __init__(self, network: CCNet, options: dict[str, Any], described: Description, digest: str):
        super().__init__()
        self.network, self.options, self.described, self.digest = network, options, described, digest
        self.register_buffer("mean", torch.tensor(described.mean).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(described.std).view(3, 1, 1), persistent=False)

    def forward(self, image):
        return self.network((image.float() - self.mean) / self.std)

    def header(self) -> dict[str, Any]:
        """What a file says besides the tensors, in plain types."""
        described = self.described
        return {
            "class_names": described.class_names,
            "palette": described.palette,
            "dataset": described.dataset,
            "mean": list(described.mean),
            "std": list(described.std),
            "protocol": described.protocol.as_dict(),
            "settings": described.settings.as_dict(),
            "ccnet": __version__,
            "weights_sha256": self.digest,
        }

    def metadata(self) -> dict[str, str]:
        """The header for formats that hold text alone: each value encoded as JSON."""
        return {key: json.dumps(value, ensure_ascii=False) for key, value in self.header().items()}


def load(path: str | Path) -> Segmenter:
    """The network of a weights file, a checkpoint or a run's folder as a PyTorch module, in eval mode on the CPU.

    Raises InputError for a file that ccnet did not write, or that is damaged.
    """
    path = weights.located(Path(path))
    described, tensors = weights.interpret(*files.read(path), path)
    options = network_options(described, tensors)
    network = CCNet(**options).eval()
    own = {name: value for name, value in network.state_dict().items() if not name.endswith("num_batches_tracked")}
    wanted = {name: (tuple(value.shape), str(value.dtype).removeprefix("torch.")) for name, value in own.items()}
    weights.check_fit(wanted, tensors, str(path))
    for name, value in own.items():
        value.copy_(torch.from_numpy(tensors[name]))
    return Segmenter(network, options, described, sha256(path)).eval()


def network_options(described: Description, tensors: dict[str, np.ndarray]) -> dict[str, Any]:
    """The arguments of `CCNet` for a described network; its embedding is not in every description, but in `tensors`."""
    model, shared = described.settings.model, ("head", "fusion", "output_stride", "align_corners", "negative_slope")
    own: tuple[str, ...] = () if model.backbone in VANS else ("deep_stem", "multi_grid", "contract_dilation")
    options = {
        "name": model.backbone,
        "classes": len(described.class_names),
        "head_channels": model.head_channels,
        "auxiliary_channels": model.auxiliary_channels,
        "recurrence": model.recurrence,
        "embedding": len(tensors.get("embedding.weight", ())),
        **{name: getattr(model, name) for name in shared + own},
    }
    return options if model.backbone in VANS else options | {"stem_channels": model.stem_channels or 64}
