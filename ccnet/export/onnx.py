"""ONNX: a graph from the image's bytes to logits at its size, for ONNX Runtime, TensorRT, OpenVINO and others.

The exporter is PyTorch's older one, by tracing: its graphs are the same to rounding, in seconds; the newer needs half a
minute for a VAN, and writes the paths of the source code into the graph.
"""

import warnings
from pathlib import Path

import onnx
import torch

from ccnet.export.segmenter import Segmenter
from ccnet.export.torchscript import EXAMPLE, inference

OPSET = 18  # the lowest with all that the graph has; ONNX Runtime knows it since version 1.14


def write(segmenter: Segmenter, path: Path) -> str:
    """Write the graph to one file and return how it is called. The header is in its metadata, each value as JSON."""
    model = graph(segmenter, path)
    onnx.helper.set_model_props(model, segmenter.metadata())
    onnx.checker.check_model(model, full_check=True)
    path.write_bytes(model.SerializeToString())
    classes = len(segmenter.described.class_names)
    return f"input image (1, 3, H, W) uint8 RGB, H and W at least 32; output logits (1, {classes}, H, W) float32"


def graph(segmenter: Segmenter, path: Path) -> onnx.ModelProto:
    """The graph: `image` `(1, 3, height, width)` uint8 -> `logits` `(1, C, height, width)` float32.

    The exporter writes it to `path` first.
    """
    sides = {2: "height", 3: "width"}
    with warnings.catch_warnings(action="ignore"):  # that this exporter is the older one
        torch.onnx.export(
            inference(segmenter), (torch.zeros(EXAMPLE, dtype=torch.uint8),), path, dynamo=False,
            opset_version=OPSET, input_names=["image"], output_names=["logits"],
            dynamic_axes={"image": sides, "logits": sides},
        )  # fmt: skip
    model = onnx.load_model_from_string(path.read_bytes())  # onnx.load goes by the suffix
    batch, classes, *_ = model.graph.output[0].type.tensor_type.shape.dim
    batch.dim_value, classes.dim_value = 1, len(segmenter.described.class_names)  # the exporter leaves them open
    return model
