"""The MLP of a Visual Attention Network (arXiv:2202.09741, Fig. 3): 1×1, depthwise 3×3, GELU, 1×1, as one kernel."""

from collections.abc import Sequence

from ccnet.ops import kernel
from ccnet.runtime import jt

SIZES = """
    const mlp::Sizes sizes = {in0_shape0, in0_shape1, in1_shape0, in0_shape2, in0_shape3, (int64_t)data["dilation"]};
    const mlp::Layers<const float> layers = {in1_p, in2_p, in3_p, in4_p, in5_p, in6_p};"""
FORWARD = f"""{SIZES}
    #pragma omp parallel
    mlp::forward(sizes, layers, in0_p, nullptr, out0_p);"""
BACKWARD = f"""{SIZES}
    mlp::backward(sizes, layers, in0_p, in7_p, out0_p, {{out1_p, out2_p, out3_p, out4_p, out5_p, out6_p}});"""


class _Mlp(jt.Function):
    """Stores no activations between x and y; backward recomputes them."""

    def __init__(self, dilation: int):
        self.data = {"dilation": dilation}

    def execute(self, x: jt.Var, *parameters: jt.Var) -> jt.Var:
        self.inputs = [x, *parameters]
        return kernel.launch("mlp", FORWARD, [x.shape], ["float32"], self.inputs, self.data)[0]

    def grad(self, dy: jt.Var) -> tuple[jt.Var, ...]:
        shapes = [value.shape for value in self.inputs]
        return kernel.launch("mlp", BACKWARD, shapes, ["float32"] * len(shapes), [*self.inputs, dy], self.data)


def mlp(x: jt.Var, parameters: Sequence[jt.Var], dilation: int) -> jt.Var:
    """x (B, C, H, W) float32 -> the same shape; differentiable.

    `parameters`: weight and bias of each layer, (D, C, 1, 1), (D), (D, 1, 3, 3), (D), (C, D, 1, 1), (C). `dilation` is
    that of the depthwise convolution.
    """
    return _Mlp(dilation)(x, *parameters)
