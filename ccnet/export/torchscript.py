"""TorchScript: a program for PyTorch in Python and C++, without the source code of the network."""

import copy
import warnings
from pathlib import Path

import torch

from ccnet.export.segmenter import Segmenter

EXAMPLE = (1, 3, 97, 130)  # the shape of the image that is traced: other sizes give the same graph


def write(segmenter: Segmenter, path: Path) -> str:
    """Write the program and return how it is called. The header is in its extra files, each value as JSON."""
    with warnings.catch_warnings(action="ignore"), torch.no_grad():  # that torch.compile came after TorchScript
        traced = torch.jit.trace(inference(segmenter), torch.zeros(EXAMPLE, dtype=torch.uint8), check_trace=False)
        torch.jit.save(traced, str(path), _extra_files=segmenter.metadata())
    return "torch.jit.load, then images (B, 3, H, W) uint8 RGB, H and W at least 32 -> logits (B, C, H, W) float32"


def inference(segmenter: Segmenter) -> Segmenter:
    """A copy without what is for training alone: the auxiliary head, the embedding, gradients."""
    copied = copy.deepcopy(segmenter).requires_grad_(False)
    for part in ("auxiliary", "embedding"):
        if hasattr(copied.network, part):
            delattr(copied.network, part)
    return copied
