"""PyTorch: the state dict by the names of `ccnet.export.networks`, which are those of the weights file too."""

from pathlib import Path

import torch

from ccnet.export.segmenter import Segmenter


def write(segmenter: Segmenter, path: Path) -> str:
    """Write the state dict, the arguments of `CCNet` and the header, for torch.load(…, weights_only=True)."""
    saved = {"state_dict": segmenter.network.state_dict(), "network": segmenter.options, **segmenter.header()}
    torch.save(saved, path)
    return "torch.load(…, weights_only=True); CCNet of ccnet.export.networks(**saved['network']) takes its state_dict"
